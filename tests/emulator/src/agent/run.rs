//! Running one operation and what its end means.

use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::charm_process::{self, Ended, Plan};
use super::{environment, operation_name, resolver};
use crate::context::{ActionRun, Context};
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};
use crate::session::Session;
use crate::world::{Code, ExecuteResult, FailedHook, Life, Operation, Shared, Status, UnitKey, World};

/// Runs an operation to its end and records the end.
pub(crate) fn run(shared: &Arc<Shared>, key: &UnitKey, operation: Operation) {
    match operation {
        Operation::Hook(event) => run_hook(shared, key, event),
        Operation::Action(task) => super::action::run_action(shared, key, task),
        Operation::Execute(id) => run_commands(shared, key, id),
    }
}

/// How code ended, whether process or native.
pub(super) enum Outcome {
    Well,
    Failed {
        code: i32,
        message: String,
    },
    /// SIGTERM or SIGKILL.
    Terminated,
}

/// Opens a context in the world and returns its id.
pub(super) fn open_context(world: &mut World, key: &UnitKey, operation: &Operation) -> String {
    let name = operation_name(world, key, operation);
    let mut context = Context::new(key.clone(), &name, configuration(world, key));
    if let Operation::Hook(event) = operation {
        context.relation = resolver::locate(world, key, event).map(|(id, _)| id);
        context.event = Some(event.clone());
    }
    if let Operation::Action(id) = operation
        && let Some(task) = world.model(&key.model).and_then(|model| model.tasks.get(id))
    {
        let parameters = task.parameters.clone();
        context.action = Some(ActionRun { task: *id, parameters, results: Map::new(), failure: None });
    }
    let id = context.id.clone();
    world.contexts.insert(id.clone(), context);
    id
}

/// Options that have a value, defaults included.
fn configuration(world: &World, key: &UnitKey) -> Map<String, Value> {
    let Some(application) = world.application(key) else { return Map::new() };
    let mut values = Map::new();
    for (name, option) in &application.charm.options {
        let value = application.config.get(name).unwrap_or(&option.default);
        if !value.is_null() {
            values.insert(name.clone(), value.clone());
        }
    }
    values
}

/// Runs the application's code in an open context.
pub(super) fn run_code(
    shared: &Arc<Shared>,
    key: &UnitKey,
    context_id: &str,
    operation: &Operation,
) -> Result<(Outcome, Option<Ended>)> {
    let (code, plan) = {
        let world = shared.lock();
        let application = world.application(key).context("the application is gone")?;
        let folder = world.charm_folder(key);
        let name = operation_name(&world, key, operation);
        let plan = Plan {
            program: folder.join("dispatch"),
            arguments: Vec::new(),
            folder,
            variables: environment::variables(&world, key, context_id, operation),
            own_group: false,
            module: Some(format!("unit.{}.{name}", key.unit_name())),
        };
        (application.code.clone(), plan)
    };
    match code {
        Code::Process(_) => {
            let ended = charm_process::run(shared, key, plan)?;
            let outcome = match ended.status.code() {
                _ if ended.was_terminated() => Outcome::Terminated,
                Some(0) => Outcome::Well,
                code => {
                    Outcome::Failed { code: code.unwrap_or(-1), message: format!("exit status {}", code.unwrap_or(-1)) }
                }
            };
            Ok((outcome, Some(ended)))
        }
        Code::Native(charm) => {
            let mut context = UnitContext {
                shared: shared.clone(),
                context_id: context_id.to_owned(),
                unit: key.unit_name(),
                application: key.application.clone(),
                model: key.model.clone(),
            };
            let mut charm = charm.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = match run_native(shared, charm.as_mut(), operation, &mut context) {
                Ok(()) => Outcome::Well,
                Err(error) => {
                    let message = format!("{error:#}");
                    let module = format!("unit.{}.native", key.unit_name());
                    shared.lock().log(key, "ERROR", &module, &message);
                    Outcome::Failed { code: 1, message }
                }
            };
            Ok((outcome, None))
        }
    }
}

fn run_native(
    shared: &Arc<Shared>,
    charm: &mut dyn NativeCharm,
    operation: &Operation,
    context: &mut UnitContext,
) -> Result<()> {
    match operation {
        Operation::Hook(event) => charm.handle(event, context),
        Operation::Action(_) => {
            let action = shared.lock().contexts.get(&context.context_id).and_then(|context| context.action.clone());
            let action = action.context("no action")?;
            let name = {
                let world = shared.lock();
                let task = world.model(&context.model).and_then(|model| model.tasks.get(&action.task));
                task.map(|task| task.action.clone()).unwrap_or_default()
            };
            charm.action(&name, &action.parameters, context)
        }
        Operation::Execute(_) => anyhow::bail!("a native charm takes no commands"),
    }
}

fn run_hook(shared: &Arc<Shared>, key: &UnitKey, event: Event) {
    let operation = Operation::Hook(event.clone());
    let prepared = super::deploy::prepare(shared, key, &event);
    let context_id = {
        let mut world = shared.lock();
        if let Some(unit) = world.unit_mut(key) {
            unit.agent = Status::new("executing", &format!("running {} hook", event.name()));
        }
        open_context(&mut world, key, &operation)
    };
    shared.ring();
    let outcome = match prepared.and_then(|()| run_code(shared, key, &context_id, &operation)) {
        Ok((outcome, _)) => outcome,
        Err(error) => Outcome::Failed { code: -1, message: format!("{error:#}") },
    };
    let mut world = shared.lock();
    let Some(mut context) = world.contexts.remove(&context_id) else { return };
    let module = "juju.worker.uniter.operation";
    let failure = match outcome {
        Outcome::Well => {
            let commit = Session { world: &mut world, context: &mut context }.commit();
            commit.err().map(|reason| format!("cannot apply changes: {reason}"))
        }
        Outcome::Failed { message, .. } => Some(message),
        Outcome::Terminated => {
            world.log(key, "WARNING", module, &format!("hook \"{}\" terminated, it runs again", event.name()));
            let unit = world.unit_mut(key);
            if let Some(unit) = unit {
                unit.running = None;
                unit.failed = None;
                unit.pending = Some(event);
            }
            return;
        }
    };
    if let Some(reason) = failure {
        world.log(key, "ERROR", module, &format!("hook \"{}\" failed: {reason}", event.name()));
        fail_hook(&mut world, key, event);
    } else {
        world.log(
            key,
            "INFO",
            module,
            &format!("ran \"{}\" hook (via hook dispatching script: dispatch)", event.name()),
        );
        succeed_hook(&mut world, key, &event);
    }
}

fn fail_hook(world: &mut World, key: &UnitKey, event: Event) {
    let (first, cap) = (world.options.retry_first, world.options.retry_cap);
    let Some(unit) = world.unit_mut(key) else { return };
    unit.running = None;
    unit.agent = Status::new("error", &format!("hook failed: \"{}\"", event.name()));
    let attempts = unit.failed.as_ref().map_or(0, |failed| failed.attempts) + 1;
    let pause = first.saturating_mul(1 << (attempts - 1).min(16)).min(cap);
    unit.failed = Some(FailedHook { event, attempts, retry_at: Instant::now() + pause });
}

/// What a hook's success makes of the unit.
pub(crate) fn succeed_hook(world: &mut World, key: &UnitKey, event: &Event) {
    let located = resolver::locate(world, key, event);
    let interval = world.model(&key.model).map(|model| model.update_status_interval).unwrap_or_default();
    let Some(unit) = world.unit_mut(key) else { return };
    unit.running = None;
    unit.failed = None;
    unit.agent = Status::new("idle", "");
    // A tick that falls inside another hook is swallowed by its commit.
    if unit.next_update_status <= Instant::now() {
        unit.next_update_status = Instant::now() + interval;
    }
    match event {
        Event::Install => {
            unit.installed = true;
            unit.config_changed = 1;
        }
        Event::ConfigChanged if !unit.started => unit.pending = Some(Event::Start),
        Event::Start => {
            unit.started = true;
            if !unit.charm_set_status {
                unit.workload = Status::new("unknown", "");
            }
        }
        Event::UpgradeCharm => unit.config_changed = unit.config_changed.max(1),
        Event::Stop => unit.stopped = true,
        Event::Remove => unit.life = Life::Dead,
        Event::RelationBroken(_) => {
            if let Some((id, _)) = located {
                leave(world, key, id);
            }
        }
        _ => {}
    }
    if matches!(event, Event::Remove) {
        super::deploy::bury(world, key);
    }
}

/// Leaves a relation's scope; the last unit out takes the relation away.
pub(crate) fn leave(world: &mut World, key: &UnitKey, id: u64) {
    let Some(local) = world.unit_mut(key).and_then(|unit| unit.relations.remove(&id)) else { return };
    if let Some(relation) = world.relations.get_mut(&id)
        && let Some(unit) = relation.ends[local.end].units.get_mut(&key.number)
    {
        unit.in_scope = false;
    }
    world.collect_relation(id);
}

impl World {
    /// Drops a dying relation that no unit is in any more, and its grants.
    pub(crate) fn collect_relation(&mut self, id: u64) {
        let empty = self.relations.get(&id).is_some_and(|relation| {
            relation.dying && !relation.ends.iter().any(|end| end.units.values().any(|unit| unit.in_scope))
        });
        if empty {
            self.relations.remove(&id);
            for secret in self.secrets.values_mut() {
                secret.grants.retain(|grant| grant.relation != Some(id));
            }
            let applications = self.models.values_mut().flat_map(|model| model.applications.values_mut());
            for held in applications.flat_map(|application| application.withheld.values_mut()) {
                held.retain(|(_, grant)| grant.relation != Some(id));
            }
        }
    }
}

/// juju-exec: writes count whatever the exit code.
fn run_commands(shared: &Arc<Shared>, key: &UnitKey, id: u64) {
    let operation = Operation::Execute(id);
    let (request, context_id, plan) = {
        let mut world = shared.lock();
        let Some(request) = world.unit_mut(key).and_then(|unit| unit.execute.pop_front()) else { return };
        let context_id = open_context(&mut world, key, &operation);
        let mut variables = environment::variables(&world, key, &context_id, &operation);
        variables.extend(relation_variables(&mut world, &context_id, request.relation.as_deref()));
        let plan = Plan {
            program: "/bin/bash".into(),
            arguments: vec!["-c".into(), request.command.clone()],
            folder: world.charm_folder(key),
            variables,
            own_group: true,
            module: None,
        };
        (request, context_id, plan)
    };
    shared.ring();
    let result = charm_process::run(shared, key, plan);
    let mut world = shared.lock();
    let context = world.contexts.remove(&context_id);
    let committed = match context {
        Some(mut context) => Session { world: &mut world, context: &mut context }.commit(),
        None => Ok(()),
    };
    if let Err(reason) = &committed {
        world.log(key, "ERROR", "juju.worker.uniter.operation", &format!("cannot apply changes: {reason}"));
    }
    if let Some(unit) = world.unit_mut(key) {
        unit.running = None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reply = match result {
        Ok(ended) => ExecuteResult {
            code: ended.status.code().unwrap_or(-1),
            stdout: text(&ended.stdout),
            stderr: text(&ended.stderr),
        },
        Err(error) => ExecuteResult { code: 1, stdout: String::new(), stderr: format!("ERROR {error:#}\n") },
    };
    let _caller_gone = request.done.send(reply);
}

/// Relation variables of juju-exec -r; the remote application stays empty.
fn relation_variables(world: &mut World, context_id: &str, relation: Option<&str>) -> Vec<(String, String)> {
    let Some(mut context) = world.contexts.remove(context_id) else { return Vec::new() };
    let session = Session { world, context: &mut context };
    let found = relation.and_then(|relation| session.parse_relation(relation).ok());
    let end = found.and_then(|id| {
        let local = session.world.unit(&session.context.key)?.relations.get(&id)?;
        session.world.relations.get(&id).map(|relation| relation.ends[local.end].clone())
    });
    context.relation = found;
    world.contexts.insert(context_id.to_owned(), context);
    end.map(|end| {
        vec![
            ("JUJU_RELATION".into(), end.endpoint.clone()),
            ("JUJU_RELATION_ID".into(), format!("{}:{}", end.endpoint, end.id)),
            ("JUJU_REMOTE_UNIT".into(), String::new()),
            ("JUJU_REMOTE_APP".into(), String::new()),
        ]
    })
    .unwrap_or_default()
}

/// Ends a task.
pub(super) fn finish_task(
    world: &mut World,
    key: &UnitKey,
    id: u64,
    status: &str,
    message: &str,
    results: Map<String, Value>,
) {
    if let Some(unit) = world.unit_mut(key) {
        unit.running = None;
        if unit.failed.is_none() {
            unit.agent = Status::new("idle", "");
        }
    }
    if let Some(task) = world.models.get_mut(&key.model).and_then(|model| model.tasks.get_mut(&id)) {
        task.status = status.to_owned();
        task.message = message.to_owned();
        task.results = results;
        task.completed = Some(SystemTime::now());
    }
}

/// Adds return-code, stdout and stderr to an action's results.
pub(super) fn complete_results(
    results: &mut Map<String, Value>,
    code: i32,
    ended: Option<&Ended>,
    error: Option<&str>,
) {
    results.insert("return-code".into(), json!(code));
    let mut stderr = ended.map(|ended| String::from_utf8_lossy(&ended.stderr).into_owned()).unwrap_or_default();
    if let Some(error) = error {
        stderr.push_str(error);
    }
    let stdout = ended.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
    for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
        if !text.is_empty() {
            results.insert(name.into(), Value::String(text));
        }
    }
}
