//! The model that the peer brings along, and its unit agents, who work step by step.

use crate::charm::Charm;
use crate::controller::Generation;
use crate::model::{Application, Change, Model, Relation, Release, Remote, Status, Task, Unit, charm_of};
use crate::validate;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// How an action ends.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// completed or failed.
    pub status: String,
    pub message: String,
    pub log: Vec<String>,
    pub output: Map<String, Value>,
}

impl Ending {
    /// Completed, with results.
    pub fn completed(output: Value) -> Self {
        let output = output.as_object().cloned().unwrap_or_default();
        Self { status: "completed".into(), output, ..Self::default() }
    }
}

/// What a unit agent still has to do.
#[derive(Clone, Debug)]
enum Work {
    /// Nothing, for one step: a controller delivers changes late.
    Wait,
    /// A hook; the charm's version that its code shows from then on.
    Hook(String, Option<String>),
}

/// What a charm's action does.
pub type Play = Box<dyn FnMut(&Task) -> Ending + Send>;

/// A model in memory.
pub struct Store {
    pub generation: Generation,
    pub name: String,
    pub uuid: String,
    /// `iaas` or `caas`.
    pub kind: String,
    pub applications: BTreeMap<String, Application>,
    /// Applications of other models, which have no units here.
    pub remotes: BTreeMap<String, Remote>,
    pub relations: Vec<Relation>,
    pub tasks: Vec<Task>,
    pub charms: Vec<Charm>,
    pub releases: Vec<Release>,
    /// What actions do.
    pub play: Play,
    /// For how many steps a change is not noticed.
    pub lag: usize,
    /// Units whose agent is down: they begin nothing.
    pub down: Vec<String>,
    /// The message of the hook that upgrade-charm fails with, for an application.
    pub failing_upgrades: Vec<String>,
    next_relation: i64,
    next_number: u64,
    work: BTreeMap<(String, u32), VecDeque<Work>>,
    /// Steps that dying relations have left.
    leaving: BTreeMap<i64, usize>,
}

impl Store {
    /// An empty model.
    pub fn new(generation: Generation, name: &str, kind: &str) -> Self {
        Self {
            generation,
            name: name.to_owned(),
            uuid: "761dc1f3-db5a-407e-8a25-a4c234fc755a".to_owned(),
            kind: kind.to_owned(),
            applications: BTreeMap::new(),
            remotes: BTreeMap::new(),
            relations: Vec::new(),
            tasks: Vec::new(),
            charms: Vec::new(),
            releases: Vec::new(),
            play: Box::new(|_| Ending::completed(json!({"return-code": 0}))),
            lag: 2,
            down: Vec::new(),
            failing_upgrades: Vec::new(),
            next_relation: 0,
            next_number: 0,
            work: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// `juju deploy`: units that rest already, their peer relations made.
    pub fn deploy(&mut self, name: &str, charm: &Charm, origin: Value, channel: &str, units: u32) {
        if charm_of(self, &charm.url).is_none() {
            self.charms.push(charm.clone());
        }
        let unit = || Unit {
            agent: Status::now("idle", ""),
            workload: Status::now("active", ""),
            workload_version: charm.workload_version.clone(),
        };
        let application = Application {
            charm_url: charm.url.clone(),
            origin,
            channel: channel.to_owned(),
            options: BTreeMap::new(),
            units: (0..units).map(|number| (number, unit())).collect(),
            leader: (units > 0).then_some(0),
            status: Status::now("active", ""),
            life: "alive".to_owned(),
            resources: Vec::new(),
        };
        self.applications.insert(name.to_owned(), application);
        for endpoint in charm.endpoints().iter().filter(|endpoint| endpoint["role"] == "peer") {
            let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
            let end = crate::model::End { application: name.to_owned(), endpoint: text("name"), role: text("role") };
            self.relate(text("interface"), vec![end]);
        }
    }

    /// A hook of a unit fails, until it is resolved.
    pub fn fail(&mut self, application: &str, unit: u32, info: &str) {
        self.set_workload(application, unit, "error", info);
    }

    /// What a unit's charm says.
    pub fn set_workload(&mut self, application: &str, unit: u32, status: &str, info: &str) {
        if let Some(unit) = self.unit_mut(application, unit) {
            unit.workload = Status::now(status, info);
        }
    }

    fn unit_mut(&mut self, application: &str, unit: u32) -> Option<&mut Unit> {
        self.applications.get_mut(application)?.units.get_mut(&unit)
    }

    fn relate(&mut self, interface: String, ends: Vec<crate::model::End>) -> i64 {
        let id = self.next_relation;
        self.next_relation += 1;
        let status = Status::now("joined", "");
        self.relations.push(Relation { id, interface, ends, status, dying: false });
        id
    }

    /// Every unit of an application notices a change, late.
    fn notice(&mut self, application: &str, hook: &str, version: Option<&str>) {
        let units: Vec<u32> =
            self.applications.get(application).into_iter().flat_map(|it| it.units.keys().copied()).collect();
        for unit in units {
            let work = self.work.entry((application.to_owned(), unit)).or_default();
            work.extend(std::iter::repeat_n(Work::Wait, self.lag));
            work.push_back(Work::Hook(hook.to_owned(), version.map(str::to_owned)));
        }
    }

    /// What every unit agent does next.
    pub fn step(&mut self) {
        let units: Vec<(String, u32)> =
            self.applications.iter().flat_map(|(name, it)| it.units.keys().map(|unit| (name.clone(), *unit))).collect();
        for (application, unit) in units {
            if !self.down.contains(&format!("{application}/{unit}")) {
                self.step_unit(&application, unit);
            }
        }
        self.step_relations();
    }

    fn step_unit(&mut self, application: &str, number: u32) {
        let failing = self.failing_upgrades.iter().any(|name| name == application);
        let Some(unit) = self.unit_mut(application, number) else { return };
        let at_work = unit.agent.status == "executing";
        if at_work {
            unit.agent = Status::now("idle", "");
        }
        if at_work || self.step_task(application, number) {
            return;
        }
        let Some(unit) = self.applications.get_mut(application).and_then(|it| it.units.get_mut(&number)) else {
            return;
        };
        if unit.in_error() {
            return;
        }
        let next = self.work.get_mut(&(application.to_owned(), number)).and_then(VecDeque::pop_front);
        if let Some(Work::Hook(hook, version)) = next {
            if failing && hook == "upgrade-charm" {
                unit.workload = Status::now("error", "hook failed: \"upgrade-charm\"");
                return;
            }
            unit.agent = Status::now("executing", &format!("running {hook} hook"));
            unit.workload.since = Timestamp::now();
            if let Some(version) = version {
                unit.workload_version = version;
            }
        }
    }

    /// A unit's tasks run one by one, also while it is in error, and not while its charm is about to be upgraded.
    fn step_task(&mut self, application: &str, number: u32) -> bool {
        let upgrades = |work: &Work| matches!(work, Work::Hook(hook, _) if hook == "upgrade-charm");
        let key = (application.to_owned(), number);
        let upgrading = self.work.get(&key).is_some_and(|work| work.iter().any(upgrades));
        let of_unit = |task: &Task| task.application == application && task.unit == number;
        let open = |task: &Task| ["pending", "running", "aborting"].contains(&task.status.as_str());
        let Some(place) = self.tasks.iter().position(|task| of_unit(task) && open(task)) else { return false };
        let mut task = self.tasks[place].clone();
        match task.status.as_str() {
            "pending" if upgrading => return false,
            "pending" => self.begin(&mut task),
            "aborting" => "aborted".clone_into(&mut task.status),
            _ => {
                let Ending { status, message, log, output } = (self.play)(&task);
                if status == "running" {
                    return false;
                }
                task.log = log.into_iter().map(|line| (Timestamp::now(), line)).collect();
                (task.status, task.message, task.output) = (status, message, output);
            }
        }
        if !open(&task) {
            task.completed = Some(Timestamp::now());
        }
        self.tasks[place] = task;
        true
    }

    /// On 4.0 the unit looks at the parameters.
    fn begin(&self, task: &mut Task) {
        let url = self.applications.get(&task.application).map(|it| it.charm_url.clone()).unwrap_or_default();
        let schema = charm_of(self, &url).and_then(|charm| charm.actions.get(&task.action).cloned());
        let schema = schema.map(|action| action["params"].clone()).unwrap_or_default();
        let checked = match self.generation {
            Generation::Four => validate::check(&schema, &task.parameters, true),
            Generation::Three => Ok(()),
        };
        match checked {
            Err(why) => {
                task.message = format!("cannot run {:?} action: {why}", task.action);
                "error".clone_into(&mut task.status);
            }
            Ok(()) => {
                task.started = Some(Timestamp::now());
                "running".clone_into(&mut task.status);
            }
        }
    }

    /// A dying relation goes once the units of both sides could run their hooks.
    fn step_relations(&mut self) {
        let stuck = |relation: &Relation, applications: &BTreeMap<String, Application>| {
            let sides = relation.ends.iter().filter_map(|end| Some((end, applications.get(&end.application)?)));
            sides.flat_map(|(end, it)| it.units.iter().map(move |unit| (end, unit))).any(|(end, (number, unit))| {
                unit.in_error() || self.down.contains(&format!("{}/{number}", end.application))
            })
        };
        let leaving = &mut self.leaving;
        let applications = &self.applications;
        let stuck: Vec<bool> = self.relations.iter().map(|relation| stuck(relation, applications)).collect();
        let mut place = 0;
        self.relations.retain(|relation| {
            let held = stuck[place];
            place += 1;
            if !relation.dying || held {
                return true;
            }
            let left = leaving.entry(relation.id).or_default();
            *left = left.saturating_sub(1);
            *left > 0
        });
    }
}

impl Model for Store {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn uuid(&self) -> String {
        self.uuid.clone()
    }

    fn kind(&self) -> String {
        self.kind.clone()
    }

    fn applications(&self) -> BTreeMap<String, Application> {
        self.applications.clone()
    }

    fn remotes(&self) -> BTreeMap<String, Remote> {
        self.remotes.clone()
    }

    fn relations(&self) -> Vec<Relation> {
        self.relations.clone()
    }

    fn tasks(&self) -> Vec<Task> {
        self.tasks.clone()
    }

    fn charms(&self) -> Vec<Charm> {
        self.charms.clone()
    }

    fn releases(&self) -> Vec<Release> {
        self.releases.clone()
    }

    fn apply(&mut self, change: Change) -> Result<u64> {
        match change {
            Change::AddCharm(charm) => self.charms.push(charm),
            Change::SetCharm { application, url, origin, channel, resources } => {
                let version = charm_of(self, &url).map(|charm| charm.workload_version);
                let Some(found) = self.applications.get_mut(&application) else { return Ok(0) };
                resources.into_iter().for_each(|resource| found.take(resource));
                let same = found.charm_url == url;
                (found.charm_url, found.origin, found.channel) = (url, origin, channel);
                if !same {
                    self.notice(
                        &application,
                        "upgrade-charm",
                        version.as_deref().filter(|version| !version.is_empty()),
                    );
                    self.notice(&application, "config-changed", None);
                }
            }
            Change::SetOptions { application, options } => {
                if let Some(found) = self.applications.get_mut(&application) {
                    found.options.extend(options);
                    self.notice(&application, "config-changed", None);
                }
            }
            Change::UseResource { application, resource } => {
                if let Some(found) = self.applications.get_mut(&application) {
                    found.take(resource);
                }
            }
            Change::Relate { interface, ends } => {
                let names = ends.clone().map(|end| end.application);
                let id = self.relate(interface, ends.into());
                for name in names {
                    self.notice(&name, "relation-changed", None);
                }
                return Ok(u64::try_from(id)?);
            }
            Change::Separate { relation } => {
                if let Some(found) = self.relations.iter_mut().find(|found| found.id == relation) {
                    found.dying = true;
                    self.leaving.entry(relation).or_insert(self.lag + 1);
                }
            }
            Change::Enqueue { unit, action, parameters } => return Ok(self.enqueue(unit, action, parameters)),
            Change::Cancel { task } => {
                if let Some(task) = self.tasks.iter_mut().find(|found| found.id == task) {
                    match task.status.as_str() {
                        "pending" => "cancelled".clone_into(&mut task.status),
                        "running" => "aborting".clone_into(&mut task.status),
                        _ => {}
                    }
                }
            }
        }
        Ok(0)
    }
}

impl Store {
    fn enqueue(&mut self, unit: Option<(String, u32)>, action: String, parameters: Map<String, Value>) -> u64 {
        let operation = self.next_number;
        self.next_number += 2;
        if let Some((application, unit)) = unit {
            self.tasks.push(Task {
                id: operation + 1,
                operation,
                application,
                unit,
                action,
                parameters,
                status: "pending".into(),
                message: String::new(),
                log: Vec::new(),
                output: Map::new(),
                enqueued: Timestamp::now(),
                started: None,
                completed: None,
            });
        }
        operation
    }
}
