//! What a database holds: the cluster's identity and the tables as the catalogs describe them.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::{PREFIX, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which cluster this is, and which of its lives: a failover changes the timeline,
/// a restore from elsewhere the identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// `pg_control_system().system_identifier`.
    pub system_identifier: String,
    /// The timeline that WAL is written on (or, on a standby, that of the last checkpoint).
    pub timeline: u32,
    /// `server_version_num`, for instance 140023.
    pub version_num: u32,
}

impl ClusterIdentity {
    /// The major release, for instance 14.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// Reads the cluster's identity.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn cluster_identity(session: &Session) -> Result<ClusterIdentity> {
    // The control file learns of a promotion only with the next checkpoint, a WAL file's name at once.
    let row = session
        .query_one(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()),
                    CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id::int8 FROM pg_control_checkpoint())
                         ELSE ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::int8 END,
                    current_setting('server_version_num')::int8",
            &[],
        )
        .await
        .map_err(Error::doing(format!("read the identity of the cluster at {}", session.address)))?;
    let number = |index: usize| {
        u32::try_from(row.get::<_, i64>(index)).map_err(|_| {
            Error::found(
                format!("read the identity of the cluster at {}", session.address),
                "a timeline or version out of range",
                "check that the address leads to PostgreSQL",
            )
        })
    };
    Ok(ClusterIdentity { system_identifier: row.get(0), timeline: number(1)?, version_num: number(2)? })
}

/// What kind of relation a table is (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// A table with its own rows; also a leaf partition.
    Ordinary,
    /// A partitioned table's root or branch: its rows are in its leaves.
    Partitioned,
    /// A foreign table.
    Foreign,
    /// A materialized view.
    MaterializedView,
}

/// How a table is kept (`pg_class.relpersistence`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persistence {
    /// Written to WAL; the only kind that logical replication carries.
    Permanent,
    /// Not written to WAL.
    Unlogged,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name, unquoted.
    pub name: String,
    /// Type with its modifier, as `format_type` prints it.
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
    /// Default (or generation) expression.
    pub default: Option<String>,
    /// A stored generated column.
    pub generated: bool,
    /// An identity column, ALWAYS or BY DEFAULT.
    pub identity: bool,
    /// Collation, when it is not the type's own.
    pub collation: Option<String>,
    /// True for types whose binary form is the same in every release (and holds no object ids).
    pub portable_binary: bool,
}

/// What logical replication identifies a row of the table by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaIdentity {
    /// The table's setting.
    pub setting: ReplicaIdentitySetting,
    /// True when UPDATE and DELETE can be published with it now: the index is there and valid.
    pub usable: bool,
}

/// `ALTER TABLE … REPLICA IDENTITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaIdentitySetting {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A chosen unique index.
    Index,
}

/// A user table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Schema and name.
    pub name: TableName,
    /// Kind of relation.
    pub kind: TableKind,
    /// Persistence.
    pub persistence: Persistence,
    /// Columns in their order, without dropped ones.
    pub columns: Vec<Column>,
    /// Primary key columns in key order; empty without a primary key.
    pub primary_key: Vec<String>,
    /// Replica identity.
    pub replica_identity: ReplicaIdentity,
    /// Pages of the heap alone.
    pub heap_pages: u64,
    /// Bytes of heap and TOAST, without indexes.
    pub total_bytes: u64,
    /// Rows, as the statistics estimate them; `None` when they were never gathered.
    pub estimated_rows: Option<u64>,
    /// Owner.
    pub owner: String,
}

impl Table {
    /// True for a table whose rows can be copied and streamed.
    pub fn is_replicable(&self) -> bool {
        self.kind == TableKind::Ordinary && self.persistence == Persistence::Permanent
    }
}

/// Restricts `pg_class c JOIN pg_namespace n` to the tables of the application: none of the system,
/// of an extension, of the PostgreSQL charm (its login hook) or of ours.
const USER_TABLES: &str = "c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't'
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'login_hook')
    AND NOT starts_with(n.nspname, $1) AND NOT starts_with(c.relname, $1)
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.deptype = 'e')";

/// Base types whose binary wire form never changed and carries no object id.
const PORTABLE: &str = "'bool', 'bytea', 'bpchar', 'varchar', 'text', 'name', 'char', 'int2', 'int4', 'int8', 'float4',
    'float8', 'numeric', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'json', 'jsonb',
    'inet', 'cidr', 'macaddr', 'bit', 'varbit'";

/// Every table of the application, by name.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn tables(session: &Session) -> Result<Vec<Table>> {
    let doing = format!("read the tables of database {} on {}", session.database, session.address);
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,
                CASE c.relreplident
                    WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid)
                    WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)
                    ELSE c.relreplident = 'f' END,
                CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END
                    / current_setting('block_size')::int8,
                CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END
                    + CASE WHEN c.reltoastrelid <> 0 THEN pg_relation_size(c.reltoastrelid) ELSE 0 END,
                CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END, pg_get_userbyid(c.relowner)::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_TABLES}
         ORDER BY n.nspname, c.relname"
    );
    let rows = session.query(&sql, &[&PREFIX]).await.map_err(Error::doing(&doing))?;
    let mut columns = columns(session, &doing).await?;
    let mut keys = primary_keys(session, &doing).await?;
    rows.into_iter()
        .map(|row| {
            let oid: u32 = row.get(0);
            // A table dropped between the queries has lost its size and columns.
            let size = |index: usize| u64::try_from(row.get::<_, Option<i64>>(index).unwrap_or(0)).unwrap_or(0);
            Ok(Table {
                name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                kind: match row.get(3) {
                    "p" => TableKind::Partitioned,
                    "f" => TableKind::Foreign,
                    "m" => TableKind::MaterializedView,
                    _ => TableKind::Ordinary,
                },
                persistence: if row.get::<_, &str>(4) == "u" { Persistence::Unlogged } else { Persistence::Permanent },
                columns: columns.remove(&oid).unwrap_or_default(),
                primary_key: keys.remove(&oid).unwrap_or_default(),
                replica_identity: ReplicaIdentity {
                    setting: match row.get(5) {
                        "n" => ReplicaIdentitySetting::Nothing,
                        "f" => ReplicaIdentitySetting::Full,
                        "i" => ReplicaIdentitySetting::Index,
                        _ => ReplicaIdentitySetting::Default,
                    },
                    usable: row.get(6),
                },
                heap_pages: size(7),
                total_bytes: size(8),
                estimated_rows: row.get::<_, Option<i64>>(9).and_then(|rows| u64::try_from(rows).ok()),
                owner: row.get(10),
            })
        })
        .collect()
}

async fn columns(session: &Session, doing: &str) -> Result<BTreeMap<u32, Vec<Column>>> {
    let sql = format!(
        "SELECT c.oid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '', a.attidentity <> '',
                CASE WHEN a.attcollation <> t.typcollation
                     THEN (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co
                           JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
                -- An array is as portable as its elements; only true arrays have no length of their own.
                (SELECT b.typtype = 'b' AND bn.nspname = 'pg_catalog' AND b.typname IN ({PORTABLE})
                 FROM pg_type b JOIN pg_namespace bn ON bn.oid = b.typnamespace
                 WHERE b.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         JOIN pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE {USER_TABLES} ORDER BY c.oid, a.attnum"
    );
    let mut found: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for row in session.query(&sql, &[&PREFIX]).await.map_err(Error::doing(doing))? {
        found.entry(row.get(0)).or_default().push(Column {
            name: row.get(1),
            type_name: row.get(2),
            not_null: row.get(3),
            default: row.get(4),
            generated: row.get(5),
            identity: row.get(6),
            collation: row.get(7),
            portable_binary: row.get(8),
        });
    }
    Ok(found)
}

async fn primary_keys(session: &Session, doing: &str) -> Result<BTreeMap<u32, Vec<String>>> {
    let rows = session
        .query(
            "SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.position)
             FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE i.indisprimary AND k.position <= i.indnkeyatts GROUP BY i.indrelid",
            &[],
        )
        .await
        .map_err(Error::doing(doing))?;
    Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// How the target's tables differ from the source's, one finding a line, naming table and column;
/// empty when rows of one fit the other. The order of columns may differ, and so may indexes.
pub fn schema_differences(source: &[Table], target: &[Table]) -> Vec<String> {
    let mut found = Vec::new();
    let by_name = |tables: &[Table]| -> BTreeMap<TableName, Table> {
        tables.iter().map(|table| (table.name.clone(), table.clone())).collect()
    };
    let (source, target) = (by_name(source), by_name(target));
    for (name, ours) in &source {
        match target.get(name) {
            Some(theirs) => found.extend(table_differences(ours, theirs)),
            None => found.push(format!("table {name} exists only on the source")),
        }
    }
    let only_target = target.keys().filter(|name| !source.contains_key(name));
    found.extend(only_target.map(|name| format!("table {name} exists only on the target")));
    found
}

fn table_differences(source: &Table, target: &Table) -> Vec<String> {
    let table = &source.name;
    let mut found = Vec::new();
    let mut compare = |what: String, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what} is {ours} on the source and {theirs} on the target"));
        }
    };
    compare(format!("the kind of table {table}"), format!("{:?}", source.kind), format!("{:?}", target.kind));
    compare(
        format!("the persistence of table {table}"),
        format!("{:?}", source.persistence),
        format!("{:?}", target.persistence),
    );
    compare(
        format!("the primary key of table {table}"),
        format!("({})", source.primary_key.join(", ")),
        format!("({})", target.primary_key.join(", ")),
    );
    for ours in &source.columns {
        if let Some(theirs) = target.columns.iter().find(|column| column.name == ours.name) {
            let what = |part: &str| format!("the {part} of column {} of table {table}", ours.name);
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
            compare(what("type"), ours.type_name.clone(), theirs.type_name.clone());
            compare(what("NOT NULL"), ours.not_null.to_string(), theirs.not_null.to_string());
            compare(what("default"), or_none(&ours.default), or_none(&theirs.default));
            compare(what("generation"), ours.generated.to_string(), theirs.generated.to_string());
            compare(what("identity"), ours.identity.to_string(), theirs.identity.to_string());
            compare(what("collation"), or_none(&ours.collation), or_none(&theirs.collation));
        }
    }
    let missing = |from: &Table, other: &Table, side: &str| -> Vec<String> {
        let absent = from.columns.iter().filter(|column| !other.columns.iter().any(|o| o.name == column.name));
        absent.map(|column| format!("column {} of table {table} exists only on the {side}", column.name)).collect()
    };
    found.extend(missing(source, target, "source"));
    found.extend(missing(target, source, "target"));
    found
}
