//! Checks of the rows.

use super::contents::Counted;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::listed;
use super::{Facts, Side, typed};
use crate::postgres::names::{TableName, literal};

/// How many identities, or clients, a side has; `None` when there are too many to count at once.
fn kept(side: &Side) -> Option<i64> {
    match side.contents.kept {
        Counted::Known(count) => Some(count),
        Counted::TooLong => None,
        Counted::NoSuchTable => Some(0),
    }
}

pub(super) fn direction(facts: &Facts) -> Judgement {
    let [source, target] = [&facts.source, &facts.target].map(kept);
    let words = |count: Option<i64>| count.map_or_else(|| "very many".to_owned(), |count| count.to_string());
    let many = facts.look.app.keeps.many;
    let found = format!("{} {many} on the source, {} on the target", words(source), words(target));
    match (source, target) {
        _ if facts.look.run.is_some() => good(found),
        (Some(0), Some(0)) => hint(found, format!("make sure that source-database is the database with the {many} in it")),
        (Some(0), _) => bad(
            format!("{found}: source and target seem to be swapped"),
            format!(
                "remove the four relations and integrate source-database and source-{app} with the application that has the \
                 people, target-database and target-{app} with the new one",
                app = facts.look.app.name
            ),
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
            let many = facts.look.app.keeps.many;
            let words = |inhabited| if inhabited { format!("with {many}") } else { format!("without {many}") };
            let rows: Vec<String> =
                several.iter().map(|n| format!("{} of {}, {}", n.id, n.created, words(n.inhabited))).collect();
            let idle = several.iter().filter(|network| !network.inhabited);
            let delete: Vec<String> = idle
                .map(|n| format!("DELETE FROM {} WHERE id = {}", facts.look.app.networks_table, literal(&n.id)))
                .collect();
            let cure = match delete.as_slice() {
                [] => {
                    format!("find out whose they are: the server serves the oldest, and hides the {many} of the others")
                }
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
    let kept = &facts.look.app.keeps;
    let (table, many) = (kept.table, kept.many);
    match &facts.source.contents.hidden {
        Counted::Known(0) => good(format!("every row of {table} belongs to the network that the server serves")),
        Counted::Known(count) => bad(
            format!("{count} {many} have no nid, or another network's: no server shows them"),
            format!(
                "when they are the application's own, run on the source: UPDATE {table} SET nid = (SELECT id FROM networks \
                 ORDER BY created_at LIMIT 1) WHERE nid IS NULL; else know that they are carried over and stay hidden"
            ),
        ),
        Counted::TooLong => hint(
            format!("too many {many} to look through at once"),
            format!("count rows of {table} whose nid is not the network's id"),
        ),
        Counted::NoSuchTable => good(format!("no table {table}")),
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
    let Some(release) = facts.look.app.attaching_release else {
        return good("no step to a newer release attaches rows to a parent");
    };
    let releases = facts.look.app.releases();
    let place = |name: &str| releases.iter().position(|known| known.is(name));
    let past = |name: Option<&str>| name.and_then(place).is_some_and(|at| Some(at) >= place(release));
    if past(facts.source.release()) {
        return good(format!("the source has the rows of {release} attached already"));
    }
    match &facts.source.contents.orphans {
        Counted::Known(found) if found.is_empty() => {
            good("every identifier and session device has its parent, in its network")
        }
        Counted::Known(found) => {
            let rows: Vec<String> = found.iter().map(|orphans| format!("{} {}", orphans.count, orphans.what)).collect();
            let delete: Vec<&str> = found.iter().map(|orphans| orphans.delete.as_str()).collect();
            let lacking = bad(
                listed(&rows),
                format!(
                    "when nobody needs these rows, run on the source: {}; or set their nid, before a migration to {release}: it cannot \
                     back-fill them, and would fail inside the outage",
                    delete.join("; ")
                ),
            );
            // With the releases known it is certain.
            if past(facts.target.running()) { lacking.blocking() } else { lacking }
        }
        Counted::TooLong => bad(
            "too many rows to count at once",
            format!(
                "before a migration to {release}, count identifiers and devices whose parent has another nid, or none"
            ),
        ),
        Counted::NoSuchTable => good("no table that the step to 26.2 fills"),
    }
}

pub(super) fn courier_queue(facts: &Facts) -> Judgement {
    match &facts.source.contents.queued_messages {
        Counted::Known(0) => good("no message waits"),
        Counted::Known(count) => bad(
            format!("{count} messages are queued on the source"),
            "decide before the flip, because the target's courier sends them soon after it opens; to abandon them give \
             flip-traffic, cut-over or migrate abandon-queued-messages=true, or run on the source: \
             UPDATE courier_messages SET status = 4 WHERE status IN (1, 3)",
        ),
        Counted::TooLong => bad(
            "too many messages to count at once",
            "count queued courier_messages before the flip: the target sends them, unless flip-traffic, cut-over or migrate \
             is given abandon-queued-messages=true",
        ),
        Counted::NoSuchTable => good("no courier table"),
    }
}
