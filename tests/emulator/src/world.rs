//! Everything that a controller knows: plain data, behind one lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::context::Context;
use crate::event::Event;
use crate::native::{NativeCharm, Published};
pub(crate) use crate::random::{random_hex, random_secret_id, random_uuid};
pub(crate) use crate::relation::{End, LocalRelation, Relation, UnitBag};
pub(crate) use crate::secret::{Consumer, Grant, Owner, Secret};

/// How a controller behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// What `JUJU_VERSION` says. A version that starts with `3.` lets actions
    /// take undeclared parameters by default.
    pub version: String,
    /// The first pause after a failed hook; it doubles up to `retry_cap`.
    pub retry_first: Duration,
    pub retry_cap: Duration,
    /// Time between update-status hooks; `model-config` changes it.
    pub update_status_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            version: "4.0.14.1".into(),
            retry_first: Duration::from_millis(500),
            retry_cap: Duration::from_secs(5),
            update_status_interval: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub status: String,
    pub message: String,
    pub since: SystemTime,
}

impl Status {
    pub fn new(status: &str, message: &str) -> Self {
        Status { status: status.into(), message: message.into(), since: SystemTime::now() }
    }
}

/// One thing a unit agent does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Hook(Event),
    Action(u64),
    Execute(u64),
}

#[derive(Debug, Clone)]
pub(crate) struct FailedHook {
    pub event: Event,
    pub attempts: u32,
    pub retry_at: Instant,
}

/// The process or native call that a unit is busy with.
#[derive(Debug, Clone)]
pub struct Running {
    /// The hook's name, the action's name, or `run-commands`.
    pub name: String,
    /// None for native charms.
    pub pid: Option<u32>,
    pub task: Option<u64>,
}

/// Outcome of a juju-exec command.
#[derive(Debug, Clone)]
pub struct ExecuteResult {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub(crate) struct ExecuteRequest {
    pub id: u64,
    pub command: String,
    pub relation: Option<String>,
    pub done: Sender<ExecuteResult>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Dying,
    Dead,
}

pub(crate) struct Unit {
    pub life: Life,
    pub installed: bool,
    pub started: bool,
    pub leader_elected: bool,
    pub upgrade_pending: bool,
    pub stopped: bool,
    /// config-changed hooks still owed (one change gives two on a real Juju).
    pub config_changed: u8,
    /// The one still owed only repeats one that has begun.
    pub config_repeats: bool,
    pub charm_revision: u64,
    pub workload: Status,
    pub charm_set_status: bool,
    pub agent: Status,
    pub state: BTreeMap<String, String>,
    pub ports: BTreeSet<String>,
    pub relations: BTreeMap<u64, LocalRelation>,
    pub secret_events: VecDeque<Event>,
    pub pending: Option<Event>,
    pub failed: Option<FailedHook>,
    pub execute: VecDeque<ExecuteRequest>,
    pub running: Option<Running>,
    pub next_update_status: Instant,
    pub events: Vec<String>,
}

/// How an application's code runs.
#[derive(Clone)]
pub(crate) enum Code {
    /// A charm folder with `dispatch`.
    Process(PathBuf),
    Native(Arc<Mutex<Box<dyn NativeCharm>>>),
}

impl Code {
    /// What Charmhub has of a charm that it has at all.
    pub fn published(&self) -> Vec<Published> {
        match self {
            Code::Process(_) => Vec::new(),
            Code::Native(charm) => charm.lock().unwrap_or_else(PoisonError::into_inner).published(),
        }
    }
}

pub(crate) struct Application {
    pub charm: CharmFiles,
    pub code: Code,
    pub charm_revision: u64,
    /// The charm was uploaded; Charmhub may have it, too.
    pub local: bool,
    pub channel: String,
    /// What Charmhub has of its charm.
    pub published: Vec<Published>,
    /// Revision in the store of the image that its pods shall run.
    pub image: Option<u64>,
    /// No pod has begun to run that image yet.
    pub image_pending: bool,
    /// What was uploaded in place of an image of the store; empty where none was.
    pub uploaded_image: String,
    /// Files that an operator attached, by resource.
    pub attached: BTreeMap<String, Vec<u8>>,
    pub config: BTreeMap<String, Value>,
    pub units: BTreeMap<u32, Unit>,
    pub next_unit: u32,
    pub leader: Option<u32>,
    pub status: Option<Status>,
    pub workload_version: String,
    pub dying: bool,
    /// Grants of its secrets that do not reach their readers, by reading application: (secret, grant).
    pub withheld: BTreeMap<String, Vec<(String, Grant)>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub operation: u64,
    pub application: String,
    pub unit: u32,
    pub action: String,
    pub parameters: Map<String, Value>,
    pub status: String,
    pub message: String,
    pub log: Vec<(SystemTime, String)>,
    pub results: Map<String, Value>,
    pub enqueued: SystemTime,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
}

#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    pub at: SystemTime,
    pub unit: String,
    pub level: &'static str,
    pub module: String,
    pub text: String,
}

pub(crate) struct Model {
    pub uuid: String,
    pub applications: BTreeMap<String, Application>,
    /// Consumed offers: local name to offer address.
    pub consumed: BTreeMap<String, String>,
    pub next_relation: u64,
    pub next_task: u64,
    pub tasks: BTreeMap<u64, Task>,
    pub update_status_interval: Duration,
    pub log: Vec<LogLine>,
}

impl Model {
    /// The number of a new operation; the one after it is its task's.
    pub fn take_operation(&mut self) -> u64 {
        self.next_task += 2;
        self.next_task - 2
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub model: String,
    pub application: String,
    pub endpoints: Vec<String>,
}

/// May a unit begin this now? Set by tests that replay a recorded order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Run,
    Wait,
    /// Only for the second of two config-changed hooks, which a real Juju
    /// coalesces now and then.
    Drop,
}

/// What a unit would do next.
#[derive(Debug)]
pub struct Candidate<'a> {
    pub unit: &'a str,
    /// `hooks/<name>`, `actions/<name>`, or empty for juju-exec.
    pub path: &'a str,
    /// Empty when the hook has none.
    pub remote_unit: &'a str,
    /// A unit of some model is running something.
    pub busy: bool,
    /// The second of two config-changed hooks for one change.
    pub repeats: bool,
}

/// Asked under the controller's lock.
pub type Gate = Box<dyn FnMut(&Candidate<'_>) -> Verdict + Send>;

/// How a unit reaches the controller's API.
#[derive(Debug, Clone)]
pub(crate) struct ApiAccess {
    pub addresses: Vec<String>,
    /// The certificate of its CA, PEM.
    pub ca: String,
}

pub(crate) struct World {
    pub options: Options,
    /// None while the controller serves no API.
    pub api: Option<ApiAccess>,
    pub folder: PathBuf,
    pub hook_tool: PathBuf,
    pub models: BTreeMap<String, Model>,
    pub relations: BTreeMap<u64, Relation>,
    pub next_relation_key: u64,
    pub secrets: BTreeMap<String, Secret>,
    pub offers: BTreeMap<String, Offer>,
    pub contexts: HashMap<String, Context>,
    pub next_execute: u64,
    pub gate: Option<Gate>,
    pub stopping: bool,
}

/// The world and the bell that rings at every change of it.
pub(crate) struct Shared {
    pub world: Mutex<World>,
    pub changed: Condvar,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ring(&self) {
        self.changed.notify_all();
    }
}

/// Who a unit is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitKey {
    pub model: String,
    pub application: String,
    pub number: u32,
}

impl UnitKey {
    pub fn unit_name(&self) -> String {
        format!("{}/{}", self.application, self.number)
    }

    /// `unit-<application>-<number>`.
    pub fn tag(&self) -> String {
        format!("unit-{}-{}", self.application, self.number)
    }
}

impl World {
    /// Any unit is running something.
    pub fn busy(&self) -> bool {
        let applications = self.models.values().flat_map(|model| model.applications.values());
        applications.flat_map(|application| application.units.values()).any(|unit| unit.running.is_some())
    }

    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.get(name)
    }

    pub fn application(&self, key: &UnitKey) -> Option<&Application> {
        self.models.get(&key.model)?.applications.get(&key.application)
    }

    pub fn application_mut(&mut self, key: &UnitKey) -> Option<&mut Application> {
        self.models.get_mut(&key.model)?.applications.get_mut(&key.application)
    }

    pub fn unit(&self, key: &UnitKey) -> Option<&Unit> {
        self.application(key)?.units.get(&key.number)
    }

    pub fn unit_mut(&mut self, key: &UnitKey) -> Option<&mut Unit> {
        self.application_mut(key)?.units.get_mut(&key.number)
    }

    pub fn is_leader(&self, key: &UnitKey) -> bool {
        self.application(key).is_some_and(|application| application.leader == Some(key.number))
    }

    pub fn agent_folder(&self, key: &UnitKey) -> PathBuf {
        self.folder.join(&key.model).join("agents").join(key.tag())
    }

    pub fn tools_folder(&self, key: &UnitKey) -> PathBuf {
        self.folder.join(&key.model).join("tools").join(key.tag())
    }

    pub fn charm_folder(&self, key: &UnitKey) -> PathBuf {
        self.agent_folder(key).join("charm")
    }

    pub fn all_units(&self) -> Vec<UnitKey> {
        let mut keys = Vec::new();
        for (model, state) in &self.models {
            for (application, known) in &state.applications {
                let key =
                    |number: &u32| UnitKey { model: model.clone(), application: application.clone(), number: *number };
                keys.extend(known.units.keys().map(key));
            }
        }
        keys
    }

    pub fn log(&mut self, key: &UnitKey, level: &'static str, module: &str, text: &str) {
        let line = LogLine {
            at: SystemTime::now(),
            unit: key.unit_name(),
            level,
            module: module.to_owned(),
            text: text.to_owned(),
        };
        if let Some(model) = self.models.get_mut(&key.model) {
            model.log.push(line);
        }
    }
}

impl Application {
    /// The status of an application whose leader has set none: the worst of
    /// its units'.
    pub fn derived_status(&self) -> Status {
        let severity = ["error", "blocked", "maintenance", "waiting", "active", "unknown"];
        let rank = |status: &Status| severity.iter().position(|name| *name == status.status).unwrap_or(severity.len());
        let worst = self.units.values().map(|unit| &unit.workload).min_by_key(|status| rank(status));
        worst.cloned().unwrap_or_else(|| Status::new("unknown", ""))
    }
}
