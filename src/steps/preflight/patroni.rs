//! Checks of what Patroni, beside PostgreSQL, would do to slots and servers.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::sides::{At, each, listed};
use crate::postgres::names::RunId;
use crate::postgres::patroni::Patroni;

/// Both sides with what their Patroni says.
fn told(facts: &Facts) -> [(At<'_>, Option<&Patroni>); 2] {
    let [source, target] = each(facts);
    [(source, facts.source.patroni.as_ref()), (target, facts.target.patroni.as_ref())]
}

/// Where nobody answers, in words; empty when somebody does on both sides.
fn silent(facts: &Facts) -> String {
    let silent: Vec<&str> =
        told(facts).iter().filter(|(_, patroni)| patroni.is_none()).map(|(at, _)| at.side).collect();
    if silent.is_empty() { String::new() } else { format!("no Patroni answers on the {}", silent.join(" and the ")) }
}

pub(super) fn patroni_slots(facts: &Facts) -> Judgement {
    // The slots have the run's name, which is known once it is under way.
    let run = facts.look.run.as_deref().and_then(RunId::parse);
    let name = |at: &At<'_>| run.as_ref().map(|run| if at.side == "source" { run.forward() } else { run.reverse() });
    let mut bare: Vec<String> = Vec::new();
    let mut cures: Vec<String> = Vec::new();
    let mut kept: Vec<String> = Vec::new();
    for (at, patroni) in told(facts) {
        let Some(patroni) = patroni else { continue };
        let (name, database) = (name(&at), &at.database);
        if patroni.leaves_alone(name.as_deref(), database) {
            let beyond = if patroni.keeps(name.as_deref()) { "a restart and a switchover" } else { "a restart" };
            kept.push(format!("our slot outlives {beyond} of the {}", at.side));
            continue;
        }
        let lost = if at.side == "source" { "the copy begins anew" } else { "there is no way back after it" };
        bare.push(format!(
            "Patroni on the {} knows nothing of our slot: a restart or switchover of the {} drops it, and {lost}",
            at.side, at.side
        ));
        let database = serde_json::Value::from(database.as_str());
        let snippet = match (at.identity.major(), name) {
            // The charm for 16 empties `slots` whenever it configures Patroni.
            (..=15, Some(name)) => {
                format!(r#"slots.{name}={{"type": "logical", "plugin": "pgoutput", "database": {database}}}"#)
            }
            _ => format!(r#"ignore_slots=[{{"type": "logical", "plugin": "pgoutput", "database": {database}}}]"#),
        };
        let cluster = match at.setting("cluster_name") {
            "" => "<cluster>",
            name => name,
        };
        cures.push(format!(
            "on a unit of {}: patronictl edit-config {cluster} --force --set '{}'",
            at.postgresql(),
            snippet.replace('\'', r"'\''")
        ));
    }
    if bare.is_empty() {
        let unknown = match silent(facts) {
            silent if silent.is_empty() => None,
            silent => Some(format!("{silent}: what a restart does to our slot is not known")),
        };
        return good(kept.into_iter().chain(unknown).collect::<Vec<_>>().join("; "));
    }
    bad(
        listed(&bare),
        format!(
            "run {}; ignore_slots covers restarts, slots (up to 15, once the run has begun) switchovers too",
            cures.join("; ")
        ),
    )
}

pub(super) fn patroni_members(facts: &Facts) -> Judgement {
    let mut found: Vec<String> = Vec::new();
    let mut counts: Vec<String> = Vec::new();
    for (at, patroni) in told(facts) {
        let Some(patroni) = patroni else { continue };
        if patroni.standby_cluster {
            found.push(format!("the {} is a standby cluster of another one", at.side));
        }
        for member in &patroni.members {
            let whose = format!("member {} ({}) of the {}", member.name, member.role, at.side);
            if !member.runs() {
                found.push(format!("{whose} is {}", member.state));
            }
            if member.pending_restart {
                found.push(format!("{whose} waits for a restart"));
            }
        }
        counts.push(format!("{} members run on the {}", patroni.members.len(), at.side));
    }
    if found.is_empty() {
        let silent = silent(facts);
        return good(counts.into_iter().chain((!silent.is_empty()).then_some(silent)).collect::<Vec<_>>().join(", "));
    }
    bad(
        listed(&found),
        "look at patronictl list and repair that before the copy: a member that comes back or a restart later has Patroni look \
         through the slots, and a standby cluster loses them with its promotion",
    )
}
