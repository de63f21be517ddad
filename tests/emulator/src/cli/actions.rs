//! run, show-task, show-operation, operations, cancel-task, exec.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::arguments::borrowed;
use super::{Call, yaml};
use crate::clock;
use crate::model::TaskView;

impl Call<'_> {
    /// `juju run UNIT ACTION [key=value …]`.
    pub(super) fn run_action(&mut self) -> Result<i32> {
        let unit = self.argument(0, "unit")?;
        let action = self.argument(1, "action")?;
        let pairs = self.arguments.pairs(2)?;
        let id = if self.arguments.is_set("string-args") {
            let strings = pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
            self.model.enqueue_typed(&unit, &action, strings)?
        } else {
            self.model.enqueue(&unit, &action, &borrowed(&pairs))?
        };
        let task = self.task(id)?;
        if self.arguments.is_set("background") {
            self.out(&format!(
                "Scheduled operation {operation} with task {id}\nCheck operation status with 'juju show-operation {operation}'\nCheck task status with 'juju show-task {id}'\n",
                operation = task.operation
            ))?;
            return Ok(0);
        }
        self.printer.err(&format!(
            "Running operation {} with 1 task\n  - task {id} on unit-{}\n\nWaiting for task {id}...\n",
            task.operation,
            task.unit.replace('/', "-")
        ))?;
        let wait = self.arguments.duration("wait")?.unwrap_or(Duration::from_secs(60));
        let Some(task) = self.follow(id, wait)? else {
            bail!("timed out waiting for results from: unit {}", task.unit);
        };
        self.print_result(&task)
    }

    fn task(&self, id: u64) -> Result<TaskView> {
        self.model.task(id).with_context(|| format!("task {id} not found"))
    }

    /// Prints progress until the task ends; None when the time is up.
    fn follow(&mut self, id: u64, wait: Duration) -> Result<Option<TaskView>> {
        let end = Instant::now() + wait;
        let mut shown = 0;
        loop {
            let task = self.task(id)?;
            for (at, line) in task.log.iter().skip(shown) {
                self.printer.err(&format!("{} {line}\n", clock::time_of_day(*at)))?;
            }
            shown = task.log.len();
            if task.ended() {
                if shown > 0 {
                    self.printer.err("\n")?;
                }
                return Ok(Some(task));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            self.model.wait_change(Duration::from_millis(200));
        }
    }

    /// What `juju run` prints at the end; it fails only when the process
    /// itself ended with a code.
    fn print_result(&mut self, task: &TaskView) -> Result<i32> {
        match self.arguments.value("format") {
            None | Some("plain") => {
                let mut text = String::new();
                if !["completed"].contains(&task.status.as_str()) {
                    text.push_str(&format!("Action id {} failed: {}\n", task.id, task.message));
                }
                text.push_str(&plain(task));
                self.out(&text)?;
            }
            Some("json") => self.out(&format!("{}\n", json!({ &task.unit: at_the_end(task) })))?,
            Some("yaml") => {
                let Value::Object(map) = json!({ &task.unit: at_the_end(task) }) else { unreachable!("made as a map") };
                self.out(&yaml::print(&map))?;
            }
            Some(other) => bail!("unknown format {other:?}"),
        }
        let code = task.results.get("return-code").and_then(Value::as_i64).unwrap_or(0);
        if code > 0 {
            self.printer.err(&format!(
                "ERROR the following task failed:\n - id \"{}\" with return code {code}\n\nuse 'juju show-task' to inspect the failure\n\n",
                task.id
            ))?;
            return Ok(1);
        }
        Ok(0)
    }

    pub(super) fn show_task(&mut self) -> Result<i32> {
        let id = self.argument(0, "task id")?.parse().context("invalid task id")?;
        if let Some(wait) = self.arguments.duration("wait")? {
            self.follow(id, wait)?;
        }
        let task = self.task(id)?;
        let shown = as_json(&task);
        match (self.arguments.value("format"), shown) {
            (Some("json"), shown) => self.out(&format!("{shown}\n"))?,
            (_, Value::Object(map)) => self.out(&yaml::print(&map))?,
            _ => unreachable!("a task is a map"),
        }
        Ok(0)
    }

    pub(super) fn show_operation(&mut self) -> Result<i32> {
        let id: u64 = self.argument(0, "operation id")?.parse().context("invalid operation id")?;
        let task = self.model.tasks().into_iter().find(|task| task.operation == id);
        let task = task.with_context(|| format!("operation {id} not found"))?;
        let mut map = Map::new();
        map.insert("summary".into(), json!(format!("{} run on unit-{}", task.action, task.unit.replace('/', "-"))));
        map.insert("status".into(), json!(task.status));
        map.insert("action".into(), json!({ "name": task.action, "parameters": {} }));
        map.insert("timing".into(), timing(&task));
        map.insert("tasks".into(), json!({ task.id.to_string(): { "host": task.unit, "status": task.status } }));
        match self.arguments.value("format") {
            Some("json") => self.out(&format!("{}\n", Value::Object(map)))?,
            _ => self.out(&yaml::print(&map))?,
        }
        Ok(0)
    }

    pub(super) fn operations(&mut self) -> Result<i32> {
        let header = ["ID", "Status", "Started", "Finished", "Task IDs", "Summary"].map(str::to_owned).to_vec();
        let mut rows = vec![header];
        for task in self.model.tasks() {
            rows.push(vec![
                task.operation.to_string(),
                task.status.clone(),
                task.started.map(clock::time_of_day).unwrap_or_default(),
                task.completed.map(clock::time_of_day).unwrap_or_default(),
                task.id.to_string(),
                format!("{} run on unit-{}", task.action, task.unit.replace('/', "-")),
            ]);
        }
        self.out(&super::status::table(&rows))?;
        Ok(0)
    }

    pub(super) fn cancel_task(&mut self) -> Result<i32> {
        for word in self.arguments.words().to_vec() {
            self.model.cancel_task(word.parse().context("invalid task id")?)?;
        }
        Ok(0)
    }

    /// `juju exec --unit UNIT -- COMMAND`.
    pub(super) fn exec(&mut self) -> Result<i32> {
        let unit = self.arguments.value("unit").context("no target specified; give --unit")?.to_owned();
        let result = self.model.execute(&unit, &self.arguments.words().join(" "), None)?;
        self.out(&result.stdout)?;
        self.printer.err(&result.stderr)?;
        Ok(result.code)
    }

    /// `juju ssh [--container NAME] UNIT COMMAND …`: the words are one command line for the shell there.
    pub(super) fn ssh(&mut self) -> Result<i32> {
        let unit = self.argument(0, "unit")?;
        let result = self.model.shell(&unit, &self.arguments.words()[1..].join(" "))?;
        self.out(&result.stdout)?;
        self.printer.err(&result.stderr)?;
        Ok(result.code)
    }
}

/// Results without return-code, then what the process printed.
fn plain(task: &TaskView) -> String {
    let mut results = task.results.clone();
    results.remove("return-code");
    let stdout = results.remove("stdout");
    let stderr = results.remove("stderr");
    let mut text = yaml::print(&results);
    for printed in [stdout, stderr].into_iter().flatten() {
        if let Value::String(printed) = printed {
            if !text.is_empty() && !text.ends_with("\n\n") && !text.contains("\n\n") {
                text.push('\n');
            }
            text.push_str(&printed);
        }
    }
    text
}

fn timing(task: &TaskView) -> Value {
    let mut timing = Map::new();
    timing.insert("enqueued".into(), json!(clock::full(task.enqueued)));
    for (name, time) in [("started", task.started), ("completed", task.completed)] {
        if let Some(time) = time {
            timing.insert(name.into(), json!(clock::full(time)));
        }
    }
    Value::Object(timing)
}

/// As `juju run` shows a task: 4.0 leaves out when it ended.
fn at_the_end(task: &TaskView) -> Value {
    let mut shown = as_json(task);
    if let Some(timing) = shown.get_mut("timing").and_then(Value::as_object_mut) {
        timing.remove("completed");
    }
    shown
}

fn as_json(task: &TaskView) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(task.id.to_string()));
    if !task.log.is_empty() {
        let lines: Vec<String> = task.log.iter().map(|(at, line)| format!("{} {line}", clock::full(*at))).collect();
        map.insert("log".into(), json!(lines));
    }
    if !task.message.is_empty() {
        map.insert("message".into(), json!(task.message));
    }
    map.insert("results".into(), Value::Object(task.results.clone()));
    map.insert("status".into(), json!(task.status));
    map.insert("timing".into(), timing(task));
    map.insert("unit".into(), json!(task.unit));
    Value::Object(map)
}
