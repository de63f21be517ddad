//! What a request can ask for.

use serde::{Deserialize, Serialize};

/// Where a request wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The target application has its new revision.
    Refreshed,
    /// The target follows the source.
    Following,
    /// The schema migration was tried on the following target, which follows again with the source's schema.
    Rehearsed,
    /// The target application's schema is the new release's, and its server passed every gate.
    Migrated,
    /// Fenced, drained, and compared where the order wants it inside the outage.
    Drained,
    /// Consumers use the target.
    Flipped,
    /// Consumers take their address from us.
    Adopted,
    /// Back on the source, nothing of ours left.
    RolledBack,
    /// Done, nothing of ours left.
    Finalized,
    /// The one application there is has its new release, on the database that it had.
    UpgradedInPlace,
}
