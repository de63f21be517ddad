//! Emptying the target before a load.

use super::first;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::locks;
use crate::postgres::names::TableName;
use std::time::Duration;

const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// Empties the tables in one statement. Triggers do not fire. No other table is touched: a foreign key
/// from a table that is not in the list is a refusal that names it.
///
/// # Errors
/// [`Error::Found`] for such a foreign key, [`Error::Server`] when the locks cannot be had.
pub async fn truncate(target: &Session, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let doing = format!("empty the tables of database {} on {}", target.database, target.address);
    refuse_outsiders(target, tables, &doing).await?;
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql())).collect();
    let sql = format!("SET LOCAL session_replication_role = replica; TRUNCATE {} RESTRICT", names.join(", "));
    locks::run(target, &sql, &doing, LOCK_LIMIT).await
}

async fn refuse_outsiders(target: &Session, tables: &[TableName], doing: &str) -> Result<()> {
    let query = "WITH wanted AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         JOIN unnest($1::text[], $2::text[]) w(schema, name)
                              ON w.schema = n.nspname AND w.name = c.relname)
         SELECT format('foreign key %s of table %s refers to table %s', k.conname, k.conrelid::regclass,
                       k.confrelid::regclass)
         FROM pg_constraint k
         WHERE k.contype = 'f' AND k.confrelid IN (SELECT oid FROM wanted)
           AND k.conrelid NOT IN (SELECT oid FROM wanted) ORDER BY 1 LIMIT 1";
    match first(target, query, tables, doing).await? {
        None => Ok(()),
        Some(key) => Err(Error::found(
            doing,
            format!("{key}, which is not to be emptied"),
            "drop that foreign key, or copy its table too",
        )),
    }
}
