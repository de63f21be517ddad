//! Slots, senders, workers, connections and locks: what is there, what is in use, what a run takes.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::sides::{both, faults, judged};
use crate::postgres::survey::Survey;

/// Slots, senders, origins and workers that one direction takes: one for the subscription, and one that an attempt
/// before it may still be giving back.
const WANTED: i64 = 2;
/// Connections beside the copy's streams: the worker's own, the watcher's, the comparison's.
const BESIDE_COPY: i64 = 8;
/// Locks beside those of the tables: the catalogs', the applications'.
const BESIDE_TABLES: i64 = 256;

/// Free slots and senders of a server that is to send.
fn sending(survey: &Survey) -> [(&'static str, i64); 2] {
    let used = i64::try_from(survey.server.slots.len()).unwrap_or(i64::MAX);
    [
        ("replication slots", survey.number("max_replication_slots") - used),
        ("WAL senders", survey.number("max_wal_senders") - survey.server.senders),
    ]
}

/// Free workers and origins of a server that is to apply.
fn applying(survey: &Survey) -> [(&'static str, i64); 3] {
    // Since 18 origins have a setting of their own.
    let origins = match survey.setting("max_active_replication_origins") {
        "" => survey.number("max_replication_slots"),
        _ => survey.number("max_active_replication_origins"),
    };
    [
        (
            "logical replication workers",
            survey.number("max_logical_replication_workers") - survey.server.logical_workers,
        ),
        ("background workers", survey.number("max_worker_processes") - survey.server.workers),
        ("replication origins", origins - survey.server.origins),
    ]
}

/// `3 replication slots, 4 WAL senders free on the source`.
fn free(side: &str, counts: &[(&str, i64)]) -> String {
    let parts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("{} free on the {side}", parts.join(", "))
}

fn enough(counts: &[(&str, i64)]) -> bool {
    counts.iter().all(|(_, count)| *count >= WANTED)
}

pub(super) fn source_slots(facts: &Facts) -> Judgement {
    let counts = sending(&facts.source.survey);
    let found = free("source", &counts);
    // A run that is under way has its slot already.
    if enough(&counts) || facts.look.run.is_some() {
        return good(format!("{found}; following takes 1 of each"));
    }
    let survey = &facts.source.survey;
    bad(
        format!("{found}, {WANTED} of each are needed"),
        format!(
            "drop slots that nobody reads, or run on the source: ALTER SYSTEM SET max_replication_slots = {}; ALTER SYSTEM SET max_wal_senders = {}; and restart it before the copy",
            survey.number("max_replication_slots") + WANTED + 2,
            survey.number("max_wal_senders") + WANTED + 2
        ),
    )
}

pub(super) fn target_workers(facts: &Facts) -> Judgement {
    let counts = applying(&facts.target.survey);
    let found = free("target", &counts);
    if enough(&counts) || facts.look.run.is_some() {
        let sync = facts.target.survey.number("max_sync_workers_per_subscription");
        return good(format!("{found}; following takes 1 of each (engine=native up to {sync} workers more)"));
    }
    let survey = &facts.target.survey;
    bad(
        format!("{found}, {WANTED} of each are needed"),
        format!(
            "set the charm options cpu_max_worker_processes and cpu_max_logical_replication_workers (with hyphens on 16), \
             or run on the target: ALTER SYSTEM SET max_worker_processes = {}; \
             ALTER SYSTEM SET max_logical_replication_workers = {}; and restart it before the copy",
            survey.number("max_worker_processes") + WANTED + 2,
            survey.number("max_logical_replication_workers") + WANTED + 2
        ),
    )
}

pub(super) fn way_back(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.survey, &facts.target.survey);
    let (sends, applies) = (sending(target), applying(source));
    let level = target.setting("wal_level");
    let plugin = if target.no_plugin.is_some() { "no pgoutput, " } else { "" };
    let found = format!(
        "target: wal_level {level}, {plugin}{}; {}",
        free("target", &sends).trim_end_matches(" on the target"),
        free("source", &applies)
    );
    if level == "logical" && target.no_plugin.is_none() && enough(&sends) && enough(&applies) {
        return good(found);
    }
    bad(
        found,
        format!(
            "raise these to {WANTED} free of each (wal_level logical) and restart before the copy, else there is no way back after the flip"
        ),
    )
}

/// Copy streams that a run would use at most.
fn streams(facts: &Facts) -> i64 {
    match facts.look.settings.copy_jobs {
        0 => 8,
        jobs => i64::try_from(jobs).unwrap_or(64),
    }
}

pub(super) fn connections(facts: &Facts) -> Judgement {
    let streams = streams(facts);
    let wanted = streams + BESIDE_COPY;
    let left = |s: &Survey| s.number("max_connections") - s.server.connections;
    let short = faults(facts, |s| match left(s) >= wanted {
        true => Vec::new(),
        false => vec![(
            format!("{} of {} connections free, a run takes up to {wanted}", left(s), s.number("max_connections")),
            format!("ALTER SYSTEM SET max_connections = {}", s.number("max_connections") + wanted),
        )],
    });
    let [source, target] = both(facts).map(|(_, s)| left(s));
    judged(
        &short,
        format!(
            "{source} free on the source, {target} on the target; a run takes up to {wanted} ({streams} copy streams)"
        ),
        "and restart it before the copy (charm option experimental_max_connections), end sessions nobody needs, or set the option copy-jobs lower",
    )
}

pub(super) fn locks(facts: &Facts) -> Judgement {
    let room = |s: &Survey| {
        let processes = s.number("max_connections")
            + s.number("autovacuum_max_workers")
            + s.number("max_worker_processes")
            + s.number("max_wal_senders")
            + s.number("max_prepared_transactions");
        s.number("max_locks_per_transaction") * processes
    };
    let wanted = |s: &Survey| s.server.relations + BESIDE_TABLES;
    let short = faults(facts, |s| match room(s) >= wanted(s) {
        true => Vec::new(),
        false => vec![(
            format!(
                "room for {} locks, emptying and publishing {} tables and indexes at once takes {}",
                room(s),
                s.server.relations,
                wanted(s)
            ),
            format!(
                "ALTER SYSTEM SET max_locks_per_transaction = {}",
                s.number("max_locks_per_transaction") * (wanted(s) / room(s).max(1) + 1)
            ),
        )],
    });
    let parts = both(facts).map(|(side, s)| format!("{} of {} on the {side}", wanted(s), room(s)));
    judged(&short, format!("a run takes at most {}", parts.join(", ")), "and restart it before the copy")
}
