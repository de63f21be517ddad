//! Checks of the rows.

use super::contents::Counted;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::listed;
use super::{Facts, Side, typed};
use crate::postgres::names::{TableName, literal};

/// How many identities a side has; `None` when there are too many to count at once.
fn identities(side: &Side) -> Option<i64> {
    match &side.contents.schema_ids {
        Counted::Known(ids) => Some(ids.values().sum()),
        Counted::TooLong => None,
        Counted::NoSuchTable => Some(0),
    }
}

pub(super) fn direction(facts: &Facts) -> Judgement {
    let [source, target] = [&facts.source, &facts.target].map(identities);
    let words = |count: Option<i64>| count.map_or_else(|| "very many".to_owned(), |count| count.to_string());
    let found = format!("{} identities on the source, {} on the target", words(source), words(target));
    match (source, target) {
        _ if facts.look.run.is_some() => good(found),
        (Some(0), Some(0)) => hint(found, "make sure that source-database is the database with the people in it"),
        (Some(0), _) => bad(
            format!("{found}: source and target seem to be swapped"),
            "remove the four relations and integrate source-database and source-kratos with the application that has the people, \
             target-database and target-kratos with the new one",
        )
        .typed(typed::swap(&facts.look)),
        _ => good(found),
    }
}

pub(super) fn target_empty(facts: &Facts) -> Judgement {
    if let Some(run) = &facts.look.run {
        return good(format!("run {run} is filling it"));
    }
    let app = facts.look.app;
    let own = |table: &str| app.is_migration_table(table) || app.is_seeded_table(table) || table == app.networks_table;
    let survey = &facts.target.survey;
    let occupied: Vec<String> = survey
        .occupied
        .iter()
        .filter(|table| !own(&table.name))
        .map(|table| {
            let rows =
                survey.tables.iter().find(|t| &t.name == table).and_then(|t| t.estimated_rows).filter(|rows| *rows > 0);
            rows.map_or_else(|| table.to_string(), |rows| format!("{table} (about {rows} rows)"))
        })
        .collect();
    if occupied.is_empty() {
        let networks = facts.target.contents.networks.len();
        return good(format!("nothing but what {} itself puts there (networks rows: {networks})", app.title));
    }
    let tables: Vec<String> = survey.occupied.iter().filter(|table| !own(&table.name)).map(TableName::sql).collect();
    bad(
        format!("rows in {}: {}", survey.place(), listed(&occupied)),
        format!(
            "make sure that this is the right database, because preparing the target empties it: give {} a fresh one, or, when \
             nobody needs these rows, run on the target: TRUNCATE {} CASCADE",
            facts.look.target_application,
            tables.join(", ")
        ),
    )
}

pub(super) fn networks(facts: &Facts) -> Judgement {
    match facts.source.contents.networks.as_slice() {
        [] => bad(
            format!("no networks row in {}", facts.source.survey.place()),
            "let the source application start once: it makes its own",
        ),
        [one] => good(format!("one network, {}, of {}", one.id, one.created)),
        several => {
            let words = |inhabited| if inhabited { "with identities" } else { "without identities" };
            let rows: Vec<String> =
                several.iter().map(|n| format!("{} of {}, {}", n.id, n.created, words(n.inhabited))).collect();
            let idle = several.iter().filter(|network| !network.inhabited);
            let delete: Vec<String> = idle
                .map(|n| format!("DELETE FROM {} WHERE id = {}", facts.look.app.networks_table, literal(&n.id)))
                .collect();
            let cure = match delete.as_slice() {
                [] => "find out whose they are: the server serves the oldest, and hides the identities of the others"
                    .to_owned(),
                _ => format!(
                    "run on the source: {}; the server serves the oldest and hides the others",
                    delete.join("; ")
                ),
            };
            bad(format!("{} networks rows on the source: {}", several.len(), listed(&rows)), cure)
        }
    }
}

pub(super) fn hidden(facts: &Facts) -> Judgement {
    match &facts.source.contents.hidden {
        Counted::Known(0) => good("every identity belongs to the network that the server serves"),
        Counted::Known(count) => bad(
            format!("{count} identities have no nid, or another network's: no server shows them"),
            "when they are the application's own, run on the source: UPDATE identities SET nid = (SELECT id FROM networks \
             ORDER BY created_at LIMIT 1) WHERE nid IS NULL; else know that they are carried over and stay hidden",
        ),
        Counted::TooLong => {
            hint("too many identities to look through at once", "count identities whose nid is not the network's id")
        }
        Counted::NoSuchTable => good("no identities table"),
    }
}

pub(super) fn credential_types(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.contents.credential_types, &facts.target.contents.credential_types);
    let other: Vec<String> = source
        .iter()
        .filter(|(name, id)| target.get(*name) != Some(id))
        .map(|(name, id)| match target.get(name) {
            Some(theirs) => format!("{name} is {id} on the source, {theirs} on the target"),
            None => format!("{name} is only on the source"),
        })
        .collect();
    if other.is_empty() {
        good(format!("{} credential types of the source, all on the target with the same ids", source.len()))
    } else {
        bad(
            listed(&other),
            "nothing by hand: the source's rows replace the target's; check after the flip that every login method works",
        )
    }
}

pub(super) fn orphans(facts: &Facts) -> Judgement {
    match &facts.source.contents.orphans {
        Counted::Known(found) if found.is_empty() => {
            good("every identifier and session device has its parent, in its network")
        }
        Counted::Known(found) => {
            let rows: Vec<String> = found.iter().map(|(what, count)| format!("{count} {what}")).collect();
            bad(
                listed(&rows),
                "delete these rows, or set their nid, before a migration to 26.2: it cannot back-fill them",
            )
        }
        Counted::TooLong => bad(
            "too many rows to count at once",
            "before a migration to 26.2, count identifiers and devices whose parent has another nid, or none",
        ),
        Counted::NoSuchTable => good("no table that the step to 26.2 fills"),
    }
}

pub(super) fn courier_queue(facts: &Facts) -> Judgement {
    match &facts.source.contents.queued_messages {
        Counted::Known(0) => good("no message waits"),
        Counted::Known(count) => bad(
            format!("{count} messages are queued on the source"),
            "decide before the flip, because the target's courier sends them soon after it opens; to abandon them run on the source: \
             UPDATE courier_messages SET status = 4 WHERE status IN (1, 3)",
        ),
        Counted::TooLong => bad(
            "too many messages to count at once",
            "count queued courier_messages before the flip: the target would send them",
        ),
        Counted::NoSuchTable => good("no courier table"),
    }
}
