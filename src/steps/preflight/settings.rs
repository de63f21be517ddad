//! Checks of settings that a role, a database or a server keeps for every session. Our own sessions put these
//! right for themselves; the application, the apply worker and the WAL sender do not.

use super::judgement::{Judgement, good};
use super::remedy::reset;
use super::sides::{At, Fault, Remedy, both, each, faults, faults_at, judged};
use super::{Facts, Side};
use crate::postgres::names::{TableName, ident};
use std::collections::BTreeSet;

/// Milliseconds below which a WAL sender or receiver gives up too early.
const SHORT: i64 = 10_000;
/// Whose a value is that nobody hides.
const EVERYWHERE: &str = "for the whole server";
/// Timeouts that end statements or sessions.
const TIMEOUTS: [&str; 4] =
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"];

/// Where a setting has a value that is unwanted: kept for a role or the database, or the whole server's. `own` is
/// PostgreSQL's own value, as in SQL.
fn kept(at: &At<'_>, name: &str, own: &str, unwanted: impl Fn(&str) -> bool) -> Vec<(String, Remedy)> {
    kept_because(at, name, own, |value| unwanted(value).then(String::new))
}

/// The same, with what there is to say against a value.
fn kept_because(at: &At<'_>, name: &str, own: &str, why: impl Fn(&str) -> Option<String>) -> Vec<(String, Remedy)> {
    let all: Vec<_> = at.server.kept_settings.iter().filter(|kept| kept.name == name).collect();
    let mut found: Vec<(String, Remedy)> = all
        .iter()
        .filter_map(|kept| {
            let whose = kept.role.as_ref().map_or_else(|| "every role".to_owned(), |role| format!("role {role}"));
            let why = why(&kept.value)?;
            Some((format!("{name} is {} for {whose}{why}", kept.value), Remedy::Sql(kept.reset.clone())))
        })
        .collect();
    // What our role finds is the server's own value, unless a kept one hides it.
    let ours = |role: &Option<String>| role.as_ref().is_none_or(|role| *role == at.server.session_user);
    let value = at.setting(name);
    if !all.iter().any(|kept| ours(&kept.role))
        && let Some(why) = why(value)
    {
        found.push((format!("{name} is {value} {EVERYWHERE}{why}"), reset(at, name, own)));
    }
    found
}

pub(super) fn read_only(facts: &Facts) -> Judgement {
    let on = |value: &str| matches!(value.to_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y");
    let mut found = faults(facts, |s| kept(s, "default_transaction_read_only", "off", on));
    for fault in &mut found {
        // The session that cures it is read-only itself.
        if let Remedy::Sql(sql) = &mut fault.remedy {
            sql.insert_str(0, "SET default_transaction_read_only = off; ");
        }
    }
    judged(
        &found,
        "no session is read-only by default",
        "the charm option request_default_transaction_read_only sets it too; the apply worker could not write",
    )
}

pub(super) fn replication_role(facts: &Facts) -> Judgement {
    judged(
        &faults(facts, |s| {
            kept(s, "session_replication_role", "origin", |value| value.eq_ignore_ascii_case("replica"))
        }),
        "triggers fire in every session",
        "in such a session neither foreign keys are checked nor would a fence hold",
    )
}

pub(super) fn timeouts(facts: &Facts) -> Judgement {
    let set = |value: &str| !value.is_empty() && value.trim_end_matches(|c: char| c.is_alphabetic()).trim() != "0";
    let found = faults(facts, |s| TIMEOUTS.iter().flat_map(|name| kept(s, name, "0", set)).collect());
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
        short.map(|name| (format!("{name} is {} ms", s.number(name)), reset(s, name, "'60s'"))).collect()
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
    let sides = each(facts).into_iter().zip([&facts.source, &facts.target]);
    let found: Vec<Fault> = sides.flat_map(|(at, side)| astray(&at, side, facts.look.app.migration_table)).collect();
    if found.is_empty() {
        let schemas = [&facts.source, &facts.target].map(|side| side.contents.app_schemas.join(", "));
        return good(format!("the application's tables are found in schema {} → {}", schemas[0], schemas[1]));
    }
    judged(&found, "", "the application would find other tables than these, or make its own anew")
}

/// Search paths of one side that lead past the application's schema, or through another one that hides its tables.
fn astray(at: &At<'_>, side: &Side, table: &str) -> Vec<Fault> {
    // Several or no schemas are another check's finding.
    let [schema] = side.contents.app_schemas.as_slice() else { return Vec::new() };
    let roles: BTreeSet<&String> =
        at.tables.iter().map(|table| &table.owner).chain(&at.server.connected_roles).collect();
    let mut survey = side.survey.clone();
    // Other roles may look where they like.
    survey.server.kept_settings.retain(|kept| kept.role.as_ref().is_none_or(|role| roles.contains(role)));
    let why = |path: &str| match parts(path).any(|part| part == *schema) {
        false => Some(format!(", and {table} is in schema {schema}")),
        true => {
            shadow(side, schema, path, &roles).map(|hiding| format!(", where {hiding} hides {schema}.{}", hiding.name))
        }
    };
    let direct = format!("ALTER DATABASE {} SET search_path = {}", ident(&at.database), ident(schema));
    let found = kept_because(&at.with(&survey), "search_path", r#""$user", public"#, why);
    let cured = found.into_iter().map(|(found, remedy)| match found.contains(&format!("{EVERYWHERE}, where")) {
        // PostgreSQL's own path would lead there too.
        true => (found, Remedy::Sql(direct.clone())),
        false => (found, remedy),
    });
    faults_at(at, cured.collect())
}

/// The schemas of a search path, as it is written.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split(',').map(|part| part.trim().trim_matches('"'))
}

/// A table in an earlier schema of the path that has the name of one of the application's.
fn shadow(side: &Side, schema: &str, path: &str, roles: &BTreeSet<&String>) -> Option<TableName> {
    let own: BTreeSet<&str> =
        side.survey.tables.iter().filter(|t| t.name.schema == schema).map(|t| t.name.name.as_str()).collect();
    let earlier: Vec<&str> = parts(path).take_while(|part| part != &schema).collect();
    let leads = |candidate: &str| {
        earlier.contains(&candidate)
            || (earlier.contains(&"$user") && roles.iter().any(|role| role.as_str() == candidate))
    };
    let hiding = side.survey.tables.iter().find(|t| leads(&t.name.schema) && own.contains(t.name.name.as_str()));
    hiding.map(|table| table.name.clone())
}
