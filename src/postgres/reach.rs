//! Whether one server can reach another with the connection string that a subscription will use.

use super::error::{Error, Result};
use super::names::PREFIX;
use super::server::Server;
use crate::password::Password;

/// Keeps the connection string out of the server's log (a warning's context would quote it, and 16
/// warns that the publication is missing), of the audit log and of the statistics of statements,
/// and bounds the attempt. A prefix that no library owns is a harmless placeholder.
const QUIET: &str = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic';
    SET LOCAL log_min_messages = 'panic'; SET LOCAL log_error_verbosity = 'terse';
    SET LOCAL log_min_duration_statement = -1; SET LOCAL log_min_duration_sample = -1;
    SET LOCAL pgaudit.log = 'none'; SET LOCAL pg_stat_statements.track = 'none';
    SET LOCAL client_min_messages = error; SET LOCAL statement_timeout = '5s'";

/// A subscription that connects at once, subscribes to nothing, makes no slot, and is rolled back
/// by the caller. The connection string comes from a setting that lives as long as the
/// transaction, so that it is in no statement's text; an error is raised anew, without the context
/// that would quote it.
const ATTEMPT: &str = "DO $reach$
BEGIN
  EXECUTE pg_catalog.format('CREATE SUBSCRIPTION %I CONNECTION %L PUBLICATION %I '
    'WITH (connect = true, enabled = false, create_slot = false, slot_name = NONE, copy_data = false)',
    pg_catalog.current_setting('identity_migration.name'), pg_catalog.current_setting('identity_migration.conninfo'),
    pg_catalog.current_setting('identity_migration.name'));
EXCEPTION WHEN OTHERS THEN
  RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END $reach$";

/// Proves that the server `from` reaches the server behind `conninfo`, is let in there, and may
/// stream from it; leaves nothing. `database` is any database on `from`.
///
/// # Errors
/// [`Error::Server`] with the server's own reason.
pub async fn reach(from: &Server, database: &str, conninfo: &Password, other: &str) -> Result<()> {
    let doing = format!("reach {other} from the server at {}", from.address());
    let mut session = from.connect(database, "reach").await?;
    let transaction = session.transaction().await.map_err(Error::doing(&doing))?;
    transaction.batch_execute(QUIET).await.map_err(Error::doing(&doing))?;
    let name = format!("{PREFIX}_probe_{:08x}", rand::random::<u32>());
    transaction
        .query_one(
            "SELECT set_config('identity_migration.name', $1, true) IS NULL,
                    set_config('identity_migration.conninfo', $2, true) IS NULL",
            &[&name, &conninfo.reveal()],
        )
        .await
        .map_err(Error::doing(&doing))?;
    let attempt = transaction.batch_execute(ATTEMPT).await.map_err(Error::doing(&doing));
    transaction.rollback().await.map_err(Error::doing(&doing))?;
    attempt
}
