//! How far a copy is: counters that the loaders raise and anybody may read.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a running copy. All only grow.
#[derive(Debug, Default)]
pub struct CopyProgress {
    pub(in crate::postgres) bytes: AtomicU64,
    pub(in crate::postgres) rows: AtomicU64,
    pub(in crate::postgres) planned_bytes_done: AtomicU64,
    pub(in crate::postgres) planned_bytes_total: AtomicU64,
    pub(in crate::postgres) parts_done: AtomicU64,
    pub(in crate::postgres) parts_total: AtomicU64,
    pub(in crate::postgres) tables_done: AtomicU64,
    pub(in crate::postgres) tables_total: AtomicU64,
    pub(in crate::postgres) definitions_done: AtomicU64,
    pub(in crate::postgres) definitions_total: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFigures {
    /// Bytes that went over the wire.
    pub bytes: u64,
    /// Rows in finished parts.
    pub rows: u64,
    /// Bytes of heap and TOAST on the source that the finished parts stand for.
    pub planned_bytes_done: u64,
    /// The same for all parts.
    pub planned_bytes_total: u64,
    /// Finished parts.
    pub parts_done: u64,
    /// All parts.
    pub parts_total: u64,
    /// Finished tables.
    pub tables_done: u64,
    /// All tables.
    pub tables_total: u64,
    /// Indexes and constraints that stand again.
    pub definitions_done: u64,
    /// All indexes and constraints to build.
    pub definitions_total: u64,
}

impl CopyProgress {
    /// The counters now.
    pub fn figures(&self) -> CopyFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CopyFigures {
            bytes: read(&self.bytes),
            rows: read(&self.rows),
            planned_bytes_done: read(&self.planned_bytes_done),
            planned_bytes_total: read(&self.planned_bytes_total),
            parts_done: read(&self.parts_done),
            parts_total: read(&self.parts_total),
            tables_done: read(&self.tables_done),
            tables_total: read(&self.tables_total),
            definitions_done: read(&self.definitions_done),
            definitions_total: read(&self.definitions_total),
        }
    }
}

/// Raises a counter.
pub(in crate::postgres) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// A length as a counter's amount.
pub(super) fn amount(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
