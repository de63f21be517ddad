//! What a running hook may do to the world: the meaning of each hook tool,
//! shared by the tool processes and by native charms.

mod commit;
mod relations;
mod secrets;
mod status;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::charm::valid_key;
use crate::context::{Answer, Context, Refusal};
use crate::world::{LogLine, World};

pub(crate) use relations::Bag;
pub(crate) use secrets::{ContentChange, check_content, secret_id};

/// A context at work, under the controller's lock.
pub(crate) struct Session<'a> {
    pub world: &'a mut World,
    pub context: &'a mut Context,
}

impl Session<'_> {
    /// Leadership as is-leader tells it.
    pub fn is_leader(&mut self) -> bool {
        let leader = !self.context.leadership_lost && self.world.is_leader(&self.context.key);
        self.context.leadership_lost = !leader;
        leader
    }

    pub fn log(&mut self, level: &'static str, module: &str, text: &str) {
        let prefix = match self.context.event.as_ref().and_then(|event| event.relation()) {
            Some(relation) => format!("{}: ", relation.id),
            None => String::new(),
        };
        let line = LogLine {
            at: std::time::SystemTime::now(),
            unit: self.context.key.unit_name(),
            level,
            module: module.to_owned(),
            text: format!("{prefix}{text}"),
        };
        if let Some(model) = self.world.models.get_mut(&self.context.key.model) {
            model.log.push(line);
        }
    }

    /// The unit's state with this run's changes.
    pub fn state(&self) -> BTreeMap<String, String> {
        let mut state = self.world.unit(&self.context.key).map(|unit| unit.state.clone()).unwrap_or_default();
        for (key, value) in &self.context.state_writes {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    pub fn state_set(&mut self, changes: BTreeMap<String, String>) -> Answer<()> {
        for (key, value) in &changes {
            for (length, limit, what) in [(key.len(), 256, "key"), (value.len(), 65536, "value")] {
                if length > limit {
                    return Err(Refusal::failed(format!("max allowed {what} length ({limit}) exceeded")));
                }
            }
        }
        for (key, value) in changes {
            self.context.state_writes.insert(key, Some(value));
        }
        Ok(())
    }

    /// Opened ports with this run's changes.
    pub fn ports(&self) -> Vec<String> {
        let mut ports = self.world.unit(&self.context.key).map(|unit| unit.ports.clone()).unwrap_or_default();
        for (port, open) in &self.context.port_writes {
            if *open {
                ports.insert(port.clone());
            } else {
                ports.remove(port);
            }
        }
        ports.into_iter().collect()
    }

    pub fn action_parameters(&self) -> Answer<&Map<String, Value>> {
        match &self.context.action {
            Some(action) => Ok(&action.parameters),
            None => Err(Refusal::failed("not running an action")),
        }
    }

    /// Sets results by dotted keys.
    pub fn action_set(&mut self, pairs: &[(String, String)]) -> Answer<()> {
        let Some(action) = &mut self.context.action else {
            return Err(Refusal::failed("not running an action"));
        };
        for (key, _) in pairs {
            for part in key.split('.') {
                if ["stdout", "stdout-encoding", "stderr", "stderr-encoding"].contains(&part) {
                    return Err(Refusal::usage(format!("cannot set reserved action key \"{part}\"")));
                }
                if !valid_key(part) {
                    return Err(Refusal::usage(format!(
                        "key \"{part}\" must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens"
                    )));
                }
            }
        }
        for (key, value) in pairs {
            let mut parts: Vec<&str> = key.split('.').collect();
            let last = parts.pop().unwrap_or_default();
            let mut level = &mut action.results;
            for part in parts {
                let entry = level.entry(part).or_insert_with(|| Value::Object(Map::new()));
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                let Value::Object(next) = entry else { unreachable!("made an object above") };
                level = next;
            }
            level.insert(last.to_owned(), Value::String(value.clone()));
        }
        Ok(())
    }

    pub fn action_fail(&mut self, message: &str) -> Answer<()> {
        let Some(action) = &mut self.context.action else {
            return Err(Refusal::failed("not running an action"));
        };
        let message =
            if message.is_empty() { "action failed without reason given, check action for errors" } else { message };
        action.failure = Some(message.to_owned());
        Ok(())
    }

    pub fn action_log(&mut self, message: &str) -> Answer<()> {
        let Some(action) = &self.context.action else {
            return Err(Refusal::failed("not running an action"));
        };
        let task = action.task;
        if let Some(task) =
            self.world.models.get_mut(&self.context.key.model).and_then(|model| model.tasks.get_mut(&task))
        {
            task.log.push((std::time::SystemTime::now(), message.to_owned()));
        }
        Ok(())
    }
}
