//! Which rows differ, kept, so that they can be repaired: the keys of those that do, or the whole table where it has no
//! key or differs nearly everywhere.

use super::describe::{self, Described};
use super::rows::{self, KeyedRow};
use super::sums::{self, Sum};
use super::{CompareProgress, Depth, Side, TableComparison, Twins};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::{TableName, literal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// At most so many rows of one table are kept by their keys, some 100 bytes each.
const MANY: usize = 2_000_000;

/// Keys of one statement that finds rows through an index, or else reads the table for every statement.
const KEYS: (usize, usize) = (20_000, 500_000);

/// Memory for hashes by bucket and for rows in order.
const MEMORY: &str = "SET LOCAL work_mem = '64MB'";

/// What a comparison found.
pub struct Found {
    /// The tables that differ, in the order given.
    pub unequal: Vec<Unequal>,
    /// Rows of the source that were compared.
    pub rows: u64,
    /// Chunks (rows whose keys hash alike) that were compared in the tables that differ.
    pub chunks: usize,
}

/// A table that differs, and what has to be written on the target so that it does not.
pub struct Unequal {
    table: Described,
    depth: Depth,
    source: Sum,
    /// `None` when the whole table is to be written.
    rows: Option<Rows>,
}

/// Rows by their keys.
#[derive(Default)]
struct Rows {
    /// The source's rows that the target lacks or has otherwise, each with the hash of its text.
    wanted: BTreeMap<String, String>,
    /// Rows that are to go from the target: those it has otherwise, and those that the source lacks.
    unwanted: Vec<String>,
}

/// Finds what differs inside twin snapshots. As soon as more than `most` bytes of the source are found to differ, it
/// gives up and answers `None`; without a limit it goes on to the end.
///
/// # Errors
/// [`Error::Server`] when a side fails; [`Error::Found`] for a table that differs, has no key, and may hold rows on the
/// target that must stay: nothing tells them from the others.
pub async fn find(
    twins: &Twins,
    tables: Vec<TableComparison>,
    most: Option<u64>,
    jobs: usize,
    progress: &CompareProgress,
) -> Result<Option<Found>> {
    for session in [&twins.source, &twins.target] {
        let doing = format!("prepare a comparison on {}", session.address);
        session.batch_execute(MEMORY).await.map_err(Error::doing(doing))?;
    }
    progress.bytes_total.store(tables.iter().map(|table| table.bytes).sum(), Ordering::Relaxed);
    let depth = describe::depth(&twins.source, &twins.target, Depth::Rows).await?;
    let described = twins.describe(tables).await?;
    let sums = sums::of_all(twins, Arc::clone(&described), depth, jobs.max(1), progress).await?;
    let rows = sums.iter().map(|(source, _)| source.rows).sum();
    let unequal: Vec<_> = described.iter().zip(sums).filter(|(_, (source, target))| source != target).collect();
    let too_much = |bytes: u64| most.is_some_and(|most| bytes > most);
    // So much differs at least, by the numbers of rows alone.
    let at_least = |table: &Described, (source, target): &(Sum, Sum)| {
        share(table.comparison.bytes, source.rows.saturating_sub(target.rows), source.rows)
    };
    if too_much(unequal.iter().map(|(table, sums)| at_least(table, sums)).sum()) {
        return Ok(None);
    }
    let mut found = Found { unequal: Vec::new(), rows, chunks: 0 };
    for (table, (source, _)) in unequal {
        let (unequal, chunks) = look(twins, table, depth, source).await?;
        progress.tables.fetch_add(1, Ordering::Relaxed);
        found.chunks += chunks;
        found.unequal.push(unequal);
        if too_much(found.unequal.iter().map(Unequal::bytes).sum()) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// The part of a table's bytes that some of its rows stand for.
fn share(bytes: u64, rows: u64, of: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(rows.min(of)) / u128::from(of.max(1));
    u64::try_from(part).unwrap_or(bytes)
}

/// The keys of a table's rows that differ, or the whole table where they are too many or have none; how many chunks were
/// compared. Where rows that only the target has must stay, nothing but keys can tell what may go.
async fn look(twins: &Twins, table: &Described, depth: Depth, source: Sum) -> Result<(Unequal, usize)> {
    let comparison = &table.comparison;
    let unequal = |rows| Unequal { table: table.clone(), depth, source, rows };
    if comparison.key.is_empty() && comparison.target_may_have_more {
        return Err(Error::found(
            format!("repair table {}", comparison.table),
            "it differs, has no key, and may hold more rows on the target than on the source",
            "run rollback, then start again",
        ));
    }
    if comparison.key.is_empty() {
        return Ok((unequal(None), 1));
    }
    let mut rows = Rows::default();
    let mut count = 0_u64;
    let chunks = rows::each_difference(&twins.source, &twins.target, table, depth, |found| {
        count += 1;
        if rows.wanted.len() < MANY && rows.unwanted.len() < MANY {
            rows.add(found.source, found.target, comparison.target_may_have_more);
        }
    })
    .await?;
    // Of a table in which seeded rows must stay, none goes that is not known by its key.
    let many = count >= MANY as u64 || count > source.rows / 2 + 1;
    let whole = many && !comparison.target_may_have_more;
    if count >= MANY as u64 && !whole {
        return Err(Error::found(
            format!("repair table {}", comparison.table),
            "too many rows differ, and it may hold more rows on the target than on the source",
            "run rollback, then start again",
        ));
    }
    Ok((unequal((!whole).then_some(rows)), chunks))
}

impl Rows {
    fn add(&mut self, source: Option<KeyedRow>, target: Option<KeyedRow>, more_may_stay: bool) {
        if let Some(target) = target
            && (source.is_some() || !more_may_stay)
        {
            self.unwanted.push(target.key);
        }
        if let Some(source) = source {
            self.wanted.insert(source.key, source.hash);
        }
    }
}

impl Unequal {
    /// The table.
    pub fn name(&self) -> &TableName {
        &self.table.comparison.table
    }

    /// Rows to be written; those of the source's whole table where single ones are not told.
    pub fn rows(&self) -> u64 {
        self.rows.as_ref().map_or(self.source.rows, |rows| rows.wanted.len() as u64)
    }

    /// The bytes of the source's heap and TOAST that these rows stand for.
    pub fn bytes(&self) -> u64 {
        share(self.table.comparison.bytes, self.rows(), self.source.rows)
    }

    /// True when the whole table is to be written.
    pub fn is_whole(&self) -> bool {
        self.rows.is_none()
    }

    fn keys_of_one_statement(&self) -> usize {
        if self.table.is_indexed() { KEYS.0 } else { KEYS.1 }
    }

    /// Deletes on the target what differs or is too much there; answers the number of rows.
    ///
    /// # Errors
    /// [`Error::Server`] when the target refuses.
    pub async fn delete(&self, target: &Session) -> Result<u64> {
        let table = self.name();
        let doing = || Error::doing(format!("delete what differs in table {table} on {}", target.address));
        let Some(rows) = &self.rows else {
            return target.execute(&self.table.delete(true), &[]).await.map_err(doing());
        };
        let mut deleted = 0;
        for keys in rows.unwanted.chunks(self.keys_of_one_statement()) {
            deleted += target.execute(&self.table.delete(false), &[&keys]).await.map_err(doing())?;
        }
        Ok(deleted)
    }

    /// Conditions that, one after the other, find the source's rows that are to be copied; `None` means all rows.
    pub fn conditions(&self) -> Vec<Option<String>> {
        let Some(rows) = &self.rows else { return vec![None] };
        let keys: Vec<&String> = rows.wanted.keys().collect();
        let one = |keys: &[&String]| Some(self.table.by_key(Side::Source, &array(keys)));
        keys.chunks(self.keys_of_one_statement()).map(one).collect()
    }

    /// Proves, in the transaction that wrote them, that the target's rows are the source's now: what a trigger or a
    /// default of the target made of them included.
    ///
    /// # Errors
    /// [`Error::Found`] with a key when they are not; [`Error::Server`] when the target refuses.
    pub async fn prove(&self, target: &Session) -> Result<()> {
        let table = self.name();
        let wrong = |found: String| {
            let cure = "run rollback, then start again";
            Err(Error::found(format!("repair table {table}"), found, cure))
        };
        let Some(rows) = &self.rows else {
            let sum = sums::of_part(target, Side::Target, &self.table, self.depth, "").await?;
            if sum == self.source {
                return Ok(());
            }
            return wrong(format!(
                "after its {} rows were written anew, the target's are not the source's",
                self.source.rows
            ));
        };
        let keys: Vec<&String> = rows.wanted.keys().collect();
        for keys in keys.chunks(self.keys_of_one_statement()) {
            let found = target
                .query(&self.table.rows_of_keys(Side::Target), &[&keys])
                .await
                .map_err(Error::doing(format!("read back what was written in table {table}")))?;
            let found: BTreeMap<String, String> =
                found.iter().map(rows::keyed).map(|row| (row.key, row.hash)).collect();
            if let Some(key) = keys.iter().find(|key| found.get(**key) != rows.wanted.get(**key)) {
                return wrong(format!("after they were written, the row with key {key} is not the source's"));
            }
        }
        Ok(())
    }
}

/// A literal of type `text[]`.
fn array(keys: &[&String]) -> String {
    let quoted: Vec<String> =
        keys.iter().map(|key| format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    literal(&format!("{{{}}}", quoted.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_twice() {
        let keys = ["a".to_owned(), "b\"c\\d".to_owned(), "it's, {}".to_owned()];
        let keys: Vec<&String> = keys.iter().collect();
        assert_eq!(array(&keys[..1]), "'{\"a\"}'");
        assert_eq!(array(&keys[1..]), r#" E'{"b\\"c\\\\d","it''s, {}"}'"#);
    }

    #[test]
    fn a_share_of_nothing_is_nothing() {
        assert_eq!((share(1000, 1, 4), share(1000, 9, 4), share(0, 1, 0)), (250, 1000, 0));
    }
}
