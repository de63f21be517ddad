//! Giving a migrated target the source's schema back, so that the same target can be used again.
//!
//! The target's rows are copies: they are given up, or kept as far as they fit, for whoever compares them afterwards. Its
//! tables are altered by comparing catalogs, and its indexes and constraints come from the definitions that were kept
//! before the first copy.

use super::connect::Session;
use super::error::{Error, Result};
use super::inspect::{self, Column, Table};
use super::names::{TableName, ident};
use super::schema::{self, Definition, DefinitionKind};
use super::{checks, copy, locks};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a lock may be waited for, all in all.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// What becomes of the target's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// They go.
    Emptied,
    /// They stay, changed as the columns are. What a column had that is made anew is lost.
    Kept,
}

/// Makes the target's tables like the source's: extra tables and columns go, missing ones come, types,
/// defaults, NOT NULL and CHECK follow. Where rows go, they go from every table but those that the application's own
/// migrations fill (`seeded`), from which only rows unknown to the source go, by the first column of their key.
/// The versions in `migration_table` become the source's, last of all: with them the rest is known to be done.
///
/// # Errors
/// [`Error::Server`] when a server refuses, with [`Rows::Kept`] also for rows that do not fit; [`Error::Found`] when a
/// difference stays.
pub async fn make_like(
    source: &Session,
    target: &Session,
    definitions: &[Definition],
    (migration_table, seeded): (&str, &[&str]),
    rows: Rows,
) -> Result<()> {
    let wanted = inspect::tables(source).await?;
    let found = inspect::tables(target).await?;
    let data: Vec<TableName> =
        found.iter().map(|t| t.name.clone()).filter(|name| name.name != migration_table).collect();
    let mut now = schema::definitions(target, &data).await?;
    if rows == Rows::Kept {
        // Over rows that stay an index is dear; foreign keys hold tables together that are altered one by one.
        now.retain(|found| found.kind == DefinitionKind::ForeignKey || !definitions.iter().any(|d| is_alike(d, found)));
    }
    schema::drop_definitions(target, &now).await?;
    if rows == Rows::Emptied {
        let emptied: Vec<_> = data.iter().filter(|n| !seeded.contains(&n.name.as_str())).cloned().collect();
        copy::truncate(target, &emptied).await?;
    }
    for table in &found {
        match wanted.iter().find(|candidate| candidate.name == table.name) {
            None => {
                run(target, &format!("DROP TABLE {}", table.name.sql()), &format!("drop table {}", table.name)).await?
            }
            Some(like) => alter(target, table, like).await?,
        }
    }
    check_alike(source, target, &wanted.iter().map(|table| table.name.clone()).collect::<Vec<_>>()).await?;
    for name in data.iter().filter(|name| seeded.contains(&name.name.as_str())) {
        keep_known_rows(source, target, name).await?;
    }
    for definition in schema::missing(target, definitions).await? {
        schema::create(target, &definition).await?;
    }
    let left = inspect::schema_differences(&wanted, &inspect::tables(target).await?);
    if let Some(first) = left.first() {
        return Err(Error::found(
            "give the target the source's schema back",
            format!("{} differences stay, first: {first}", left.len()),
            "deploy a fresh target application and database at the source's release, and relate them instead",
        ));
    }
    match wanted.iter().find(|table| table.name.name == migration_table) {
        Some(table) => keep_known_rows(source, target, &table.name).await,
        None => Ok(()),
    }
}

/// True for the same thing, made in the same way.
fn is_alike(one: &Definition, other: &Definition) -> bool {
    one.table == other.table && one.name == other.name && one.kind == other.kind && one.sql == other.sql
}

/// Brings one table's columns to those of its twin.
async fn alter(target: &Session, now: &Table, like: &Table) -> Result<()> {
    let mut actions = Vec::new();
    for column in &now.columns {
        match like.columns.iter().find(|c| c.name == column.name) {
            None => actions.push(format!("DROP COLUMN {}", ident(&column.name))),
            Some(wanted) => actions.extend(differences(column, wanted)),
        }
    }
    for column in like.columns.iter().filter(|c| !now.columns.iter().any(|n| n.name == c.name)) {
        let default = column.default.as_ref().map(|d| format!(" DEFAULT {d}")).unwrap_or_default();
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        actions.push(format!("ADD COLUMN {} {}{default}{not_null}", ident(&column.name), column.type_name));
    }
    if actions.is_empty() {
        return Ok(());
    }
    let sql = format!("ALTER TABLE {} {}", now.name.sql(), actions.join(", "));
    run(target, &sql, &format!("alter table {}", now.name)).await
}

fn differences(now: &Column, wanted: &Column) -> Vec<String> {
    let name = ident(&now.name);
    let mut actions = Vec::new();
    if now.type_name != wanted.type_name {
        actions.push(format!("ALTER COLUMN {name} TYPE {0} USING {name}::{0}", wanted.type_name));
    }
    if now.not_null != wanted.not_null {
        actions.push(format!("ALTER COLUMN {name} {} NOT NULL", if wanted.not_null { "SET" } else { "DROP" }));
    }
    if now.default != wanted.default && !wanted.generated {
        actions.push(match &wanted.default {
            Some(default) => format!("ALTER COLUMN {name} SET DEFAULT {default}"),
            None => format!("ALTER COLUMN {name} DROP DEFAULT"),
        });
    }
    actions
}

/// Gives the target's tables the CHECK constraints of the source's, and no others.
async fn check_alike(source: &Session, target: &Session, tables: &[TableName]) -> Result<()> {
    let (wanted, found) = (checks::read(source, tables).await?, checks::read(target, tables).await?);
    let none = BTreeMap::new();
    for table in tables {
        let (wanted, found) = (wanted.get(table).unwrap_or(&none), found.get(table).unwrap_or(&none));
        for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
            run(target, &checks::drop_sql(table, name), &format!("drop constraint {name} of table {table}")).await?;
        }
        for (name, definition) in wanted.iter().filter(|(name, definition)| found.get(*name) != Some(*definition)) {
            let sql = checks::create_sql(table, name, definition);
            run(target, &sql, &format!("give table {table} its constraint {name} back")).await?;
        }
    }
    Ok(())
}

/// Deletes the rows whose first column the source does not know. Both tables are small by nature.
async fn keep_known_rows(source: &Session, target: &Session, table: &TableName) -> Result<()> {
    let doing = format!("give table {table} the source's rows back");
    let column: String = source
        .query_one(
            "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0
             AND NOT a.attisdropped ORDER BY a.attnum LIMIT 1",
            &[&table.sql()],
        )
        .await
        .map_err(Error::doing(&doing))?
        .get(0);
    let rows = source
        .query(&format!("SELECT {}::text FROM {}", ident(&column), table.sql()), &[])
        .await
        .map_err(Error::doing(&doing))?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    // Our own fence, where it is on the table, lets this session pass as it lets the apply worker.
    target.batch_execute("SET session_replication_role = replica").await.map_err(Error::doing(&doing))?;
    let deleted = target
        .execute(&format!("DELETE FROM {} WHERE {}::text <> ALL($1)", table.sql(), ident(&column)), &[&known])
        .await
        .map_err(Error::doing(&doing))?;
    log::debug!("{deleted} rows of {table} were unknown to the source");
    Ok(())
}

async fn run(target: &Session, sql: &str, doing: &str) -> Result<()> {
    locks::run(target, sql, &format!("{doing} on {}", target.address), LOCK_LIMIT).await
}
