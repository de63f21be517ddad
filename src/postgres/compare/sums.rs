//! Counts and sums of hashes, all tables of both sides in parallel.

use super::describe::Described;
use super::{CompareProgress, Depth, Side, Twins};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use futures_util::future::try_join_all;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Larger tables are cut into parts of about this size.
const PART_BYTES: i64 = 64 << 20;

/// Number of rows and sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    hashes: i128,
}

/// A range of one table's blocks.
struct Part {
    table: usize,
    condition: String,
    bytes: u64,
}

/// The sums of each table on source and target.
pub(super) async fn of_all(
    twins: &Twins,
    tables: Arc<[Described]>,
    depth: Depth,
    jobs: usize,
    progress: &CompareProgress,
) -> Result<Vec<(Sum, Sum)>> {
    let (source, target) = tokio::try_join!(
        of_side(twins, Side::Source, &tables, depth, jobs, Some(progress)),
        of_side(twins, Side::Target, &tables, depth, jobs, None),
    )?;
    Ok(source.into_iter().zip(target).collect())
}

async fn of_side(
    twins: &Twins,
    side: Side,
    tables: &[Described],
    depth: Depth,
    jobs: usize,
    progress: Option<&CompareProgress>,
) -> Result<Vec<Sum>> {
    let queue = Mutex::new(parts(twins.session(side), tables).await?);
    let sums = Mutex::new(vec![Sum::default(); tables.len()]);
    let worker = async || -> Result<()> {
        let session = twins.another(side).await?;
        loop {
            // The lock is released before the query starts.
            let part = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(part) = part else { return Ok(()) };
            let sum = of_part(&session, side, &tables[part.table], depth, &part.condition).await?;
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums[part.table].rows += sum.rows;
            sums[part.table].hashes += sum.hashes;
            if let Some(progress) = progress {
                progress.rows.fetch_add(sum.rows, Ordering::Relaxed);
                progress.bytes.fetch_add(part.bytes, Ordering::Relaxed);
            }
        }
    };
    try_join_all((0..jobs).map(|_| worker())).await?;
    Ok(sums.into_inner().unwrap_or_else(PoisonError::into_inner))
}

pub(super) async fn of_part(
    session: &Session,
    side: Side,
    table: &Described,
    depth: Depth,
    condition: &str,
) -> Result<Sum> {
    let doing = format!("compare table {} on {}", table.comparison.table, session.address);
    let row = session.query_one(&table.sum(side, depth, condition), &[]).await.map_err(Error::doing(doing.as_str()))?;
    let hashes: String = row.get(1);
    let hashes = hashes.parse().map_err(|_| {
        Error::found(
            doing,
            format!("a sum of hashes of {} digits", hashes.len()),
            "report this as a defect, with the output of show",
        )
    })?;
    Ok(Sum { rows: row.get::<_, i64>(0).unsigned_abs(), hashes })
}

/// The work of one side, smallest first (workers take from the end).
async fn parts(session: &Session, tables: &[Described]) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let row = session
            .query_one(
                "SELECT CASE WHEN relkind = 'r' THEN pg_table_size(oid) ELSE 0 END,
                        CASE WHEN relkind = 'r' THEN pg_relation_size(oid) / current_setting('block_size')::int8 ELSE 0 END
                 FROM pg_class WHERE oid = to_regclass($1)",
                &[&table.comparison.table.sql()],
            )
            .await
            .map_err(Error::doing(format!("read the size of table {} on {}", table.comparison.table, session.address)))?;
        let conditions = ranges(row.get(0), row.get(1));
        let share = table.comparison.bytes / conditions.len().max(1) as u64;
        parts.extend(conditions.into_iter().map(|condition| Part { table: index, condition, bytes: share }));
    }
    parts.sort_by_key(|part| part.bytes);
    Ok(parts)
}

/// Conditions that cut a table of this size and number of blocks; the last one has no end, because the table may
/// have grown since.
fn ranges(bytes: i64, blocks: i64) -> Vec<String> {
    let count = (bytes / PART_BYTES + 1).min(blocks.max(1));
    let step = blocks / count + 1;
    (0..count)
        .map(|n| match (n, n + 1 == count) {
            (0, true) => String::new(),
            (_, true) => format!("WHERE ctid >= '({},0)'::tid", n * step),
            _ => format!("WHERE ctid >= '({},0)'::tid AND ctid < '({},0)'::tid", n * step, (n + 1) * step),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_block_once() {
        assert_eq!(ranges(0, 0), [""]);
        assert_eq!(ranges(PART_BYTES / 2, 100), [""]);
        let three = ranges(PART_BYTES * 2, 300);
        assert_eq!(three.len(), 3);
        assert_eq!(three[0], "WHERE ctid >= '(0,0)'::tid AND ctid < '(101,0)'::tid");
        assert_eq!(three[1], "WHERE ctid >= '(101,0)'::tid AND ctid < '(202,0)'::tid");
        assert_eq!(three[2], "WHERE ctid >= '(202,0)'::tid");
        // Few blocks with much out-of-line data.
        assert_eq!(ranges(PART_BYTES * 10, 2).len(), 2);
    }
}
