//! The copy engine: parts of tables stream in parallel from one snapshot of the source to the target,
//! and indexes are built as tables finish.
//!
//! Order of use: [`hold_snapshot`] on the slot's snapshot, [`truncate`], then [`copy_parts`] over
//! [`plan_copy`] beside [`build_definitions`], joined by a channel of finished tables.
//! A copy that failed or was killed leaves whole parts or nothing, and is begun again from a new slot.

mod build;
mod hold;
mod load;
mod plan;
mod progress;
mod truncate;

pub use build::build_definitions;
pub use hold::{SnapshotHolder, hold_snapshot};
pub use load::copy_parts;
pub use plan::{CopyFormat, CopyPart, plan_copy};
pub use progress::{CopyFigures, CopyProgress};
pub use truncate::truncate;
