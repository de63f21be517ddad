//! Fills: values that a newer schema demands and rows written by the older release lack.
//!
//! While rows of the old release still arrive on a target that is already migrated, row triggers
//! fill those columns. They fire for the apply worker and our loader only (ENABLE REPLICA), on
//! INSERT and on UPDATE (a fill of INSERT alone goes stale), through a SECURITY DEFINER function
//! that names everything in full: the apply worker of PostgreSQL 16 runs as the table's owner,
//! with an empty search path.

use crate::postgres::names::{PREFIX, TableName, ident};
use std::collections::BTreeMap;

/// The trigger that fills, on each filled table.
pub const FILL_TRIGGER: &str = "identity_migration_fill";

/// One filled column.
#[derive(Debug, PartialEq, Eq)]
pub struct Fill {
    /// The table, in the app's schema.
    pub table: &'static str,
    /// The column that is filled.
    pub column: &'static str,
    /// What with.
    pub value: Value,
}

/// Where a filled value comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// A column of the parent row. The source commits parents first and one worker applies in
    /// commit order, so the parent is always there; a missing one leaves NULL, which the new
    /// schema refuses loudly.
    FromParent {
        /// The parent's table, in the same schema.
        parent: &'static str,
        /// The parent's column.
        column: &'static str,
        /// Pairs of (column of this table, column of the parent) that must be equal.
        join: &'static [(&'static str, &'static str)],
    },
    /// What arrived, without blanks at its end: the older schema pads it to its length, and the
    /// change of type that made it unpadded trimmed the rows that were there.
    Trimmed,
}

impl Fill {
    /// The table that is looked at for the value, if another one is.
    pub fn parent(&self) -> Option<&'static str> {
        match &self.value {
            Value::FromParent { parent, .. } => Some(parent),
            Value::Trimmed => None,
        }
    }

    /// The value as an SQL expression over the row called `row`.
    fn expression(&self, schema: &str, row: &str) -> String {
        let Value::FromParent { parent, column, join } = &self.value else {
            return format!("pg_catalog.rtrim({row}.{})", ident(self.column));
        };
        let on: Vec<String> = join
            .iter()
            .map(|(here, there)| format!("parent.{} OPERATOR(pg_catalog.=) {row}.{}", ident(there), ident(here)))
            .collect();
        let parent = TableName::new(schema, *parent).sql();
        format!("(SELECT parent.{} FROM {parent} AS parent WHERE {})", ident(column), on.join(" AND "))
    }

    /// A query for the number of rows whose value differs from the rule; right is 0.
    pub fn violations_sql(&self, schema: &str) -> String {
        format!(
            "SELECT pg_catalog.count(*) FROM {} AS child WHERE child.{} IS DISTINCT FROM {}",
            TableName::new(schema, self.table).sql(),
            ident(self.column),
            self.expression(schema, "child"),
        )
    }
}

/// Statements that install the fills in the app's schema `schema`, one batch a table, each to be
/// run in a transaction of its own as the superuser; repeating them is harmless.
pub fn install(fills: &[Fill], schema: &str) -> Vec<String> {
    by_table(fills)
        .into_iter()
        .map(|(table, fills)| {
            let assignments: String = fills
                .iter()
                .map(|fill| format!("NEW.{} := {};\n", ident(fill.column), fill.expression(schema, "NEW")))
                .collect();
            let function = function(table);
            let trigger = ident(FILL_TRIGGER);
            let table = TableName::new(schema, table).sql();
            format!(
                "CREATE SCHEMA IF NOT EXISTS {};\n\
                 CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS $fill$\nBEGIN\n{assignments}RETURN NEW;\nEND\n$fill$;\n\
                 CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table} \
                 FOR EACH ROW EXECUTE FUNCTION {function}();\n\
                 ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger};",
                ident(PREFIX),
            )
        })
        .collect()
}

/// Statements that take the fills away again, one batch a table; repeating them is harmless.
pub fn remove(fills: &[Fill], schema: &str) -> Vec<String> {
    by_table(fills)
        .into_keys()
        .map(|table| {
            format!(
                "DROP TRIGGER IF EXISTS {} ON {};\nDROP FUNCTION IF EXISTS {}();",
                ident(FILL_TRIGGER),
                TableName::new(schema, table).sql(),
                function(table),
            )
        })
        .collect()
}

/// The function that fills one table.
fn function(table: &str) -> String {
    format!("{}.{}", ident(PREFIX), ident(&format!("fill_{table}")))
}

fn by_table(fills: &[Fill]) -> BTreeMap<&'static str, Vec<&Fill>> {
    let mut tables: BTreeMap<&'static str, Vec<&Fill>> = BTreeMap::new();
    for fill in fills {
        tables.entry(fill.table).or_default().push(fill);
    }
    tables
}
