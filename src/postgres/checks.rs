//! CHECK constraints: what they are called and what they demand.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::{TableName, ident};
use super::schema::split;
use std::collections::BTreeMap;

/// The constraints of each table: name and definition.
pub type Checks = BTreeMap<TableName, BTreeMap<String, String>>;

/// Those of these tables.
///
/// # Errors
/// [`Error::Server`] when the catalog cannot be read.
pub async fn read(session: &Session, tables: &[TableName]) -> Result<Checks> {
    let (schemas, names) = split(tables);
    let doing = format!("read the constraints of database {} on {}", session.database, session.address);
    let mut checks = Checks::new();
    for row in session.query(CHECKS, &[&schemas, &names]).await.map_err(Error::doing(doing))? {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        checks.entry(table).or_default().insert(row.get(2), row.get(3));
    }
    Ok(checks)
}

/// The statement that drops one, if it is there.
pub fn drop_sql(table: &TableName, name: &str) -> String {
    format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", table.sql(), ident(name))
}

/// The statements that make one, in the place of whatever has its name.
pub fn create_sql(table: &TableName, name: &str, definition: &str) -> String {
    format!("{}; ALTER TABLE {} ADD CONSTRAINT {} {definition}", drop_sql(table, name), table.sql(), ident(name))
}

const CHECKS: &str = "
    SELECT n.nspname::text, t.relname::text, k.conname::text, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN unnest($1::text[], $2::text[]) wanted(schema, name) ON wanted.schema = n.nspname AND wanted.name = t.relname
    WHERE k.contype = 'c'";
