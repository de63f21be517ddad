//! Looking at a model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Model;
use crate::clock;
use crate::world::{LogLine, Running};

impl Model {
    pub fn uuid(&self) -> String {
        self.shared.lock().model(&self.name).map(|model| model.uuid.clone()).unwrap_or_default()
    }

    /// Status word and message of a unit (`a/0`, `a/leader`) or application.
    /// A unit in hook error shows `error`.
    pub fn status(&self, name: &str) -> Result<(String, String)> {
        if name.contains('/') {
            let key = self.key(name)?;
            let world = self.shared.lock();
            let unit = world.unit(&key).context("the unit is gone")?;
            let status = if unit.failed.is_some() { &unit.agent } else { &unit.workload };
            return Ok((status.status.clone(), status.message.clone()));
        }
        let world = self.shared.lock();
        let application = world.model(&self.name).and_then(|model| model.applications.get(name));
        let application = application.with_context(|| format!("application {name:?} not found"))?;
        let status = application.status.clone().unwrap_or_else(|| application.derived_status());
        Ok((status.status, status.message))
    }

    /// The workload version an application shows.
    pub fn workload_version(&self, application: &str) -> String {
        let world = self.shared.lock();
        let application = world.model(&self.name).and_then(|model| model.applications.get(application));
        application.map(|application| application.workload_version.clone()).unwrap_or_default()
    }

    /// The leader's name.
    pub fn leader(&self, application: &str) -> Option<String> {
        let world = self.shared.lock();
        let leader = world.model(&self.name)?.applications.get(application)?.leader?;
        Some(format!("{application}/{leader}"))
    }

    /// Names of an application's units.
    pub fn units(&self, application: &str) -> Vec<String> {
        let world = self.shared.lock();
        let application_state = world.model(&self.name).and_then(|model| model.applications.get(application));
        application_state
            .map(|state| state.units.keys().map(|number| format!("{application}/{number}")).collect())
            .unwrap_or_default()
    }

    /// Names of the applications in the model.
    pub fn applications(&self) -> Vec<String> {
        let world = self.shared.lock();
        world.model(&self.name).map(|model| model.applications.keys().cloned().collect()).unwrap_or_default()
    }

    /// Options that are set or have a default.
    pub fn options(&self, application: &str) -> Result<BTreeMap<String, Value>> {
        let world = self.shared.lock();
        let known = world.model(&self.name).and_then(|model| model.applications.get(application));
        let known = known.with_context(|| format!("application {application:?} not found"))?;
        let value = |name: &String, default: &Value| known.config.get(name).unwrap_or(default).clone();
        Ok(known.charm.options.iter().map(|(name, option)| (name.clone(), value(name, &option.default))).collect())
    }

    /// What an application or unit (`owner`) has written on its endpoint, in
    /// the order of relations.
    pub fn databag(&self, endpoint: &str, owner: &str) -> Vec<BTreeMap<String, String>> {
        let world = self.shared.lock();
        let (application, unit) = match owner.split_once('/') {
            Some((application, number)) => (application, number.parse::<u32>().ok()),
            None => (owner, None),
        };
        let ends = world.relations.values().flat_map(|relation| &relation.ends);
        ends.filter(|end| end.model == self.name && end.application == application && end.endpoint == endpoint)
            .filter_map(|end| match unit {
                None => Some(end.application_bag.data.clone()),
                Some(number) => end.units.get(&number).map(|unit| unit.bag.data.clone()),
            })
            .collect()
    }

    /// Hooks that a unit has begun, in order.
    pub fn hooks(&self, unit: &str) -> Result<Vec<String>> {
        let key = self.key(unit)?;
        Ok(self.shared.lock().unit(&key).map(|unit| unit.events.clone()).unwrap_or_default())
    }

    /// What a unit is busy with.
    pub fn running(&self, unit: &str) -> Result<Option<Running>> {
        let key = self.key(unit)?;
        Ok(self.shared.lock().unit(&key).and_then(|unit| unit.running.clone()))
    }

    /// The unit's charm folder.
    pub fn charm_folder(&self, unit: &str) -> Result<PathBuf> {
        let key = self.key(unit)?;
        Ok(self.shared.lock().charm_folder(&key))
    }

    /// The folder that stands for `/var/lib/juju` in this model.
    pub fn agents_folder(&self) -> PathBuf {
        self.shared.lock().folder.join(&self.name)
    }

    /// A unit's state-set data.
    pub fn state(&self, unit: &str) -> Result<BTreeMap<String, String>> {
        let key = self.key(unit)?;
        Ok(self.shared.lock().unit(&key).map(|unit| unit.state.clone()).unwrap_or_default())
    }

    /// The unit's log, a line per entry.
    pub fn unit_log(&self, unit: &str) -> String {
        self.log_lines(Some(unit), usize::MAX)
    }

    /// The last lines of the whole model's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log_lines(None, lines)
    }

    fn log_lines(&self, unit: Option<&str>, last: usize) -> String {
        let world = self.shared.lock();
        let Some(model) = world.model(&self.name) else { return String::new() };
        let chosen: Vec<&LogLine> = model.log.iter().filter(|line| unit.is_none_or(|unit| line.unit == unit)).collect();
        chosen.iter().skip(chosen.len().saturating_sub(last)).map(|line| format_log(line)).collect()
    }

    /// What `juju show-unit` tells: the unit and its relations' databags.
    pub(crate) fn unit_json(&self, unit: &str) -> Result<Value> {
        let key = self.key(unit)?;
        let world = self.shared.lock();
        let found = world.unit(&key).context("the unit is gone")?;
        let mut relations = Vec::new();
        for (id, local) in &found.relations {
            let Some(relation) = world.relations.get(id) else { continue };
            let own = &relation.ends[local.end];
            let remote = &relation.ends[relation.remote_end(local.end)];
            let units: BTreeMap<String, _> = local
                .members
                .keys()
                .filter_map(|number| {
                    Some((format!("{}/{number}", remote.seen_as), &remote.units.get(number)?.bag.data))
                })
                .collect();
            relations.push(serde_json::json!({
                "relation-id": own.id,
                "endpoint": own.endpoint,
                "related-application": remote.seen_as,
                "application-data": remote.application_bag.data,
                "local-application-data": own.application_bag.data,
                "related-units": units,
            }));
        }
        Ok(serde_json::json!({
            "leader": world.is_leader(&key),
            "workload-status": { "current": found.workload.status, "message": found.workload.message },
            "relation-info": relations,
        }))
    }

    /// Log lines from a place on, for `debug-log` that follows.
    pub(crate) fn log_since(&self, place: usize) -> Vec<String> {
        let world = self.shared.lock();
        let Some(model) = world.model(&self.name) else { return Vec::new() };
        model.log.iter().skip(place).map(format_log).collect()
    }

    /// Everything the charms have shown to an operator or to each other: log,
    /// statuses, action results and messages, databags, state. For tests that
    /// search it for passwords; secrets' contents are not in it.
    pub fn captured_output(&self) -> String {
        let world = self.shared.lock();
        let Some(model) = world.model(&self.name) else { return String::new() };
        let mut text: String = model.log.iter().map(format_log).collect();
        for task in model.tasks.values() {
            text.push_str(&format!("{} {}\n", task.message, Value::Object(task.results.clone())));
            for (_, line) in &task.log {
                text.push_str(&format!("{line}\n"));
            }
        }
        for application in model.applications.values() {
            if let Some(status) = &application.status {
                text.push_str(&format!("{}\n", status.message));
            }
            for unit in application.units.values() {
                text.push_str(&format!("{}\n{:?}\n", unit.workload.message, unit.state));
            }
        }
        for end in world.relations.values().flat_map(|relation| &relation.ends) {
            text.push_str(&format!("{:?}\n", end.application_bag.data));
            for unit in end.units.values() {
                text.push_str(&format!("{:?}\n", unit.bag.data));
            }
        }
        text
    }
}

fn format_log(line: &LogLine) -> String {
    let unit = line.unit.replace('/', "-");
    format!("unit-{unit}: {} {} {} {}\n", clock::time_of_day(line.at), line.level, line.module, line.text)
}
