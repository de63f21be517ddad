//! The room that a replication slot of ours takes: WAL that the other side has not taken yet is kept on the slot's
//! server, without end where `max_slot_wal_keep_size` is unlimited. The slot is given up before the disk there fills,
//! which would stop every user of that server; what was missed is repaired later.

use super::context::Context;
use super::observe::human_bytes;
use crate::migration::Failure;
use crate::postgres::slot::{self, SlotState};
use crate::postgres::{Error, Session, subscription};
use std::time::Duration;

/// Without the option: as much as the database has, and at least this much, in bytes.
const LEAST: u64 = 4 << 30;

/// How long a worker or walsender of ours may take to end.
const ENDS: Duration = Duration::from_secs(10);

/// Gives the slot up when it keeps too much; answers why, or `None` while there is room. The subscription that reads it,
/// where one does, rests from then on.
///
/// # Errors
/// The server's.
pub async fn give_up_if_full(
    context: &Context<'_>,
    server: &Session,
    subscriber: Option<&Session>,
    name: &str,
    seen: &SlotState,
) -> Result<Option<String>, Failure> {
    let kept = seen.kept_bytes.and_then(|kept| u64::try_from(kept).ok()).unwrap_or(0);
    let limit = match context.settings().max_kept_wal_bytes {
        0 if kept <= LEAST => return Ok(None),
        0 => LEAST.max(database_bytes(server).await?),
        limit => limit,
    };
    if kept <= limit {
        return Ok(None);
    }
    if let Some(subscriber) = subscriber
        && let Err(error) = subscription::disable(subscriber, name, ENDS).await
    {
        // Whoever keeps the slot from being read may not answer either.
        log::warn!("{error}");
    }
    slot::drop_slot(server, name, ENDS).await?;
    Ok(Some(format!(
        "replication slot {name} kept {} of WAL on {}, of {} allowed (option max-kept-wal-bytes), and was given up before \
         the disk there fills",
        human_bytes(kept),
        server.address,
        human_bytes(limit)
    )))
}

async fn database_bytes(server: &Session) -> Result<u64, Failure> {
    let row = server
        .query_one("SELECT pg_database_size(current_database())", &[])
        .await
        .map_err(Error::doing(format!("read the size of database {} on {}", server.database, server.address)))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
