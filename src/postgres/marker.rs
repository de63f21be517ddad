//! The drain: when the target has everything that was ever committed before the fence.
//!
//! A marker row, committed on the source and carried by the stream in commit order, proves by being visible on the
//! target that every earlier commit is applied there. The confirmed position proves that it is durable. The position
//! is read *before* the marker's commit: read after it, it may lie past the header of a new WAL page, and on an idle
//! server nothing ever confirms that far.

use super::connect::Session;
use super::error::{Error, Result};
use super::sequences::{self, SequenceState};
use super::slot;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio_postgres::types::PgLsn;

/// The table that carries markers, in both databases; it must be in the publication before slot and subscription.
pub const MARKER_TABLE: &str = "identity_migration.marker";

/// What the target must reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPoint {
    /// Every commit before the fence ends at or below this position of the source's WAL (`X/Y`).
    pub l0: String,
    /// The marker row that was committed after it.
    pub token: String,
    /// The source's sequences, read after the fence.
    pub sequences: Vec<SequenceState>,
}

/// How far the target is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainState {
    /// The marker row can be read on the target.
    pub marker_visible: bool,
    /// What the target has confirmed as durable.
    pub confirmed: Option<PgLsn>,
    /// That it is at or beyond the drain point.
    pub confirmed_reached: bool,
    /// The subscription on this slot is enabled.
    pub subscription_enabled: bool,
    /// Its apply worker runs.
    pub worker_running: bool,
    /// Errors that apply has met so far (15 and later; a 14 does not count them).
    pub apply_errors: i64,
}

impl DrainState {
    /// True when everything before the fence is applied and durable.
    pub fn drained(&self) -> bool {
        self.marker_visible && self.confirmed_reached && self.subscription_enabled
    }
}

/// Marks the source's present end: position, sequences, marker. Call it after the last fence commit.
///
/// # Errors
/// [`Error::Timeout`] when the marker's commit waits for a standby beyond `limit` (the session is then not usable);
/// [`Error::Server`] otherwise.
pub async fn drain_point(source: &Session, limit: Duration) -> Result<DrainPoint> {
    let doing = format!("mark the drain point on {}", source.address);
    let row =
        source.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await.map_err(Error::doing(doing.as_str()))?;
    let l0 = row.get::<_, PgLsn>(0).to_string();
    let sequences = sequences::read(source).await?;
    let token = write_marker(source, limit).await?;
    Ok(DrainPoint { l0, token, sequences })
}

/// Commits a marker row durably (earlier asynchronous commits are flushed by it) and removes those older than a day.
///
/// # Errors
/// As [`drain_point`].
pub async fn write_marker(source: &Session, limit: Duration) -> Result<String> {
    let doing = format!("write a marker on {}", source.address);
    let token = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
    let statements = format!(
        "BEGIN; SET LOCAL synchronous_commit = on;
         DELETE FROM {MARKER_TABLE} WHERE written < now() - interval '1 day';
         INSERT INTO {MARKER_TABLE} (token) VALUES ('{token}'); COMMIT"
    );
    match tokio::time::timeout(limit, source.batch_execute(&statements)).await {
        Ok(Ok(())) => Ok(token),
        Ok(Err(error)) => {
            // The session must leave the failed transaction; the first error tells more than this one.
            let _ = source.batch_execute("ROLLBACK").await;
            Err(Error::doing(doing)(error))
        }
        Err(_) => Err(Error::Timeout { doing, limit, last_seen: "the commit waits for a standby".to_owned() }),
    }
}

/// Waits until the marker can be read on the target: every commit before it is then applied there.
///
/// # Errors
/// [`Error::Timeout`] when it does not come.
pub async fn wait_marker(target: &Session, token: &str, limit: Duration) -> Result<()> {
    let started = Instant::now();
    while !marker_visible(target, token).await? {
        if started.elapsed() >= limit {
            return Err(Error::Timeout {
                doing: format!("see the marker on {}", target.address),
                limit,
                last_seen: "not there".to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// How far the target is with this slot's subscription.
///
/// # Errors
/// [`Error::Found`] when slot or subscription is gone or the slot is lost: then nothing may be concluded.
pub async fn drained(source: &Session, target: &Session, slot: &str, point: &DrainPoint) -> Result<DrainState> {
    let doing = format!("drain into database {} on {}", target.database, target.address);
    let cure = "run replicate, which repairs or copies anew, or rollback";
    let l0: PgLsn = point
        .l0
        .parse()
        .map_err(|_| Error::found(doing.as_str(), format!("the drain point {:?}", point.l0), "run drain again"))?;
    let here = slot::observe(source, slot).await?;
    let here = here.filter(|s| s.database.as_deref() == Some(source.database.as_str()));
    let Some(here) = here else {
        return Err(Error::found(doing, format!("no slot {slot} for this database on {}", source.address), cure));
    };
    if here.wal_status.as_deref() == Some("lost") {
        return Err(Error::found(doing, format!("slot {slot} on {} has lost its WAL", source.address), cure));
    }
    let Some((subscription_enabled, worker_running, apply_errors)) = subscription(target, slot).await? else {
        return Err(Error::found(doing, format!("no subscription on slot {slot} there"), cure));
    };
    Ok(DrainState {
        marker_visible: marker_visible(target, &point.token).await?,
        confirmed: here.confirmed_flush_lsn,
        confirmed_reached: here.confirmed_flush_lsn.is_some_and(|confirmed| confirmed >= l0),
        subscription_enabled,
        worker_running,
        apply_errors,
    })
}

/// Waits until [`drained`] is true.
///
/// # Errors
/// As [`drained`]; [`Error::Timeout`] with the last state seen, at once when apply meets an error or the subscription
/// is disabled meanwhile.
pub async fn wait_drained(
    source: &Session,
    target: &Session,
    slot: &str,
    point: &DrainPoint,
    limit: Duration,
) -> Result<DrainState> {
    let started = Instant::now();
    let mut first_errors = None;
    loop {
        let now = drained(source, target, slot, point).await?;
        let before = *first_errors.get_or_insert(now.apply_errors);
        let doing = || format!("drain into database {} on {}", target.database, target.address);
        if now.apply_errors > before || !now.subscription_enabled {
            let found = if now.subscription_enabled { "apply met an error" } else { "the subscription is disabled" };
            return Err(Error::Timeout { doing: doing(), limit: started.elapsed(), last_seen: found.to_owned() });
        }
        if now.drained() {
            return Ok(now);
        }
        if started.elapsed() >= limit {
            return Err(Error::Timeout { doing: doing(), limit, last_seen: format!("{now:?}, wanted {}", point.l0) });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn marker_visible(target: &Session, token: &str) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {MARKER_TABLE} WHERE token = $1)");
    let row = target.query_one(&sql, &[&token]).await;
    row.map(|row| row.get(0)).map_err(Error::doing(format!("look for the marker on {}", target.address)))
}

/// Enabled, worker running, errors counted; `None` without such a subscription.
async fn subscription(target: &Session, slot: &str) -> Result<Option<(bool, bool, i64)>> {
    let doing = format!("read the subscription on slot {slot} in database {} on {}", target.database, target.address);
    let counted = target
        .query_one("SELECT to_regclass('pg_stat_subscription_stats') IS NOT NULL", &[])
        .await
        .map_err(Error::doing(doing.as_str()))?
        .get(0);
    let errors = if counted {
        "coalesce((SELECT apply_error_count FROM pg_stat_subscription_stats t WHERE t.subid = s.oid), 0)"
    } else {
        "0::int8"
    };
    let row = target
        .query_opt(
            &format!(
                "SELECT s.subenabled,
                        EXISTS (SELECT FROM pg_stat_subscription w
                                WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL), {errors}
                 FROM pg_subscription s
                 WHERE s.subslotname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            &[&slot],
        )
        .await
        .map_err(Error::doing(doing))?;
    Ok(row.map(|row| (row.get(0), row.get(1), row.get(2))))
}
