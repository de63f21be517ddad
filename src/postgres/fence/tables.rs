//! Which tables there are to fence, and which of them are not.

use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::TableName;
use std::collections::BTreeSet;

/// The identity app's own record of its migrations, in any schema: never fenced, never copied.
pub const SCHEMA_MIGRATION: &str = "schema_migration";

/// Every table of applications: not the system's, not an extension's, not temporary, not ours, not
/// `schema_migration`. Partitioned tables and each of their partitions are all in it.
const USER_TABLES: &str = "
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
        AND n.nspname NOT IN ('identity_migration', 'identity_migration_journal')
        AND c.relname <> 'schema_migration'
        AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// True for a table `u` whose trigger is whole: enabled, before, per statement (62 = BEFORE + INSERT + DELETE +
/// UPDATE + TRUNCATE), without a condition, of this generation.
const FENCED: &str = "
    EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
            JOIN pg_namespace pn ON pn.oid = p.pronamespace
            WHERE t.tgrelid = u.oid AND t.tgname = 'identity_migration_fence' AND NOT t.tgisinternal
                AND t.tgenabled IN ('O', 'A') AND t.tgtype = 62 AND t.tgqual IS NULL
                AND t.tgargs = convert_to($1, getdatabaseencoding()) || '\\x00'::bytea
                AND pn.nspname = 'identity_migration' AND p.proname = 'refuse_writes')";

/// Every table of applications in this database, partitions included.
///
/// # Errors
/// [`Error::Server`] when the catalog cannot be read.
pub async fn user_tables(session: &Session) -> Result<Vec<TableName>> {
    list(session, &format!("SELECT schema, name FROM ({USER_TABLES}) u ORDER BY 1, 2"), &[]).await
}

/// The tables of applications that this generation does not hold: any is a reason not to go on.
///
/// # Errors
/// [`Error::Server`] when the catalog cannot be read.
pub async fn unfenced_tables(session: &Session, generation: &str) -> Result<Vec<TableName>> {
    let sql = format!("SELECT schema, name FROM ({USER_TABLES}) u WHERE NOT {FENCED} ORDER BY 1, 2");
    list(session, &sql, &[&generation]).await
}

/// Tables with any trigger of ours.
pub(super) async fn tables_with_trigger(session: &Session) -> Result<Vec<TableName>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
               JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE t.tgname = 'identity_migration_fence' AND NOT t.tgisinternal ORDER BY 1, 2";
    list(session, sql, &[]).await
}

/// The given tables with all partitions and inheriting tables below them, less those that this generation
/// holds already. A table that is not there is an error.
pub(super) async fn to_fence(session: &Session, tables: &[TableName], generation: &str) -> Result<Vec<TableName>> {
    let schemas: Vec<&str> = tables.iter().map(|t| t.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
    let sql = format!(
        "WITH RECURSIVE u(oid) AS (
             SELECT c.oid FROM unnest($2::text[], $3::text[]) AS w(schema, name)
                 JOIN pg_namespace n ON n.nspname = w.schema
                 JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
             UNION SELECT i.inhrelid FROM pg_inherits i JOIN u ON i.inhparent = u.oid)
         SELECT n.nspname::text, c.relname::text, {FENCED}
         FROM u JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relname <> 'schema_migration' ORDER BY 1, 2"
    );
    let doing = format!("list the tables to fence in database {} on {}", session.database, session.address);
    let rows = session.query(&sql, &[&generation, &schemas, &names]).await.map_err(Error::doing(doing.as_str()))?;
    let found: Vec<(TableName, bool)> =
        rows.iter().map(|row| (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), row.get(2))).collect();
    let there: BTreeSet<&TableName> = found.iter().map(|(table, _)| table).collect();
    if let Some(missing) = tables.iter().find(|t| t.name != SCHEMA_MIGRATION && !there.contains(t)) {
        return Err(Error::found(
            doing,
            format!("there is no table {missing}"),
            "run the action again: it reads the catalog anew",
        ));
    }
    Ok(found.into_iter().filter(|(_, fenced)| !fenced).map(|(table, _)| table).collect())
}

async fn list(
    session: &Session,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<TableName>> {
    let rows = session
        .query(sql, parameters)
        .await
        .map_err(Error::doing(format!("list the tables of database {} on {}", session.database, session.address)))?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}
