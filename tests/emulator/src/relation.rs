//! Relations: their two ends, databags, and what a unit has been shown.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::charm::{Endpoint, Role};

/// A databag and how often it changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Databag {
    pub data: BTreeMap<String, String>,
    pub version: u64,
}

impl Databag {
    /// Merges changes: an empty value deletes. True when anything changed.
    pub fn merge(&mut self, changes: &BTreeMap<String, String>) -> bool {
        let before = self.data.clone();
        for (key, value) in changes {
            if value.is_empty() {
                self.data.remove(key);
            } else {
                self.data.insert(key.clone(), value.clone());
            }
        }
        let changed = before != self.data;
        self.version += u64::from(changed);
        changed
    }
}

#[derive(Debug, Clone)]
pub(crate) struct UnitBag {
    pub bag: Databag,
    pub in_scope: bool,
}

/// One side of a relation; a peer relation has one only.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub model: String,
    pub application: String,
    pub endpoint: String,
    pub declared: Endpoint,
    /// The relation's number in this end's model.
    pub id: u64,
    /// What the other side calls this application.
    pub seen_as: String,
    pub application_bag: Databag,
    pub units: BTreeMap<u32, UnitBag>,
}

#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub ends: Vec<End>,
    pub since: SystemTime,
    pub dying: bool,
    /// The end of the offering model, for a cross-model relation.
    pub offering_end: Option<usize>,
}

impl Relation {
    pub fn remote_end(&self, end: usize) -> usize {
        if self.ends.len() == 1 { 0 } else { 1 - end }
    }

    pub fn is_peer(&self) -> bool {
        self.ends[0].declared.role == Role::Peer
    }
}

/// What a unit's agent has shown its charm of one relation.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalRelation {
    pub end: usize,
    pub created: bool,
    /// Remote units that joined, with the databag version last announced.
    pub members: BTreeMap<u32, u64>,
    pub application_version: u64,
    /// joined is always followed by changed of the same unit.
    pub owed_changed: Option<u32>,
}
