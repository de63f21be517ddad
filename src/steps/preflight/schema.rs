//! Checks of tables and of what hangs on them.

use super::Facts;
use super::checks::{Judgement, bad, good};
use crate::postgres::inspect::{Persistence, ReplicaIdentitySetting, Table, TableKind, schema_differences};
use crate::postgres::survey::OddityKind;
use std::collections::BTreeSet;

/// How many findings are listed before the rest is counted.
const LISTED: usize = 6;

/// The first findings in full, the rest as a number.
pub(super) fn listed(found: &[String]) -> String {
    let shown = found.iter().take(LISTED).cloned().collect::<Vec<_>>().join("; ");
    match found.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// The source's tables that are replicated: all but the migration table.
fn replicated(facts: &Facts) -> impl Iterator<Item = &Table> {
    facts.source.survey.tables.iter().filter(|table| !facts.look.app.is_migration_table(&table.name.name))
}

pub(super) fn kinds(facts: &Facts) -> Judgement {
    let odd: Vec<String> = replicated(facts)
        .filter_map(|table| {
            let kind = match (table.kind, table.persistence) {
                (TableKind::Foreign, _) => "a foreign table",
                (TableKind::Partitioned, _) => "partitioned",
                (TableKind::MaterializedView, _) => "a materialized view",
                (TableKind::Ordinary, Persistence::Unlogged) => "unlogged",
                (TableKind::Ordinary, Persistence::Permanent) => return None,
            };
            Some(format!("{} is {kind}", table.name))
        })
        .collect();
    if !odd.is_empty() {
        return bad(
            listed(&odd),
            format!(
                "drop what is not {}'s own, or ALTER TABLE … SET LOGGED; these are not replicated",
                facts.look.app.title
            ),
        );
    }
    let count = replicated(facts).count();
    if count == 0 {
        let cure = "check option source-database-name and the relation source-database";
        return bad(format!("{} has no table to replicate", facts.source.survey.place()), cure);
    }
    let bytes: u64 = replicated(facts).map(|table| table.total_bytes).sum();
    good(format!("{count} ordinary tables to replicate, {} MiB without indexes", bytes >> 20))
}

pub(super) fn replica_identity(facts: &Facts) -> Judgement {
    let oddities = &facts.source.survey.oddities;
    let with = |kind| oddities.iter().filter(move |oddity| oddity.kind == kind);
    let mut found: Vec<String> = replicated(facts)
        .filter(|table| table.is_replicable() && !table.replica_identity.usable)
        .map(|table| match table.replica_identity.setting {
            ReplicaIdentitySetting::Default => format!("{} has no primary key", table.name),
            ReplicaIdentitySetting::Nothing => format!("{} has REPLICA IDENTITY NOTHING", table.name),
            _ => format!("{}'s replica identity index is missing or invalid", table.name),
        })
        .collect();
    found.extend(with(OddityKind::DeferrableKey).map(|o| format!("{}'s key {} is deferrable", o.table, o.detail)));
    found.extend(
        with(OddityKind::NotComparable)
            .map(|o| format!("{} is FULL and its column {} cannot be compared", o.table, o.detail)),
    );
    if found.is_empty() {
        good(format!("every table has a usable key ({} needs none)", facts.look.app.migration_table))
    } else {
        bad(
            listed(&found),
            "add a primary key, or run ALTER TABLE … REPLICA IDENTITY USING INDEX <unique index on NOT NULL columns>",
        )
    }
}

pub(super) fn oddities(facts: &Facts) -> Judgement {
    let found: Vec<String> = [("source", &facts.source.survey), ("target", &facts.target.survey)]
        .into_iter()
        .flat_map(|(side, survey)| survey.oddities.iter().map(move |oddity| (side, oddity)))
        .filter_map(|(side, oddity)| {
            let what = match oddity.kind {
                OddityKind::Inherits => format!("inherits from {}", oddity.detail),
                OddityKind::RowSecurity => "has row-level security".to_owned(),
                OddityKind::Rule => format!("has rule {}", oddity.detail),
                _ => return None,
            };
            Some(format!("{} {what} on the {side}", oddity.table))
        })
        .collect();
    if found.is_empty() {
        good("no inheritance, row security or rule")
    } else {
        bad(
            listed(&found),
            "remove it (NO INHERIT, DISABLE ROW LEVEL SECURITY, DROP RULE): rows would be copied twice, hidden or rewritten",
        )
    }
}

pub(super) fn own_types(facts: &Facts) -> Judgement {
    let types = facts.source.survey.oddities.iter().filter(|oddity| oddity.kind == OddityKind::OwnType);
    let found: Vec<String> = types.map(|oddity| format!("{} ({})", oddity.table, oddity.detail)).collect();
    if found.is_empty() {
        good("every column's type is PostgreSQL's own")
    } else {
        bad(
            listed(&found),
            "make sure that the types are defined the same on the target; such tables are copied as text",
        )
    }
}

pub(super) fn large_objects(facts: &Facts) -> Judgement {
    match facts.source.survey.server.large_objects {
        0 => good("none"),
        count => bad(
            format!("{count} large objects in {}", facts.source.survey.place()),
            "copy what is needed by hand and remove them (SELECT lo_unlink(oid) FROM pg_largeobject_metadata): they are not replicated",
        ),
    }
}

pub(super) fn replica_triggers(facts: &Facts) -> Judgement {
    let run = facts.look.run.is_some();
    let found: Vec<String> = facts
        .target
        .survey
        .oddities
        .iter()
        .filter(|oddity| oddity.kind == OddityKind::ReplicaTrigger)
        .map(|oddity| format!("{} on {}", oddity.detail, oddity.table))
        .collect();
    match (found.is_empty(), run) {
        (true, true) => good("none but ours"),
        (true, false) => good("no trigger would fire while changes are applied"),
        (false, _) => bad(
            listed(&found),
            "run ALTER TABLE … ENABLE TRIGGER … on the target, which makes it fire for the application only",
        ),
    }
}

pub(super) fn event_triggers(facts: &Facts) -> Judgement {
    let [source, target] = [&facts.source.survey, &facts.target.survey].map(|s| s.server.event_triggers.join(", "));
    if source.is_empty() && target.is_empty() {
        good("none")
    } else {
        bad(
            format!("source: {source}; target: {target}"),
            "make sure that they let the application's schema migration pass",
        )
    }
}

pub(super) fn ownership(facts: &Facts) -> Judgement {
    let owners: BTreeSet<&str> = facts.target.survey.tables.iter().map(|table| table.owner.as_str()).collect();
    let names = owners.iter().copied().collect::<Vec<_>>().join(", ");
    match owners.len() {
        0 => bad(
            format!("{} has no table", facts.target.survey.place()),
            "relate the target application to its database and let it start once: it makes its own schema",
        ),
        1 => good(format!("all tables of the target belong to {names}")),
        _ => bad(
            format!("the target's tables belong to {names}"),
            "run REASSIGN OWNED BY <other role> TO <the application's role> in the target database",
        ),
    }
}

pub(super) fn equality(facts: &Facts) -> Judgement {
    let app = facts.look.app;
    // Traces of older migrators stay behind on the source only, and nothing of them is copied.
    let compared = |tables: &[Table]| -> Vec<Table> {
        tables.iter().filter(|table| !app.migration_relics.contains(&table.name.name.as_str())).cloned().collect()
    };
    let (source, target) = (compared(&facts.source.survey.tables), compared(&facts.target.survey.tables));
    if facts.look.run.is_some() && facts.source.schema != facts.target.schema {
        return good("the target's schema is migrated already, in the run that is under way");
    }
    let differences = schema_differences(&source, &target);
    if differences.is_empty() {
        let columns: usize = source.iter().map(|table| table.columns.len()).sum();
        good(format!("{} tables and {columns} columns are the same on both sides", source.len()))
    } else {
        bad(
            listed(&differences),
            format!(
                "bring the target application to the source's revision on a fresh database, let it make its schema, then refresh it \
                 (juju remove-relation and integrate {} with its database)",
                facts.look.target_application
            ),
        )
    }
}
