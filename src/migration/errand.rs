//! What is done in the model beside any run, such as a backup.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Something that is done in the model beside any run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// When its newest value was written, in milliseconds since 1970.
    pub at: i64,
    /// The value.
    pub value: Value,
}

/// Takes a record in: the newest value of a name counts, null forgets it.
pub(super) fn keep(errands: &mut BTreeMap<String, Errand>, name: &str, value: &Value, at: i64) {
    match value {
        Value::Null => drop(errands.remove(name)),
        value => drop(errands.insert(name.to_owned(), Errand { at, value: value.clone() })),
    }
}
