//! Statuses and goal-state.

use serde_json::{Map, Value, json};

use crate::clock;
use crate::context::{Answer, Refusal};
use crate::session::Session;
use crate::world::{Life, Status, Unit};

impl Session<'_> {
    /// Sets the unit's or the application's status; at once, never undone.
    pub fn status_set(&mut self, of_application: bool, status: &str, message: &str) -> Answer<()> {
        if !["maintenance", "blocked", "waiting", "active"].contains(&status) {
            return Err(Refusal::usage(format!(
                "invalid status \"{status}\", expected one of [maintenance blocked waiting active]"
            )));
        }
        if of_application && !self.is_leader() {
            return Err(Refusal::failed("this unit is not the leader"));
        }
        let key = self.context.key.clone();
        if of_application {
            if let Some(application) = self.world.application_mut(&key) {
                application.status = Some(Status::new(status, message));
            }
        } else if let Some(unit) = self.world.unit_mut(&key) {
            unit.workload = Status::new(status, message);
            unit.charm_set_status = true;
        }
        Ok(())
    }

    /// What status-get prints.
    pub fn status_get(&mut self, of_application: bool, with_data: bool) -> Answer<Value> {
        let key = self.context.key.clone();
        if !of_application {
            let Some(unit) = self.world.unit(&key) else { return Err(Refusal::failed("unit not found")) };
            return Ok(status_json(&unit.workload, with_data));
        }
        if !self.is_leader() {
            return Err(Refusal::failed("finding application status: this unit is not the leader"));
        }
        let Some(application) = self.world.application(&key) else {
            return Err(Refusal::failed("application not found"));
        };
        let mut units = Map::new();
        for (number, unit) in &application.units {
            units.insert(format!("{}/{number}", key.application), status_json(&unit.workload, with_data));
        }
        let status = application.status.clone().unwrap_or_else(|| application.derived_status());
        let mut shown = status_json(&status, with_data);
        shown["units"] = Value::Object(units);
        Ok(json!({ "application-status": shown }))
    }

    /// What goal-state prints.
    pub fn goal_state(&self) -> Value {
        let key = &self.context.key;
        let Some(application) = self.world.application(key) else { return Value::Null };
        let mut units = Map::new();
        for (number, unit) in &application.units {
            units.insert(format!("{}/{number}", key.application), goal_status(unit));
        }
        let mut relations = Map::new();
        for relation in self.world.relations.values().filter(|relation| !relation.is_peer()) {
            let Some(own) =
                relation.ends.iter().position(|end| end.model == key.model && end.application == key.application)
            else {
                continue;
            };
            let remote = &relation.ends[relation.remote_end(own)];
            let entry = relations.entry(&relation.ends[own].endpoint).or_insert_with(|| json!({}));
            let joined = remote.units.values().chain(relation.ends[own].units.values()).next().is_some();
            let status = if joined { "joined" } else { "joining" };
            entry[&remote.seen_as] = json!({ "status": status, "since": clock::goal(std::time::SystemTime::now()) });
            let other =
                self.world.models.get(&remote.model).and_then(|model| model.applications.get(&remote.application));
            for (number, unit) in other.map(|application| &application.units).into_iter().flatten() {
                entry[format!("{}/{number}", remote.seen_as)] = goal_status(unit);
            }
        }
        json!({ "units": units, "relations": relations })
    }
}

fn goal_status(unit: &Unit) -> Value {
    let status = if unit.life == Life::Alive { unit.workload.status.as_str() } else { "dying" };
    json!({ "status": status, "since": clock::goal(unit.workload.since) })
}

fn status_json(status: &Status, with_data: bool) -> Value {
    if with_data {
        json!({ "message": status.message, "status": status.status, "status-data": {} })
    } else {
        json!({ "status": status.status })
    }
}
