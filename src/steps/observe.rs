//! Facts that several steps look at.

use super::context::Context;
use crate::apps::{self, App, Health, Recognised};
use crate::migration::{Failure, Run, Side, Step};
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
pub async fn schema_versions(app: &App, session: &Session) -> Result<BTreeSet<String>, Error> {
    let doing = format!("read {} in database {}", app.migration_table, session.database);
    let place = session
        .query_opt(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $1 AND c.relkind = 'r' ORDER BY n.nspname = 'public' DESC LIMIT 1",
            &[&app.migration_table],
        )
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let Some(place) = place else { return Ok(BTreeSet::new()) };
    let table = TableName::new(place.get::<_, String>(0), app.migration_table);
    let rows =
        session.query(&format!("SELECT version::text FROM {}", table.sql()), &[]).await.map_err(Error::doing(doing))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The release whose schema a database has.
///
/// # Errors
/// The server's.
pub async fn recognise(app: &App, session: &Session) -> Result<Recognised, Error> {
    Ok(app.recognise(&schema_versions(app, session).await?))
}

/// The application's tables: all but ours and the app's table of schema migrations.
///
/// # Errors
/// The server's.
pub async fn application_tables(app: &App, session: &Session) -> Result<Vec<Table>, Error> {
    let mut tables = inspect::tables(session).await?;
    tables.retain(|table| !app.is_migration_table(&table.name.name));
    Ok(tables)
}

/// The tables that this run replicates, as `prepare` noted them.
///
/// # Errors
/// When `prepare` has not noted them: a defect in the plan.
pub fn replicated_tables(context: &Context<'_>) -> Result<Vec<TableName>, Failure> {
    let run = context.run()?;
    // In place nothing is replicated: these are the tables that the gates look at.
    run.note(if run.is_in_place() { Step::Gates } else { Step::Prepare }, "tables")
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

/// The note of both clusters as they were when a lost way back was made anew.
pub const CLUSTERS: &str = "clusters";

/// What is found where a side is not the cluster that the copy was made on, or not on its timeline: after a failover
/// some of what was committed there may be missing.
///
/// # Errors
/// The server's.
pub async fn another_cluster(run: &Run, side: Side, session: &Session) -> Result<Option<String>, Error> {
    let (side, name) = match side {
        Side::Source => ("source", "identity"),
        Side::Target => ("target", "target-identity"),
    };
    // A copy that an older charm made knows the target's from before it.
    let noted = run
        .note(Step::WayBack, CLUSTERS)
        .and_then(|clusters| clusters.get(side))
        .or_else(|| run.note(Step::Copy, "slot").and_then(|slot| slot.get(name)))
        .or_else(|| run.note(Step::Prepare, "identity").and_then(|identity| identity.get(side)));
    let now = identity_value(&inspect::cluster_identity(session).await?);
    let part = |value: &Value, part: &str| value.get(part).cloned().unwrap_or_default();
    Ok(match noted {
        Some(noted) if *noted == now => None,
        Some(noted) if part(noted, "system-identifier") == part(&now, "system-identifier") => Some(format!(
            "the {side} at {} is on timeline {}, the copy was made on timeline {} (a failover?), so what was committed \
             last may be missing there",
            session.address,
            part(&now, "timeline"),
            part(noted, "timeline")
        )),
        _ => Some(format!("the {side} at {} is another cluster than the copy's", session.address)),
    })
}

/// How the target application's server is, asked over HTTP.
pub async fn target_health(context: &Context<'_>) -> Health {
    server(context.app(), &context.applications.target).health().await
}

/// Restarts the target application's server.
pub fn restart_command(context: &Context<'_>) -> String {
    let target = &context.applications.target;
    let app = context.app().name;
    format!("juju ssh {}--container {app} {}/0 /charm/bin/pebble restart {app}", target.model_flag(), target.name)
}

/// The HTTP address of an application.
pub fn server(app: &'static App, application: &super::Application) -> apps::Server {
    apps::Server {
        app,
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
