//! What the identity app keeps in its database, as far as a migration depends on it. No traits,
//! no addresses: ids, counts and versions only.

use crate::apps::App;
use crate::postgres::names::{TableName, literal};
use crate::postgres::survey::Survey;
use crate::postgres::{Error, Result, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long all counts together may take before the rest is given up; preflight is to answer at once.
const COUNT_LIMIT: Duration = Duration::from_millis(1600);

/// The rows that matter.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Schemas that hold a table of schema migrations; one in a sound database.
    pub app_schemas: Vec<String>,
    /// The versions in that table.
    pub migrations: BTreeSet<String>,
    /// Networks, oldest first.
    pub networks: Vec<Network>,
    /// Credential types, id by name.
    pub credential_types: BTreeMap<String, String>,
    /// Identities by schema id.
    pub schema_ids: Counted<BTreeMap<String, i64>>,
    /// One identity's id, to ask the server for.
    pub some_identity: Option<String>,
    /// Rows that the steps to newer releases cannot attach to their parent: description and count.
    pub orphans: Counted<Vec<(String, i64)>>,
    /// Identities of no network, or of one that the server does not serve.
    pub hidden: Counted<i64>,
    /// Courier messages that a courier would still send.
    pub queued_messages: Counted<i64>,
}

/// A row of the networks table.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// It has an identity.
    pub inhabited: bool,
}

/// A count that may take too long.
#[derive(Clone, Debug, Default)]
pub enum Counted<T> {
    /// Counted.
    Known(T),
    /// Given up after the limit.
    TooLong,
    /// The tables for it do not exist here.
    #[default]
    NoSuchTable,
}

/// Reads the contents of one side.
///
/// # Errors
/// The server's, apart from a count that takes too long.
pub async fn contents(session: &Session, app: &App, survey: &Survey) -> Result<Contents> {
    let schemas = survey.tables.iter().filter(|t| t.name.name == app.migration_table).map(|t| t.name.schema.clone());
    let mut contents = Contents { app_schemas: schemas.collect(), ..Contents::default() };
    let [schema] = contents.app_schemas.as_slice() else { return Ok(contents) };
    let schema = schema.clone();
    let doing = format!("read {}'s rows in {}", app.title, survey.place());
    let has = |table: &str| survey.tables.iter().any(|t| t.name.schema == schema && t.name.name == table);
    let name = |table: &str| TableName::new(&schema, table).sql();

    let sql = format!("SELECT version FROM {}", name(app.migration_table));
    let rows = session.query(&sql, &[]).await.map_err(Error::doing(&doing))?;
    contents.migrations = rows.iter().map(|row| row.get(0)).collect();
    if has(app.networks_table) {
        let inhabited = match has("identities") {
            true => format!("EXISTS (SELECT FROM {} i WHERE i.nid = n.id)", name("identities")),
            false => "false".to_owned(),
        };
        let table = name(app.networks_table);
        let sql = format!("SELECT id::text, created_at::text, {inhabited} FROM {table} n ORDER BY created_at, id");
        let rows = session.query(&sql, &[]).await.map_err(Error::doing(&doing))?;
        let network =
            |row: &tokio_postgres::Row| Network { id: row.get(0), created: row.get(1), inhabited: row.get(2) };
        contents.networks = rows.iter().map(network).collect();
    }
    if has("identity_credential_types") {
        let sql = format!("SELECT name, id::text FROM {}", name("identity_credential_types"));
        let rows = session.query(&sql, &[]).await.map_err(Error::doing(&doing))?;
        contents.credential_types = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    }
    let until = Instant::now() + COUNT_LIMIT;
    if has("identities") {
        // Of the network that the server serves: another network's identities are invisible to it.
        let network = contents.networks.first().map(|network| network.id.as_str());
        let sql = format!("SELECT id::text FROM {} WHERE nid::text = $1 LIMIT 1", name("identities"));
        let row = session.query_opt(&sql, &[&network]).await.map_err(Error::doing(&doing))?;
        contents.some_identity = row.map(|row| row.get(0));
        let sql = format!("SELECT schema_id::text, count(*) FROM {} GROUP BY 1", name("identities"));
        contents.schema_ids = pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.into_iter().collect());
        if let Some(network) = network {
            let sql = format!(
                "SELECT 'hidden', count(*) FROM {} WHERE nid IS DISTINCT FROM {}::uuid",
                name("identities"),
                literal(network)
            );
            contents.hidden =
                pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.iter().map(|(_, n)| n).sum());
        }
    }
    if has("courier_messages") {
        // 1 is queued, 3 is being processed.
        let sql = format!("SELECT 'queued', count(*) FROM {} WHERE status IN (1, 3)", name("courier_messages"));
        contents.queued_messages =
            pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.iter().map(|(_, n)| n).sum());
    }
    if has("identity_credential_identifiers") && has("session_devices") {
        contents.orphans = orphans(session, name, &doing, until).await?;
    }
    Ok(contents)
}

/// Children without a parent of the same network, which 26.2 cannot back-fill.
async fn orphans(
    session: &Session,
    name: impl Fn(&str) -> String,
    doing: &str,
    until: Instant,
) -> Result<Counted<Vec<(String, i64)>>> {
    let sql = format!(
        "SELECT 'identity_credential_identifiers without a credential of the same network', count(*)
           FROM {} i LEFT JOIN {} c ON c.id = i.identity_credential_id AND c.nid = i.nid WHERE c.id IS NULL
         UNION ALL
         SELECT 'session_devices without a session of the same network', count(*)
           FROM {} d LEFT JOIN {} s ON s.id = d.session_id AND s.nid = d.nid WHERE s.id IS NULL",
        name("identity_credential_identifiers"),
        name("identity_credentials"),
        name("session_devices"),
        name("sessions"),
    );
    Ok(pairs(session, &sql, doing, until)
        .await?
        .map(|found| found.into_iter().filter(|(_, count)| *count > 0).collect()))
}

impl<T> Counted<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Counted<U> {
        match self {
            Self::Known(value) => Counted::Known(change(value)),
            Self::TooLong => Counted::TooLong,
            Self::NoSuchTable => Counted::NoSuchTable,
        }
    }
}

/// Runs a query of (text, count) rows with the time that is left.
async fn pairs(session: &Session, sql: &str, doing: &str, until: Instant) -> Result<Counted<Vec<(String, i64)>>> {
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    let limit = format!("SET statement_timeout = {}", left.max(1));
    session.batch_execute(&limit).await.map_err(Error::doing(doing))?;
    let answer = session.query(sql, &[]).await.map_err(Error::doing(doing));
    session.batch_execute("SET statement_timeout = 0").await.map_err(Error::doing(doing))?;
    match answer {
        Ok(rows) => Ok(Counted::Known(rows.iter().map(|row| (row.get(0), row.get(1))).collect())),
        Err(error) if error.sqlstate() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => {
            Ok(Counted::TooLong)
        }
        Err(error) => Err(error),
    }
}
