//! `juju status`, as a table and as data.

use serde_json::{Map, Value, json};

use crate::model::Model;
use crate::world::{Life, Unit};

impl Model {
    /// The table that `juju status` prints.
    pub fn status_table(&self) -> String {
        let world = self.shared.lock();
        let Some(model) = world.model(self.name()) else { return String::new() };
        let version = world.options.version.trim_end_matches(".1").to_owned();
        let mut text = table(&[
            ["Model", "Controller", "Cloud/Region", "Version"].map(str::to_owned).into(),
            vec![self.name().to_owned(), "emulator".into(), "emulator/local".into(), version],
        ]);
        if !model.consumed.is_empty() {
            let mut rows = vec![["SAAS", "Status", "Store", "URL"].map(str::to_owned).to_vec()];
            for (name, address) in &model.consumed {
                rows.push(vec![name.clone(), "active".into(), "local".into(), address.clone()]);
            }
            text.push_str(&format!("\n{}", table(&rows)));
        }
        let header = ["App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Exposed", "Message"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for (name, application) in &model.applications {
            let status = application.status.clone().unwrap_or_else(|| application.derived_status());
            let failed = application.units.values().any(|unit| unit.failed.is_some());
            rows.push(vec![
                name.clone(),
                application.workload_version.clone(),
                if failed { "error".into() } else { status.status },
                application.units.len().to_string(),
                application.charm.name.clone(),
                application.channel.clone(),
                application.charm_revision.to_string(),
                "no".into(),
                status.message,
            ]);
        }
        text.push_str(&format!("\n{}", table(&rows)));
        let header = ["Unit", "Workload", "Agent", "Machine", "Public address", "Ports", "Message"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for (name, application) in &model.applications {
            for (number, unit) in &application.units {
                let star = if application.leader == Some(*number) { "*" } else { "" };
                let shown = if unit.failed.is_some() { &unit.agent } else { &unit.workload };
                rows.push(vec![
                    format!("{name}/{number}{star}"),
                    shown.status.clone(),
                    agent_word(unit).into(),
                    "0".into(),
                    "127.0.0.1".into(),
                    unit.ports.iter().cloned().collect::<Vec<_>>().join(","),
                    shown.message.clone(),
                ]);
            }
        }
        text.push_str(&format!("\n{}", table(&rows)));
        drop(world);
        let relations = self.relation_rows();
        if relations.len() > 1 {
            text.push_str(&format!("\n{}", table(&relations)));
        }
        text
    }

    fn relation_rows(&self) -> Vec<Vec<String>> {
        let world = self.shared.lock();
        let header = ["Integration provider", "Requirer", "Interface", "Type", "Message"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for relation in world.relations.values() {
            if !relation.ends.iter().any(|end| end.model == self.name()) {
                continue;
            }
            let shown = |place: usize| {
                let end = &relation.ends[place];
                let name = if end.model == self.name() { &end.application } else { &end.seen_as };
                format!("{name}:{}", end.endpoint)
            };
            let provider = relation.ends.iter().position(|end| end.declared.role == crate::charm::Role::Provides);
            let provider = provider.unwrap_or(0);
            rows.push(vec![
                shown(provider),
                shown(relation.remote_end(provider)),
                relation.ends[0].declared.interface.clone(),
                if relation.is_peer() { "peer" } else { "regular" }.into(),
                if relation.dying { "dying" } else { "" }.into(),
            ]);
        }
        rows
    }

    /// What `juju status --format json` prints.
    pub fn status_json(&self) -> Value {
        let world = self.shared.lock();
        let Some(model) = world.model(self.name()) else { return Value::Null };
        let mut applications = Map::new();
        for (name, application) in &model.applications {
            let mut units = Map::new();
            for (number, unit) in &application.units {
                let shown = if unit.failed.is_some() { &unit.agent } else { &unit.workload };
                let mut entry = json!({
                    "workload-status": { "current": shown.status, "message": shown.message },
                    "juju-status": { "current": agent_word(unit) },
                    "public-address": "127.0.0.1",
                });
                if application.leader == Some(*number) {
                    entry["leader"] = json!(true);
                }
                units.insert(format!("{name}/{number}"), entry);
            }
            let status = application.status.clone().unwrap_or_else(|| application.derived_status());
            applications.insert(
                name.clone(),
                json!({
                    "charm": application.charm.name,
                    "charm-channel": application.channel,
                    "charm-rev": application.charm_revision,
                    "version": application.workload_version,
                    "application-status": { "current": status.status, "message": status.message },
                    "units": units,
                }),
            );
        }
        json!({
            "model": { "name": self.name(), "controller": "emulator", "version": world.options.version },
            "applications": applications,
        })
    }
}

fn agent_word(unit: &Unit) -> &str {
    match (&unit.running, unit.life) {
        (Some(_), _) => "executing",
        (None, Life::Dying) => "executing",
        // Juju shows a failed hook in the workload column only.
        _ if unit.failed.is_some() => "idle",
        _ => unit.agent.status.as_str(),
    }
}

/// Columns of equal width, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
