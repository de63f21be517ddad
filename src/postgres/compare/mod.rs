//! Comparison of two databases, every row of every table.
//!
//! First a count and an order-free sum of record hashes per table, all tables in parallel on both sides; the sum is
//! additive, so large tables are cut into ranges of each side's own blocks. Tables that differ are then compared row
//! by row through a text form that is pinned on both ends, and every difference is counted and named by its key.
//! [`compare`] works inside twin snapshots, [`compare_online`] while the target follows; [`find`] keeps what differs, to
//! be repaired, and [`sample`] measures how fast all that is.

mod describe;
mod find;
mod online;
mod rows;
mod sample;
mod sums;

pub use find::{Found, Unequal, find};
pub use online::{Online, compare_online};
pub use sample::{Sample, sample};

use super::connect::Session;
use super::error::{Error, Result};
use super::names::TableName;
use super::server::Server;
use describe::{Described, describe};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most so many keys of different rows are named per table.
const SAMPLES: usize = 10;

/// Settings that the text form of values depends on, the same on both ends.
pub(super) const PINNED: &str = "SET extra_float_digits = 1; SET bytea_output = 'hex'; SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET lc_monetary = 'C'; SET xmloption = 'content';
    SET jit = off; SET max_parallel_workers_per_gather = 0";

/// One column and what is compared of it on either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedColumn {
    /// The column's name.
    pub name: String,
    /// Expression over the source's table (mostly the quoted column).
    pub source_sql: String,
    /// Expression over the target's table.
    pub target_sql: String,
}

/// One table to compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableComparison {
    /// The table, of the same name on both sides.
    pub table: TableName,
    /// Columns of its primary key; empty compares whole rows as a multiset.
    pub key: Vec<String>,
    /// The columns, in one order for both sides.
    pub columns: Vec<ComparedColumn>,
    /// Rows that only the target has are reported, but are no difference.
    pub target_may_have_more: bool,
    /// The table's size on the source in bytes, for order and progress.
    pub bytes: u64,
}

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every row, by record hashes where both servers compute the same ones, else by text.
    Rows,
    /// Every row, by text hashes from the start: slower, and byte for byte.
    Text,
    /// Numbers of rows only.
    Counts,
}

/// How far a comparison is; written by it, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct CompareProgress {
    /// Rows read on the source.
    pub rows: AtomicU64,
    /// Bytes of tables (or parts of them) that are read on the source.
    pub bytes: AtomicU64,
    /// Bytes there are.
    pub bytes_total: AtomicU64,
    /// Tables whose verdict is known.
    pub tables: AtomicU64,
}

/// What was found in one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVerdict {
    /// The table.
    pub table: TableName,
    /// Its rows on the source.
    pub source_rows: u64,
    /// Its rows on the target.
    pub target_rows: u64,
    /// Rows with the same key and other values.
    pub changed: u64,
    /// Rows that only the source has.
    pub missing: u64,
    /// Rows that only the target has.
    pub extra: u64,
    /// True when `extra` counts as a difference.
    pub extra_is_different: bool,
    /// Rows that kept changing while compared online, so that nothing can be said about them.
    pub unsettled: u64,
    /// Keys of different rows, at most ten.
    pub sample_keys: Vec<String>,
}

impl TableVerdict {
    /// The number of rows that differ.
    pub fn different(&self) -> u64 {
        self.changed + self.missing + if self.extra_is_different { self.extra } else { 0 }
    }
}

/// What was found in all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Source rows whose values were compared (with [`Depth::Counts`]: none).
    pub rows_verified: u64,
    /// Rows that differ.
    pub rows_different: u64,
    /// Table by table, in the order given.
    pub tables: Vec<TableVerdict>,
}

impl Verdict {
    fn of(tables: Vec<TableVerdict>, depth: Depth) -> Self {
        let rows = tables.iter().map(|t| t.source_rows - t.unsettled.min(t.source_rows)).sum();
        Self {
            rows_verified: if depth == Depth::Counts { 0 } else { rows },
            rows_different: tables.iter().map(TableVerdict::different).sum(),
            tables,
        }
    }
}

/// What rows of the target keep by themselves, whatever the source has: a value that only their own schema knows, or knows
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The table.
    pub table: TableName,
    /// The column whose value is given by the rule.
    pub column: String,
    /// A query for the number of rows that have another value.
    pub violations: String,
}

/// Ends a session's snapshot.
async fn end(session: &Session) -> Result<()> {
    let doing = format!("end the snapshot on {}", session.address);
    session.batch_execute("COMMIT").await.map_err(Error::doing(doing))
}

/// Which side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// Two snapshots of the same logical state. They hold back vacuum on both servers until they are closed or dropped.
pub struct Twins {
    source_server: Server,
    target_server: Server,
    source: Session,
    target: Session,
    source_snapshot: String,
    target_snapshot: String,
}

impl Twins {
    /// Adds to a verdict the rows that break a rule, as the target's snapshot has them, and ends both snapshots: the
    /// source's at once, for an old one keeps dead rows there.
    ///
    /// # Errors
    /// [`Error::Server`] when a side fails: then the verdict is not whole.
    pub async fn judge(self, rules: &[Rule], verdict: &mut Verdict) -> Result<()> {
        end(&self.source).await?;
        for Rule { table, column, violations } in rules {
            let doing = format!("count rows of table {table} with a wrong {column} on {}", self.target.address);
            let count: i64 = self.target.query_one(violations, &[]).await.map_err(Error::doing(doing))?.get(0);
            let count = count.unsigned_abs();
            verdict.rows_different += count;
            if let Some(found) = verdict.tables.iter_mut().find(|found| count > 0 && found.table == *table) {
                found.changed += count;
                found.sample_keys.push(format!("{count} with a wrong {column}"));
            }
        }
        end(&self.target).await
    }

    /// Ends both snapshots.
    ///
    /// # Errors
    /// [`Error::Server`] when a session is lost; the snapshots are gone then too.
    pub async fn close(self) -> Result<()> {
        end(&self.source).await?;
        end(&self.target).await
    }

    async fn describe(&self, tables: Vec<TableComparison>) -> Result<Arc<[Described]>> {
        let mut described = Vec::with_capacity(tables.len());
        for table in tables {
            described.push(describe(&self.source, &self.target, table).await?);
        }
        Ok(described.into())
    }

    fn session(&self, side: Side) -> &Session {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// One more session that sees the same snapshot.
    async fn another(&self, side: Side) -> Result<Session> {
        let (server, snapshot) = match side {
            Side::Source => (&self.source_server, &self.source_snapshot),
            Side::Target => (&self.target_server, &self.target_snapshot),
        };
        imported(server, &self.session(side).database, snapshot).await
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Opens a snapshot on both sides. Call it when both hold the same state: after the drain, before anything is opened.
///
/// # Errors
/// [`Error::Server`] when a side cannot be reached or refuses.
pub async fn open_twins(source: &Server, source_db: &str, target: &Server, target_db: &str) -> Result<Twins> {
    let ((source_session, source_snapshot), (target_session, target_snapshot)) =
        tokio::try_join!(exported(source, source_db), exported(target, target_db))?;
    Ok(Twins {
        source_server: source.clone(),
        target_server: target.clone(),
        source: source_session,
        target: target_session,
        source_snapshot,
        target_snapshot,
    })
}

/// Twin snapshots of which the source's is given: that of a new slot, held by somebody for as long as this lives. The
/// target must be quiet.
///
/// # Errors
/// [`Error::Server`] when a side cannot be reached, or the snapshot is gone.
pub async fn open_twins_at(
    source: &Server,
    source_db: &str,
    snapshot: &str,
    target: &Server,
    target_db: &str,
) -> Result<Twins> {
    let (source_session, (target_session, target_snapshot)) =
        tokio::try_join!(imported(source, source_db, snapshot), exported(target, target_db))?;
    Ok(Twins {
        source_server: source.clone(),
        target_server: target.clone(),
        source: source_session,
        target: target_session,
        source_snapshot: snapshot.to_owned(),
        target_snapshot,
    })
}

async fn exported(server: &Server, database: &str) -> Result<(Session, String)> {
    let session = pinned(server, database).await?;
    let doing = format!("take a snapshot of database {database} on {}", session.address);
    session.batch_execute(BEGIN).await.map_err(Error::doing(doing.as_str()))?;
    let row = session.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(Error::doing(doing))?;
    let snapshot = row.get(0);
    Ok((session, snapshot))
}

async fn imported(server: &Server, database: &str, snapshot: &str) -> Result<Session> {
    let session = pinned(server, database).await?;
    let sql = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", super::names::literal(snapshot));
    let doing = format!("use the snapshot on {}", session.address);
    session.batch_execute(&sql).await.map_err(Error::doing(doing))?;
    Ok(session)
}

async fn pinned(server: &Server, database: &str) -> Result<Session> {
    let session = server.connect(database, "comparison").await?;
    let doing = format!("prepare a comparison on {}", session.address);
    session.batch_execute(PINNED).await.map_err(Error::doing(doing))?;
    Ok(session)
}

/// Compares the tables inside the twin snapshots, `jobs` sessions on each side, the biggest tables first.
///
/// # Errors
/// [`Error::Server`] when a side fails: then there is no verdict.
pub async fn compare(
    twins: &Twins,
    tables: Vec<TableComparison>,
    depth: Depth,
    jobs: usize,
    progress: Arc<CompareProgress>,
) -> Result<Verdict> {
    progress.bytes_total.store(tables.iter().map(|t| t.bytes).sum(), Ordering::Relaxed);
    let depth = describe::depth(&twins.source, &twins.target, depth).await?;
    let described = twins.describe(tables).await?;
    let sums = sums::of_all(twins, Arc::clone(&described), depth, jobs.max(1), &progress).await?;
    let mut verdicts = Vec::with_capacity(described.len());
    for (table, (source, target)) in described.iter().zip(sums) {
        let mut verdict = table.verdict(source.rows, target.rows);
        if depth == Depth::Counts {
            verdict.missing = source.rows.saturating_sub(target.rows);
            verdict.extra = target.rows.saturating_sub(source.rows);
        } else if source != target {
            rows::differences(&twins.source, &twins.target, table, &mut verdict).await?;
        }
        progress.tables.fetch_add(1, Ordering::Relaxed);
        verdicts.push(verdict);
    }
    Ok(Verdict::of(verdicts, depth))
}
