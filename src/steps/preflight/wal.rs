//! Checks of WAL and disk.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::remedy::{reset, set};
use super::sides::{both, each, faults, judged, remedies, size};
use super::typed::{Typed, quoted};
use crate::postgres::survey::Survey;

/// From here on the room that a side should have free, WAL that it keeps anyway included, is worth a person's look.
const LOOK_AT: i64 = 10 << 30;
/// The same for what the run alone brings.
const BRINGS: i64 = 1 << 30;
/// A run that more than doubles what a side uses is worth a look too, from here on.
const DOUBLES: i64 = 256 << 20;
/// Bytes a second that a copy reaches even on slow disks; sizes the WAL that collects meanwhile.
const SLOW_COPY: f64 = 10.0 * 1024.0 * 1024.0;

pub(super) fn level(facts: &Facts) -> Judgement {
    match facts.source.survey.setting("wal_level") {
        "logical" => good("wal_level is logical on the source"),
        level => bad(format!("wal_level is {level} on the source"), {
            let [at, _] = each(facts);
            let (told, _) = remedies(&at, [set(&at, "wal_level", "'logical'")]);
            format!("{told}; and restart it (Charmed PostgreSQL sets it by itself: refresh the charm)")
        }),
    }
}

pub(super) fn output_plugin(facts: &Facts) -> Judgement {
    match &facts.source.survey.no_plugin {
        None => good("pgoutput can be loaded on the source"),
        Some(error) => bad(error.clone(), {
            let [at, _] = each(facts);
            let (told, _) = remedies(&at, [reset(&at, "dynamic_library_path", "'$libdir'")]);
            format!("{told}; or install PostgreSQL completely")
        }),
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
pub(super) fn rate(survey: &Survey) -> String {
    format!("{} of WAL an hour on average", size((survey.server.wal_bytes_per_second * 3600.0) as i64))
}

pub(super) fn slot_limit(facts: &Facts) -> Judgement {
    let (server, rate) = (&facts.source.survey.server, rate(&facts.source.survey));
    let [at, _] = each(facts);
    let idle = facts.source.survey.number("idle_replication_slot_timeout");
    if idle > 0 {
        let (told, typed) = remedies(&at, [reset(&at, "idle_replication_slot_timeout", "0")]);
        return bad(
            format!("idle_replication_slot_timeout is {idle} on the source: a pause that long loses the slot"),
            format!("{told}; or let no pause be that long"),
        )
        .typed(typed);
    }
    let limit = server.slot_wal_limit_bytes;
    let during_copy = 2 * collected(facts);
    let wanted = server.database_bytes.max(during_copy);
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
        let (told, typed) = remedies(&at, [set(&at, "max_slot_wal_keep_size", "-1")]);
        let short = bad(
            format!(
                "max_slot_wal_keep_size is {} on the source, {} are wanted for the copy; it writes {rate}",
                size(limit),
                size(wanted)
            ),
            format!("{told}; else a busy copy loses its slot"),
        )
        .typed(typed);
        // That much collects while the copy runs, without any burst.
        if limit < during_copy { short.blocking() } else { short }
    }
}

/// Bytes that a run brings to a side: to the target the rows, their indexes and the WAL of loading them, to the source
/// the WAL that the slot holds.
fn brought(facts: &Facts) -> [i64; 2] {
    [2 * collected(facts), facts.source.survey.server.database_bytes / 2 * 3]
}

/// Bytes of WAL that a side may come to keep anyway.
fn kept(survey: &Survey) -> i64 {
    let wanted = survey.number("wal_keep_size").max(survey.number("max_wal_size")) << 20;
    (wanted - survey.server.wal_bytes).max(0)
}

pub(super) fn disk(facts: &Facts) -> Judgement {
    let (brought, sides) = (brought(facts), each(facts));
    let [source, target] = [0, 1].map(|at| brought[at] + kept(&sides[at]));
    let found = format!(
        "the source database has {} and writes {}; needed free: {} ({source} bytes) on the source, {} ({target} bytes) on the target",
        size(facts.source.survey.server.database_bytes),
        rate(&facts.source.survey),
        size(source),
        size(target)
    );
    let much = |bytes: i64, s: &Survey| {
        let uses = s.server.all_databases_bytes + s.server.wal_bytes;
        bytes >= BRINGS || bytes >= DOUBLES.max(uses) || bytes + kept(s) >= LOOK_AT
    };
    let looks: Vec<Typed> = sides
        .iter()
        .zip(brought)
        .filter(|(at, bytes)| much(*bytes, at))
        .map(|(at, _)| {
            // WAL may lie on a volume of its own behind a link.
            let folder = quoted(at.setting("data_directory"));
            Typed::Unit(at.side, format!("df -h {folder} {folder}/pg_wal"))
        })
        .collect();
    if looks.is_empty() {
        return good(found);
    }
    let keeps: Vec<(String, Vec<Typed>)> = sides
        .iter()
        .filter(|at| at.number("wal_keep_size") << 20 > LOOK_AT)
        .map(|at| remedies(at, [reset(at, "wal_keep_size", "0")]))
        .collect();
    let keeps: Vec<String> =
        keeps.into_iter().map(|(told, _)| format!("; where nobody needs wal_keep_size, {told}")).collect();
    bad(
        found,
        format!(
            "look at the free space of both servers' volumes, which SQL does not tell (df on the unit, data and pg_wal: 16 keeps WAL on \
             the volume logs){}",
            keeps.concat()
        ),
    )
    .typed(looks)
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
