//! Publications: an explicit list of tables, and of columns where the server knows that (15 and later).

use super::connect::Session;
use super::error::{Error, Result};
use super::inspect::cluster_identity;
use super::locks;
use super::names::{TableName, ident};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// A table in a publication.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedTable {
    /// The table.
    pub name: TableName,
    /// Only these columns; `None` means all, those added later too.
    pub columns: Option<Vec<String>>,
}

impl PublishedTable {
    /// A table with all its columns.
    pub fn whole(name: TableName) -> Self {
        Self { name, columns: None }
    }
}

/// Creates the publication; one of the same name and content is left as it is.
/// A publication must be created before the slot that is to use it.
///
/// # Errors
/// [`Error::Found`] when one of that name publishes something else, or when column lists are asked of a
/// server before 15; [`Error::Server`] when the server refuses.
pub async fn create(session: &Session, name: &str, tables: &[PublishedTable]) -> Result<()> {
    let doing = format!("create publication {name} in database {} on {}", session.database, session.address);
    if let Some(there) = tables_of(session, name).await? {
        let sorted = |tables: &[PublishedTable]| {
            let mut tables = tables.to_vec();
            for table in &mut tables {
                if let Some(columns) = &mut table.columns {
                    columns.sort();
                }
            }
            tables.sort();
            tables
        };
        return match sorted(&there) == sorted(tables) {
            true => Ok(()),
            false => Err(Error::found(
                doing,
                "one of that name publishes other tables or columns",
                "run rollback, then start again",
            )),
        };
    }
    if tables.iter().any(|table| table.columns.is_some()) && cluster_identity(session).await?.major() < 15 {
        return Err(Error::found(
            doing,
            "the server is older than 15 and publishes whole tables only",
            "publish all columns, or use a newer PostgreSQL",
        ));
    }
    let list: Vec<String> = tables.iter().map(published).collect();
    let what = if list.is_empty() { String::new() } else { format!(" FOR TABLE {}", list.join(", ")) };
    locks::run(session, &format!("CREATE PUBLICATION {}{what}", ident(name)), &doing, LOCK_LIMIT).await
}

fn published(table: &PublishedTable) -> String {
    let columns = table.columns.iter().map(|columns| {
        let names: Vec<String> = columns.iter().map(|column| ident(column)).collect();
        format!(" ({})", names.join(", "))
    });
    format!("ONLY {}{}", table.name.sql(), columns.collect::<String>())
}

/// What a publication publishes, sorted; `None` when there is no such publication.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn tables_of(session: &Session, name: &str) -> Result<Option<Vec<PublishedTable>>> {
    let doing = format!("read publication {name} in database {} on {}", session.database, session.address);
    let there = session
        .query_opt("SELECT 1 FROM pg_publication WHERE pubname = $1", &[&name])
        .await
        .map_err(Error::doing(&doing))?;
    if there.is_none() {
        return Ok(None);
    }
    // Before 15 the catalog has no column of columns; through to_jsonb it is then simply NULL.
    let rows = session
        .query(
            "SELECT n.nspname, c.relname,
                    (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                     WHERE a.attrelid = c.oid
                       AND to_jsonb(r) -> 'prattrs' @> to_jsonb(a.attnum))
             FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
             JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = $1 ORDER BY n.nspname, c.relname",
            &[&name],
        )
        .await
        .map_err(Error::doing(&doing))?;
    let table = |row: tokio_postgres::Row| PublishedTable {
        name: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        columns: row.get(2),
    };
    let mut tables: Vec<PublishedTable> = rows.into_iter().map(table).collect();
    tables.sort();
    Ok(Some(tables))
}

/// Drops the publication; one that is not there is fine.
///
/// # Errors
/// [`Error::Server`] when the server refuses.
pub async fn drop_publication(session: &Session, name: &str) -> Result<()> {
    let doing = format!("drop publication {name} in database {} on {}", session.database, session.address);
    locks::run(session, &format!("DROP PUBLICATION IF EXISTS {}", ident(name)), &doing, LOCK_LIMIT).await
}
