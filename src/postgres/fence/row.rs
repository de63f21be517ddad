//! The fence's rows, and who may write them.

use super::{explain, transact};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::literal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a generation says to its triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceState {
    /// Closed until the deadline; then the first late writer reopens it.
    Leased,
    /// The lease ran out or was given back: open.
    Expired,
    /// Closed for good.
    Permanent,
    /// Closed without a deadline.
    Closed,
    /// Open.
    Open,
}

impl FenceState {
    /// True when writes are refused as far as the row says (a lease may have run out without a writer noticing:
    /// [`FenceRow::lapsed`]).
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Leased | Self::Permanent | Self::Closed)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "leased" => Self::Leased,
            "expired" => Self::Expired,
            "permanent" => Self::Permanent,
            "closed" => Self::Closed,
            "open" => Self::Open,
            _ => return None,
        })
    }
}

impl std::fmt::Display for FenceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Leased => "leased",
            Self::Expired => "expired",
            Self::Permanent => "permanent",
            Self::Closed => "closed",
            Self::Open => "open",
        })
    }
}

/// One generation, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRow {
    /// The generation's name.
    pub generation: String,
    /// Its state.
    pub state: FenceState,
    /// The epoch of the last worker that owned it.
    pub epoch: i64,
    /// Milliseconds until the deadline by the server's clock, negative after it; `None` without a lease.
    pub remaining_ms: Option<i64>,
}

impl FenceRow {
    /// True when this is a lease whose deadline has passed: the next writer passes.
    pub fn lapsed(&self) -> bool {
        self.state == FenceState::Leased && self.remaining_ms.is_some_and(|left| left < 0)
    }
}

const COLUMNS: &str = "generation, state, epoch,
    (extract(epoch FROM until - clock_timestamp()) * 1000)::float8::bigint";

/// The row of this generation; `None` (to a trigger: closed) when there is none.
///
/// # Errors
/// [`Error::Server`] when the row cannot be read.
pub async fn state(session: &Session, generation: &str) -> Result<Option<FenceRow>> {
    let sql = format!("SELECT {COLUMNS} FROM identity_migration.fence WHERE generation = $1");
    let row = session.query_opt(&sql, &[&generation]).await.map_err(Error::doing(reading(session)))?;
    row.map(|row| decode(session, &row)).transpose()
}

/// Every generation, the newest first.
///
/// # Errors
/// [`Error::Server`] when the rows cannot be read.
pub async fn latest(session: &Session) -> Result<Vec<FenceRow>> {
    let sql = format!("SELECT {COLUMNS} FROM identity_migration.fence ORDER BY number DESC");
    let rows = session.query(&sql, &[]).await.map_err(Error::doing(reading(session)))?;
    rows.iter().map(|row| decode(session, row)).collect()
}

/// The epoch of the worker whose writes count here. A worker that takes over uses a greater one than both sides show.
///
/// # Errors
/// [`Error::Server`] when it cannot be read.
pub async fn epoch(session: &Session) -> Result<i64> {
    Ok(owner(session).await?.unwrap_or(0))
}

/// As [`epoch`]; `None` when somebody deleted the owner's row.
///
/// # Errors
/// [`Error::Server`] when it cannot be read.
pub async fn owner(session: &Session) -> Result<Option<i64>> {
    let row = session.query_opt("SELECT epoch FROM identity_migration.owner", &[]).await;
    row.map(|row| row.map(|row| row.get(0))).map_err(Error::doing(reading(session)))
}

/// Makes a generation's row again that somebody deleted, as one that ran out: writes pass again.
///
/// # Errors
/// [`Error::Found`] when a newer worker has taken over; [`Error::Server`] when the server refuses.
pub async fn put_back_expired(session: &Session, generation: &str, epoch: i64) -> Result<()> {
    let doing = format!("open the fence in database {} on {} again", session.database, session.address);
    let statements = format!(
        "SELECT identity_migration.hold_epoch({epoch});
         INSERT INTO identity_migration.fence (generation, state, until, epoch)
         VALUES ({}, 'expired', clock_timestamp(), {epoch}) ON CONFLICT DO NOTHING",
        literal(generation)
    );
    transact(session, &doing, &statements).await
}

/// Makes the fence this run's, unless it is another one's already. Of two that come together one gets it.
///
/// # Errors
/// [`Error::Found`] when another run has it; [`Error::Server`] when it cannot be written.
pub async fn claim(session: &Session, run: &str) -> Result<()> {
    let (database, address) = (&session.database, &session.address);
    let doing = format!("claim database {database} on {address} for run {run}");
    let sql = "UPDATE identity_migration.owner SET run = $1 WHERE coalesce(run, $1) = $1";
    match session.execute(sql, &[&run]).await.map_err(Error::doing(doing.as_str()))? {
        0 => {
            let other = owning_run(session).await?.unwrap_or_default();
            let found = format!("run {other} of another coordinator moves it");
            Err(Error::found(doing, found, "leave it to that one, or run its rollback first"))
        }
        _ => Ok(()),
    }
}

/// The run that the fence here belongs to; `None` when there is no fence, or when an older revision of the charm
/// made it, which did not note the run.
///
/// # Errors
/// [`Error::Server`] when it cannot be read.
pub async fn owning_run(session: &Session) -> Result<Option<String>> {
    if !super::installed(session).await? {
        return Ok(None);
    }
    let row = session.query_opt("SELECT to_jsonb(o) ->> 'run' FROM identity_migration.owner o", &[]).await;
    Ok(row.map_err(Error::doing(reading(session)))?.and_then(|row| row.get(0)))
}

/// Makes `epoch` the one whose writes count: done first, on both sides, by a worker that takes over.
/// Waits (at most `lock_timeout`) for a transaction of the old worker in flight, and for a late writer that holds
/// a row. Doing it again with the same epoch changes nothing.
///
/// # Errors
/// [`Error::Found`] when a newer worker was here; [`Error::Server`] with 55P03 when a row stayed locked.
pub async fn bump_epoch(session: &Session, epoch: i64, lock_timeout: Duration) -> Result<()> {
    let doing = format!("take over the fence in database {} on {}", session.database, session.address);
    let statements = format!(
        "SET LOCAL lock_timeout = {lock_timeout};
         INSERT INTO identity_migration.owner (epoch) VALUES ({epoch}) ON CONFLICT DO NOTHING;
         UPDATE identity_migration.owner SET epoch = {epoch} WHERE epoch < {epoch};
         SELECT identity_migration.hold_epoch({epoch});
         UPDATE identity_migration.fence SET epoch = {epoch} WHERE epoch < {epoch}",
        lock_timeout = lock_timeout.as_millis()
    );
    transact(session, &doing, &statements).await
}

fn reading(session: &Session) -> String {
    format!("read the fence in database {} on {}", session.database, session.address)
}

fn decode(session: &Session, row: &tokio_postgres::Row) -> Result<FenceRow> {
    let text: String = row.try_get(1).map_err(|error| explain(session, &reading(session), error))?;
    let state = FenceState::parse(&text).ok_or_else(|| {
        Error::found(reading(session), format!("unknown state {text}"), "run the charm revision that wrote it")
    })?;
    Ok(FenceRow { generation: row.get(0), state, epoch: row.get(2), remaining_ms: row.get(3) })
}
