//! PostgreSQL's own copy: a subscription's table synchronisation, watched from outside.

use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::TableName;
use crate::postgres::slot;
use std::collections::BTreeMap;
use std::time::Duration;

/// One table of a subscription that copies, as `pg_subscription_rel` and `pg_stat_progress_copy` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedTable {
    /// The table.
    pub name: TableName,
    /// `i` not begun, `d` being copied, `f` copied, `s` caught up, `r` ready: the apply worker has taken it over.
    pub state: String,
    /// The synchronisation worker's process.
    pub worker_pid: Option<i32>,
    /// Bytes of text that the running COPY has read.
    pub bytes: u64,
}

/// Every table of the subscription.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn synced_tables(target: &Session, subscription: &str) -> Result<Vec<SyncedTable>> {
    let rows = target
        .query(
            "SELECT n.nspname::text, c.relname::text, r.srsubstate::text, w.pid,
                    (SELECT max(p.bytes_processed) FROM pg_stat_progress_copy p
                     WHERE p.pid = w.pid AND p.datname = current_database())
             FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             JOIN pg_subscription_rel r ON r.srsubid = s.oid
             JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid = r.srrelid
             WHERE d.datname = current_database() AND s.subname = $1 ORDER BY 1, 2",
            &[&subscription],
        )
        .await
        .map_err(Error::doing(format!("see how far subscription {subscription} on {} is", target.address)))?;
    Ok(rows
        .iter()
        .map(|row| SyncedTable {
            name: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            state: row.get(2),
            worker_pid: row.get(3),
            bytes: u64::try_from(row.get::<_, Option<i64>>(4).unwrap_or(0)).unwrap_or(0),
        })
        .collect())
}

/// Counts how often synchronisation failed while we look: by workers that went away with their table unfinished, and
/// by the server's own counters (15 and later), which miss no error but know nothing of a worker that was ended.
#[derive(Debug, Default)]
pub struct SyncFailures {
    workers: BTreeMap<TableName, i32>,
    seen: u64,
    counted_before: Option<u64>,
}

impl SyncFailures {
    /// Failures since the first look.
    ///
    /// # Errors
    /// [`Error::Server`] when the counters cannot be read.
    pub async fn look(&mut self, target: &Session, subscription: &str, tables: &[SyncedTable]) -> Result<u64> {
        let counted = counted(target, subscription).await?.unwrap_or(0);
        let counted = counted.saturating_sub(*self.counted_before.get_or_insert(counted));
        Ok(self.by_workers(tables).max(counted))
    }

    fn by_workers(&mut self, tables: &[SyncedTable]) -> u64 {
        for table in tables {
            let before = self.workers.get(&table.name).copied();
            let unfinished = matches!(table.state.as_str(), "i" | "d");
            if unfinished && before.is_some() && before != table.worker_pid {
                self.seen += 1;
            }
            match table.worker_pid {
                Some(pid) => self.workers.insert(table.name.clone(), pid),
                None => self.workers.remove(&table.name),
            };
        }
        self.seen
    }
}

/// Errors of synchronisation and of apply, as the server counts them; `None` before 15.
async fn counted(target: &Session, subscription: &str) -> Result<Option<u64>> {
    let doing = format!("read the errors of subscription {subscription} on {}", target.address);
    let there = target
        .query_one("SELECT to_regclass('pg_catalog.pg_stat_subscription_stats') IS NOT NULL", &[])
        .await
        .map_err(Error::doing(&doing))?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = target
        .query_opt(
            "SELECT sync_error_count + apply_error_count FROM pg_stat_subscription_stats WHERE subname = $1",
            &[&subscription],
        )
        .await
        .map_err(Error::doing(doing))?;
    Ok(Some(row.and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or(0)))
}

/// Drops on the source the slots that the subscription's table synchronisation made there. Their names
/// (`pg_<subscription>_sync_<table>_<system identifier>`) tell of the subscription only while it exists, so this comes
/// before its removal, and after it was disabled. No subscription: nothing.
///
/// # Errors
/// [`Error::Server`] when a server cannot be asked, [`Error::Timeout`] when a slot stays at the deadline.
pub async fn drop_sync_slots(source: &Session, target: &Session, subscription: &str, deadline: Duration) -> Result<()> {
    let row = target
        .query_opt(
            "SELECT format('^pg_%s_sync_[0-9]+_%s$', s.oid, (SELECT system_identifier FROM pg_control_system()))
             FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             WHERE d.datname = current_database() AND s.subname = $1",
            &[&subscription],
        )
        .await
        .map_err(Error::doing(format!("name the slots of subscription {subscription} on {}", target.address)))?;
    let Some(pattern) = row.map(|row| row.get::<_, String>(0)) else { return Ok(()) };
    let slots = source
        .query("SELECT slot_name::text FROM pg_replication_slots WHERE slot_name ~ $1", &[&pattern])
        .await
        .map_err(Error::doing(format!("list the slots of table synchronisation on {}", source.address)))?;
    for row in slots {
        slot::drop_slot(source, row.get(0), deadline).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_left_its_table_unfinished_failed() {
        let table = |state: &str, worker_pid| SyncedTable {
            name: TableName::new("public", "t"),
            state: state.to_owned(),
            worker_pid,
            bytes: 0,
        };
        let mut failures = SyncFailures::default();
        for (state, pid, expected) in [
            ("i", None, 0),
            ("i", Some(7), 0),
            ("d", Some(7), 0),
            ("d", None, 1),
            ("d", None, 1),
            ("d", Some(8), 1),
            ("d", Some(9), 2),
            ("f", Some(9), 2),
            ("s", None, 2),
            ("r", None, 2),
        ] {
            assert_eq!(failures.by_workers(&[table(state, pid)]), expected, "{state} {pid:?}");
        }
    }
}
