//! Statements that need a strong lock on a busy database: short waits, many tries.

use super::connect::Session;
use super::error::{Error, Result};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// How long one try may queue for a lock. Below PostgreSQL's `deadlock_timeout` (1 s), so that in a
/// deadlock it is us who give way, never the application or an apply worker.
const ONE_TRY: Duration = Duration::from_millis(500);

/// Our own `deadlock_timeout`. That is also the moment when the server ends an autovacuum that stands
/// in the way, so it must lie within one try.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Runs `sql` (one or more statements, as one transaction) and tries again while locks are refused.
/// Must not be called inside a transaction.
///
/// # Errors
/// [`Error::Server`] for any other refusal, or for the lock when `limit` is over.
pub(super) async fn run(session: &Session, sql: &str, doing: &str, limit: Duration) -> Result<()> {
    let started = Instant::now();
    // Several statements in one message are one transaction, which SET LOCAL needs.
    let batch = format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL deadlock_timeout = {}; {sql}",
        ONE_TRY.as_millis(),
        LOOK_AROUND.as_millis()
    );
    loop {
        match session.batch_execute(&batch).await {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() < limit && is_lock_conflict(&error) => {
                log::debug!("{doing}: a lock is taken, trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(Error::doing(doing)(error)),
        }
    }
}

fn is_lock_conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED)
}
