//! Replication slots on a source: what they are now, and their removal.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::literal;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;

/// A slot as `pg_replication_slots` shows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database it decodes.
    pub database: Option<String>,
    /// The oldest WAL it keeps.
    pub restart_lsn: Option<PgLsn>,
    /// Up to where the subscriber has confirmed that it flushed.
    pub confirmed_flush_lsn: Option<PgLsn>,
    /// The walsender that reads it now.
    pub active_pid: Option<i32>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that may still be written before the slot is in danger; `None` means no limit.
    pub safe_wal_size: Option<i64>,
    /// Bytes of WAL written on the server beyond what is confirmed.
    pub lag_bytes: Option<i64>,
    /// Bytes of WAL that the server keeps because of this slot.
    pub kept_bytes: Option<i64>,
    /// What the server counted of this slot's work: bytes decoded so far, and a sign that changes when the counts
    /// of the whole server were lost (a crash) or reset. A slot made anew under the same name counts from 0.
    pub decoded: Option<(i64, String)>,
}

/// What was seen of a slot before, to tell one that was made anew under its name: PostgreSQL keeps no such sign itself.
#[derive(Debug, Default)]
pub struct SlotHistory {
    /// Which copy the slot was made for: a new copy's slot has no history yet.
    copy: String,
    decoded: Option<(i64, String)>,
}

impl SlotHistory {
    /// True when this cannot be the slot of this copy that was seen before: another plugin or database, or it counts
    /// less.
    pub fn was_made_anew(&mut self, copy: &str, now: &SlotState, database: &str) -> bool {
        if self.copy != copy {
            *self = Self { copy: copy.to_owned(), decoded: None };
        }
        let ours = now.plugin.as_deref() == Some("pgoutput") && now.database.as_deref() == Some(database);
        let before = std::mem::replace(&mut self.decoded, now.decoded.clone());
        let fewer = match (&before, &now.decoded) {
            (Some((then, sign)), Some((now, same))) => sign == same && now < then,
            _ => false,
        };
        !ours || fewer
    }
}

/// The slot of this name, or `None`.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn observe(source: &Session, name: &str) -> Result<Option<SlotState>> {
    let row = source
        .query_opt(
            "SELECT s.plugin::text, s.database::text, restart_lsn, confirmed_flush_lsn, active_pid, wal_status, safe_wal_size,
                    pg_wal_lsn_diff(w.written, confirmed_flush_lsn)::int8, pg_wal_lsn_diff(w.written, restart_lsn)::int8,
                    d.total_bytes,
                    format('%s %s %s', d.stats_reset, b.stats_reset, pg_postmaster_start_time())
             FROM pg_replication_slots s LEFT JOIN pg_stat_replication_slots d USING (slot_name)
                 CROSS JOIN pg_stat_bgwriter b
                 CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                         ELSE pg_current_wal_lsn() END AS written) w
             WHERE slot_name = $1",
            &[&name],
        )
        .await
        .map_err(Error::doing(format!("read replication slot {name} on {}", source.address)))?;
    Ok(row.map(|row| SlotState {
        plugin: row.get(0),
        database: row.get(1),
        restart_lsn: row.get(2),
        confirmed_flush_lsn: row.get(3),
        active_pid: row.get(4),
        wal_status: row.get(5),
        safe_wal_size: row.get(6),
        lag_bytes: row.get(7),
        kept_bytes: row.get(8),
        decoded: row.get::<_, Option<i64>>(9).map(|bytes| (bytes, row.get(10))),
    }))
}

/// Creates a logical slot (plugin `pgoutput`) for the session's database, without a snapshot.
///
/// PostgreSQL waits here for every transaction that was running with an id when it began; after `deadline` it
/// gives up, and nothing is left.
///
/// # Errors
/// [`Error::Server`] when the server refuses; [`Error::Timeout`] with the transaction that was waited for.
pub async fn create(session: &Session, name: &str, deadline: Duration) -> Result<()> {
    let doing = format!("create replication slot {name} on {}", session.address);
    let limit = format!("SET statement_timeout = {}", deadline.as_millis());
    session.batch_execute(&limit).await.map_err(Error::doing(&doing))?;
    let made = session.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]).await;
    session.batch_execute("RESET statement_timeout").await.map_err(Error::doing(&doing))?;
    match made {
        Ok(_) => Ok(()),
        Err(error) => Err(named(session, doing, deadline, error).await),
    }
}

/// A statement that ran out of time names what it waited for.
async fn named(session: &Session, doing: String, limit: Duration, error: tokio_postgres::Error) -> Error {
    if error.code() != Some(&SqlState::QUERY_CANCELED) {
        return Error::doing(doing)(error);
    }
    let pid: std::result::Result<tokio_postgres::Row, _> = session.query_one("SELECT pg_backend_pid()", &[]).await;
    match pid {
        Ok(row) => match blocker(session, row.get(0)).await {
            Ok(last_seen) => Error::Timeout { doing, limit, last_seen },
            Err(error) => error,
        },
        Err(error) => Error::doing(doing)(error),
    }
}

/// Proves that such a slot can be made, and leaves nothing: it goes with the session at the latest.
///
/// # Errors
/// As those of [`create`].
pub async fn try_create(session: &Session, name: &str, deadline: Duration) -> Result<()> {
    let doing = format!("try to make a replication slot on {}", session.address);
    let attempt = format!(
        "SET LOCAL statement_timeout = {};
         SELECT pg_drop_replication_slot(slot_name) FROM pg_create_logical_replication_slot({}, 'pgoutput', true)",
        deadline.as_millis(),
        literal(&format!("{name}_try"))
    );
    match session.batch_execute(&attempt).await {
        Ok(()) => Ok(()),
        Err(error) => Err(named(session, doing, deadline, error).await),
    }
}

/// Says what a session that makes a slot waits for, and what to do about it.
pub(super) async fn blocker(watcher: &Session, walsender: i32) -> Result<String> {
    Ok(match waits_for(watcher, walsender).await? {
        None => "no open transaction any more; try again".to_owned(),
        Some(found) => format!("{found}; end it, or try again when it has ended"),
    })
}

/// What a session that makes a slot waits for: the transaction it is blocked by, or the oldest one with an id, in
/// whichever database of the server; and the oldest that was prepared.
pub(super) async fn waits_for(watcher: &Session, walsender: i32) -> Result<Option<String>> {
    let doing = format!("find out what blocks a replication slot on {}", watcher.address);
    let row = watcher
        .query_opt(
            "WITH blocking AS (SELECT unnest(pg_blocking_pids($1)) AS pid)
             SELECT format('%s %s of user %s in database %s (application %s, %s) holds a transaction open for %s s',
                           backend_type, pid, usename, datname, application_name, state,
                           floor(extract(epoch FROM clock_timestamp() - xact_start)))
             FROM pg_stat_activity
             WHERE pid <> $1 AND (backend_xid IS NOT NULL OR pid IN (SELECT pid FROM blocking))
             ORDER BY pid IN (SELECT pid FROM blocking) DESC, xact_start LIMIT 1",
            &[&walsender],
        )
        .await
        .map_err(Error::doing(&doing))?;
    let prepared = watcher
        .query_opt(
            "SELECT format('prepared transaction %s of user %s in database %s is %s s old', gid, owner, database,
                           floor(extract(epoch FROM clock_timestamp() - prepared)))
             FROM pg_prepared_xacts ORDER BY prepared LIMIT 1",
            &[],
        )
        .await
        .map_err(Error::doing(&doing))?;
    let found: Vec<String> = [row, prepared].into_iter().flatten().map(|row| row.get(0)).collect();
    Ok((!found.is_empty()).then(|| found.join("; ")))
}

/// Waits until no walsender reads the slot (or the slot is gone).
///
/// # Errors
/// [`Error::Timeout`] when one still does at the deadline.
pub async fn wait_inactive(source: &Session, name: &str, deadline: Duration) -> Result<()> {
    let started = Instant::now();
    loop {
        let Some(pid) = observe(source, name).await?.and_then(|state| state.active_pid) else { return Ok(()) };
        if started.elapsed() > deadline {
            return Err(Error::Timeout {
                doing: format!("see replication slot {name} on {} idle", source.address),
                limit: deadline,
                last_seen: format!("walsender {pid} reads it"),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Drops the slot; a slot that is not there is fine. A walsender that still reads it is given a
/// moment to notice that its subscriber went away, and is then terminated.
///
/// # Errors
/// [`Error::Timeout`] when the slot is still there at the deadline.
pub async fn drop_slot(source: &Session, name: &str, deadline: Duration) -> Result<()> {
    let doing = format!("drop replication slot {name} on {}", source.address);
    let started = Instant::now();
    let grace = deadline.min(Duration::from_secs(2)) / 2;
    loop {
        let Some(state) = observe(source, name).await? else { return Ok(()) };
        if let Some(pid) = state.active_pid.filter(|_| started.elapsed() > grace) {
            source.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.map_err(Error::doing(&doing))?;
        }
        let last_seen = match state.active_pid {
            Some(pid) => format!("walsender {pid} reads it"),
            None => match source.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await {
                Ok(_) => return Ok(()),
                // Taken or dropped since it was observed: look again.
                Err(error) if error.as_db_error().is_some() => error.to_string(),
                Err(error) => return Err(Error::doing(&doing)(error)),
            },
        };
        if started.elapsed() > deadline {
            return Err(Error::Timeout { doing, limit: deadline, last_seen });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
