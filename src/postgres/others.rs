//! Sessions of ours that another worker left behind or still holds.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::PREFIX;

/// Ends every session of ours in these databases that is no hook's: what a frozen worker holds there would keep the
/// next one from acting. Replication connections stay, and so does this very session.
///
/// # Errors
/// The server's.
pub async fn end_workers(session: &Session, databases: &[&str]) -> Result<()> {
    session
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = ANY ($1) AND backend_type = 'client backend' AND pid <> pg_backend_pid()
               AND application_name LIKE $2 AND application_name <> $3",
            &[&databases, &format!("{} %", PREFIX.replace('_', "\\_")), &format!("{PREFIX} charm")],
        )
        .await
        .map_err(Error::doing(format!("end the sessions of a worker that does not move on {}", session.address)))?;
    Ok(())
}
