//! Everything that is asked of one side before a migration begins, in a handful of queries.
//! Only looks; takes no lock that an application could feel.

mod facts;
mod queries;

pub use facts::{
    Archiver, FrozenTable, KeptSetting, Oddity, OddityKind, OpenTransaction, Owned, OwnerFacts, ServerFacts, SlotFacts,
    Standby, SubscriptionFacts,
};

use super::connect::Session;
use super::error::{Error, Result};
use super::inspect::{self, ClusterIdentity, Table, TableKind};
use super::leftovers::{self, Leftover};
use super::names::{PREFIX, TableName};
use super::server::Server;
use std::collections::BTreeSet;
use tokio_postgres::error::SqlState;

/// What one side's database and its cluster look like.
#[derive(Clone, Debug)]
pub struct Survey {
    /// `host:port`, for messages.
    pub address: String,
    /// The database.
    pub database: String,
    /// System identifier, timeline, version.
    pub identity: ClusterIdentity,
    /// The application's tables.
    pub tables: Vec<Table>,
    /// Those of them that hold at least one row, where that was asked for: [`occupied`].
    pub occupied: BTreeSet<TableName>,
    /// Properties of tables that replication cannot, or does not simply, carry.
    pub oddities: Vec<Oddity>,
    /// Cluster and database as a whole.
    pub server: ServerFacts,
    /// Objects of ours.
    pub leftovers: Vec<Leftover>,
    /// Why the server cannot load `pgoutput`, the plugin that decodes for subscriptions.
    pub no_plugin: Option<String>,
    /// Collations whose library changed since indexes were built with them, and the statement that confirms the
    /// new version once the indexes were rebuilt.
    pub stale_collations: Vec<(String, String)>,
}

/// The settings that a survey reads.
pub const SETTINGS: &[&str] = &[
    "wal_level",
    "max_replication_slots",
    "max_wal_senders",
    "max_logical_replication_workers",
    "max_worker_processes",
    "max_prepared_transactions",
    "data_checksums",
    "default_transaction_read_only",
    "synchronous_standby_names",
    "synchronous_commit",
    "session_replication_role",
    "search_path",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "wal_sender_timeout",
    "wal_receiver_timeout",
    "max_connections",
    "max_locks_per_transaction",
    "autovacuum_max_workers",
    "autovacuum_freeze_max_age",
    "max_active_replication_origins",
    "max_sync_workers_per_subscription",
    "idle_replication_slot_timeout",
    "wal_keep_size",
    "max_wal_size",
    "max_slot_wal_keep_size",
    "dynamic_library_path",
    "cluster_name",
    "data_directory",
];

impl Survey {
    /// A numeric setting; 0 when this release does not have it.
    pub fn number(&self, setting: &str) -> i64 {
        self.server.settings.get(setting).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The text of a setting; empty when this release does not have it.
    pub fn setting(&self, name: &str) -> &str {
        self.server.settings.get(name).map_or("", String::as_str)
    }

    /// Where a setting of the server has its value from.
    pub fn origin(&self, setting: &str) -> Origin {
        match self.server.setting_origins.get(setting).map(String::as_str) {
            None => Origin::Default,
            Some("command line") => Origin::CommandLine,
            Some(file) if file.ends_with("/postgresql.auto.conf") => Origin::AlterSystem,
            Some(_) => Origin::File,
        }
    }

    /// `database <name> on <host:port>`.
    pub fn place(&self) -> String {
        format!("database {} on {}", self.database, self.address)
    }

    /// The number of rows that a table of this name probably has: the statistics' estimate,
    /// or one row per 100 bytes where none were gathered.
    pub fn estimated_rows(&self, table: &str) -> u64 {
        let named = self.tables.iter().filter(|t| t.name.name == table);
        named.map(|t| t.estimated_rows.unwrap_or(t.total_bytes / 100)).sum()
    }

    /// The same over all tables.
    pub fn all_estimated_rows(&self) -> u64 {
        self.tables.iter().map(|t| t.estimated_rows.unwrap_or(t.total_bytes / 100)).sum()
    }
}

/// Where a server has the value of a setting from; what goes before what follows here, the last first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// PostgreSQL's own value.
    Default,
    /// A file that somebody writes: with Charmed PostgreSQL Patroni does, from the charm's options.
    File,
    /// `ALTER SYSTEM`.
    AlterSystem,
    /// The command line, on which Patroni passes what every member must agree on.
    CommandLine,
}

/// Surveys one side.
///
/// # Errors
/// [`Error::Server`] when it cannot be reached or asked.
pub async fn survey(server: &Server, database: &str) -> Result<Survey> {
    let session = server.connect(database, "survey").await?;
    survey_session(&session).await
}

/// The same over an open session.
///
/// # Errors
/// [`Error::Server`] when it cannot be asked.
pub async fn survey_session(session: &Session) -> Result<Survey> {
    let doing = format!("survey database {} on {}", session.database, session.address);
    let identity = inspect::cluster_identity(session).await?;
    let tables = inspect::tables(session).await?;
    let facts = session.query_one(queries::FACTS, &[&SETTINGS, &PREFIX]).await.map_err(Error::doing(&doing))?;
    let around = session.query_one(queries::SURROUNDINGS, &[&PREFIX]).await.map_err(Error::doing(&doing))?;
    let oddities = session.query_one(queries::ODDITIES, &[&PREFIX]).await.map_err(Error::doing(&doing))?;
    let readable = |error: serde_json::Error| {
        Error::found(
            &doing,
            format!("an answer of an unknown form ({error})"),
            "check that the server is PostgreSQL 14 or newer",
        )
    };
    let (mut all, around): (serde_json::Map<_, _>, serde_json::Map<_, _>) = (
        serde_json::from_value(facts.get(0)).map_err(readable)?,
        serde_json::from_value(around.get(0)).map_err(readable)?,
    );
    all.extend(around);
    let server = serde_json::from_value(all.into()).map_err(readable)?;
    let oddities = serde_json::from_value(oddities.get(0)).map_err(readable)?;
    let leftovers = leftovers::list(session).await?;
    let no_plugin = no_plugin(session, &doing).await?;
    let stale_collations = stale_collations(session, identity.major(), &doing).await?;
    Ok(Survey {
        address: session.address.clone(),
        database: session.database.clone(),
        identity,
        tables,
        occupied: BTreeSet::new(),
        oddities,
        server,
        leftovers,
        no_plugin,
        stale_collations,
    })
}

/// Which of these tables hold a row.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn occupied(session: &Session, tables: &[Table]) -> Result<BTreeSet<TableName>> {
    let doing = format!("look for rows in database {} on {}", session.database, session.address);
    let holding: Vec<&Table> = tables.iter().filter(|t| t.kind == TableKind::Ordinary).collect();
    if holding.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked: Vec<String> = holding
        .iter()
        .enumerate()
        .map(|(at, table)| format!("SELECT {at} AS at WHERE EXISTS (SELECT FROM {})", table.name.sql()))
        .collect();
    let rows = session.query(&asked.join(" UNION ALL "), &[]).await.map_err(Error::doing(doing))?;
    Ok(rows
        .iter()
        .filter_map(|row| usize::try_from(row.get::<_, i32>(0)).ok())
        .filter_map(|at| holding.get(at).map(|table| table.name.clone()))
        .collect())
}

/// Whether the server lacks `pgoutput`, in its own words: loading it is what a slot's creation would do first.
async fn no_plugin(session: &Session, doing: &str) -> Result<Option<String>> {
    match session.batch_execute("LOAD 'pgoutput'").await.map_err(Error::doing(doing)) {
        Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_FILE) => Ok(Some(error.to_string())),
        // Only a superuser may load; whether the role is one is asked elsewhere.
        Err(error) if error.sqlstate() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(error),
        _ => Ok(None),
    }
}

async fn stale_collations(session: &Session, major: u32, doing: &str) -> Result<Vec<(String, String)>> {
    let [database, columns] = queries::COLLATIONS;
    let mut rows = session.query(columns, &[&PREFIX]).await.map_err(Error::doing(doing))?;
    if major >= 15 {
        rows.extend(session.query(database, &[]).await.map_err(Error::doing(doing))?);
    }
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
