//! The fence: the barrier that makes committed application writes impossible, on either side.
//!
//! Closing is new triggers: every close inserts a row with a new *generation* and then gives every table a
//! statement trigger that names it; `CREATE TRIGGER` waits for writers in flight and for prepared ones, so when the
//! last one has committed, nothing unfenced can still commit. Opening is one conditional update of that row.
//! A lease that ran out is turned into `expired` by the first late writer, who competes with
//! [`make_permanent`] for the one row: the row lock decides, a stale snapshot fails with 40001.
//! Flipping a row back to closed would not wait for anybody, so it is never done.

mod close;
mod functions;
mod open;
mod remove;
mod row;
mod tables;

pub use close::{Close, Closed, close_source, close_target};
pub use functions::{SPARED_ROLES, install, installed, whole};
pub use open::{
    OpenOnlyIf, Opening, Permanent, Standbys, lift, make_permanent, open_target, reopen, standbys,
    wait_flushed_by_standbys,
};
pub use remove::{reduce_to_minimal, remove};
pub use row::{FenceRow, FenceState, bump_epoch, claim, epoch, latest, owner, owning_run, put_back_expired, state};
pub use tables::{SCHEMA_MIGRATION, unfenced_tables, user_tables};

use super::connect::Session;
use super::error::{Error, Result};
use tokio_postgres::error::SqlState;

/// The SQLSTATE of our own functions for "a newer worker has taken over".
const NEWER_WORKER: &str = "IMC01";

/// Runs `statements` as one transaction; after a failure the session is out of the transaction again.
async fn transact(session: &Session, doing: &str, statements: &str) -> Result<()> {
    match session.batch_execute(&format!("BEGIN; {statements}; COMMIT")).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // A lost connection has no transaction left to end; the first error tells more than this one.
            let _ = session.batch_execute("ROLLBACK").await;
            Err(explain(session, doing, error))
        }
    }
}

/// Turns the functions' own refusal into a sentence.
fn explain(session: &Session, doing: &str, error: tokio_postgres::Error) -> Error {
    if error.code().map(SqlState::code) == Some(NEWER_WORKER) {
        return overtaken(session, doing);
    }
    Error::doing(doing)(error)
}

fn overtaken(session: &Session, doing: &str) -> Error {
    Error::found(
        doing,
        format!("a newer worker has taken over database {} on {}", session.database, session.address),
        "let the newer worker go on and stop this one",
    )
}

/// True for the failures of a statement that could not get its lock in time.
fn is_lock_failure(error: &Error) -> bool {
    error
        .sqlstate()
        .is_some_and(|state| *state == SqlState::LOCK_NOT_AVAILABLE || *state == SqlState::T_R_DEADLOCK_DETECTED)
}
