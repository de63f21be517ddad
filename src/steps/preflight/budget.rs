//! Slots, senders, workers, connections and locks: what is there, what is in use, what a run takes.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::remedy::{reset, set};
use super::sides::{At, Remedy, both, each, faults, judged, remedies, size};
use super::wal::rate;
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
    let [at, _] = each(facts);
    let (told, typed) = remedies(&at, ["max_replication_slots", "max_wal_senders"].map(|name| raised(&at, name)));
    bad(
        format!("{found}, {WANTED} of each are needed"),
        format!("drop slots that nobody reads, or {told}; and restart it before the copy"),
    )
    .typed(typed)
}

/// Room for a run and a little more.
fn raised(at: &At<'_>, name: &str) -> Remedy {
    set(at, name, &(at.number(name) + WANTED + 2).to_string())
}

pub(super) fn target_workers(facts: &Facts) -> Judgement {
    let counts = applying(&facts.target.survey);
    let found = free("target", &counts);
    if enough(&counts) || facts.look.run.is_some() {
        let sync = facts.target.survey.number("max_sync_workers_per_subscription");
        return good(format!("{found}; following takes 1 of each (engine=native up to {sync} workers more)"));
    }
    let [_, at] = each(facts);
    let (told, typed) =
        remedies(&at, ["max_worker_processes", "max_logical_replication_workers"].map(|name| raised(&at, name)));
    bad(format!("{found}, {WANTED} of each are needed"), format!("{told}; and restart it before the copy")).typed(typed)
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
        return columns_left_out(facts).or_else(|| kept_for_the_way_back(facts)).unwrap_or_else(|| good(found));
    }
    bad(
        found,
        format!(
            "raise these to {WANTED} free of each (wal_level logical) and restart before the copy, else there is no way back after the flip"
        ),
    )
}

/// The way back leaves out the columns that only the newer release knows, which PostgreSQL 14 cannot.
fn columns_left_out(facts: &Facts) -> Option<Judgement> {
    let app = facts.look.app;
    let adding = app.column_releases.iter().find(|release| facts.may_pass(release))?;
    let major = facts.target.survey.identity.major();
    (major < 15 && facts.look.run.is_none()).then(|| {
        bad(
            format!(
                "the target's PostgreSQL {major} cannot leave out the columns that {} {adding} adds: after the flip there would be no way back",
                app.title
            ),
            format!(
                "relate target-database to a PostgreSQL of 15 or newer, or migrate without a way back: juju run {}/leader migrate accept-no-way-back=true",
                facts.look.coordinator
            ),
        )
    })
}

/// What the target may keep while nothing flows back, which is until `finalize` at worst.
fn kept_for_the_way_back(facts: &Facts) -> Option<Judgement> {
    let [_, at] = each(facts);
    let idle = at.number("idle_replication_slot_timeout");
    if idle > 0 {
        let (told, typed) = remedies(&at, [reset(&at, "idle_replication_slot_timeout", "0")]);
        return Some(
            bad(
                format!("idle_replication_slot_timeout is {idle} on the target: a pause that long ends the way back"),
                format!("{told}; or finalize before"),
            )
            .typed(typed),
        );
    }
    // The target will write what the source writes now.
    let hour = (facts.source.survey.server.wal_bytes_per_second * 3600.0) as i64;
    let limit = at.server.slot_wal_limit_bytes;
    (limit >= 0 && limit < hour).then(|| {
        let (told, typed) = remedies(&at, [set(&at, "max_slot_wal_keep_size", "-1")]);
        bad(
            format!(
                "max_slot_wal_keep_size is {} on the target, and the source writes {}: after less than an hour in which nothing flows back, the way back is lost",
                size(limit),
                rate(&facts.source.survey)
            ),
            format!("{told}; and have room for what is kept until finalize"),
        )
        .typed(typed)
    })
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
            set(s, "max_connections", &(s.number("max_connections") + wanted).to_string()),
        )],
    });
    let [source, target] = both(facts).map(|(_, s)| left(s));
    judged(
        &short,
        format!(
            "{source} free on the source, {target} on the target; a run takes up to {wanted} ({streams} copy streams)"
        ),
        "and restart it before the copy, end sessions nobody needs, or set the option copy-jobs lower",
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
            set(
                s,
                "max_locks_per_transaction",
                &(s.number("max_locks_per_transaction") * (wanted(s) / room(s).max(1) + 1)).to_string(),
            ),
        )],
    });
    let parts = both(facts).map(|(side, s)| format!("{} of {} on the {side}", wanted(s), room(s)));
    judged(&short, format!("a run takes at most {}", parts.join(", ")), "and restart it before the copy")
}
