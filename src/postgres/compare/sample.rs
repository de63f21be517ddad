//! How fast two sides are compared, measured on a part of one table.

use super::describe::{self, describe};
use super::{Depth, Side, TableComparison, pinned, sums};
use crate::postgres::error::Result;
use crate::postgres::server::Server;
use std::time::{Duration, Instant};

/// Heap and TOAST of the part that is measured.
const SAMPLE_BYTES: u64 = 32 << 20;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Bytes of heap and TOAST that were read on either side.
    pub bytes: u64,
    /// How long the slower side took.
    pub took: Duration,
}

/// Hashes the first pages of a table on both sides at once, as a comparison would.
///
/// # Errors
/// [`Error::Server`](crate::postgres::Error::Server) when a side fails.
pub async fn sample(
    source: (&Server, &str),
    target: (&Server, &str),
    table: TableComparison,
    heap_pages: u64,
) -> Result<Sample> {
    let (source, target) = tokio::try_join!(pinned(source.0, source.1), pinned(target.0, target.1))?;
    let bytes = table.bytes;
    let depth = describe::depth(&source, &target, Depth::Rows).await?;
    let table = describe(&source, &target, table).await?;
    let pages = match bytes {
        0..=SAMPLE_BYTES => heap_pages,
        _ => (u128::from(heap_pages) * u128::from(SAMPLE_BYTES) / u128::from(bytes)).try_into().unwrap_or(heap_pages),
    }
    .max(1);
    let condition = format!("WHERE ctid < '({pages},0)'::tid");
    let began = Instant::now();
    tokio::try_join!(
        sums::of_part(&source, Side::Source, &table, depth, &condition),
        sums::of_part(&target, Side::Target, &table, depth, &condition),
    )?;
    Ok(Sample { bytes: bytes.min(SAMPLE_BYTES), took: began.elapsed() })
}
