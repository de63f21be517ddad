//! Actions on units: asked for, watched, read.

use super::error::{Error, ErrorDetail, Result};
use super::login::Session;
use super::wire::{Time, null_as_default, unit_name, unit_tag};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A parameter's value. Juju 4.0 flattens everything else into text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A whole number; 4.0 keeps 53 bits of it.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// A task that was asked for. Recorded before anything else happens: after a restart it is looked for, not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// `operation-<number>`.
    pub operation: String,
    /// `action-<number>`; the number is what `juju show-task` takes.
    pub task: String,
    /// The unit that will run it, `kratos/0`: who led when it was asked for.
    pub unit: String,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Queued; for ever, if the unit's agent is down.
    Pending,
    /// At work.
    Running,
    /// At work, and told to stop.
    Aborting,
    /// Ended well, but for its `return-code`.
    Completed,
    /// The charm failed it, or the agent died.
    Failed,
    /// It could not be run.
    Error,
    /// Never ran.
    Cancelled,
    /// Was stopped.
    Aborted,
    /// One that we do not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl TaskStatus {
    /// It will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Error | Self::Cancelled | Self::Aborted)
    }
}

/// A line that the action logged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// When.
    #[serde(default)]
    pub timestamp: Time,
    /// What.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
}

/// A task as the controller knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// `action-<number>`.
    pub tag: String,
    /// The unit, `kratos/0`.
    pub unit: String,
    /// The action's name; empty in the answer to the very request on 4.0.
    pub name: String,
    /// What it was given.
    pub parameters: Map<String, Value>,
    /// How far it is.
    pub status: TaskStatus,
    /// Why it failed.
    pub message: String,
    /// What it logged so far.
    pub log: Vec<LogLine>,
    /// What the charm set, with `return-code`, `stdout` and `stderr`; empty in an operation's tasks.
    pub output: Map<String, Value>,
    /// When it was asked for.
    pub enqueued: Time,
    /// When it began.
    pub started: Time,
}

impl Task {
    /// It ended well: `completed`, and `return-code` is 0 or not there.
    pub fn succeeded(&self) -> bool {
        self.status == TaskStatus::Completed
            && self.output.get("return-code").and_then(Value::as_f64).is_none_or(|code| code == 0.0)
    }

    /// A result by its dotted key, as text.
    pub fn result(&self, key: &str) -> Option<String> {
        let mut parts = key.split('.');
        let first = self.output.get(parts.next()?)?;
        match parts.try_fold(first, |value, part| value.get(part))? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    fn of(raw: ActionResult) -> Self {
        let action = raw.action.unwrap_or_default();
        Self {
            unit: unit_name(&action.receiver).unwrap_or(action.receiver),
            tag: action.tag,
            name: action.name,
            parameters: action.parameters,
            status: raw.status,
            message: raw.message,
            log: raw.log,
            output: raw.output,
            enqueued: raw.enqueued,
            started: raw.started,
        }
    }
}

/// The tasks that were asked for together.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// `operation-<number>`.
    pub tag: String,
    /// How far it is.
    pub status: TaskStatus,
    /// When it was asked for.
    pub enqueued: Time,
    /// When it ended; on 4.0 a task's own time stays "never".
    pub completed: Time,
    /// Its tasks, without their output.
    pub tasks: Vec<Task>,
}

/// Which operations to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationFilter {
    /// Of these applications.
    pub applications: Vec<String>,
    /// Of actions with these names.
    pub actions: Vec<String>,
    /// In these states, such as `pending` and `running`.
    pub status: Vec<String>,
    /// How many at most.
    pub limit: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Action {
    #[serde(deserialize_with = "null_as_default")]
    tag: String,
    #[serde(deserialize_with = "null_as_default")]
    receiver: String,
    #[serde(deserialize_with = "null_as_default")]
    name: String,
    #[serde(deserialize_with = "null_as_default")]
    parameters: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ActionResult {
    action: Option<Action>,
    enqueued: Time,
    started: Time,
    #[serde(deserialize_with = "null_as_default")]
    status: TaskStatus,
    #[serde(deserialize_with = "null_as_default")]
    message: String,
    #[serde(deserialize_with = "null_as_default")]
    log: Vec<LogLine>,
    #[serde(deserialize_with = "null_as_default")]
    output: Map<String, Value>,
    error: Option<ErrorDetail>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EnqueuedActions {
    #[serde(deserialize_with = "null_as_default")]
    operation: String,
    #[serde(deserialize_with = "null_as_default")]
    actions: Vec<ActionResult>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OperationResult {
    #[serde(deserialize_with = "null_as_default")]
    operation: String,
    enqueued: Time,
    completed: Time,
    #[serde(deserialize_with = "null_as_default")]
    status: TaskStatus,
    #[serde(deserialize_with = "null_as_default")]
    actions: Vec<ActionResult>,
    error: Option<ErrorDetail>,
}

impl OperationResult {
    fn read(self, doing: &str) -> Result<Operation> {
        if let Some(error) = self.error {
            return Err(error.refused(doing));
        }
        Ok(Operation {
            tag: self.operation,
            status: self.status,
            enqueued: self.enqueued,
            completed: self.completed,
            tasks: self.actions.into_iter().map(Task::of).collect(),
        })
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Results<T> {
    #[serde(default, deserialize_with = "null_as_default")]
    results: Vec<T>,
}

fn only<T>(results: Results<T>, doing: &str) -> Result<T> {
    let why = format!("{} results for one entity", results.results.len());
    let mut results = results.results.into_iter();
    results.next().ok_or(Error::Unreadable { doing: doing.to_owned(), why })
}

impl Session {
    /// Asks for an action on a unit (`kratos/0`) or on whoever leads now (`kratos/leader`). It waits behind whatever
    /// the unit does. No block stops it. Needs access `write`.
    ///
    /// On 3.6 bad parameters are refused here; 4.0 takes them, and the task ends as [`TaskStatus::Error`].
    ///
    /// # Errors
    /// As every call.
    pub async fn enqueue(
        &self,
        receiver: &str,
        action: &str,
        parameters: &BTreeMap<String, Scalar>,
    ) -> Result<Enqueued> {
        let doing = format!("run {action} on {receiver}");
        let params = json!({"actions": [{
            "tag": "",
            "receiver": unit_tag(receiver),
            "name": action,
            "parameters": parameters,
            "parallel": false,
            "execution-group": "",
        }]});
        let answer: EnqueuedActions = self.call("Action", "EnqueueOperation", &params, &doing).await?;
        let first = only(Results { results: answer.actions }, &doing)?;
        if let Some(error) = first.error {
            return Err(error.refused(&doing));
        }
        let Task { tag, unit, .. } = Task::of(first);
        Ok(Enqueued { operation: answer.operation, task: tag, unit })
    }

    /// A task by its tag. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn task(&self, tag: &str) -> Result<Task> {
        let doing = format!("read {tag}");
        let params = json!({"entities": [{"tag": tag}]});
        let found: Results<ActionResult> = self.call("Action", "Actions", &params, &doing).await?;
        let found = only(found, &doing)?;
        match found.error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(Task::of(found)),
        }
    }

    /// An operation by its tag. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn operation(&self, tag: &str) -> Result<Operation> {
        let doing = format!("read {tag}");
        let params = json!({"entities": [{"tag": tag}]});
        let found: Results<OperationResult> = self.call("Action", "Operations", &params, &doing).await?;
        only(found, &doing)?.read(&doing)
    }

    /// Operations that were asked for, by whomever: where a lost reply left its task. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_operations(&self, filter: &OperationFilter) -> Result<Vec<Operation>> {
        let doing = "list operations";
        let mut params = serde_json::to_value(filter).unwrap_or_default();
        params["units"] = json!([]);
        params["machines"] = json!([]);
        params["offset"] = json!(0);
        let found: Results<OperationResult> = self.call("Action", "ListOperations", &params, doing).await?;
        found.results.into_iter().map(|operation| operation.read(doing)).collect()
    }

    /// Asks to stop a task. **Always refused by 4.0.14**, and on other releases only a request: never rely on it.
    /// Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn cancel(&self, tag: &str) -> Result<TaskStatus> {
        let doing = format!("cancel {tag}");
        let params = json!({"entities": [{"tag": tag}]});
        let found: Results<ActionResult> = self.call("Action", "Cancel", &params, &doing).await?;
        let found = only(found, &doing)?;
        match found.error {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(found.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_task_ended() {
        let table = [
            ("completed", json!({}), true, true),
            ("completed", json!({"return-code": 0}), true, true),
            ("completed", json!({"return-code": 0.0}), true, true),
            ("completed", json!({"return-code": 3}), true, false),
            ("failed", json!({"return-code": 0}), true, false),
            ("error", json!(null), true, false),
            ("aborting", json!({}), false, false),
            ("pending", json!({}), false, false),
            ("dreaming", json!({}), false, false),
        ];
        for (status, output, is_final, succeeded) in table {
            let raw = json!({"status": status, "output": output, "log": null, "completed": "0001-01-01T00:00:00Z"});
            let task = Task::of(serde_json::from_value(raw).unwrap());
            assert_eq!((task.status.is_final(), task.succeeded()), (is_final, succeeded), "{status} {output}");
        }
    }

    #[test]
    fn results_are_read_by_dotted_keys() {
        let output = json!({"a": {"b": "1"}, "return-code": 0});
        let task = Task { output: output.as_object().unwrap().clone(), ..Task::default() };
        assert_eq!(task.result("a.b").as_deref(), Some("1"));
        assert_eq!(task.result("return-code").as_deref(), Some("0"));
        assert_eq!(task.result("a.c"), None);
    }
}
