//! What an operator and a test do to a model, and see of it.

mod actions;
mod applications;
mod lifecycle;
mod offers;
mod queries;
mod refresh;
mod relations;
mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

pub use actions::{ActionResult, TaskView};
pub use applications::{Charm, DeployOptions, Factory};
pub(crate) use refresh::UploadedImage;

use crate::controller::Api;
use crate::world::{Gate, Options, Shared, UnitKey, World, random_hex, random_uuid};

/// A controller with its models; dropping it stops everything in them.
pub struct Controller {
    pub(crate) shared: Arc<Shared>,
    pub(crate) factories: Arc<Mutex<BTreeMap<String, Factory>>>,
    folders: Mutex<BTreeMap<String, PathBuf>>,
    pub(crate) api: Mutex<Option<Arc<Api>>>,
}

/// One model: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Model {
    pub(crate) shared: Arc<Shared>,
    pub(crate) factories: Arc<Mutex<BTreeMap<String, Factory>>>,
    name: String,
}

impl Controller {
    /// A controller without models, in a fresh folder.
    pub fn start(options: Options) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let hook_tool = crate::binaries::find("hook-tool")?;
        // Kept short: a unix socket's path may have 107 bytes.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("juju-{}-{number}-{}", std::process::id(), random_hex(4));
        let folder: PathBuf = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let world = World {
            options,
            api: None,
            folder,
            hook_tool,
            models: BTreeMap::new(),
            relations: BTreeMap::new(),
            next_relation_key: 0,
            secrets: BTreeMap::new(),
            offers: BTreeMap::new(),
            contexts: Default::default(),
            next_execute: 0,
            gate: None,
            stopping: false,
        };
        let shared = Arc::new(Shared { world: Mutex::new(world), changed: Condvar::new() });
        Ok(Controller { shared, factories: Arc::default(), folders: Mutex::default(), api: Mutex::default() })
    }

    /// Adds an empty model.
    pub fn add_model(&self, name: &str) -> Result<Model> {
        let mut world = self.shared.lock();
        if world.models.contains_key(name) {
            bail!("model {name:?} already exists");
        }
        let model = crate::world::Model {
            uuid: random_uuid(),
            applications: BTreeMap::new(),
            consumed: BTreeMap::new(),
            next_relation: 0,
            next_task: 0,
            tasks: BTreeMap::new(),
            update_status_interval: world.options.update_status_interval,
            log: Vec::new(),
        };
        world.models.insert(name.to_owned(), model);
        drop(world);
        Ok(self.handle(name))
    }

    /// A model by name.
    pub fn model(&self, name: &str) -> Result<Model> {
        if !self.shared.lock().models.contains_key(name) {
            bail!("model {name:?} not found");
        }
        Ok(self.handle(name))
    }

    fn handle(&self, name: &str) -> Model {
        Model { shared: self.shared.clone(), factories: self.factories.clone(), name: name.to_owned() }
    }

    /// The models' names.
    pub fn models(&self) -> Vec<String> {
        self.shared.lock().models.keys().cloned().collect()
    }

    /// Makes a native charm known to `deploy` by a name.
    pub fn register(&self, name: &str, factory: Factory) {
        self.factories.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(name.to_owned(), factory);
    }

    /// Makes a charm folder known to `juju deploy` by a name.
    pub fn register_folder(&self, name: &str, folder: &std::path::Path) {
        let mut folders = self.folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        folders.insert(name.to_owned(), folder.to_owned());
    }

    pub(crate) fn known_folder(&self, name: &str) -> Option<PathBuf> {
        self.folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).cloned()
    }

    /// Unpacks a charm archive; `unzip` keeps the modes of its files.
    pub(crate) fn unpack(&self, archive: &std::path::Path) -> Result<PathBuf> {
        let folder = self.shared.lock().folder.join("unpacked").join(random_hex(8));
        std::fs::create_dir_all(&folder)?;
        let status = std::process::Command::new("unzip").arg("-q").arg(archive).arg("-d").arg(&folder).status();
        let status = status.with_context(|| format!("cannot unpack {}: no unzip", archive.display()))?;
        if !status.success() {
            bail!("cannot unpack {}: unzip ended with {status}", archive.display());
        }
        Ok(folder)
    }

    /// What `JUJU_VERSION` says.
    pub fn version(&self) -> String {
        self.shared.lock().options.version.clone()
    }

    /// Lets a test decide when each hook or action begins.
    pub fn set_gate(&self, gate: Option<Gate>) {
        self.shared.lock().gate = gate;
        self.shared.ring();
    }

    /// Rings the bell after a gate's own state has changed.
    pub fn wake(&self) {
        // Under the lock: no unit is between asking the gate and waiting.
        let _world = self.shared.lock();
        self.shared.ring();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Controller {
    /// Ends all units, their processes and what their charms left running,
    /// and removes the controller's folder. Dropping does the same.
    pub fn stop(&self) {
        let (folder, running, models) = {
            let mut world = self.shared.lock();
            world.stopping = true;
            (world.folder.clone(), self.running_pids(&world), std::mem::take(&mut world.models))
        };
        self.shared.ring();
        for pid in running.into_iter().chain(processes_of(&folder)) {
            kill(pid, Signal::KILL);
        }
        // Native charms end with their applications, and their servers with
        // them; outside the lock, because that takes a while.
        drop(models);
        let _best_effort = std::fs::remove_dir_all(folder);
    }

    fn running_pids(&self, world: &World) -> Vec<u32> {
        let units = world
            .models
            .values()
            .flat_map(|model| model.applications.values())
            .flat_map(|application| application.units.values());
        units.filter_map(|unit| unit.running.as_ref()?.pid).collect()
    }
}

/// Processes whose executable lies below a folder: charm code, and what it
/// left running.
pub(crate) fn processes_of(folder: &std::path::Path) -> Vec<u32> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_string_lossy().parse().ok()?;
            let executable = std::fs::read_link(entry.path().join("exe")).ok()?;
            (pid != own && executable.starts_with(folder)).then_some(pid)
        })
        .collect()
}

fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _already_gone = kill_process(pid, signal);
    }
}

impl Model {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self, unit: &str) -> Result<UnitKey> {
        let (application, number) = unit.split_once('/').with_context(|| format!("{unit:?} is no unit name"))?;
        let world = self.shared.lock();
        let model = world.model(&self.name).context("the model is gone")?;
        let known =
            model.applications.get(application).with_context(|| format!("application {application:?} not found"))?;
        let number = if number == "leader" {
            known.leader.with_context(|| format!("application {application:?} has no leader"))?
        } else {
            number.parse().with_context(|| format!("{unit:?} is no unit name"))?
        };
        if !known.units.contains_key(&number) {
            bail!("unit \"{application}/{number}\" not found");
        }
        Ok(UnitKey { model: self.name.clone(), application: application.to_owned(), number })
    }

    /// Waits until a condition holds; the error shows the model as last seen.
    pub fn wait_until(&self, what: &str, deadline: Duration, mut holds: impl FnMut(&Model) -> bool) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            if holds(self) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what}: not within {deadline:?}\n{}\n{}", self.status_table(), self.log_tail(40));
            }
            // The world's bell, or a moment for conditions outside it.
            let world = self.shared.lock();
            let _woken = self.shared.changed.wait_timeout(world, left.min(Duration::from_millis(100)));
        }
    }

    /// Waits for the next change in the world, but no longer than this.
    pub(crate) fn wait_change(&self, longest: Duration) {
        let world = self.shared.lock();
        let _woken = self.shared.changed.wait_timeout(world, longest);
    }

    /// Waits until no unit has anything to do (a unit in error waiting for its
    /// retry counts as idle).
    pub fn wait_idle(&self, deadline: Duration) -> Result<()> {
        self.wait_until("the model is idle", deadline, Model::is_idle)
    }

    /// Nothing runs and nothing is due.
    pub fn is_idle(&self) -> bool {
        let mut world = self.shared.lock();
        if world.busy() {
            return false;
        }
        world.all_units().iter().all(|key| {
            crate::agent::resolver::synchronise_relations(&mut world, key);
            crate::agent::resolver::candidates(&world, key).is_empty()
        })
    }

    /// Sends a signal to the process that runs a unit's hook or action; false
    /// when none runs.
    pub fn kill_running(&self, unit: &str, signal: Signal) -> Result<bool> {
        let key = self.key(unit)?;
        let pid = self.shared.lock().unit(&key).and_then(|unit| unit.running.as_ref()?.pid);
        if let Some(pid) = pid {
            kill(pid, signal);
        }
        Ok(pid.is_some())
    }

    /// Ids of all processes of a unit's charm, detached ones included.
    pub fn charm_processes(&self, unit: &str) -> Result<Vec<u32>> {
        let key = self.key(unit)?;
        let folder = self.shared.lock().charm_folder(&key);
        Ok(processes_of(&folder))
    }
}
