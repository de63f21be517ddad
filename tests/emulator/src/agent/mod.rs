//! Unit agents: each unit is a thread that does one thing at a time.

mod action;
mod charm_process;
pub(crate) mod configuration;
pub(crate) mod deploy;
mod environment;
pub(crate) mod resolver;
pub(crate) mod run;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::world::{Candidate, Life, Operation, Running, Shared, UnitKey, Verdict, World};

/// Starts a unit's thread and its sockets.
pub(crate) fn start(shared: &Arc<Shared>, key: UnitKey) -> anyhow::Result<()> {
    socket::listen(shared, &key)?;
    let shared = shared.clone();
    std::thread::Builder::new().name(key.unit_name()).spawn(move || unit_loop(&shared, &key))?;
    Ok(())
}

fn unit_loop(shared: &Arc<Shared>, key: &UnitKey) {
    while let Some(operation) = next_operation(shared, key) {
        run::run(shared, key, operation);
        shared.ring();
    }
    shared.ring();
}

/// Waits for something to do and marks the unit busy with it; None when the
/// unit is gone or the emulator stops.
fn next_operation(shared: &Arc<Shared>, key: &UnitKey) -> Option<Operation> {
    let mut world = shared.lock();
    loop {
        if world.stopping || world.unit(key).is_none_or(|unit| unit.life == Life::Dead) {
            return None;
        }
        resolver::synchronise_relations(&mut world, key);
        if let Some(operation) = choose(&mut world, key) {
            resolver::take(&mut world, key, &operation);
            let name = operation_name(&world, key, &operation);
            let task = if let Operation::Action(task) = operation { Some(task) } else { None };
            if let Some(unit) = world.unit_mut(key) {
                unit.running = Some(Running { name, pid: None, task });
            }
            return Some(operation);
        }
        let timeout = resolver::next_timer(&world, key).saturating_duration_since(Instant::now());
        let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_secs(60));
        world = shared
            .changed
            .wait_timeout(world, timeout)
            .map_or_else(|poisoned| poisoned.into_inner().0, |woken| woken.0);
    }
}

/// The first candidate that the gate lets pass.
fn choose(world: &mut World, key: &UnitKey) -> Option<Operation> {
    let candidates = resolver::candidates(world, key);
    let Some(mut gate) = world.gate.take() else { return candidates.into_iter().next() };
    let repeats = world.unit(key).is_some_and(|unit| unit.config_repeats);
    let mut chosen = None;
    for operation in candidates {
        let path = dispatch_path(world, key, &operation);
        let remote = match &operation {
            Operation::Hook(event) => event.relation().and_then(|relation| relation.remote_unit.clone()),
            _ => None,
        };
        let candidate = Candidate {
            unit: &key.unit_name(),
            path: &path,
            remote_unit: remote.as_deref().unwrap_or_default(),
            busy: world.busy(),
            repeats: repeats && operation == Operation::Hook(Event::ConfigChanged),
        };
        match gate(&candidate) {
            Verdict::Run => {
                chosen = Some(operation);
                break;
            }
            Verdict::Wait => {}
            Verdict::Drop => {
                if let (true, Some(unit)) = (candidate.repeats, world.unit_mut(key)) {
                    unit.config_changed = 0;
                    unit.config_repeats = false;
                }
            }
        }
    }
    world.gate = Some(gate);
    chosen
}

/// `hooks/<name>`, `actions/<name>`, or nothing for juju-exec.
fn dispatch_path(world: &World, key: &UnitKey, operation: &Operation) -> String {
    match operation {
        Operation::Hook(event) => format!("hooks/{}", event.name()),
        Operation::Action(_) => format!("actions/{}", operation_name(world, key, operation)),
        Operation::Execute(_) => String::new(),
    }
}

fn operation_name(world: &World, key: &UnitKey, operation: &Operation) -> String {
    match operation {
        Operation::Hook(event) => event.name(),
        Operation::Action(task) => {
            let task = world.model(&key.model).and_then(|model| model.tasks.get(task));
            task.map(|task| task.action.clone()).unwrap_or_default()
        }
        Operation::Execute(_) => "run-commands".into(),
    }
}
