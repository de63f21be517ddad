//! Everything that is asked of one side before a migration begins, in a handful of queries.
//! Only looks; takes no lock that an application could feel.

use super::connect::{Server, Session};
use super::error::{Error, Result};
use super::inspect::{self, ClusterIdentity, Table, TableKind};
use super::leftovers;
use super::names::{PREFIX, TableName};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Those of them that hold at least one row.
    pub occupied: BTreeSet<TableName>,
    /// Properties of tables that replication cannot, or does not simply, carry.
    pub oddities: Vec<Oddity>,
    /// Cluster and database as a whole.
    pub server: ServerFacts,
    /// Objects of ours, in words.
    pub leftovers: Vec<String>,
}

/// A property of a table that matters for logical replication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Oddity {
    /// What it is.
    pub kind: OddityKind,
    /// `schema.table`.
    pub table: String,
    /// The rule, trigger, column … it is about.
    pub detail: String,
}

/// Kinds of [`Oddity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OddityKind {
    /// Child of another table by inheritance (not a partition).
    Inherits,
    /// Row-level security is on.
    RowSecurity,
    /// A rule rewrites statements on it.
    Rule,
    /// A trigger that fires in the apply worker (ENABLE ALWAYS or REPLICA).
    ReplicaTrigger,
    /// REPLICA IDENTITY FULL with a column that cannot be compared.
    NotComparable,
    /// The key that identifies rows is deferrable, which replication does not take.
    DeferrableKey,
    /// A column of a type that the database defines itself.
    OwnType,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Database of a logical slot.
    pub database: Option<String>,
    /// Someone streams from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

/// A subscription of this database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SubscriptionFacts {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
}

/// A transaction that has been open for a while.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OpenTransaction {
    /// The backend, or 0 for a prepared transaction.
    pub pid: i32,
    /// Its role and application name, or the prepared transaction's name.
    pub who: String,
    /// `active`, `idle in transaction`, `prepared` …
    pub state: String,
    /// Age in seconds.
    pub seconds: i64,
}

/// A standby that streams from this server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Standby {
    /// Application name.
    pub name: String,
    /// `streaming`, `catchup` …
    pub state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: String,
}

/// The cluster and the database as a whole.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerFacts {
    /// The server is a standby.
    pub in_recovery: bool,
    /// The settings of [`SETTINGS`] that this release has, in the unit that `SHOW` prints.
    pub settings: BTreeMap<String, String>,
    /// Settings that wait for a restart.
    pub pending_restart: Vec<String>,
    /// The role that logged in.
    pub session_user: String,
    /// The role whose rights count now.
    pub current_user: String,
    /// The session is a superuser's.
    pub superuser: bool,
    /// Encoding, LC_COLLATE, LC_CTYPE and locale provider of the database.
    pub encoding: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// `c`, `i` or `b`.
    pub provider: String,
    /// Size of the database in bytes, indexes and all.
    pub database_bytes: i64,
    /// `max_slot_wal_keep_size` in bytes; negative means no limit.
    pub slot_wal_limit_bytes: i64,
    /// Extension names and versions.
    pub extensions: BTreeMap<String, String>,
    /// Extensions that could be created here.
    pub available_extensions: BTreeSet<String>,
    /// All slots of the cluster.
    pub slots: Vec<SlotFacts>,
    /// WAL senders in use.
    pub senders: i64,
    /// Background workers in use, of any kind.
    pub workers: i64,
    /// Logical replication workers in use, the launcher not counted.
    pub logical_workers: i64,
    /// Subscriptions of this database.
    pub subscriptions: Vec<SubscriptionFacts>,
    /// Publications of this database.
    pub publications: Vec<String>,
    /// Transactions of this cluster older than half a minute, and every prepared one of this database.
    pub transactions: Vec<OpenTransaction>,
    /// Tables whose autovacuum prevents wraparound now.
    pub wraparound_vacuums: Vec<String>,
    /// Large objects.
    pub large_objects: i64,
    /// Standbys.
    pub standbys: Vec<Standby>,
    /// Event triggers that would fire in the apply worker or for everyone, extensions' own aside.
    pub event_triggers: Vec<String>,
    /// The server's clock, in seconds since 1970.
    pub clock: f64,
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
    let facts = session.query_one(FACTS, &[&SETTINGS, &PREFIX]).await.map_err(Error::doing(&doing))?;
    let oddities = session.query_one(ODDITIES, &[&PREFIX]).await.map_err(Error::doing(&doing))?;
    let readable = |error: serde_json::Error| {
        Error::found(
            &doing,
            format!("an answer of an unknown form ({error})"),
            "check that the server is PostgreSQL 14 or newer",
        )
    };
    let server = serde_json::from_value(facts.get(0)).map_err(readable)?;
    let oddities = serde_json::from_value(oddities.get(0)).map_err(readable)?;
    let leftovers = leftovers::list(session).await?.iter().map(ToString::to_string).collect();
    let occupied = occupied(session, &tables, &doing).await?;
    Ok(Survey {
        address: session.address.clone(),
        database: session.database.clone(),
        identity,
        tables,
        occupied,
        oddities,
        server,
        leftovers,
    })
}

/// Which tables hold a row.
async fn occupied(session: &Session, tables: &[Table], doing: &str) -> Result<BTreeSet<TableName>> {
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

/// $1: names of settings, $2: our prefix. Columns of `pg_database` that only newer releases have
/// are read through `to_jsonb`.
const FACTS: &str = r"
SELECT jsonb_build_object(
  'in_recovery', pg_is_in_recovery(),
  'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name = ANY ($1)),
  'pending_restart', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'session_user', session_user, 'current_user', current_user,
  'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
  'provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
  'database_bytes', pg_database_size(d.oid),
  'slot_wal_limit_bytes', (SELECT setting::int8 * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'extensions', (SELECT coalesce(jsonb_object_agg(extname, extversion), '{}') FROM pg_extension),
  'available_extensions', (SELECT coalesce(jsonb_agg(name), '[]') FROM pg_available_extensions),
  'slots', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', slot_name, 'database', database, 'active', active,
      'wal_status', wal_status) ORDER BY slot_name), '[]') FROM pg_replication_slots),
  'senders', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'),
  'workers', (SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender',
      'checkpointer', 'background writer', 'walwriter', 'autovacuum launcher', 'autovacuum worker', 'archiver', 'startup',
      'walreceiver', 'logger', 'slotsync worker', 'walsummarizer', 'io worker', 'stats collector')),
  'logical_workers', (SELECT count(*) FROM pg_stat_activity
      WHERE backend_type LIKE 'logical replication%' AND backend_type <> 'logical replication launcher'),
  'subscriptions', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', subname, 'enabled', subenabled)
      ORDER BY subname), '[]') FROM pg_subscription WHERE subdbid = d.oid),
  'publications', (SELECT coalesce(jsonb_agg(pubname ORDER BY pubname), '[]') FROM pg_publication),
  'transactions', (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.seconds DESC), '[]') FROM (
      SELECT pid, concat(usename, ' (', coalesce(nullif(application_name, ''), backend_type), ')') AS who,
             coalesce(state, backend_type) AS state, extract(epoch FROM clock_timestamp() - xact_start)::int8 AS seconds
      FROM pg_stat_activity
      WHERE xact_start < clock_timestamp() - interval '30 seconds' AND NOT starts_with(application_name, $2)
        AND backend_type <> 'walsender' AND backend_type NOT LIKE 'autovacuum%'
      UNION ALL
      SELECT 0, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::int8
      FROM pg_prepared_xacts WHERE database = d.datname) t),
  'wraparound_vacuums', (SELECT coalesce(jsonb_agg(query), '[]') FROM pg_stat_activity
      WHERE datname = d.datname AND query LIKE 'autovacuum:%(to prevent wraparound)'),
  'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
  'standbys', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.application_name, 'state', coalesce(r.state, '?'),
      'sync_state', coalesce(r.sync_state, '?')) ORDER BY r.application_name), '[]')
      FROM pg_stat_replication r
      WHERE NOT starts_with(r.application_name, $2) AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')),
  'event_triggers', (SELECT coalesce(jsonb_agg(evtname ORDER BY evtname), '[]') FROM pg_event_trigger e
      WHERE evtenabled <> 'D' AND NOT starts_with(evtname, $2) AND NOT EXISTS (SELECT FROM pg_depend p
        WHERE p.classid = 'pg_event_trigger'::regclass AND p.objid = e.oid AND p.deptype = 'e')),
  'clock', extract(epoch FROM clock_timestamp())
) FROM pg_database d WHERE d.datname = current_database()";

/// $1: our prefix.
const ODDITIES: &str = r"
WITH t AS (
  SELECT c.oid, c.relreplident, c.relrowsecurity, c.relispartition, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\_%'
    AND n.nspname NOT IN ('information_schema', 'login_hook') AND NOT starts_with(n.nspname, $1)
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), columns AS (
  SELECT t.*, a.attname, y.oid AS type, y.typnamespace, y.typtype FROM t JOIN pg_attribute a ON a.attrelid = t.oid
  JOIN pg_type y ON y.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped
), found AS (
  SELECT 'inherits' AS kind, t.name AS table, i.inhparent::regclass::text AS detail
  FROM t JOIN pg_inherits i ON i.inhrelid = t.oid WHERE NOT t.relispartition
  UNION ALL SELECT 'row-security', t.name, 'row-level security' FROM t WHERE t.relrowsecurity
  UNION ALL SELECT 'rule', t.name, r.rulename FROM t JOIN pg_rewrite r ON r.ev_class = t.oid WHERE r.ev_enabled <> 'D'
  UNION ALL SELECT 'replica-trigger', t.name, g.tgname FROM t JOIN pg_trigger g ON g.tgrelid = t.oid
    WHERE g.tgenabled IN ('A', 'R') AND NOT g.tgisinternal AND NOT starts_with(g.tgname, $1)
  UNION ALL SELECT 'not-comparable', name, attname FROM columns
    WHERE relreplident = 'f' AND type IN ('json'::regtype, 'xml'::regtype, 'point'::regtype, 'box'::regtype, 'polygon'::regtype)
  UNION ALL SELECT 'deferrable-key', t.name, x.indexrelid::regclass::text FROM t JOIN pg_index x ON x.indrelid = t.oid
    WHERE NOT x.indimmediate AND CASE t.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END
  UNION ALL SELECT 'own-type', name, attname || ' ' || format_type(type, NULL) FROM columns
    WHERE typnamespace <> 'pg_catalog'::regnamespace
)
SELECT coalesce(jsonb_agg(to_jsonb(found) ORDER BY found.table, kind, detail), '[]') FROM found";
