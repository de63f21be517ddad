//! Checks of settings that a role, a database or a server keeps for every session. Our own sessions put these
//! right for themselves; the application, the apply worker and the WAL sender do not.

use super::Facts;
use super::judgement::{Judgement, good};
use super::sides::{Fault, both, faults, judged};
use crate::postgres::survey::Survey;

/// Milliseconds below which a WAL sender or receiver gives up too early.
const SHORT: i64 = 10_000;
/// Timeouts that end statements or sessions.
const TIMEOUTS: [&str; 4] =
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"];

/// Where a setting has a value that is unwanted: kept for a role or the database, or the whole server's.
fn kept(survey: &Survey, name: &str, unwanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let all: Vec<_> = survey.server.kept_settings.iter().filter(|kept| kept.name == name).collect();
    let mut found: Vec<(String, String)> = all
        .iter()
        .filter(|kept| unwanted(&kept.value))
        .map(|kept| {
            let whose = kept.role.as_ref().map_or_else(|| "every role".to_owned(), |role| format!("role {role}"));
            (format!("{name} is {} for {whose}", kept.value), kept.reset.clone())
        })
        .collect();
    // What our role finds is the server's own value, unless a kept one hides it.
    let ours = |role: &Option<String>| role.as_ref().is_none_or(|role| *role == survey.server.session_user);
    let value = survey.setting(name);
    if !all.iter().any(|kept| ours(&kept.role)) && unwanted(value) {
        let reset = format!("ALTER SYSTEM RESET {name}; SELECT pg_reload_conf()");
        found.push((format!("{name} is {value} for the whole server"), reset));
    }
    found
}

pub(super) fn read_only(facts: &Facts) -> Judgement {
    let on = |value: &str| matches!(value.to_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
    let mut found = faults(facts, |s| kept(s, "default_transaction_read_only", on));
    for fault in &mut found {
        // The session that cures it is read-only itself.
        fault.sql.insert_str(0, "SET default_transaction_read_only = off; ");
    }
    judged(
        &found,
        "no session is read-only by default",
        "the charm option request_default_transaction_read_only sets it too; the apply worker could not write",
    )
}

pub(super) fn replication_role(facts: &Facts) -> Judgement {
    judged(
        &faults(facts, |s| kept(s, "session_replication_role", |value| value.eq_ignore_ascii_case("replica"))),
        "triggers fire in every session",
        "in such a session neither foreign keys are checked nor would a fence hold",
    )
}

pub(super) fn timeouts(facts: &Facts) -> Judgement {
    let set = |value: &str| !value.is_empty() && value.trim_end_matches(|c: char| c.is_alphabetic()).trim() != "0";
    let found = faults(facts, |s| TIMEOUTS.iter().flat_map(|name| kept(s, name, set)).collect());
    judged(
        &found,
        "no statement, lock or transaction timeout is set",
        "at least for the migration: the application's own schema migration would be ended by it",
    )
}

pub(super) fn replication_timeouts(facts: &Facts) -> Judgement {
    let names = ["wal_sender_timeout", "wal_receiver_timeout"];
    let found = faults(facts, |s| {
        let short = names.iter().filter(|name| (1..SHORT).contains(&s.number(name)));
        short
            .map(|name| {
                let reset = format!("ALTER SYSTEM RESET {name}; SELECT pg_reload_conf()");
                (format!("{name} is {} ms", s.number(name)), reset)
            })
            .collect()
    });
    let values = both(facts).map(|(side, s)| {
        let [sender, receiver] = names.map(|name| s.number(name) / 1000);
        format!("wal_sender_timeout {sender} s, wal_receiver_timeout {receiver} s on the {side}")
    });
    judged(
        &found,
        values.join("; "),
        "one large transaction takes longer to decode, and following would begin again and again",
    )
}

pub(super) fn search_path(facts: &Facts) -> Judgement {
    let table = facts.look.app.migration_table;
    let found: Vec<Fault> = [("source", &facts.source), ("target", &facts.target)]
        .into_iter()
        .flat_map(|(side, at)| {
            // Several or no schemas are another check's finding.
            let [schema] = at.contents.app_schemas.as_slice() else { return Vec::new() };
            let owners: Vec<&str> = at.survey.tables.iter().map(|table| table.owner.as_str()).collect();
            let hides = |path: &str| !path.split(',').any(|part| part.trim().trim_matches('"') == schema);
            // Other roles may look where they like.
            let concerned = |role: &Option<String>| match role {
                None => true,
                Some(role) => owners.contains(&role.as_str()) || at.survey.server.connected_roles.contains(role),
            };
            let mut survey = at.survey.clone();
            survey.server.kept_settings.retain(|kept| concerned(&kept.role));
            kept(&survey, "search_path", hides)
                .into_iter()
                .map(|(found, sql)| Fault { side, found: format!("{found}, and {table} is in schema {schema}"), sql })
                .collect()
        })
        .collect();
    if found.is_empty() {
        let schemas = [&facts.source, &facts.target].map(|side| side.contents.app_schemas.join(", "));
        return good(format!("the application's tables are found in schema {} → {}", schemas[0], schemas[1]));
    }
    judged(&found, "", "the application would find other tables than these, or make its own anew")
}
