//! Repair of a target that holds a whole copy which is no longer followed: both sides are compared, and only the rows
//! that differ are copied again.
//!
//! Order of use: [`settle`], then [`compare::find`](super::compare::find) in
//! [`compare::open_twins_at`](super::compare::open_twins_at) a new slot's snapshot, then [`rewrite`] in that snapshot.
//! Whatever ends a repair leaves whole tables repaired and others as they were: begun again from a new slot, it goes on.

mod estimate;

pub use estimate::{Estimate, Measured};

use super::compare::{PINNED, Unequal};
use super::connect::Session;
use super::copy::{CopyPart, CopyProgress, Loader, SnapshotHolder, add, flush};
use super::error::{Error, Result};
use super::locks;
use super::names::TableName;
use super::server::Server;
use crate::failpoint;
use std::time::Duration;

/// How long writers of an earlier, killed attempt may take to end.
const SETTLES: Duration = Duration::from_secs(120);

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Rows that were deleted on the target.
    pub deleted: u64,
    /// Rows that were copied.
    pub copied: u64,
}

/// Waits until nobody writes the tables any more: the server may still be busy with what a killed worker sent. Whoever
/// could write later is kept out by the target's fence.
///
/// # Errors
/// [`Error::Server`] when a writer does not end.
pub async fn settle(target: &Session, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.sql())).collect();
    let sql = format!("LOCK TABLE {} IN SHARE MODE", names.join(", "));
    let doing = format!("wait for writers in database {} on {}", target.database, target.address);
    locks::run(target, &sql, &doing, SETTLES).await
}

/// Writes what differs, one table after the other, in the order given: where a trigger of the target looks at another
/// table, that one comes first. `parts` says for each table which columns go in which form. In every table all rows
/// that differ are deleted first and copied then, in one transaction, so that a unique value may have moved from one
/// row to another; and before its end the rows are read back and held to be the source's.
///
/// # Errors
/// [`Error::Server`] when either side fails or refuses a row; [`Error::Found`] when what was written is not what the
/// source has, or a table has no part.
pub async fn rewrite(
    source: (&Server, &str),
    target: (&Server, &str),
    holder: &SnapshotHolder,
    parts: &[CopyPart],
    unequal: &[Unequal],
    progress: &CopyProgress,
) -> Result<Rewritten> {
    add(&progress.tables_total, unequal.len() as u64);
    add(&progress.planned_bytes_total, unequal.iter().map(Unequal::bytes).sum());
    let loader = Loader::open(source, target, &holder.snapshot).await?;
    let doing = format!("prepare a repair on {}", loader.target.address);
    loader.target.batch_execute(PINNED).await.map_err(Error::doing(doing))?;
    let mut written = Rewritten::default();
    for table in unequal {
        let one = rewrite_table(&loader, part_of(parts, table.name())?, table, progress).await?;
        written.deleted += one.deleted;
        written.copied += one.copied;
        add(&progress.tables_done, 1);
        add(&progress.planned_bytes_done, table.bytes());
        failpoint::reach_for(failpoint::REPAIR_TABLE, &table.name().name);
    }
    holder.still_holds().await?;
    flush(target.0, target.1).await?;
    Ok(written)
}

/// Which columns of a table are copied, in which form.
fn part_of<'parts>(parts: &'parts [CopyPart], table: &TableName) -> Result<&'parts CopyPart> {
    parts.iter().find(|part| part.table == *table).ok_or_else(|| {
        let found = "nobody planned which of its columns are copied";
        Error::found(format!("repair table {table}"), found, "report this as a defect, with the output of show")
    })
}

/// One table, in one transaction on the target.
async fn rewrite_table(
    loader: &Loader,
    part: &CopyPart,
    table: &Unequal,
    progress: &CopyProgress,
) -> Result<Rewritten> {
    let target = &loader.target;
    let doing = || Error::doing(format!("repair table {} on {}", table.name(), target.address));
    target.batch_execute("BEGIN").await.map_err(doing())?;
    let deleted = table.delete(target).await?;
    failpoint::reach_for(failpoint::REPAIR_DELETED, &table.name().name);
    let mut copied = 0;
    for condition in table.conditions() {
        let part = CopyPart { from_page: None, to_page: None, condition, ..part.clone() };
        let rows = loader.copy(&part, progress).await?;
        add(&progress.rows, rows);
        copied += rows;
    }
    table.prove(target).await?;
    failpoint::reach_for(failpoint::REPAIR_PROVEN, &table.name().name);
    target.batch_execute("COMMIT").await.map_err(doing())?;
    Ok(Rewritten { deleted, copied })
}
