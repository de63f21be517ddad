//! One idle session that keeps a snapshot and the shape of the tables for the whole copy.

use super::first;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::{TableName, literal};
use crate::postgres::server::Server;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// How long the locks may take; each try queues for half a second at most, so that nothing queues behind us for longer.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// Holds a snapshot, and ACCESS SHARE locks on the tables, in an open transaction. While it lives,
/// [`SnapshotHolder::snapshot`] can be imported, and no table can be rewritten or truncated (an older
/// snapshot would find a rewritten table empty, silently).
pub struct SnapshotHolder {
    session: Session,
    /// The snapshot's name; it differs from the one that was imported.
    pub snapshot: String,
}

impl SnapshotHolder {
    /// Proves that the transaction is still open: then the locks were held all the time.
    ///
    /// # Errors
    /// [`Error::Server`] when the session is gone.
    pub async fn still_holds(&self) -> Result<()> {
        let doing = format!("keep the snapshot on {}", self.session.address);
        self.session.simple_query("SELECT 1").await.map_err(Error::doing(doing)).map(drop)
    }
}

/// Imports `snapshot`, locks the tables against rewriting, and exports the snapshot again;
/// the session that exported it first (that of the slot) may then end.
///
/// # Errors
/// [`Error::Passing`] when the snapshot is gone, or a table was rewritten or truncated since: begin again with a new
/// slot. [`Error::Server`] when a lock cannot be had.
pub async fn hold_snapshot(
    source: &Server,
    database: &str,
    snapshot: &str,
    tables: &[TableName],
) -> Result<SnapshotHolder> {
    let doing = format!("hold the snapshot of database {database} on {}", source.address());
    let session = source.connect(database, "snapshot").await?;
    let started = Instant::now();
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql())).collect();
    let lock = match names.is_empty() {
        true => String::new(),
        false => format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")),
    };
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; SET LOCAL lock_timeout = 500; {lock}",
        literal(snapshot)
    );
    while let Err(error) = session.batch_execute(&begin).await {
        if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) || started.elapsed() > LOCK_LIMIT {
            return Err(import_failed(error, doing));
        }
        session.batch_execute("ROLLBACK").await.map_err(Error::doing(&doing))?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refuse_rewritten(&session, tables, &doing).await?;
    let row = session.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(Error::doing(&doing))?;
    Ok(SnapshotHolder { snapshot: row.get(0), session })
}

/// A snapshot whose exporter is gone cannot be imported: a new one is needed.
pub(super) fn import_failed(error: tokio_postgres::Error, doing: String) -> Error {
    match error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) {
        true => Error::passing(doing, "the snapshot is gone with the session that held it; the copy needs a new one"),
        false => Error::doing(doing)(error),
    }
}

/// The query reads `pg_class` in the snapshot, the function the file in use now.
async fn refuse_rewritten(session: &Session, tables: &[TableName], doing: &str) -> Result<()> {
    let query = "SELECT format('%s.%s', n.nspname, c.relname) FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN unnest($1::text[], $2::text[]) wanted(schema, name)
              ON wanted.schema = n.nspname AND wanted.name = c.relname
         WHERE c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
         ORDER BY 1 LIMIT 1";
    match first(session, query, tables, doing).await? {
        None => Ok(()),
        Some(table) => Err(Error::passing(
            doing,
            format!("table {table} was rewritten or truncated after the snapshot was taken; the copy needs a new slot"),
        )),
    }
}
