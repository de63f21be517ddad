//! Running an action.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Map;

use super::run::{Outcome, complete_results, finish_task, open_context, run_code};
use crate::session::Session;
use crate::world::{Operation, Shared, UnitKey};

/// Validates, runs and ends a task.
pub(crate) fn run_action(shared: &Arc<Shared>, key: &UnitKey, id: u64) {
    let operation = Operation::Action(id);
    let context_id = {
        let mut world = shared.lock();
        match validate(&mut world, key, id) {
            Ok(()) => open_context(&mut world, key, &operation),
            Err((status, message)) => return finish_task(&mut world, key, id, status, &message, Map::new()),
        }
    };
    shared.ring();
    let ran = run_code(shared, key, &context_id, &operation);
    let mut world = shared.lock();
    let Some(mut context) = world.contexts.remove(&context_id) else { return };
    let action = context.action.take();
    let (mut results, failure) = action.map(|action| (action.results, action.failure)).unwrap_or_default();
    let (outcome, ended) = match ran {
        Ok((outcome, ended)) => (outcome, ended),
        Err(error) => (Outcome::Failed { code: -1, message: format!("{error:#}") }, None),
    };
    let cancelled =
        world.model(&key.model).and_then(|model| model.tasks.get(&id)).is_some_and(|task| task.status == "aborting");
    let (status, message, code, error) = match outcome {
        Outcome::Terminated => (if cancelled { "aborted" } else { "failed" }, "terminated".to_owned(), -1, None),
        // The exit status replaces the message of action-fail.
        Outcome::Failed { code, message } => ("failed", message, code, None),
        Outcome::Well => match (Session { world: &mut world, context: &mut context }).commit() {
            Ok(()) => match failure {
                Some(message) => ("failed", message, 0, None),
                None => ("completed", String::new(), 0, None),
            },
            Err(reason) => {
                let message = failure.unwrap_or_else(|| "committing requested changes failed".into());
                ("failed", message, 1, Some(reason))
            }
        },
    };
    complete_results(&mut results, code, ended.as_ref(), error.as_deref());
    finish_task(&mut world, key, id, status, &message, results);
}

/// The agent's own check of the parameters, defaults filled in after it.
fn validate(world: &mut crate::world::World, key: &UnitKey, id: u64) -> Result<(), (&'static str, String)> {
    let allow_others = world.options.version.starts_with("3.");
    let gone = || ("error", "the application is gone".to_owned());
    let application = world.application(key).ok_or_else(gone)?;
    let task = world.model(&key.model).and_then(|model| model.tasks.get(&id)).ok_or_else(gone)?;
    let specification = application
        .charm
        .actions
        .get(&task.action)
        .ok_or_else(|| ("failed", format!("action not implemented on unit \"{}\"", key.unit_name())))?;
    let filled = specification
        .validate(&task.parameters, allow_others)
        .map_err(|why| ("error", format!("cannot run \"{}\" action: validation failed: {why}", task.action)))?;
    let task = world.models.get_mut(&key.model).and_then(|model| model.tasks.get_mut(&id)).ok_or_else(gone)?;
    task.parameters = filled;
    task.status = "running".into();
    task.started = Some(SystemTime::now());
    Ok(())
}
