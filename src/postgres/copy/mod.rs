//! The copy engine: parts of tables stream in parallel from one snapshot of the source to the target,
//! and indexes are built as tables finish.
//!
//! Order of use: [`hold_snapshot`] on the slot's snapshot, [`truncate`], then [`copy_parts`] over
//! [`plan_copy`] beside [`build_definitions`], joined by a channel of finished tables.
//! A copy that failed or was killed leaves whole parts or nothing, and is begun again from a new slot.

mod build;
mod hold;
mod load;
mod native;
mod plan;
mod progress;
mod truncate;

use super::connect::Session;
use super::error::{Error, Result};
use super::names::TableName;

pub use build::build_definitions;
pub use hold::{SnapshotHolder, hold_snapshot};
pub use load::copy_parts;
pub(super) use load::{Loader, flush};
pub use native::{SyncFailures, SyncedTable, drop_sync_slots, synced_tables};
pub use plan::{CopyFormat, CopyPart, plan_copy};
pub(super) use progress::add;
pub use progress::{CopyFigures, CopyProgress};
pub use truncate::truncate;

/// The first answer of a query about the tables (their schemas are `$1`, their names `$2`), if there is one.
async fn first(session: &Session, query: &str, tables: &[TableName], doing: &str) -> Result<Option<String>> {
    let (schemas, names) = super::schema::split(tables);
    let row = session.query_opt(query, &[&schemas, &names]).await.map_err(Error::doing(doing))?;
    Ok(row.map(|row| row.get(0)))
}
