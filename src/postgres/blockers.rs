//! Who holds a table so that nobody else can even look at it.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::PREFIX;

/// A holder of the strongest lock, or one that waits for it and makes everybody wait behind itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// One of the tables, quoted where needed.
    pub table: String,
    /// The backend; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The prepared transaction's name; empty for a backend.
    pub prepared: String,
    /// Role and application name.
    pub who: String,
    /// When its statement began, as the server writes it.
    pub since: String,
    /// It waits itself, behind these backends.
    pub behind: Vec<i32>,
}

/// Everybody who keeps others from reading a table of this database, ours not counted, the longest first.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn blockers(session: &Session) -> Result<Vec<Blocker>> {
    let doing = format!("look who locks tables of database {} on {}", session.database, session.address);
    let rows = session
        .query(
            "SELECT DISTINCT ON (a.query_start, l.pid, x.gid) l.relation::regclass::text, l.pid, coalesce(x.gid, ''),
                    coalesce(format('%s, application %s', a.usename, coalesce(nullif(a.application_name, ''), '?')), x.owner::text, '?'),
                    coalesce(a.query_start, x.prepared)::timestamptz(0)::text,
                    CASE WHEN l.granted THEN '{}' ELSE pg_blocking_pids(l.pid) END
             FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_prepared_xacts x ON l.pid IS NULL AND l.virtualtransaction = '-1/' || x.transaction::text
             WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND NOT starts_with(coalesce(a.application_name, ''), $1)
             ORDER BY a.query_start, l.pid, x.gid, c.relkind <> 'r', 1",
            &[&PREFIX],
        )
        .await
        .map_err(Error::doing(doing))?;
    let blocker = |row: &tokio_postgres::Row| Blocker {
        table: row.get(0),
        pid: row.get(1),
        prepared: row.get(2),
        who: row.get(3),
        since: row.get::<_, Option<String>>(4).unwrap_or_default(),
        behind: row.get(5),
    };
    Ok(rows.iter().map(blocker).collect())
}
