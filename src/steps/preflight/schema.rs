//! Checks of tables and of what hangs on them.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{Fault, Remedy, faults, judged, listed};
use crate::postgres::inspect::{Persistence, ReplicaIdentitySetting, Table, TableKind};
use crate::postgres::names::ident;
use crate::postgres::survey::{Oddity, OddityKind, Survey};

/// The source's tables that are replicated: all but the migration table.
pub(super) fn replicated(facts: &Facts) -> impl Iterator<Item = &Table> {
    facts.source.survey.tables.iter().filter(|table| !facts.look.app.is_migration_table(&table.name.name))
}

/// The oddities of one kind, in words, with their cure.
fn odd(survey: &Survey, kind: OddityKind, words: impl Fn(&Oddity) -> String) -> Vec<(String, String)> {
    let found = survey.oddities.iter().filter(|oddity| oddity.kind == kind);
    found.map(|oddity| (words(oddity), oddity.cure.clone().unwrap_or_default())).collect()
}

pub(super) fn kinds(facts: &Facts) -> Judgement {
    let odd: Vec<Fault> = replicated(facts)
        .filter_map(|table| {
            let name = table.name.sql();
            let (kind, sql) = match (table.kind, table.persistence) {
                (TableKind::Foreign, _) => ("a foreign table", format!("DROP FOREIGN TABLE {name}")),
                (TableKind::Partitioned, _) => ("partitioned", format!("DROP TABLE {name}")),
                (TableKind::MaterializedView, _) => ("a materialized view", format!("DROP MATERIALIZED VIEW {name}")),
                (TableKind::Ordinary, Persistence::Unlogged) => ("unlogged", format!("ALTER TABLE {name} SET LOGGED")),
                (TableKind::Ordinary, Persistence::Permanent) => return None,
            };
            Some(Fault { side: "source", found: format!("{} is {kind}", table.name), remedy: Remedy::Sql(sql) })
        })
        .collect();
    let count = replicated(facts).count();
    if count == 0 {
        let cure = "check option source-database-name and the relation source-database";
        return bad(format!("{} has no table to replicate", facts.source.survey.place()), cure);
    }
    let bytes: u64 = replicated(facts).map(|table| table.total_bytes).sum();
    let title = facts.look.app.title;
    let heavy = match odd.iter().any(|fault| matches!(&fault.remedy, Remedy::Sql(sql) if sql.ends_with("SET LOGGED"))) {
        true => " (SET LOGGED writes the table anew, and nobody can use it meanwhile)",
        false => "",
    };
    judged(
        &odd,
        format!("{count} ordinary tables to replicate, {} MiB without indexes", bytes >> 20),
        &format!("after saving what is needed{heavy}: it is not {title}'s own, and cannot be replicated as it is"),
    )
}

pub(super) fn replica_identity(facts: &Facts) -> Judgement {
    let oddities = &facts.source.survey.oddities;
    let with = |kind| oddities.iter().filter(move |oddity| oddity.kind == kind);
    let fault = |found: String, sql: String| Fault { side: "source", found, remedy: sql.into() };
    let mut found: Vec<Fault> = replicated(facts)
        .filter(|table| table.is_replicable() && !table.replica_identity.usable)
        .map(|table| {
            let default = format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT", table.name.sql());
            match table.replica_identity.setting {
                ReplicaIdentitySetting::Default => fault(format!("{} has no primary key", table.name), String::new()),
                ReplicaIdentitySetting::Nothing => {
                    fault(format!("{} has REPLICA IDENTITY NOTHING", table.name), default)
                }
                _ => fault(format!("{}'s replica identity index is missing or invalid", table.name), default),
            }
        })
        .collect();
    found.extend(
        with(OddityKind::DeferrableKey)
            .map(|o| fault(format!("{}'s key {} is deferrable", o.table, o.detail), String::new())),
    );
    found.extend(with(OddityKind::NotComparable).map(|o| {
        let words = format!("{} is FULL and its column {} cannot be compared", o.table, o.detail);
        fault(words, o.cure.clone().unwrap_or_default())
    }));
    let table = facts.look.app.migration_table;
    judged(
        &found,
        format!("every table has a usable key ({table} needs none)"),
        "a table without a usable primary key needs ALTER TABLE … ADD PRIMARY KEY (…), or REPLICA IDENTITY USING INDEX \
         <unique index on NOT NULL columns>",
    )
}

pub(super) fn oddities(facts: &Facts) -> Judgement {
    let found = faults(facts, |s| {
        let inherits = odd(s, OddityKind::Inherits, |o| format!("{} inherits from {}", o.table, o.detail));
        let security = odd(s, OddityKind::RowSecurity, |o| format!("{} has row-level security", o.table));
        let rules = odd(s, OddityKind::Rule, |o| format!("{} has rule {}", o.table, o.detail));
        [inherits, security, rules].concat()
    });
    judged(
        &found,
        "no inheritance, row security or rule",
        "with these, rows would be copied twice, hidden or rewritten",
    )
}

pub(super) fn computed_columns(facts: &Facts) -> Judgement {
    let mut columns: Vec<String> = Vec::new();
    for table in replicated(facts) {
        for column in &table.columns {
            let kind = match (column.generated, column.identity) {
                (true, _) => "generated",
                (_, true) => "an identity column",
                _ => continue,
            };
            columns.push(format!("{}.{} is {kind}", table.name, column.name));
        }
    }
    if columns.is_empty() {
        return good("none");
    }
    hint(
        listed(&columns),
        "know that generated columns are computed anew on the target, and that identity columns go on from the source's \
         sequences after the drain",
    )
}

pub(super) fn column_types(facts: &Facts) -> Judgement {
    let types = |survey: &Survey| -> Vec<String> {
        let own = survey.oddities.iter().filter(|oddity| oddity.kind == OddityKind::OwnType);
        own.map(|oddity| format!("{} ({})", oddity.table, oddity.detail)).collect()
    };
    let (source, target) = (types(&facts.source.survey), types(&facts.target.survey));
    let other: Vec<String> = source.iter().filter(|column| !target.contains(column)).cloned().collect();
    if !other.is_empty() {
        return bad(
            format!("types defined otherwise, or not at all, on the target: {}", listed(&other)),
            "define them the same on both sides: values of the source may not exist on the target",
        );
    }
    let text: Vec<String> = replicated(facts)
        .flat_map(|table| table.columns.iter().map(move |column| (table, column)))
        .filter(|(_, column)| !column.portable_binary)
        .map(|(table, column)| format!("{}.{} ({})", table.name, column.name, column.type_name))
        .collect();
    if text.is_empty() {
        good("every column's type is PostgreSQL's own and means the same everywhere")
    } else {
        hint(
            format!("copied as text: {}", listed(&text)),
            "know that this is slower, and that money, object ids and own types read as the target's settings have them",
        )
    }
}

pub(super) fn large_objects(facts: &Facts) -> Judgement {
    match facts.source.survey.server.large_objects {
        0 => good("none"),
        count => bad(
            format!("{count} large objects in {}", facts.source.survey.place()),
            "save what is needed and run on the source: SELECT lo_unlink(oid) FROM pg_largeobject_metadata; they are not replicated",
        ),
    }
}

pub(super) fn invalid_indexes(facts: &Facts) -> Judgement {
    let found = faults(facts, |s| {
        let one = |name: &String| (format!("index {name} is invalid"), format!("REINDEX INDEX CONCURRENTLY {name}"));
        s.server.invalid_indexes.iter().map(one).collect()
    });
    judged(&found, "none", "or drop it: a failed CREATE INDEX CONCURRENTLY left it, and duplicates may be behind it")
}

/// Triggers that fire in the apply worker.
fn replica_triggers(facts: &Facts, side: &'static str) -> Vec<Fault> {
    let mut found = faults(facts, |s| odd(s, OddityKind::ReplicaTrigger, |o| format!("{} of {}", o.detail, o.table)));
    found.retain(|fault| fault.side == side);
    found
}

pub(super) fn target_triggers(facts: &Facts) -> Judgement {
    let fine = match facts.look.run {
        Some(_) => "none but ours",
        None => "no trigger would fire while changes are applied",
    };
    judged(&replica_triggers(facts, "target"), fine, "which makes it fire for the application only")
}

pub(super) fn source_triggers(facts: &Facts) -> Judgement {
    judged(
        &replica_triggers(facts, "source"),
        "no trigger would fire on the way back",
        "which makes it fire for the application only, and not a second time on the way back",
    )
}

pub(super) fn event_triggers(facts: &Facts) -> Judgement {
    let found = faults(facts, |s| {
        let one =
            |name: &String| (format!("event trigger {name}"), format!("ALTER EVENT TRIGGER {} DISABLE", ident(name)));
        s.server.event_triggers.iter().map(one).collect()
    });
    judged(
        &found,
        "none on either side",
        "or make sure that it lets the application's schema migration and our triggers pass",
    )
}
