//! What the journal knows of one step, and how records move it.

use super::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where one step is. Intent and attempt are apart: `Doing` means that an attempt was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not begun, or undone.
    #[default]
    Pending,
    /// An attempt was made; what is true must be observed.
    Doing,
    /// Its end was observed.
    Done,
    /// It could not go on.
    Failed,
    /// Its undo was begun.
    Undoing,
    /// An attempt was made or its end was observed, and that is true no more: it is done again, or undone.
    Lost,
}

/// The kinds of record that move one step's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`super::Record::Started`].
    Started,
    /// See [`super::Record::Done`].
    Done,
    /// See [`super::Record::Failed`].
    Failed,
    /// See [`super::Record::UndoStarted`].
    UndoStarted,
    /// See [`super::Record::Undone`].
    Undone,
    /// See [`super::Record::Lost`] and [`super::Record::Lifted`].
    Reopened,
}

/// A record that the journal's rules do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's record {seq} does not fit: {what}")]
pub struct Illegal {
    /// Position of the record.
    pub seq: i64,
    /// What is wrong with it.
    pub what: String,
}

/// The transition function of one step. Total: a pair that is not listed is an error.
pub fn next_status(status: Status, kind: Kind) -> Option<Status> {
    use Status::*;
    match (status, kind) {
        (Pending | Doing | Failed | Lost, Kind::Started) => Some(Doing),
        (Doing, Kind::Done) => Some(Done),
        (Doing, Kind::Failed) => Some(Failed),
        (Doing | Done | Failed | Undoing | Lost, Kind::UndoStarted) => Some(Undoing),
        (Undoing, Kind::Undone) => Some(Pending),
        // What was undone, or never begun, cannot get lost.
        (Pending, Kind::Reopened) => Some(Pending),
        (_, Kind::Reopened) => Some(Lost),
        _ => None,
    }
}

/// What the journal knows of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// Where it is.
    pub status: Status,
    /// When the first attempt began, in milliseconds since 1970.
    pub started: Option<i64>,
    /// When its end was observed.
    pub done: Option<i64>,
    /// Its output, once done.
    pub output: Value,
    /// Why it failed, when it did.
    pub failure: Option<Failure>,
    /// What it noted, newest value per name.
    pub notes: BTreeMap<String, Value>,
}
