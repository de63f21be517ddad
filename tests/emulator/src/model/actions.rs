//! Actions from the operator's side.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::{Map, Value};

use super::{Model, kill};
use crate::agent::socket::{ExecuteAsk, execute};
use crate::world::{Code, ExecuteResult, Task};

/// A task as `juju show-task` tells it.
#[derive(Debug, Clone)]
pub struct TaskView {
    pub id: u64,
    pub operation: u64,
    pub unit: String,
    pub action: String,
    /// pending, running, completed, failed, cancelled, aborting, aborted or
    /// error.
    pub status: String,
    pub message: String,
    pub log: Vec<(SystemTime, String)>,
    pub results: Map<String, Value>,
    pub enqueued: SystemTime,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
}

/// How an action ended.
pub type ActionResult = TaskView;

impl TaskView {
    /// A result by its dotted key, empty when absent.
    pub fn result(&self, key: &str) -> String {
        let mut parts = key.split('.');
        let first = self.results.get(parts.next().unwrap_or_default());
        match parts.fold(first, |value, part| value?.get(part)) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// It will not change any more.
    pub fn ended(&self) -> bool {
        !["pending", "running", "aborting"].contains(&self.status.as_str())
    }
}

impl Model {
    /// Runs an action and waits up to ten minutes for its end. Values are
    /// typed as YAML, as on juju's command line.
    pub fn run(&self, unit: &str, action: &str, parameters: &[(&str, &str)]) -> Result<ActionResult> {
        let task = self.enqueue(unit, action, parameters)?;
        self.wait_task(task, Duration::from_secs(600))
    }

    /// Queues an action and returns the task's number.
    pub fn enqueue(&self, unit: &str, action: &str, parameters: &[(&str, &str)]) -> Result<u64> {
        let mut typed = Map::new();
        for (key, text) in parameters {
            let value: Value = serde_yaml::from_str(text).unwrap_or_else(|_| Value::String((*text).to_owned()));
            let mut level = &mut typed;
            let mut parts: Vec<&str> = key.split('.').collect();
            let last = parts.pop().unwrap_or_default();
            for part in parts {
                let entry = level.entry(part).or_insert_with(|| Value::Object(Map::new()));
                level = entry.as_object_mut().with_context(|| format!("{key}: {part} is no map"))?;
            }
            level.insert(last.to_owned(), value);
        }
        self.enqueue_typed(unit, action, typed)
    }

    /// Queues an action with parameters as they are.
    pub fn enqueue_typed(&self, unit: &str, action: &str, parameters: Map<String, Value>) -> Result<u64> {
        let key = self.key(unit)?;
        let mut world = self.shared.lock();
        let application = world.application(&key).context("the application is gone")?;
        if !application.charm.actions.contains_key(action) {
            bail!("action {action:?} not defined on unit {:?}", key.unit_name());
        }
        let model = world.models.get_mut(&self.name).context("the model is gone")?;
        let operation = model.take_operation();
        let id = operation + 1;
        let task = Task {
            operation,
            application: key.application.clone(),
            unit: key.number,
            action: action.to_owned(),
            parameters,
            status: "pending".into(),
            message: String::new(),
            log: Vec::new(),
            results: Map::new(),
            enqueued: SystemTime::now(),
            started: None,
            completed: None,
        };
        model.tasks.insert(id, task);
        drop(world);
        self.shared.ring();
        Ok(id)
    }

    /// The number of an operation without a task.
    pub(crate) fn take_operation(&self) -> Result<u64> {
        let mut world = self.shared.lock();
        Ok(world.models.get_mut(&self.name).context("the model is gone")?.take_operation())
    }

    /// Waits for a task's end; the error shows the model as last seen.
    pub fn wait_task(&self, id: u64, deadline: Duration) -> Result<ActionResult> {
        self.wait_until(&format!("task {id} ends"), deadline, |model| model.task(id).is_none_or(|task| task.ended()))?;
        self.task(id).with_context(|| format!("task {id} not found"))
    }

    pub fn task(&self, id: u64) -> Option<TaskView> {
        let world = self.shared.lock();
        let task = world.model(&self.name)?.tasks.get(&id)?;
        Some(view(id, task))
    }

    /// All tasks, oldest first.
    pub fn tasks(&self) -> Vec<TaskView> {
        let world = self.shared.lock();
        let tasks = world.model(&self.name).map(|model| &model.tasks);
        tasks.into_iter().flatten().map(|(id, task)| view(*id, task)).collect()
    }

    /// Cancels a task: a pending one never runs, a running one's process is
    /// killed.
    pub fn cancel_task(&self, id: u64) -> Result<()> {
        let mut world = self.shared.lock();
        let model = world.models.get_mut(&self.name).context("the model is gone")?;
        let task = model.tasks.get_mut(&id).with_context(|| format!("task {id} not found"))?;
        match task.status.as_str() {
            "pending" => {
                task.status = "cancelled".into();
                task.message = "action cancelled via the API".into();
                task.completed = Some(SystemTime::now());
            }
            "running" => {
                task.status = "aborting".into();
                let units = model.applications.values().flat_map(|application| application.units.values());
                let running = units.filter_map(|unit| unit.running.as_ref());
                if let Some(pid) = running.filter(|running| running.task == Some(id)).find_map(|running| running.pid) {
                    kill(pid, Signal::KILL);
                }
            }
            other => bail!("cannot cancel task {id}: it is {other}"),
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Runs a shell command in a unit's context, as juju-exec does.
    pub fn execute(&self, unit: &str, command: &str, relation: Option<&str>) -> Result<ExecuteResult> {
        let key = self.key(unit)?;
        Ok(execute(
            &self.shared,
            &key,
            ExecuteAsk { command: command.to_owned(), relation: relation.map(str::to_owned) },
        ))
    }

    /// Types a command line into a shell of a neighbour's unit, as `juju ssh` does.
    pub fn shell(&self, unit: &str, command: &str) -> Result<ExecuteResult> {
        let key = self.key(unit)?;
        let code = self.shared.lock().application(&key).map(|application| application.code.clone());
        match code {
            Some(Code::Native(charm)) => charm.lock().unwrap_or_else(PoisonError::into_inner).shell(command),
            _ => bail!("no shell is played on {unit}"),
        }
    }
}

fn view(id: u64, task: &Task) -> TaskView {
    TaskView {
        id,
        operation: task.operation,
        unit: format!("{}/{}", task.application, task.unit),
        action: task.action.clone(),
        status: task.status.clone(),
        message: task.message.clone(),
        log: task.log.clone(),
        results: task.results.clone(),
        enqueued: task.enqueued,
        started: task.started,
        completed: task.completed,
    }
}
