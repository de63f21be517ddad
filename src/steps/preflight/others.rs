//! Checks of what else runs or stands beside a migration: transactions, vacuums, backups, and the traces of
//! earlier runs and of others.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{At, Fault, Remedy, both, each, faults, judged, listed, size, statements};
use crate::postgres::leftovers::Leftover;
use crate::postgres::names::{PREFIX, ident, literal};
use crate::postgres::survey::{OpenTransaction, SlotFacts, Survey};

/// The part of the way to wraparound from which a vacuum may start at any moment.
const OLD: f64 = 0.9;

pub(super) fn transactions(facts: &Facts) -> Judgement {
    let long = faults(facts, |s| {
        let open = s.server.transactions.iter().filter(|t| t.pid != 0);
        open.map(|t| {
            let place = t.database.as_ref().filter(|place| **place != s.database);
            let place = place.map(|place| format!(" in database {place}")).unwrap_or_default();
            let found = format!("{} for {} s by {}, pid {}{place}", t.state, t.seconds, t.who, t.pid);
            (found, format!("SELECT pg_terminate_backend({})", t.pid))
        })
        .collect()
    });
    judged(
        &long,
        "no transaction is older than 30 s",
        "or wait for its end: making a slot and closing a table wait for it",
    )
}

pub(super) fn prepared(facts: &Facts) -> Judgement {
    // A slot waits for every transaction of its cluster, whichever database it is in.
    let left = |elsewhere: bool| -> Vec<Fault> {
        let here = |at: &At<'_>, database: &Option<String>| database.as_ref() == Some(&at.database);
        let one = |at: &At<'_>, t: &OpenTransaction| {
            let database = t.database.clone().unwrap_or_default();
            let place = if here(at, &t.database) { String::new() } else { format!(" in database {database}") };
            let sql = format!("ROLLBACK PREPARED {}", literal(&t.who));
            let sql = if place.is_empty() { sql } else { format!("\\connect {} and {sql}", ident(&database)) };
            Fault {
                side: at.side,
                found: format!("prepared transaction '{}'{place} for {} s", t.who, t.seconds),
                remedy: Remedy::Sql(sql),
            }
        };
        let on = |at: &At<'_>| -> Vec<Fault> {
            let prepared = at.server.transactions.iter().filter(|t| t.pid == 0);
            let wanted = prepared.filter(|t| (at.side == "target" && !here(at, &t.database)) == elsewhere);
            wanted.map(|t| one(at, t)).collect()
        };
        each(facts).iter().flat_map(on).collect()
    };
    let (holding, beside) = (left(false), left(true));
    if holding.is_empty() && !beside.is_empty() {
        let found: Vec<String> = beside.iter().map(|fault| format!("{} on the target", fault.found)).collect();
        return hint(
            listed(&found),
            format!("{}; or COMMIT PREPARED there: the slot of the way back would wait for it", statements(&beside)),
        );
    }
    judged(&holding, "none", "or COMMIT PREPARED, in that database: the slot and the fence wait for it")
}

pub(super) fn wraparound(facts: &Facts) -> Judgement {
    let share = |age: i64, limit: i64| age as f64 / (limit.max(1)) as f64;
    let near = faults(facts, |s| {
        let mut found: Vec<(String, String)> =
            s.server.wraparound_vacuums.iter().map(|query| (format!("running: {query}"), String::new())).collect();
        let limit = s.number("autovacuum_freeze_max_age");
        if let Some(oldest) = s.server.oldest.as_ref().filter(|oldest| share(oldest.age, limit) >= OLD) {
            found.push((
                format!(
                    "{} is {} transactions old, at {limit} a vacuum starts that gives way to nobody",
                    oldest.table, oldest.age
                ),
                format!("VACUUM (FREEZE) {}", oldest.table),
            ));
        }
        found
    });
    let ages = both(facts).map(|(side, s)| {
        let age = s.server.oldest.as_ref().map_or(0, |oldest| oldest.age);
        format!("{:.0} % on the {side}", 100.0 * share(age, s.number("autovacuum_freeze_max_age")))
    });
    judged(
        &near,
        format!("way to the next vacuum against wraparound: {}", ages.join(", ")),
        "let it end before the fence, which would wait for it",
    )
}

pub(super) fn backups(facts: &Facts) -> Judgement {
    judged(
        &faults(facts, |s| s.server.backups.iter().map(|what| (what.clone(), Remedy::None)).collect()),
        "none runs",
        "let it end, or begin after it: it competes for the disk, and the charm may restart a server after it",
    )
}

pub(super) fn leftovers(facts: &Facts) -> Judgement {
    if let Some(run) = &facts.look.run {
        return good(format!("run {run} is under way; its objects are in use"));
    }
    let words = |left: &Leftover| match left.run() {
        Some(run) => format!("{left} of run {run}"),
        None => left.to_string(),
    };
    let left = faults(facts, |s| s.leftovers.iter().map(|left| (words(left), left.removal.clone())).collect());
    if left.is_empty() {
        return good("nothing of an earlier run");
    }
    let found: Vec<String> = left.iter().map(|fault| format!("{} on the {}", fault.found, fault.side)).collect();
    bad(
        listed(&found),
        format!(
            "another coordinator moves these databases or did so before: run rollback or finalize on that one, which removes \
             them; only if that run is gone for good run rollback here, which removes them from both sides, or {}",
            statements(&left)
        ),
    )
}

pub(super) fn subscriptions(facts: &Facts) -> Judgement {
    let others = faults(facts, |s| {
        let others = s.server.subscriptions.iter().filter(|sub| !sub.name.starts_with(PREFIX));
        others
            .map(|sub| {
                let state = if sub.enabled { "enabled" } else { "disabled" };
                (format!("subscription {} ({state})", sub.name), format!("DROP SUBSCRIPTION {}", ident(&sub.name)))
            })
            .collect()
    });
    judged(&others, "none but ours", "when nobody needs it: a fence does not stop what it applies")
}

pub(super) fn publications(facts: &Facts) -> Judgement {
    let others = faults(facts, |s| {
        let others = s.server.publications.iter().filter(|name| !name.starts_with(PREFIX));
        others.map(|name| (format!("publication {name}"), format!("DROP PUBLICATION {}", ident(name)))).collect()
    });
    judged(
        &others,
        "none but ours",
        "or make it on the target too and move its subscribers after the flip: it is not carried over",
    )
}

pub(super) fn slots(facts: &Facts) -> Judgement {
    // Ours in this database are the run's, or another check's finding.
    let run = facts.look.run.as_deref();
    let ours = |s: &Survey, slot: &SlotFacts| {
        slot.name.starts_with(PREFIX)
            && (slot.database.as_deref() == Some(&s.database) || run.is_some_and(|run| slot.name.contains(run)))
    };
    let others = |s: &Survey| s.server.slots.iter().filter(|slot| !ours(s, slot)).cloned().collect::<Vec<_>>();
    let idle = faults(facts, |s| {
        let idle = others(s).into_iter().filter(|slot| !slot.active || slot.wal_status.as_deref() == Some("lost"));
        idle.map(|slot| {
            let status = slot.wal_status.as_deref().unwrap_or("unknown");
            let place = slot.database.as_ref().filter(|place| **place != s.database);
            let place = place.map(|place| format!(" of database {place}")).unwrap_or_default();
            let found = format!(
                "{} slot {}{place} without a reader holds {} ({status})",
                slot.slot_type,
                slot.name,
                size(slot.held_bytes)
            );
            (found, format!("SELECT pg_drop_replication_slot({})", literal(&slot.name)))
        })
        .collect()
    });
    if !idle.is_empty() {
        let migration = idle.iter().any(|fault| fault.found.contains(PREFIX));
        let reason = match migration {
            true => {
                "only when nobody comes back for it, and that migration of another database is gone for good: what it holds fills the disk"
            }
            false => "when nobody comes back for it: what it holds fills the disk",
        };
        return judged(&idle, "", reason);
    }
    // Readers of the source's changes stay behind when the application moves.
    let source = &facts.source.survey;
    let readers: Vec<String> = others(source)
        .into_iter()
        .filter(|slot| slot.database.as_deref() == Some(&source.database))
        .map(|slot| slot.name)
        .collect();
    if !readers.is_empty() {
        return hint(
            format!("others read the source's changes through slots {}", listed(&readers)),
            "make their slots on the target before the flip: they do not move",
        );
    }
    let count = |s: &Survey| others(s).len();
    good(format!(
        "{} slots of others on the source, {} on the target, each with its reader",
        count(source),
        count(&facts.target.survey)
    ))
}
