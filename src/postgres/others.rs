//! What of ours is not ours alone: sessions that another worker left behind or still holds, and the runs of other
//! coordinators.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::{JOURNAL_SCHEMA, PREFIX};
use super::server::Server;

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

/// The runs that are under way by the journals of other coordinators on this server.
///
/// # Errors
/// The server's: a journal that cannot be read may be somebody's.
pub async fn living_runs(server: &Server, session: &Session, own_database: &str) -> Result<Vec<String>> {
    let doing = format!("look for other coordinators on {}", session.address);
    let databases = session
        .query(
            "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> $1
             AND has_database_privilege(oid, 'CONNECT') ORDER BY 1",
            &[&own_database],
        )
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let there = format!("SELECT to_regclass('{JOURNAL_SCHEMA}.entry') IS NOT NULL");
    let runs = format!(
        "SELECT e.record ->> 'run' FROM {JOURNAL_SCHEMA}.entry e WHERE e.record ->> 'kind' = 'run-started'
           AND NOT EXISTS (SELECT FROM {JOURNAL_SCHEMA}.entry l
                           WHERE l.seq > e.seq AND l.record ->> 'kind' IN ('run-ended', 'void'))
         UNION SELECT value #>> '{{}}' FROM {JOURNAL_SCHEMA}.singleton s WHERE name = 'run'
           AND NOT EXISTS (SELECT FROM {JOURNAL_SCHEMA}.entry e WHERE e.record ->> 'run' = s.value #>> '{{}}')"
    );
    let mut found = Vec::new();
    for row in databases {
        let database: String = row.get(0);
        let session = server.connect(&database, "others").await?;
        let is_journal = session.query_one(&there, &[]).await.map_err(Error::doing(doing.as_str()))?.get(0);
        if is_journal {
            let rows = session.query(&runs, &[]).await.map_err(Error::doing(doing.as_str()))?;
            found.extend(rows.iter().filter_map(|row| row.get::<_, Option<String>>(0)));
        }
    }
    Ok(found)
}
