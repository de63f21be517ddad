//! Getting in: a side that cannot be looked at is itself the finding, with what opens it.

use super::cluster::{RIGHTS_CURE, no_superuser};
use super::finding::Finding;
use crate::postgres::names::ident;
use crate::postgres::{Error, Server, Session};

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
        Some("3D000") => format!(
            "check the option {endpoint}-name (juju config), and that the application behind {side}-kratos made its database"
        ),
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
    Finding::fail(&endpoint, error.to_string(), cure)
}
