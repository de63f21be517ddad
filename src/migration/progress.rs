//! What goes on right now: for status and `show`, never for decisions.

use serde::{Deserialize, Serialize};

/// What the worker is doing right now. Overwritten in place; never a source of decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The step, by name.
    pub step: String,
    /// What is going on, in a few words with figures.
    pub text: String,
    /// Set while something outside must happen first.
    pub waiting: Option<Waiting>,
    /// The last failure that heals by itself, while it lasts.
    pub trouble: Option<String>,
    /// Bytes of WAL that the target still has to apply.
    pub lag_bytes: Option<u64>,
    /// Estimated seconds to the end of the step.
    pub eta_seconds: Option<u64>,
    /// Bytes copied so far.
    pub bytes_copied: Option<u64>,
    /// Rows copied so far.
    pub rows_copied: Option<u64>,
    /// When the fence's lease runs out, in milliseconds since 1970.
    pub lease_until: Option<i64>,
    /// When this was written, in milliseconds since 1970.
    pub at: i64,
}

/// Something outside that must happen first, and the command that makes it happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What is waited for.
    pub reason: String,
    /// The exact command for the operator; empty when it happens by itself.
    pub next: String,
}
