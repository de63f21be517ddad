//! One run of a hook, action or command: who runs, and what it has written so
//! far. Writes stay here until the run ends well.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::event::Event;
use crate::world::{UnitKey, random_hex};

/// A hook tool's refusal: its exit code and the text after `ERROR `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: i32,
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// A runtime error: exit code 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Refusal { code: 1, text: text.into() }
    }

    /// A mistake in the call: exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Refusal { code: 2, text: text.into() }
    }
}

pub(crate) type Answer<T> = Result<T, Refusal>;

/// A secret to be made when the run ends well.
#[derive(Debug, Clone)]
pub(crate) struct NewSecret {
    pub id: String,
    /// Owned by the unit rather than by the application.
    pub by_unit: bool,
    pub label: String,
    pub description: String,
    pub content: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) enum SecretChange {
    Add(NewSecret),
    Set { id: String, label: Option<String>, description: Option<String>, content: BTreeMap<String, String> },
    Grant { id: String, relation: u64, unit: Option<String> },
    Revoke { id: String, subject: String },
    Remove { id: String, revision: Option<u64> },
}

/// What an action has said so far.
#[derive(Debug, Clone)]
pub(crate) struct ActionRun {
    pub task: u64,
    pub parameters: Map<String, Value>,
    pub results: Map<String, Value>,
    pub failure: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub key: UnitKey,
    pub id: String,
    pub event: Option<Event>,
    pub action: Option<ActionRun>,
    /// The current relation's key, the default of `-r`.
    pub relation: Option<u64>,
    /// is-leader once said no: it stays no for this run.
    pub leadership_lost: bool,
    /// By relation key and whether it is the application's bag.
    pub relation_writes: BTreeMap<(u64, bool), BTreeMap<String, String>>,
    /// None deletes.
    pub state_writes: BTreeMap<String, Option<String>>,
    pub port_writes: BTreeMap<String, bool>,
    pub secret_changes: Vec<SecretChange>,
    /// Remote databags as first read in this run.
    pub remote_bags: BTreeMap<(u64, Option<u32>), BTreeMap<String, String>>,
    pub config: Map<String, Value>,
}

impl Context {
    pub fn new(key: UnitKey, name: &str, config: Map<String, Value>) -> Self {
        Context {
            id: format!("{}-{name}-{}", key.unit_name(), random_hex(32)),
            key,
            event: None,
            action: None,
            relation: None,
            leadership_lost: false,
            relation_writes: BTreeMap::new(),
            state_writes: BTreeMap::new(),
            port_writes: BTreeMap::new(),
            secret_changes: Vec::new(),
            remote_bags: BTreeMap::new(),
            config,
        }
    }
}
