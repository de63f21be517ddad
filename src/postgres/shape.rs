//! The shape of a database's tables at one moment, small enough to keep, so that a change made later is found and
//! named. The stream carries rows only: no change of a table is replicated.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::{PREFIX, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tables by name, each with its parts (columns with their types, valid indexes, constraints) by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape(BTreeMap<String, BTreeMap<String, String>>);

/// Names of parts carry their kind, for an index and a column may be named alike.
const PARTS: &str = "
    WITH tables AS (
        SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%'
            AND n.nspname NOT IN ('information_schema', 'login_hook') AND NOT starts_with(n.nspname, $1)
            AND c.relname <> 'schema_migration'
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                            AND d.deptype = 'e'))
    SELECT t.schema, t.name, p.part, p.what FROM tables t LEFT JOIN LATERAL (
        SELECT 'column ' || quote_ident(a.attname) AS part,
               format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS what
        FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT 'index ' || quote_ident(i.relname), pg_get_indexdef(i.oid)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = t.oid AND x.indisvalid
        UNION ALL SELECT 'constraint ' || quote_ident(k.conname), pg_get_constraintdef(k.oid)
        FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype IN ('c', 'f')) p ON true";

/// The shape of the application's tables now; the record of its schema migrations is left out.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn read(session: &Session) -> Result<Shape> {
    let doing = format!("read the tables of database {} on {}", session.database, session.address);
    let rows = session.query(PARTS, &[&PREFIX]).await.map_err(Error::doing(doing))?;
    let mut shape = Shape::default();
    for row in rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let parts = shape.0.entry(table.to_string()).or_default();
        if let Some(part) = row.get::<_, Option<String>>(2) {
            parts.insert(part, row.get(3));
        }
    }
    Ok(shape)
}

impl Shape {
    /// Tables that are not among these.
    pub fn others(&self, known: &[TableName]) -> Vec<String> {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        self.0.keys().filter(|table| !known.contains(table)).cloned().collect()
    }

    /// What is another in `later`, each change in a few words; empty when nothing is.
    pub fn changes(&self, later: &Shape) -> Vec<String> {
        let mut found = Vec::new();
        for (table, parts) in &self.0 {
            match later.0.get(table) {
                None => found.push(format!("table {table} is there no more (dropped or renamed)")),
                Some(now) => changes_of(table, parts, now, &mut found),
            }
        }
        found.extend(later.0.keys().filter(|table| !self.0.contains_key(*table)).map(|t| format!("table {t} is new")));
        found
    }
}

fn changes_of(table: &str, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>, found: &mut Vec<String>) {
    for (part, was) in before {
        match now.get(part) {
            None => found.push(format!("{part} of table {table} is there no more")),
            Some(is) if is != was => found.push(format!("{part} of table {table} was {was} and is {is}")),
            Some(_) => {}
        }
    }
    found.extend(now.keys().filter(|p| !before.contains_key(*p)).map(|p| format!("{p} of table {table} is new")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(tables: &[(&str, &[(&str, &str)])]) -> Shape {
        let parts =
            |parts: &[(&str, &str)]| parts.iter().map(|(name, what)| ((*name).into(), (*what).into())).collect();
        Shape(tables.iter().map(|(table, of)| ((*table).into(), parts(of))).collect())
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let before = shape(&[
            ("a", &[("column x", "text"), ("column y", "text"), ("index i", "CREATE INDEX i")]),
            ("b", &[("column x", "text")]),
        ]);
        let later = shape(&[
            ("a", &[("column x", "integer"), ("column z", "text"), ("index i", "CREATE INDEX i")]),
            ("c", &[]),
        ]);
        assert_eq!(
            before.changes(&later),
            [
                "column x of table a was text and is integer",
                "column y of table a is there no more",
                "column z of table a is new",
                "table b is there no more (dropped or renamed)",
                "table c is new"
            ]
        );
        assert!(before.changes(&before).is_empty());
    }
}
