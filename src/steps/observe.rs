//! Facts that several steps look at.

use super::context::Context;
use crate::apps::{self, Health, KRATOS, Recognised};
use crate::migration::{Failure, Step};
use crate::postgres::fence;
use crate::postgres::inspect::{self, ClusterIdentity, Table};
use crate::postgres::names::TableName;
use crate::postgres::{Error, Session};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The versions in the app's table of schema migrations; empty when there is none.
///
/// # Errors
/// The server's.
pub async fn schema_versions(session: &Session) -> Result<BTreeSet<String>, Error> {
    let doing = format!("read {} in database {}", KRATOS.migration_table, session.database);
    let place = session
        .query_opt(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $1 AND c.relkind = 'r' ORDER BY n.nspname = 'public' DESC LIMIT 1",
            &[&KRATOS.migration_table],
        )
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let Some(place) = place else { return Ok(BTreeSet::new()) };
    let table = TableName::new(place.get::<_, String>(0), KRATOS.migration_table);
    let rows =
        session.query(&format!("SELECT version::text FROM {}", table.sql()), &[]).await.map_err(Error::doing(doing))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The release whose schema a database has.
///
/// # Errors
/// The server's.
pub async fn recognise(session: &Session) -> Result<Recognised, Error> {
    Ok(KRATOS.recognise(&schema_versions(session).await?))
}

/// The application's tables: all but ours and the app's table of schema migrations.
///
/// # Errors
/// The server's.
pub async fn application_tables(session: &Session) -> Result<Vec<Table>, Error> {
    let mut tables = inspect::tables(session).await?;
    tables.retain(|table| !KRATOS.is_migration_table(&table.name.name));
    Ok(tables)
}

/// The tables that this run replicates, as `prepare` noted them.
///
/// # Errors
/// When `prepare` has not noted them: a defect in the plan.
pub fn replicated_tables(context: &Context<'_>) -> Result<Vec<TableName>, Failure> {
    context
        .run()?
        .note(Step::Prepare, "tables")
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .ok_or_else(|| {
            Failure::operator(
                "go on",
                "the journal does not say which tables are replicated",
                "run rollback and start again",
            )
        })
}

/// Tables of the target that its newest generation does not close.
///
/// # Errors
/// The server's.
pub async fn unfenced_target(target: &Session) -> Result<Vec<TableName>, Error> {
    match fence::latest(target).await?.first() {
        Some(row) => fence::unfenced_tables(target, &row.generation).await,
        None => fence::user_tables(target).await,
    }
}

/// A name that no generation in a database ever had, also when somebody deleted their rows: the run, a number that
/// grows, and chance.
///
/// # Errors
/// The server's.
pub async fn new_generation(session: &Session, run: &str) -> Result<String, Error> {
    Ok(format!("{run}-{}-{:08x}", fence::latest(session).await?.len() + 1, rand::random::<u32>()))
}

/// A cluster's identity for the journal.
pub fn identity_value(identity: &ClusterIdentity) -> Value {
    json!({"system-identifier": identity.system_identifier, "timeline": identity.timeline})
}

/// How the target application's server is, asked over HTTP.
pub async fn target_health(context: &Context<'_>) -> Health {
    server(&context.applications.target).health().await
}

/// The HTTP address of an application.
pub fn server(application: &super::Application) -> apps::Server {
    apps::Server {
        admin_endpoint: application.admin_endpoint.clone(),
        public_endpoint: application.public_endpoint.clone(),
    }
}

/// True while anyone but us (and the apply worker, which is no client) is connected to the database.
///
/// # Errors
/// The server's.
pub async fn others_connected(session: &Session) -> Result<bool, Error> {
    let row = session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND backend_type = 'client backend'
                 AND application_name NOT LIKE 'identity\\_migration%' AND pid <> pg_backend_pid())",
            &[],
        )
        .await
        .map_err(Error::doing(format!("see who is connected to database {}", session.database)))?;
    Ok(row.get(0))
}

/// A number of bytes as a person reads it.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
