//! Checks of the two clusters.

use super::Facts;
use super::checks::{Judgement, bad, good};
use crate::postgres::survey::Survey;

/// Free slots, senders and workers that one direction takes, with one to spare.
const WANTED: i64 = 2;
/// How far the clocks may be apart, in seconds, the time of asking included.
const CLOCK_LIMIT: f64 = 5.0;

/// The two sides by name.
pub(super) fn both(facts: &Facts) -> [(&'static str, &Survey); 2] {
    [("source", &facts.source.survey), ("target", &facts.target.survey)]
}

/// Joins what was found on the sides; empty when nothing was.
pub(super) fn on_sides(facts: &Facts, found: impl Fn(&Survey) -> Option<String>) -> String {
    let parts: Vec<String> = both(facts)
        .iter()
        .filter_map(|(side, survey)| found(survey).map(|text| format!("{text} on the {side}")))
        .collect();
    parts.join("; ")
}

/// A size for people.
pub(super) fn megabytes(bytes: i64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

pub(super) fn two_databases(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.survey, &facts.target.survey);
    let same_cluster = source.identity.system_identifier == target.identity.system_identifier;
    match (same_cluster, source.database == target.database) {
        (true, true) => bad(
            format!("both sides are {}", source.place()),
            "relate target-database to the new cluster, or set target-database-name",
        ),
        (true, false) => good(format!("databases {} and {} of one cluster", source.database, target.database)),
        _ => good(format!("{} → {}, two clusters", source.place(), target.place())),
    }
}

pub(super) fn versions(facts: &Facts) -> Judgement {
    let [from, to] = [facts.source.survey.identity.major(), facts.target.survey.identity.major()];
    let found = format!("PostgreSQL {from} → {to}");
    if from < 14 || to < 14 {
        bad(format!("{found}, and 14 is the oldest that is supported"), "upgrade the older cluster first")
    } else if to < from {
        bad(
            format!("{found}: the target is older"),
            "relate target-database to a cluster of the same or a newer release",
        )
    } else {
        good(found)
    }
}

pub(super) fn primaries(facts: &Facts) -> Judgement {
    let standby = on_sides(facts, |s| s.server.in_recovery.then(|| format!("a standby ({})", s.address)));
    let closed = on_sides(facts, |s| {
        (s.setting("default_transaction_read_only") == "on").then(|| "default_transaction_read_only is on".to_owned())
    });
    match (standby.is_empty(), closed.is_empty()) {
        (true, true) => good("both servers are primaries and take writes"),
        (false, _) => bad(standby, "check the relation's endpoints after the switchover; relate to the primary"),
        (true, false) => bad(closed, "set the PostgreSQL charm's read-only option back to off"),
    }
}

pub(super) fn rights(facts: &Facts) -> Judgement {
    let lacking =
        on_sides(facts, |s| (!s.server.superuser).then(|| format!("role {} is no superuser", s.server.session_user)));
    if lacking.is_empty() {
        let [source, target] = both(facts).map(|(_, s)| s.server.current_user.clone());
        return good(format!("superuser as {source} on the source, as {target} on the target"));
    }
    let role = both(facts).into_iter().find(|(_, s)| !s.server.superuser).map_or("", |(_, s)| &s.server.session_user);
    bad(
        lacking,
        format!(
            "remove and add the relation (it asks for extra-user-roles SUPERUSER), or run ALTER ROLE \"{role}\" SUPERUSER"
        ),
    )
}

pub(super) fn wal_level(facts: &Facts) -> Judgement {
    let level = facts.source.survey.setting("wal_level");
    match level {
        "logical" => good("wal_level is logical on the source"),
        _ => bad(
            format!("wal_level is {level} on the source"),
            "run ALTER SYSTEM SET wal_level = 'logical' there and restart it (Charmed PostgreSQL sets it by itself: refresh the charm)",
        ),
    }
}

/// Free slots and senders of a server that is to send.
fn sending(survey: &Survey) -> (i64, i64) {
    let used = i64::try_from(survey.server.slots.len()).unwrap_or(i64::MAX);
    (survey.number("max_replication_slots") - used, survey.number("max_wal_senders") - survey.server.senders)
}

/// Free logical workers and background workers of a server that is to apply.
fn applying(survey: &Survey) -> (i64, i64) {
    (
        survey.number("max_logical_replication_workers") - survey.server.logical_workers,
        survey.number("max_worker_processes") - survey.server.workers,
    )
}

pub(super) fn source_slots(facts: &Facts) -> Judgement {
    let (slots, senders) = sending(&facts.source.survey);
    let found = format!("{slots} replication slots and {senders} WAL senders free on the source");
    if slots.min(senders) >= needed(facts) {
        good(found)
    } else {
        bad(
            format!("{found}, {WANTED} of each are needed"),
            "drop slots nobody reads (SELECT pg_drop_replication_slot('…')), or raise max_replication_slots and max_wal_senders and restart",
        )
    }
}

pub(super) fn target_workers(facts: &Facts) -> Judgement {
    let (logical, workers) = applying(&facts.target.survey);
    let found = format!("{logical} logical replication workers and {workers} background workers free on the target");
    if logical.min(workers) >= needed(facts) {
        good(found)
    } else {
        bad(
            format!("{found}, {WANTED} of each are needed"),
            "raise max_worker_processes and max_logical_replication_workers (charm options cpu_max_worker_processes and \
             cpu_max_logical_replication_workers on 14, with hyphens on 16), which restarts it, before the copy",
        )
    }
}

/// A run that is under way has its slot and its worker already.
fn needed(facts: &Facts) -> i64 {
    if facts.look.run.is_some() { 0 } else { WANTED }
}

pub(super) fn way_back(facts: &Facts) -> Judgement {
    let (slots, senders) = sending(&facts.target.survey);
    let (logical, workers) = applying(&facts.source.survey);
    let level = facts.target.survey.setting("wal_level");
    let found = format!(
        "target: wal_level {level}, {slots} slots and {senders} senders free; source: {logical} logical and {workers} background workers free"
    );
    if level == "logical" && [slots, senders, logical, workers].iter().all(|free| *free >= WANTED) {
        good(found)
    } else {
        bad(
            found,
            format!(
                "raise these to {WANTED} free of each (wal_level logical) before the flip, else there is no way back after it"
            ),
        )
    }
}

pub(super) fn target_reaches_source(facts: &Facts) -> Judgement {
    let address = &facts.source.survey.address;
    match &facts.forward {
        Ok(()) => good(format!("the target's server reaches {address} with the subscription's own connection")),
        Err(error) => bad(
            error.clone(),
            format!(
                "let the target's server connect to {address} (network policy, pg_hba.conf), or offer the source across models"
            ),
        ),
    }
}

pub(super) fn source_reaches_target(facts: &Facts) -> Judgement {
    let address = &facts.target.survey.address;
    match &facts.backward {
        Ok(()) => good(format!("the source's server reaches {address}")),
        Err(error) => bad(
            error.clone(),
            format!("let the source's server connect to {address}, else there is no way back after the flip"),
        ),
    }
}

pub(super) fn slot_wal_limit(facts: &Facts) -> Judgement {
    let server = &facts.source.survey.server;
    let limit = server.slot_wal_limit_bytes;
    if limit < 0 {
        good("max_slot_wal_keep_size is unlimited on the source: a copy cannot lose its slot, lag is watched")
    } else if limit >= server.database_bytes {
        good(format!(
            "max_slot_wal_keep_size is {} on the source, the database {}",
            megabytes(limit),
            megabytes(server.database_bytes)
        ))
    } else {
        bad(
            format!(
                "max_slot_wal_keep_size is {} on the source, less than the database ({})",
                megabytes(limit),
                megabytes(server.database_bytes)
            ),
            "raise it (ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()), else a busy copy loses its slot",
        )
    }
}

pub(super) fn pending_restart(facts: &Facts) -> Judgement {
    let waiting = on_sides(facts, |s| {
        (!s.server.pending_restart.is_empty())
            .then(|| format!("{} wait for a restart", s.server.pending_restart.join(", ")))
    });
    if waiting.is_empty() {
        good("no setting waits for a restart")
    } else {
        bad(waiting, "restart it before the copy: a restart later may cost the slot")
    }
}

pub(super) fn idle_slots(facts: &Facts) -> Judgement {
    let idle = on_sides(facts, |s| {
        let names: Vec<String> = s
            .server
            .slots
            .iter()
            .filter(|slot| slot.database.is_some() && !slot.name.starts_with(crate::postgres::names::PREFIX))
            .filter(|slot| !slot.active || slot.wal_status.as_deref() == Some("lost"))
            .map(|slot| format!("{} ({})", slot.name, slot.wal_status.as_deref().unwrap_or("unknown")))
            .collect();
        (!names.is_empty()).then(|| format!("logical slots without a reader: {}", names.join(", ")))
    });
    if idle.is_empty() {
        good("no logical slot without a reader")
    } else {
        bad(idle, "drop those that nobody needs: they hold WAL on the disk")
    }
}

pub(super) fn standbys(facts: &Facts) -> Judgement {
    let starved = on_sides(facts, |s| {
        let wanted = s.setting("synchronous_standby_names");
        let synchronous = |state: &str| matches!(state, "sync" | "quorum");
        let there =
            s.server.standbys.iter().any(|standby| synchronous(&standby.sync_state) && standby.state == "streaming");
        (!wanted.is_empty() && !there)
            .then(|| format!("synchronous_standby_names is '{wanted}' and no synchronous standby streams"))
    });
    if starved.is_empty() {
        let counts = both(facts).map(|(side, s)| format!("{} on the {side}", s.server.standbys.len()));
        good(format!("standbys: {}; no commit waits for a missing one", counts.join(", ")))
    } else {
        bad(starved, "bring the standby back or scale the cluster: every commit waits for it")
    }
}

pub(super) fn clocks(facts: &Facts) -> Judgement {
    let apart = (facts.source.survey.server.clock - facts.target.survey.server.clock).abs();
    if apart <= CLOCK_LIMIT {
        good(format!("the servers' clocks are less than {CLOCK_LIMIT:.0} s apart"))
    } else {
        bad(
            format!("the servers' clocks are {apart:.0} s apart"),
            "repair time synchronisation: sessions and flows expire by the clock",
        )
    }
}

pub(super) fn checksums(facts: &Facts) -> Judgement {
    let off = on_sides(facts, |s| (s.setting("data_checksums") != "on").then(|| "data checksums are off".to_owned()));
    if off.is_empty() {
        good("data checksums are on, on both sides")
    } else {
        bad(
            off,
            "know that damaged pages would be read as they are; the comparison of every row still finds differences",
        )
    }
}
