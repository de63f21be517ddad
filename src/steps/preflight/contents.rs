//! What the identity app keeps in its database, as far as a migration depends on it. No traits,
//! no addresses: ids, counts and versions only.

use crate::apps::hydra::SigningKeys;
use crate::apps::{App, Kind};
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
    /// Identities by what they log in with; `oidc <provider>` for those of one provider.
    pub sign_in: Counted<BTreeMap<String, i64>>,
    /// How many the app keeps of what it keeps above all.
    pub kept: Counted<i64>,
    /// The id of one that the server shows, to ask it for.
    pub some_kept: Option<String>,
    /// Rows that the steps to newer releases cannot attach to their parent.
    pub orphans: Counted<Vec<Orphans>>,
    /// What the app keeps for no network, or for one that the server does not serve.
    pub hidden: Counted<i64>,
    /// Courier messages that a courier would still send.
    pub queued_messages: Counted<i64>,
    /// The keys that a Hydra signs tokens with.
    pub signing_keys: SigningKeys,
    /// Clients that a Hydra made for relations.
    pub relation_clients: Counted<i64>,
}

/// A row of the networks table.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// It has an identity, or a client.
    pub inhabited: bool,
}

/// Rows of one kind that lack their parent.
#[derive(Clone, Debug)]
pub struct Orphans {
    /// What they are.
    pub what: String,
    /// How many there are.
    pub count: i64,
    /// The statement that deletes them.
    pub delete: String,
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
        let inhabited = match has(app.keeps.table) {
            true => format!("EXISTS (SELECT FROM {} i WHERE i.nid = n.id)", name(app.keeps.table)),
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
    if has(app.keeps.table) {
        let table = name(app.keeps.table);
        // Of the network that the server serves: what belongs to another is invisible to it.
        let network = contents.networks.first().map(|network| network.id.as_str());
        // A router may take a slash in a client's id for one of the path's.
        let sql =
            format!("SELECT id::text FROM {table} WHERE nid = $1::text::uuid AND id::text NOT LIKE '%/%' LIMIT 1");
        let row = session.query_opt(&sql, &[&network]).await.map_err(Error::doing(&doing))?;
        contents.some_kept = row.map(|row| row.get(0));
        let by = if app.kind == Kind::Kratos { "schema_id::text" } else { "''" };
        let sql = format!("SELECT {by}, count(*) FROM {table} GROUP BY 1");
        let counted = pairs(session, &sql, &doing, until).await?.map(BTreeMap::from_iter);
        contents.kept = counted.clone().map(|pairs| pairs.values().sum());
        if app.kind == Kind::Kratos {
            contents.schema_ids = counted;
        }
        if let Some(network) = network {
            let sql =
                format!("SELECT 'hidden', count(*) FROM {table} WHERE nid IS DISTINCT FROM {}::uuid", literal(network));
            contents.hidden =
                pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.iter().map(|(_, n)| n).sum());
        }
    }
    if app.kind == Kind::Hydra && has("hydra_jwk") {
        let sql = SigningKeys::sql(&TableName::new(&schema, "hydra_jwk"));
        for row in session.query(&sql, &[]).await.map_err(Error::doing(&doing))? {
            contents.signing_keys.insert(row.get(0), row.get(1));
        }
        let sql = format!(
            "SELECT 'made', count(*) FROM {} WHERE metadata LIKE '%\"integration-id\"%'",
            name(app.keeps.table)
        );
        contents.relation_clients =
            pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.iter().map(|(_, n)| n).sum());
    }
    if let Some(messages) = app.messages.as_ref().filter(|messages| has(messages.table)) {
        let sql = format!("SELECT 'queued', ({})", messages.count_sql(&name(messages.table)));
        contents.queued_messages =
            pairs(session, &sql, &doing, until).await?.map(|pairs| pairs.iter().map(|(_, n)| n).sum());
    }
    if has("identity_credential_identifiers") && has("session_devices") {
        contents.orphans = orphans(session, name, &doing, until).await?;
    }
    // Last, for it is only told beside the rest, and what is counted before decides.
    if app.kind == Kind::Kratos && has(app.keeps.table) {
        let sql = sign_in(name);
        contents.sign_in = pairs(session, &sql, &doing, until).await?.map(BTreeMap::from_iter);
    }
    Ok(contents)
}

/// A query for credentials by type, and for those of a provider by provider, which begins its identifiers.
fn sign_in(name: impl Fn(&str) -> String) -> String {
    let types = name("identity_credential_types");
    format!(
        "SELECT t.name::text, count(*) FROM {} c JOIN {types} t ON t.id = c.identity_credential_type_id GROUP BY 1
         UNION ALL
         SELECT 'oidc ' || split_part(n.identifier, ':', 1), count(*) FROM {} n
         JOIN {types} t ON t.id = n.identity_credential_type_id AND t.name = 'oidc' GROUP BY 1",
        name("identity_credentials"),
        name("identity_credential_identifiers"),
    )
}

/// Children without a parent of the same network, which 26.2 cannot back-fill.
async fn orphans(
    session: &Session,
    name: impl Fn(&str) -> String,
    doing: &str,
    until: Instant,
) -> Result<Counted<Vec<Orphans>>> {
    let kinds = [
        ("identity_credential_identifiers", "credential", "identity_credentials", "identity_credential_id"),
        ("session_devices", "session", "sessions", "session_id"),
    ];
    let lack = |(child, _, parent, key): (&str, &str, &str, &str)| {
        let (child, parent) = (name(child), name(parent));
        format!("FROM {child} c WHERE NOT EXISTS (SELECT FROM {parent} p WHERE p.id = c.{key} AND p.nid = c.nid)")
    };
    let counts: Vec<String> =
        kinds.iter().map(|kind| format!("SELECT {}, count(*) {}", literal(kind.0), lack(*kind))).collect();
    let found = pairs(session, &counts.join(" UNION ALL "), doing, until).await?;
    let described = |(child, count): (String, i64)| {
        let kind = kinds.iter().find(|kind| kind.0 == child).filter(|_| count > 0)?;
        let what = format!("{child} without a {} of the same network", kind.1);
        Some(Orphans { what, count, delete: format!("DELETE {}", lack(*kind)) })
    };
    Ok(found.map(|found| found.into_iter().filter_map(described).collect()))
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
    let limit = format!("SET statement_timeout = {}", super::entry::ANSWER.as_millis());
    session.batch_execute(&limit).await.map_err(Error::doing(doing))?;
    match answer {
        Ok(rows) => Ok(Counted::Known(rows.iter().map(|row| (row.get(0), row.get(1))).collect())),
        Err(error) if error.sqlstate() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => {
            Ok(Counted::TooLong)
        }
        Err(error) => Err(error),
    }
}
