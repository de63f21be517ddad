//! Indexes and constraints that are dropped before a load and rebuilt after it.

use super::connect::Session;
use super::error::{Error, Result};
use super::locks;
use super::names::{TableName, ident};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the removal or creation of one definition may queue for its lock.
const LOCK_LIMIT: Duration = Duration::from_secs(120);

/// What a definition defines. CHECK constraints are never dropped, so they are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefinitionKind {
    /// A primary key and its index.
    PrimaryKey,
    /// A unique constraint and its index.
    Unique,
    /// An exclusion constraint and its index.
    Exclusion,
    /// A foreign key.
    ForeignKey,
    /// An index that backs no constraint.
    Index,
}

/// An index or constraint and everything needed to make it again. Kept in the journal before it is
/// dropped, because from then on nothing else knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The table it belongs to; for a foreign key the referencing one.
    pub table: TableName,
    /// Name of the constraint or index.
    pub name: String,
    /// Kind.
    pub kind: DefinitionKind,
    /// The statements that make it, as one transaction. Everything in them is qualified.
    pub sql: String,
    /// Settings on it that may be repeated (replica identity, clustering, comment); often empty.
    pub settings: String,
    /// Size of the index now, to build the biggest first; 0 for a foreign key.
    pub bytes: u64,
    /// True when the apply worker finds rows by it: the table's primary key or replica identity.
    pub on_key: bool,
    /// False for a foreign key that is declared NOT VALID and stays so.
    pub validated: bool,
}

impl std::fmt::Display for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            DefinitionKind::PrimaryKey => "primary key",
            DefinitionKind::Unique => "unique constraint",
            DefinitionKind::Exclusion => "exclusion constraint",
            DefinitionKind::ForeignKey => "foreign key",
            DefinitionKind::Index => "index",
        };
        write!(f, "{kind} {} of table {}", self.name, self.table)
    }
}

/// Every index and constraint of the given tables, and every foreign key from or to them.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn definitions(session: &Session, tables: &[TableName]) -> Result<Vec<Definition>> {
    let doing = format!("read the indexes and constraints of database {} on {}", session.database, session.address);
    let (schemas, names) = split(tables);
    let rows = session.query(INDEXES, &[&schemas, &names]).await.map_err(Error::doing(&doing))?;
    let mut found: Vec<Definition> = rows
        .iter()
        .map(|row| {
            let kind = match row.get::<_, Option<&str>>(3) {
                Some("p") => DefinitionKind::PrimaryKey,
                Some("u") => DefinitionKind::Unique,
                Some("x") => DefinitionKind::Exclusion,
                _ => DefinitionKind::Index,
            };
            Definition {
                table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
                name: row.get(2),
                kind,
                sql: row.get(4),
                settings: row.get(5),
                bytes: u64::try_from(row.get::<_, i64>(6)).unwrap_or(0),
                on_key: row.get(7),
                validated: true,
            }
        })
        .collect();
    let rows = session.query(FOREIGN_KEYS, &[&schemas, &names]).await.map_err(Error::doing(&doing))?;
    found.extend(rows.iter().map(|row| Definition {
        table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        name: row.get(2),
        kind: DefinitionKind::ForeignKey,
        sql: row.get(3),
        settings: row.get(4),
        bytes: 0,
        on_key: false,
        validated: row.get(5),
    }));
    Ok(found)
}

/// A unique index is made first and then adopted by its constraint: so its storage parameters, its
/// tablespace and its NULLS NOT DISTINCT survive, which a constraint's own definition does not print.
const INDEXES: &str = "
    SELECT n.nspname, t.relname, i.relname, k.contype::text,
           CASE WHEN k.contype = 'x'
                THEN format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, t.relname, k.conname,
                            pg_get_constraintdef(k.oid))
                ELSE pg_get_indexdef(i.oid) END
           || CASE WHEN k.contype IN ('p', 'u')
                   THEN format('; ALTER TABLE %I.%I ADD CONSTRAINT %I %s USING INDEX %I%s%s', n.nspname, t.relname,
                               k.conname, CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, i.relname,
                               CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END,
                               CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END) ELSE '' END
           || CASE WHEN s.oid IS NOT NULL
                   THEN format('; ALTER INDEX %I.%I SET TABLESPACE %I', n.nspname, i.relname, s.spcname) ELSE '' END,
           concat_ws('; ',
               CASE WHEN x.indisreplident THEN format('ALTER TABLE %I.%I REPLICA IDENTITY USING INDEX %I', n.nspname,
                                                      t.relname, i.relname) END,
               CASE WHEN x.indisclustered THEN format('ALTER TABLE %I.%I CLUSTER ON %I', n.nspname, t.relname,
                                                      i.relname) END,
               (SELECT string_agg(format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname, i.relname,
                                         a.attnum, a.attstattarget), '; ')
                FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget > 0),
               (SELECT format('COMMENT ON INDEX %I.%I IS %L', n.nspname, i.relname, description) FROM pg_description
                WHERE objoid = i.oid AND classoid = 'pg_class'::regclass AND objsubid = 0),
               (SELECT format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L', k.conname, n.nspname, t.relname, description)
                FROM pg_description WHERE objoid = k.oid AND classoid = 'pg_constraint'::regclass)),
           pg_relation_size(i.oid),
           x.indisprimary OR x.indisreplident
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN unnest($1::text[], $2::text[]) wanted(schema, name) ON wanted.schema = n.nspname AND wanted.name = t.relname
    LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace
    ORDER BY n.nspname, t.relname, i.relname";

const FOREIGN_KEYS: &str = "
    SELECT n.nspname, t.relname, k.conname,
           format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s%s', n.nspname, t.relname, k.conname, pg_get_constraintdef(k.oid),
                  CASE WHEN k.convalidated THEN ' NOT VALID' ELSE '' END),
           coalesce((SELECT format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L', k.conname, n.nspname, t.relname, description)
                     FROM pg_description WHERE objoid = k.oid AND classoid = 'pg_constraint'::regclass), ''),
           k.convalidated
    FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND EXISTS (
        SELECT FROM unnest($1::text[], $2::text[]) wanted(schema, name)
        JOIN pg_namespace wn ON wn.nspname = wanted.schema
        JOIN pg_class w ON w.relnamespace = wn.oid AND w.relname = wanted.name
        WHERE w.oid IN (k.conrelid, k.confrelid))
    ORDER BY n.nspname, t.relname, k.conname";

/// The tables' schemas and names as two arrays, for `unnest($1, $2)`.
pub(super) fn split(tables: &[TableName]) -> (Vec<&str>, Vec<&str>) {
    tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip()
}

/// Drops what the definitions describe, foreign keys first; what is not there is fine.
///
/// # Errors
/// [`Error::Server`] when something else depends on one of them, or its lock cannot be had.
pub async fn drop_definitions(session: &Session, definitions: &[Definition]) -> Result<()> {
    let (keys, rest): (Vec<_>, Vec<_>) =
        definitions.iter().partition(|definition| definition.kind == DefinitionKind::ForeignKey);
    for definition in keys.into_iter().chain(rest) {
        drop_definition(session, definition).await?;
    }
    Ok(())
}

async fn drop_definition(session: &Session, definition: &Definition) -> Result<()> {
    let Definition { table, name, kind, .. } = definition;
    let sql = match kind {
        DefinitionKind::Index => format!("DROP INDEX IF EXISTS {}.{}", ident(&table.schema), ident(name)),
        _ => format!("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}", table.sql(), ident(name)),
    };
    locks::run(session, &sql, &format!("drop {definition} on {}", session.address), LOCK_LIMIT).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// There, but half made: an index that is not valid.
    Broken,
    /// A foreign key that is declared but not yet checked against the rows.
    Unchecked,
    Present,
}

async fn state(session: &Session, definition: &Definition) -> Result<State> {
    let doing = format!("look for {definition} on {}", session.address);
    let constraint = match definition.kind {
        DefinitionKind::PrimaryKey => "p",
        DefinitionKind::Unique => "u",
        DefinitionKind::Exclusion => "x",
        DefinitionKind::ForeignKey => "f",
        DefinitionKind::Index => "",
    };
    let row = session
        .query_opt(
            "WITH t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = $1 AND c.relname = $2)
             SELECT k.convalidated AND coalesce(x.indisvalid AND x.indisready, k.contype = 'f'), k.contype = 'f'
             FROM t JOIN pg_constraint k ON k.conrelid = t.oid AND k.conname = $3 AND k.contype::text = $4
             LEFT JOIN pg_index x ON x.indexrelid = k.conindid AND k.contype <> 'f'
             UNION ALL
             SELECT x.indisvalid AND x.indisready AND $4 = '', false
             FROM t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
             WHERE i.relname = $3 AND $4 <> 'f'
               AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))",
            &[&definition.table.schema, &definition.table.name, &definition.name, &constraint],
        )
        .await
        .map_err(Error::doing(doing))?;
    Ok(match row.map(|row| (row.get::<_, bool>(0), row.get::<_, bool>(1))) {
        None => State::Absent,
        Some((true, _)) => State::Present,
        Some((false, true)) if definition.validated => State::Unchecked,
        Some((false, true)) => State::Present,
        Some((false, false)) => State::Broken,
    })
}

/// Which of the definitions are not there now, or only half made.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn missing(session: &Session, definitions: &[Definition]) -> Result<Vec<Definition>> {
    let mut found = Vec::new();
    for definition in definitions {
        if state(session, definition).await? != State::Present {
            found.push(definition.clone());
        }
    }
    Ok(found)
}

/// Makes what the definition describes, if it is not there; a half-made index is replaced.
/// A foreign key is declared first and then checked without blocking writers.
///
/// # Errors
/// [`Error::Server`] when rows break the constraint, or the lock cannot be had.
pub async fn create(session: &Session, definition: &Definition) -> Result<()> {
    declare(session, definition).await?;
    if definition.kind == DefinitionKind::ForeignKey && state(session, definition).await? == State::Unchecked {
        let sql = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", definition.table.sql(), ident(&definition.name));
        return locks::run(session, &sql, &format!("check {definition} on {}", session.address), LOCK_LIMIT).await;
    }
    Ok(())
}

/// Makes what the definition describes, but leaves a foreign key unchecked.
pub(super) async fn declare(session: &Session, definition: &Definition) -> Result<()> {
    let now = state(session, definition).await?;
    if now == State::Broken {
        drop_definition(session, definition).await?;
        // What is there may also be a bare index of that name.
        let index = Definition { kind: DefinitionKind::Index, ..definition.clone() };
        drop_definition(session, &index).await?;
    }
    let making = matches!(now, State::Absent | State::Broken).then_some(&definition.sql);
    let parts: Vec<&str> = making.into_iter().chain([&definition.settings]).map(String::as_str).collect();
    let sql = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    if sql.is_empty() {
        return Ok(());
    }
    match locks::run(session, &sql, &format!("create {definition} on {}", session.address), LOCK_LIMIT).await {
        // A statement of an earlier, killed run may have finished meanwhile.
        Err(error) if error.sqlstate().is_some() && state(session, definition).await? == State::Present => {
            log::debug!("{definition} was made by somebody else: {error}");
            Ok(())
        }
        result => result,
    }
}
