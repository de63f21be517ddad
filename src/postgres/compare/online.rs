//! Comparison while the target follows and users write.
//!
//! What is read on the source is compared with the target as it is after it passed that moment: a marker row, written
//! after the reading, says when. The target may be ahead by then, so a mismatch is only a suspicion: a row is
//! different when it differs twice while its version on the source stayed the same.

use super::describe::{Described, describe};
use super::rows::{self, Difference, KeyedRow, difference, keyed};
use super::{CompareProgress, Depth, Side, TableComparison, TableVerdict, Verdict, pinned};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::marker::{wait_marker, write_marker};
use crate::postgres::server::Server;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where and how patiently to compare online.
#[derive(Clone, Debug)]
pub struct Online<'a> {
    /// The side that users write.
    pub source: &'a Server,
    /// Its database.
    pub source_db: &'a str,
    /// The side that follows; the marker table must be among what it follows.
    pub target: &'a Server,
    /// Its database.
    pub target_db: &'a str,
    /// How long the target may take to pass a moment of the source.
    pub catch_up_limit: Duration,
    /// How often rows that keep changing are looked at again.
    pub rounds: u32,
}

/// Compares the tables one after the other while the target follows.
///
/// # Errors
/// [`Error::Timeout`] when the target does not catch up; [`Error::Server`] when a side fails.
pub async fn compare_online(
    online: &Online<'_>,
    tables: Vec<TableComparison>,
    progress: &CompareProgress,
) -> Result<Verdict> {
    progress.bytes_total.store(tables.iter().map(|t| t.bytes).sum(), Ordering::Relaxed);
    let (source, target) =
        tokio::try_join!(pinned(online.source, online.source_db), pinned(online.target, online.target_db))?;
    let pair = Pair { online, source, target };
    let mut verdicts = Vec::with_capacity(tables.len());
    for table in tables {
        let bytes = table.bytes;
        let described = describe(&pair.source, &pair.target, table).await?;
        let verdict = pair.table(&described).await?;
        progress.rows.fetch_add(verdict.source_rows, Ordering::Relaxed);
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        progress.tables.fetch_add(1, Ordering::Relaxed);
        verdicts.push(verdict);
    }
    Ok(Verdict::of(verdicts, Depth::Text))
}

struct Pair<'a> {
    online: &'a Online<'a>,
    source: Session,
    target: Session,
}

/// Keys under suspicion, each with the source's row when it was last looked at.
type Suspects = BTreeMap<String, Option<KeyedRow>>;

impl Pair<'_> {
    async fn table(&self, table: &Described) -> Result<TableVerdict> {
        let here = rows::buckets(&self.source, table, Side::Source, Depth::Text).await?;
        self.pass().await?;
        let there = rows::buckets(&self.target, table, Side::Target, Depth::Text).await?;
        let count = |buckets: &rows::Buckets| buckets.values().map(|(rows, _)| rows.unsigned_abs()).sum();
        let mut verdict = table.verdict(count(&here), count(&there));
        let unequal = rows::unequal(&here, &there);
        if unequal.is_empty() {
            return Ok(verdict);
        }
        let [here, there] = table.rows_of_buckets_sql();
        let mut suspects: Suspects = self
            .look(table, [&here, &there], &unequal)
            .await?
            .into_iter()
            .map(|found| (found.key, found.source))
            .collect();
        let sql = [table.rows_of_keys(Side::Source), table.rows_of_keys(Side::Target)];
        for _ in 0..self.online.rounds {
            if suspects.is_empty() {
                break;
            }
            let keys: Vec<&String> = suspects.keys().collect();
            let found = self.look(table, [&sql[0], &sql[1]], &keys).await?;
            suspects = judge(&suspects, found, &mut verdict);
        }
        verdict.unsettled = suspects.len() as u64;
        Ok(verdict)
    }

    /// Reads rows on the source, lets the target pass that moment, reads the same rows there; what differs.
    async fn look(
        &self,
        table: &Described,
        sql: [&String; 2],
        parameter: &(dyn tokio_postgres::types::ToSql + Sync),
    ) -> Result<Vec<Difference>> {
        let doing = || format!("compare table {} row by row", table.comparison.table);
        let here = self.source.query(sql[0], &[parameter]).await.map_err(Error::doing(doing()))?;
        self.pass().await?;
        let there = self.target.query(sql[1], &[parameter]).await.map_err(Error::doing(doing()))?;
        Ok(pair_up(here.iter().map(keyed), there.iter().map(keyed)))
    }

    /// Waits until the target has everything that was committed on the source up to now.
    async fn pass(&self) -> Result<()> {
        let token = write_marker(&self.source, self.online.catch_up_limit).await?;
        wait_marker(&self.target, &token, self.online.catch_up_limit).await
    }
}

/// Matches the rows of the two sides by key. Rows without a key of their own (equal rows have an equal one) are
/// matched by number.
fn pair_up(here: impl Iterator<Item = KeyedRow>, there: impl Iterator<Item = KeyedRow>) -> Vec<Difference> {
    let mut sides: BTreeMap<String, [Vec<KeyedRow>; 2]> = BTreeMap::new();
    for row in here {
        sides.entry(row.key.clone()).or_default()[0].push(row);
    }
    for row in there {
        sides.entry(row.key.clone()).or_default()[1].push(row);
    }
    let mut found = Vec::new();
    for [mut here, mut there] in sides.into_values() {
        while !here.is_empty() || !there.is_empty() {
            found.extend(difference(here.pop(), there.pop()));
        }
    }
    found
}

/// Counts what differs again with the source's row unchanged since the last look; answers what stays under suspicion.
fn judge(before: &Suspects, found: Vec<Difference>, verdict: &mut TableVerdict) -> Suspects {
    let mut still = Suspects::new();
    for difference in found {
        if before.get(&difference.key) == Some(&difference.source) {
            difference.count(verdict);
        } else {
            still.insert(difference.key, difference.source);
        }
    }
    still
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::names::TableName;

    fn row(hash: &str, version: &str) -> Option<KeyedRow> {
        Some(KeyedRow { key: "k".to_owned(), hash: hash.to_owned(), version: version.to_owned() })
    }

    fn verdict() -> TableVerdict {
        TableVerdict {
            table: TableName::new("public", "t"),
            source_rows: 1,
            target_rows: 1,
            changed: 0,
            missing: 0,
            extra: 0,
            extra_is_different: true,
            unsettled: 0,
            sample_keys: Vec::new(),
        }
    }

    fn look(source: Option<KeyedRow>, target: Option<KeyedRow>) -> Vec<Difference> {
        pair_up(source.into_iter(), target.into_iter())
    }

    #[test]
    fn only_a_row_that_stood_still_is_different() {
        let mut counted = verdict();
        let first = Suspects::from([("k".to_owned(), row("a", "1"))]);
        // Written again meanwhile, with the same content: look again.
        let second = judge(&first, look(row("a", "2"), row("b", "9")), &mut counted);
        assert_eq!((second.len(), counted.different()), (1, 0));
        // Stood still, and differs again.
        let third = judge(&second, look(row("a", "2"), row("b", "9")), &mut counted);
        assert_eq!((third.len(), counted.changed), (0, 1));
        // Equal now: nothing.
        assert!(judge(&first, look(row("a", "1"), row("a", "9")), &mut verdict()).is_empty());
    }

    #[test]
    fn a_row_gone_on_the_source_is_extra_only_when_it_stays_gone() {
        let mut counted = verdict();
        let first = Suspects::from([("k".to_owned(), row("a", "1"))]);
        let second = judge(&first, look(None, row("a", "9")), &mut counted);
        assert_eq!((second.len(), counted.extra), (1, 0));
        judge(&second, look(None, row("a", "9")), &mut counted);
        assert_eq!(counted.extra, 1);
    }
}
