//! What a survey answers, as the queries' JSON has it.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A property of a table that matters for logical replication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Oddity {
    /// What it is.
    pub kind: OddityKind,
    /// `schema.table`.
    pub table: String,
    /// The rule, trigger, column … it is about.
    pub detail: String,
    /// The statement that takes it away, where there is one.
    pub cure: Option<String>,
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
    /// A column of a type that the database defines itself; with an enum's labels.
    OwnType,
}

/// A setting that is kept for a role, for this database or for both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeptSetting {
    /// The setting.
    pub name: String,
    /// Its value, as it was given.
    pub value: String,
    /// The role; `None` means every role.
    pub role: Option<String>,
    /// The statement that takes it away.
    pub reset: String,
}

/// What became of the WAL that the server archives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Archiver {
    /// Files archived since the statistics were reset.
    pub archived: i64,
    /// The file on which the last attempt failed, when no later one succeeded.
    pub failing_on: Option<String>,
}

/// The table whose oldest transaction id is oldest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FrozenTable {
    /// `schema.table`, quoted where needed.
    pub table: String,
    /// Transactions since its oldest id.
    pub age: i64,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Database of a logical slot.
    pub database: Option<String>,
    /// `logical` or `physical`.
    pub slot_type: String,
    /// Someone streams from it.
    pub active: bool,
    /// WAL that it holds, in bytes.
    pub held_bytes: i64,
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
    /// Its database; a prepared one can be ended there only.
    pub database: Option<String>,
}

/// A role that owns something of the application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OwnerFacts {
    /// Its name.
    pub name: String,
    /// It is a superuser.
    pub superuser: bool,
    /// It may create schemas and trusted extensions in this database.
    pub may_create: bool,
    /// Schemas of the application's tables in which it may not create anything.
    pub shut_out: Vec<String>,
}

/// Something with its owner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owned {
    /// Quoted where needed.
    pub name: String,
    /// Its owner.
    pub owner: String,
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

/// The cluster and the database as a whole. Whatever is said of "the application" leaves out what belongs to
/// PostgreSQL, to extensions, to the PostgreSQL charm and to us.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerFacts {
    /// The server is a standby.
    pub in_recovery: bool,
    /// The settings of [`super::SETTINGS`] that this release has, as `pg_settings` has them, and as a new session
    /// of our role would find them.
    pub settings: BTreeMap<String, String>,
    /// Where those that are not PostgreSQL's own value come from: `command line`, or the file.
    pub setting_origins: BTreeMap<String, String>,
    /// Settings that wait for a restart.
    pub pending_restart: Vec<String>,
    /// The role that logged in.
    pub session_user: String,
    /// The role whose rights count now.
    pub current_user: String,
    /// The session is a superuser's.
    pub superuser: bool,
    /// The role may replicate; a superuser may anyway.
    pub may_replicate: bool,
    /// The role may create in this database.
    pub may_create: bool,
    /// Settings kept for roles and for this database.
    pub kept_settings: Vec<KeptSetting>,
    /// Roles that are connected to this database now, ours not counted.
    pub connected_roles: BTreeSet<String>,
    /// The role that owns every table in Charmed PostgreSQL 16, where it exists.
    pub charmed_owner: Option<String>,
    /// Roles whose sessions its login hook turns into that owner.
    pub charmed_admins: BTreeSet<String>,
    /// Owners of the application's tables, and that role.
    pub owners: Vec<OwnerFacts>,
    /// Sequences that belong to no column.
    pub sequences: Vec<Owned>,
    /// Our own connection is encrypted.
    pub encrypted: bool,
    /// When the server started, in seconds since 1970: tells a server from its copy.
    pub started: String,
    /// Encoding of the database.
    pub encoding: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// `c`, `i` or `b`.
    pub provider: String,
    /// The provider's own locale, for ICU and the built-in one.
    pub provider_locale: Option<String>,
    /// Size of the database in bytes, indexes and all.
    pub database_bytes: i64,
    /// Size of all databases of the cluster in bytes.
    pub all_databases_bytes: i64,
    /// `max_slot_wal_keep_size` in bytes; negative means no limit.
    pub slot_wal_limit_bytes: i64,
    /// WAL files that the server keeps now, in bytes.
    pub wal_bytes: i64,
    /// WAL written per second, on average since the statistics were reset.
    pub wal_bytes_per_second: f64,
    /// Connections of clients.
    pub connections: i64,
    /// Replication origins that are followed here; the same setting as for slots bounds them.
    pub origins: i64,
    /// Tables, indexes and TOAST tables of the application: what one statement over all of them locks.
    pub relations: i64,
    /// The archiver; `None` when nothing is archived.
    pub archiver: Option<Archiver>,
    /// Base backups and backups of pgBackRest that run now.
    pub backups: Vec<String>,
    /// The table closest to wraparound.
    pub oldest: Option<FrozenTable>,
    /// Indexes that a failed build left invalid.
    pub invalid_indexes: Vec<String>,
    /// Unique, foreign key, exclusion and CHECK constraints and unique indexes of the application's tables.
    pub constraints: BTreeSet<String>,
    /// Views, functions, sequences and triggers in this database, extensions' and ours aside.
    pub objects: BTreeSet<String>,
    /// Extension names and versions.
    pub extensions: BTreeMap<String, String>,
    /// Extensions that could be created here.
    pub available_extensions: BTreeSet<String>,
    /// Those of them that only a superuser can create.
    pub untrusted_extensions: BTreeSet<String>,
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
    /// Transactions of this cluster older than half a minute, and every prepared one.
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
