//! Whether something has come true in the model: pure functions over its status, asked again and again.

use super::status::{ApplicationStatus, FullStatus, RelationStatus, UnitStatus};
use super::wire::Time;

/// What a look at the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is so. Ask again before believing it: a hook may be about to begin.
    Yes,
    /// Not yet, and what is missing.
    NotYet(String),
    /// It will not come true by itself: what somebody has to look at.
    Stuck(String),
}

/// What a refreshed application shall look like.
#[derive(Clone, Debug)]
pub struct RefreshGoal<'a> {
    /// The application.
    pub application: &'a str,
    /// The charm URL that was set.
    pub charm_url: &'a str,
    /// The channel that was asked for; `None` for a local charm.
    pub channel: Option<&'a str>,
    /// The controller's clock before `SetCharm`. `None` when charm and resources stayed the same: no hook runs then.
    pub asked_at: Option<Time>,
    /// How many units there were. On Kubernetes the wanted number counts.
    pub units: usize,
    /// The version that only the new charm or image shows, where it is known. Without it the caller needs another
    /// proof: a unit may be idle on the old code for seconds after the switch, and an unrelated hook may then run.
    pub workload_version: Option<&'a str>,
    /// Workload statuses that are fine, such as `active`; a refreshed Kratos waits for its schema migration.
    pub fine: &'a [&'a str],
}

/// Whether a refresh has reached every unit.
pub fn refreshed(status: &FullStatus, goal: &RefreshGoal<'_>) -> Settled {
    let name = goal.application;
    let Some(application) = status.applications.get(name) else {
        return Settled::Stuck(format!("application {name} is not in the model"));
    };
    if let Some(stuck) = unusable(name, application) {
        return stuck;
    }
    if !same_charm(&application.charm, goal.charm_url) {
        return Settled::NotYet(format!("{name} has the charm {}", application.charm));
    }
    if goal.channel.is_some_and(|channel| channel != application.charm_channel) {
        return Settled::NotYet(format!("{name} follows the channel {}", application.charm_channel));
    }
    let wanted = if application.scale > 0 { application.scale } else { goal.units };
    if application.units.len() != wanted {
        return Settled::NotYet(format!("{name} has {} of {wanted} units", application.units.len()));
    }
    all(application.units.iter().map(|(unit, state)| unit_refreshed(unit, state, goal)))
}

/// Yes when every unit says so; else what somebody must look at, whichever unit it is, before what is only waited for.
fn all(units: impl Iterator<Item = Settled>) -> Settled {
    let (stuck, waiting): (Vec<Settled>, Vec<Settled>) =
        units.filter(|unit| *unit != Settled::Yes).partition(|unit| matches!(unit, Settled::Stuck(_)));
    stuck.into_iter().chain(waiting).next().unwrap_or(Settled::Yes)
}

fn unit_refreshed(name: &str, unit: &UnitStatus, goal: &RefreshGoal<'_>) -> Settled {
    let resting = unit_resting(name, unit, goal.fine);
    if resting != Settled::Yes {
        return resting;
    }
    if !unit.charm.is_empty() && !same_charm(&unit.charm, goal.charm_url) {
        return Settled::NotYet(format!("{name} still has the charm {}", unit.charm));
    }
    if goal.asked_at.is_some_and(|asked| unit.agent_status.since <= asked) {
        return Settled::NotYet(format!("{name} has not begun to refresh"));
    }
    match goal.workload_version {
        Some(version) if version != unit.workload_version => {
            Settled::NotYet(format!("{name} runs version {}", shown(&unit.workload_version)))
        }
        _ => Settled::Yes,
    }
}

/// Whether an application rests: every agent idle, every workload in a status that is fine.
pub fn resting(status: &FullStatus, application: &str, fine: &[&str]) -> Settled {
    let Some(found) = status.applications.get(application) else {
        return Settled::Stuck(format!("application {application} is not in the model"));
    };
    if let Some(stuck) = unusable(application, found) {
        return stuck;
    }
    if found.units.is_empty() {
        return Settled::NotYet(format!("{application} has no unit"));
    }
    all(found.units.iter().map(|(unit, state)| unit_resting(unit, state, fine)))
}

fn unusable(name: &str, application: &ApplicationStatus) -> Option<Settled> {
    if application.err.as_ref().is_some_and(|error| !error.is_null()) {
        return Some(Settled::NotYet(format!("the controller cannot tell the status of {name}")));
    }
    let going = !["", "alive"].contains(&application.life.as_str());
    going.then(|| Settled::Stuck(format!("application {name} is being removed")))
}

fn unit_resting(name: &str, unit: &UnitStatus, fine: &[&str]) -> Settled {
    let (agent, workload) = (&unit.agent_status, &unit.workload_status);
    let with_info = |status: &str, info: &str| {
        if info.is_empty() { status.to_owned() } else { format!("{status}: {info}") }
    };
    if [agent.status.as_str(), workload.status.as_str()].contains(&"error") || agent.status == "failed" {
        let info = if workload.status == "error" { &workload.info } else { &agent.info };
        return Settled::Stuck(format!("{name} is in {}", with_info("error", info)));
    }
    if agent.status != "idle" {
        // A pod that is replaced shows as lost for a while.
        return Settled::NotYet(format!("the agent of {name} is {}", with_info(shown(&agent.status), &agent.info)));
    }
    if fine.contains(&workload.status.as_str()) {
        return Settled::Yes;
    }
    let found = format!("{name} is {}", with_info(shown(&workload.status), &workload.info));
    if workload.status == "blocked" { Settled::Stuck(found) } else { Settled::NotYet(found) }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The same charm, whether or not the URL names the architecture (an upload answers `local:probe-2`, the charm itself
/// then says `local:amd64/probe-2`).
pub fn same_charm(one: &str, other: &str) -> bool {
    let ends = |url: &str| {
        let (schema, path) = url.split_once(':').unwrap_or(("ch", url));
        (schema.to_owned(), path.rsplit('/').next().unwrap_or(path).to_owned())
    };
    ends(one) == ends(other)
}

/// The relation between two endpoints, each `<application>:<endpoint>`, in whatever order the status tells them.
pub fn relation_between<'a>(status: &'a FullStatus, one: &str, other: &str) -> Option<&'a RelationStatus> {
    let mut wanted = [one.to_owned(), other.to_owned()];
    wanted.sort_unstable();
    status.relations.iter().find(|relation| {
        let ends = relation.endpoints.iter();
        let mut found: Vec<String> = ends.map(|end| format!("{}:{}", end.application, end.name)).collect();
        found.sort_unstable();
        found == wanted
    })
}

/// What is at the other ends of an endpoint, `<application>:<endpoint>` each.
pub fn partners(status: &FullStatus, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    for relation in &status.relations {
        let ends: Vec<String> =
            relation.endpoints.iter().map(|end| format!("{}:{}", end.application, end.name)).collect();
        if ends.len() == 2 && ends.iter().any(|one| one == end) {
            found.extend(ends.into_iter().filter(|one| one != end));
        }
    }
    found
}

/// Whether a relation is truly gone: it is no longer in the status. A unit in error keeps it there, and is named.
pub fn relation_gone(status: &FullStatus, id: i64) -> Settled {
    let Some(relation) = status.relations.iter().find(|relation| relation.id == id) else { return Settled::Yes };
    for end in &relation.endpoints {
        let units = status.applications.get(&end.application).into_iter().flat_map(|found| &found.units);
        for (name, unit) in units {
            if unit.workload_status.status == "error" || unit.agent_status.status == "error" {
                let why = &unit.workload_status.info;
                return Settled::Stuck(format!("relation {id} cannot go while {name} is in error ({why})"));
            }
        }
    }
    Settled::NotYet(format!("relation {id} is still there"))
}

/// Whether a relation was made and both sides have settled in it.
pub fn related(status: &FullStatus, one: &str, other: &str) -> Settled {
    let Some(relation) = relation_between(status, one, other) else {
        return Settled::NotYet(format!("{one} and {other} are not related"));
    };
    match relation.status.status.as_str() {
        "joined" => {}
        "error" => return Settled::Stuck(format!("relation {} is in error", relation.id)),
        other => return Settled::NotYet(format!("relation {} is {}", relation.id, shown(other))),
    }
    for end in &relation.endpoints {
        let units = status.applications.get(&end.application).into_iter().flat_map(|found| &found.units);
        for (name, unit) in units {
            // An action, perhaps our own that watches, says nothing of the relation's hooks.
            let (agent, action) = (&unit.agent_status, "running action");
            let busy = agent.status == "executing" && !agent.info.starts_with(action);
            if busy {
                return Settled::NotYet(format!("{name} is at work: {}", unit.agent_status.info));
            }
        }
    }
    Settled::Yes
}

#[cfg(test)]
mod tests;
