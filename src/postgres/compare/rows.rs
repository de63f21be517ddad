//! Row by row: which buckets of keys differ, then a merge of both sides' rows of those buckets in the key's order.

use super::describe::Described;
use super::{Depth, SAMPLES, Side, TableVerdict};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use futures_util::{Stream, StreamExt};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::pin::{Pin, pin};
use tokio_postgres::Row;

/// One row as far as a comparison knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyedRow {
    pub(super) key: String,
    pub(super) hash: String,
    /// The transaction that wrote it, on its own side.
    pub(super) version: String,
}

/// A key whose row differs: the row on either side, where there is one.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) key: String,
    pub(super) source: Option<KeyedRow>,
    pub(super) target: Option<KeyedRow>,
}

impl Difference {
    /// Counts it in the verdict and keeps its key as a sample.
    pub(super) fn count(self, verdict: &mut TableVerdict) {
        let counts = match (&self.source, &self.target) {
            (Some(_), None) => &mut verdict.missing,
            (None, _) => &mut verdict.extra,
            (Some(_), Some(_)) => &mut verdict.changed,
        };
        *counts += 1;
        let different = self.source.is_some() || verdict.extra_is_different;
        if different && verdict.sample_keys.len() < SAMPLES {
            verdict.sample_keys.push(self.key);
        }
    }
}

/// Finds and counts every difference of a table inside two snapshots.
pub(super) async fn differences(
    source: &Session,
    target: &Session,
    table: &Described,
    verdict: &mut TableVerdict,
) -> Result<()> {
    each_difference(source, target, table, Depth::Text, |found| found.count(verdict)).await.map(drop)
}

/// Hands out every difference, in the order of the key's bytes; answers how many buckets were compared.
pub(super) async fn each_difference(
    source: &Session,
    target: &Session,
    table: &Described,
    depth: Depth,
    found: impl FnMut(Difference),
) -> Result<usize> {
    let (here, there) =
        tokio::try_join!(buckets(source, table, Side::Source, depth), buckets(target, table, Side::Target, depth))?;
    let unequal = unequal(&here, &there);
    if !unequal.is_empty() {
        merge(source, target, table, &table.rows_of_buckets_sql(), &unequal, found).await?;
    }
    Ok(here.len())
}

/// Rows and sum of hashes by bucket.
pub(super) type Buckets = HashMap<i32, (i64, String)>;

pub(super) async fn buckets(session: &Session, table: &Described, side: Side, depth: Depth) -> Result<Buckets> {
    let rows = session
        .query(&table.by_bucket(side, depth), &[])
        .await
        .map_err(Error::doing(format!("compare table {} on {}", table.comparison.table, session.address)))?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// The buckets that differ.
pub(super) fn unequal(here: &Buckets, there: &Buckets) -> Vec<i32> {
    let mut buckets: Vec<i32> = here.keys().chain(there.keys()).copied().collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets.retain(|bucket| here.get(bucket) != there.get(bucket));
    buckets
}

impl Described {
    /// The query of either side for the rows of given buckets.
    pub(super) fn rows_of_buckets_sql(&self) -> [String; 2] {
        [self.rows_of_buckets(Side::Source), self.rows_of_buckets(Side::Target)]
    }
}

/// Reads the rows of both sides at once, in order, and hands out what differs. Rows with the same key (in a table
/// without one) are matched one to one.
async fn merge(
    source: &Session,
    target: &Session,
    table: &Described,
    sql: &[String; 2],
    buckets: &Vec<i32>,
    mut found: impl FnMut(Difference),
) -> Result<()> {
    let doing = format!("compare table {} row by row", table.comparison.table);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [buckets];
    let (here, there) = tokio::try_join!(source.query_raw(&sql[0], parameters), target.query_raw(&sql[1], parameters))
        .map_err(Error::doing(doing.as_str()))?;
    let (mut here, mut there) = (pin!(here), pin!(there));
    let (mut left, mut right) = (next(here.as_mut(), &doing).await?, next(there.as_mut(), &doing).await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => l.key.as_bytes().cmp(r.key.as_bytes()),
        };
        let source_row = if order == Ordering::Greater { None } else { left.take() };
        let target_row = if order == Ordering::Less { None } else { right.take() };
        if source_row.is_some() {
            left = next(here.as_mut(), &doing).await?;
        }
        if target_row.is_some() {
            right = next(there.as_mut(), &doing).await?;
        }
        if let Some(difference) = difference(source_row, target_row) {
            found(difference);
        }
    }
}

/// `None` when the rows are equal.
pub(super) fn difference(source: Option<KeyedRow>, target: Option<KeyedRow>) -> Option<Difference> {
    if source.as_ref().map(|row| &row.hash) == target.as_ref().map(|row| &row.hash) {
        return None;
    }
    let key = source.as_ref().or(target.as_ref()).map(|row| row.key.clone())?;
    Some(Difference { key, source, target })
}

async fn next(
    mut rows: Pin<&mut impl Stream<Item = std::result::Result<Row, tokio_postgres::Error>>>,
    doing: &str,
) -> Result<Option<KeyedRow>> {
    let row = rows.next().await.transpose().map_err(Error::doing(doing))?;
    Ok(row.as_ref().map(keyed))
}

pub(super) fn keyed(row: &Row) -> KeyedRow {
    KeyedRow { key: row.get(0), hash: row.get(1), version: row.get(2) }
}
