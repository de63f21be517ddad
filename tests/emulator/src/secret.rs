//! Secrets, their revisions, grants and readers.

use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(crate) enum Owner {
    /// A user secret of a model.
    Model,
    Application(String),
    Unit(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    pub model: String,
    /// An application or a unit of that model.
    pub subject: String,
    /// The relation whose end takes the grant away.
    pub relation: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub revision: u64,
    pub label: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Secret {
    pub model: String,
    pub owner: Owner,
    pub label: String,
    pub description: String,
    pub revisions: BTreeMap<u64, BTreeMap<String, String>>,
    pub grants: Vec<Grant>,
    /// By (model, unit).
    pub consumers: BTreeMap<(String, String), Consumer>,
}

impl Secret {
    /// Owned by this application or one of its units.
    pub fn is_of(&self, model: &str, application: &str) -> bool {
        self.model == model
            && match &self.owner {
                Owner::Model => false,
                Owner::Application(name) => name == application,
                Owner::Unit(name) => name.rsplit_once('/').is_some_and(|(of, _)| of == application),
            }
    }

    pub fn latest(&self) -> u64 {
        self.revisions.keys().next_back().copied().unwrap_or(0)
    }
}
