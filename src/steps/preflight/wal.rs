//! Checks of WAL and disk.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::sides::{both, faults, judged, size};
use crate::postgres::survey::Survey;

/// From here on the room that is needed is worth a person's look.
const LOOK_AT: i64 = 10 << 30;
/// Bytes a second that a copy reaches even on slow disks; sizes the WAL that collects meanwhile.
const SLOW_COPY: f64 = 10.0 * 1024.0 * 1024.0;

pub(super) fn level(facts: &Facts) -> Judgement {
    match facts.source.survey.setting("wal_level") {
        "logical" => good("wal_level is logical on the source"),
        level => bad(
            format!("wal_level is {level} on the source"),
            "run on the source: ALTER SYSTEM SET wal_level = 'logical'; and restart it (Charmed PostgreSQL sets it by itself: refresh the charm)",
        ),
    }
}

pub(super) fn output_plugin(facts: &Facts) -> Judgement {
    match &facts.source.survey.no_plugin {
        None => good("pgoutput can be loaded on the source"),
        Some(error) => bad(
            error.clone(),
            "run on the source: ALTER SYSTEM RESET dynamic_library_path; SELECT pg_reload_conf(); or install PostgreSQL completely",
        ),
    }
}

/// Seconds that a copy of the source takes at worst.
fn copy_seconds(facts: &Facts) -> f64 {
    60.0 + facts.source.survey.server.database_bytes as f64 / SLOW_COPY
}

/// WAL that collects behind the slot while the copy runs, at the average rate.
fn collected(facts: &Facts) -> i64 {
    (copy_seconds(facts) * facts.source.survey.server.wal_bytes_per_second) as i64
}

/// The rate in words.
fn rate(survey: &Survey) -> String {
    format!("{} of WAL an hour on average", size((survey.server.wal_bytes_per_second * 3600.0) as i64))
}

pub(super) fn slot_limit(facts: &Facts) -> Judgement {
    let (server, rate) = (&facts.source.survey.server, rate(&facts.source.survey));
    let idle = facts.source.survey.number("idle_replication_slot_timeout");
    if idle > 0 {
        return bad(
            format!("idle_replication_slot_timeout is {idle} on the source: a pause that long loses the slot"),
            "run on the source: ALTER SYSTEM RESET idle_replication_slot_timeout; SELECT pg_reload_conf()",
        );
    }
    let limit = server.slot_wal_limit_bytes;
    let wanted = server.database_bytes.max(2 * collected(facts));
    if limit < 0 {
        good(format!(
            "max_slot_wal_keep_size is unlimited on the source, which writes {rate}: a copy cannot lose its slot"
        ))
    } else if limit >= wanted {
        good(format!(
            "max_slot_wal_keep_size is {} on the source, {} are wanted; it writes {rate}",
            size(limit),
            size(wanted)
        ))
    } else {
        bad(
            format!(
                "max_slot_wal_keep_size is {} on the source, {} are wanted for the copy; it writes {rate}",
                size(limit),
                size(wanted)
            ),
            "run on the source: ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); else a busy copy loses its slot",
        )
    }
}

/// Bytes that a side should have free: the target takes the rows, their indexes and the WAL of loading them, the
/// source the WAL that the slot holds.
fn needed(facts: &Facts) -> [i64; 2] {
    let rows = facts.source.survey.server.database_bytes;
    let kept = |s: &Survey| {
        let wanted = s.number("wal_keep_size").max(s.number("max_wal_size")) << 20;
        (wanted - s.server.wal_bytes).max(0)
    };
    let [source, target] = both(facts).map(|(_, s)| kept(s));
    [2 * collected(facts) + source, rows / 2 * 3 + target]
}

pub(super) fn disk(facts: &Facts) -> Judgement {
    let [source, target] = needed(facts);
    let found = format!(
        "the source database has {} and writes {}; needed free: {} ({source} bytes) on the source, {} ({target} bytes) on the target",
        size(facts.source.survey.server.database_bytes),
        rate(&facts.source.survey),
        size(source),
        size(target)
    );
    if source.max(target) < LOOK_AT {
        return good(found);
    }
    bad(
        found,
        "look at the free space of both servers' volumes (df on the unit; 16 keeps WAL on the volume logs), which SQL does not tell; \
         wal_keep_size and max_wal_size count in it: where nobody needs the first, \
         ALTER SYSTEM RESET wal_keep_size; SELECT pg_reload_conf()",
    )
}

pub(super) fn archiver(facts: &Facts) -> Judgement {
    let failing = faults(facts, |s| {
        let file = s.server.archiver.as_ref().and_then(|archiver| archiver.failing_on.clone());
        let found = |file| format!("archiving fails since WAL file {file}, {} are kept", size(s.server.wal_bytes));
        file.map(|file| (found(file), String::new())).into_iter().collect()
    });
    let counts = both(facts).map(|(side, s)| match &s.server.archiver {
        Some(archiver) => format!("{} files archived on the {side}", archiver.archived),
        None => format!("no archiving on the {side}"),
    });
    judged(
        &failing,
        counts.join(", "),
        "repair the archive (the server's log has the reason): WAL that is not archived fills the disk",
    )
}
