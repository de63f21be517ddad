//! Getting in: a side that cannot be looked at is itself the finding, with what opens it.

use super::cluster::{RIGHTS_CURE, no_superuser};
use super::finding::Finding;
use crate::postgres::blockers::{Blocker, blockers};
use crate::postgres::names::{ident, literal};
use crate::postgres::{Error, Server, Session};
use std::time::Duration;

/// How long one question may wait for a lock: preflight answers, it does not queue behind a locked table.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long one question may take in all.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Connects, and insists on the one right that everything else needs before anything else is asked.
///
/// # Errors
/// The finding: nobody answers, or the role may not.
pub(super) async fn enter(side: &'static str, server: &Server, database: &str) -> Result<Session, Finding> {
    let refused = |error: Error| finding(side, server, database, &error);
    let session = server.connect(database, "preflight").await.map_err(refused)?;
    let sql = "SELECT session_user::text, rolsuper, rolsuper OR rolreplication, has_database_privilege(current_database(), 'CREATE')
               FROM pg_roles WHERE rolname = session_user";
    let row = session
        .query_one(sql, &[])
        .await
        .map_err(Error::doing(format!("read our rights in database {database} on {}", server.address())))
        .map_err(refused)?;
    if row.get(1) {
        let limits =
            format!("SET lock_timeout = {}; SET statement_timeout = {}", LOCK_WAIT.as_millis(), ANSWER.as_millis());
        let doing = format!("bound what is asked on {}", server.address());
        session.batch_execute(&limits).await.map_err(Error::doing(doing)).map_err(refused)?;
        return Ok(session);
    }
    let (found, sql) = no_superuser(row.get(0), row.get(2), row.get(3));
    Err(Finding::fail("rights", format!("{found} on the {side}"), format!("run on the {side}: {sql}; {RIGHTS_CURE}")))
}

/// What a failed attempt to look at a side means, and its cure.
pub(super) fn finding(side: &str, server: &Server, database: &str, error: &Error) -> Finding {
    let endpoint = format!("{side}-database");
    let (name, role) = (ident(database), ident(&server.user));
    let cure = match error.sqlstate().map(|state| state.code()) {
        // invalid_password, invalid_authorization_specification
        Some("28P01") => format!("remove and add the relation {endpoint}: its password is no longer the role's"),
        Some("28000") => format!(
            "run on the {side}: ALTER ROLE {role} LOGIN; or admit it in pg_hba.conf (with the PostgreSQL charm remove and add the relation {endpoint})"
        ),
        Some("3D000") => {
            format!("check the option {endpoint}-name (juju config), and that the {side} application made its database")
        }
        // insufficient_privilege
        Some("42501") => {
            format!("run on the {side}: GRANT CONNECT ON DATABASE {name} TO {role}; ALTER ROLE {role} SUPERUSER")
        }
        // object_not_in_prerequisite_state: connections to the database are not allowed
        Some("55000") => format!("run on the {side}: ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
        Some("53300") => {
            format!("end sessions that nobody needs on the {side}, or raise max_connections there and restart it")
        }
        Some("57P03") => format!("wait until the {side}'s server is up, then run preflight again"),
        Some(_) => format!("look at the {side}'s server: {endpoint} leads to {}", server.address()),
        None => {
            format!("check that the server of {endpoint} runs at {} and that this unit reaches it", server.address())
        }
    };
    let heals = error.is_unreachable() || error.sqlstate().is_some_and(|state| state.code().starts_with("57P"));
    Finding { heals, ..Finding::fail(&endpoint, error.to_string(), cure) }
}

/// What stopped a look that had begun: mostly somebody who locks a table.
pub(super) async fn hindered(side: &str, server: &Server, database: &str, error: &Error) -> Finding {
    // lock_not_available, query_canceled
    if !matches!(error.sqlstate().map(|state| state.code()), Some("55P03" | "57014")) {
        return finding(side, server, database, error);
    }
    let held = async { blockers(&server.connect(database, "preflight").await?).await };
    let held = held.await.unwrap_or_default();
    let endpoint = format!("{side}-database");
    if held.is_empty() {
        let cure = format!(
            "run preflight again when the {side}'s server is less busy: no answer came within {} s, and no table is locked any more",
            ANSWER.as_secs()
        );
        return Finding::fail(&endpoint, error.to_string(), cure);
    }
    let found: Vec<String> = held.iter().map(|blocker| locked(side, blocker)).collect();
    let mut sql: Vec<String> = held.iter().map(release).collect();
    sql.dedup();
    let cure = format!(
        "wait for its end, or run on the {side}: {}; neither the application nor preflight can read such a table",
        sql.join("; ")
    );
    Finding::fail(&endpoint, found.join("; "), cure)
}

/// `table … is locked on the source by pid …`.
fn locked(side: &str, blocker: &Blocker) -> String {
    let Blocker { table, pid, prepared, who, since, behind } = blocker;
    let holder = match pid {
        Some(pid) => format!("pid {pid} ({who}, its statement began {since})"),
        None => format!("prepared transaction {} ({who}, of {since})", literal(prepared)),
    };
    match behind.as_slice() {
        [] => format!("table {table} is locked on the {side} by {holder}"),
        pids => {
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            format!(
                "table {table} is locked on the {side} by {holder}, which waits itself behind pid {}",
                pids.join(", ")
            )
        }
    }
}

/// The statement that ends a blocker.
fn release(blocker: &Blocker) -> String {
    match blocker.pid {
        Some(pid) => format!("SELECT pg_terminate_backend({pid})"),
        None => format!("ROLLBACK PREPARED {}", literal(&blocker.prepared)),
    }
}
