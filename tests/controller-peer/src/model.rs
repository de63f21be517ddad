//! What the facades need of a model, as plain data, and what they may do to it.
//!
//! A model decides nothing about access, blocks or versions: the facades do. It only is, and changes.

use crate::charm::Charm;
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha384};
use std::collections::BTreeMap;

/// A status with its message and age.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub status: String,
    pub info: String,
    pub since: Timestamp,
}

impl Status {
    /// A status that begins now.
    pub fn now(status: &str, info: &str) -> Self {
        Self { status: status.into(), info: info.into(), since: Timestamp::now() }
    }
}

#[derive(Clone, Debug)]
pub struct Unit {
    pub agent: Status,
    pub workload: Status,
    pub workload_version: String,
}

impl Unit {
    /// A hook of it failed.
    pub fn in_error(&self) -> bool {
        self.workload.status == "error"
    }
}

/// A resource that an application has, or that the store offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    pub kind: String,
    pub path: String,
    /// `store` or `upload`.
    pub origin: String,
    pub revision: i64,
    /// What was uploaded; empty for one of the store.
    pub content: String,
}

impl Resource {
    /// SHA-384 of what was uploaded, in base64.
    pub fn fingerprint(&self) -> Option<String> {
        (!self.content.is_empty()).then(|| STANDARD.encode(Sha384::digest(&self.content)))
    }

    /// Where the image is, for an uploaded `oci-image`.
    pub fn registry_path(&self) -> Option<String> {
        let read: Value = serde_yaml::from_str(&self.content).ok()?;
        read.get("registrypath")?.as_str().filter(|path| !path.is_empty()).map(str::to_owned)
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Debug)]
pub struct Application {
    pub charm_url: String,
    /// As `GetCharmURLOrigin` answers it.
    pub origin: Value,
    /// `1.0/stable`; empty for a local charm.
    pub channel: String,
    /// Options that somebody set.
    pub options: BTreeMap<String, Value>,
    pub units: BTreeMap<u32, Unit>,
    pub leader: Option<u32>,
    pub status: Status,
    /// `alive` or `dying`.
    pub life: String,
    pub resources: Vec<Resource>,
}

impl Application {
    /// Has this resource from now on.
    pub(crate) fn take(&mut self, resource: Resource) {
        self.resources.retain(|other| other.name != resource.name);
        self.resources.push(resource);
    }
}

/// One end of a relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    pub application: String,
    pub endpoint: String,
    pub role: String,
}

#[derive(Clone, Debug)]
pub struct Relation {
    pub id: i64,
    pub interface: String,
    pub ends: Vec<End>,
    pub status: Status,
    pub dying: bool,
}

impl Relation {
    /// `kratos:pg-database pg:database`, the requirer first.
    pub fn key(&self) -> String {
        let mut ends: Vec<&End> = self.ends.iter().collect();
        ends.sort_by_key(|end| end.role != "requirer");
        ends.iter().map(|end| format!("{}:{}", end.application, end.endpoint)).collect::<Vec<_>>().join(" ")
    }
}

/// An application of another model, under the name that it was consumed by: a SaaS.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `admin/iam.kratos`.
    pub offer_url: String,
    /// The offered endpoints, as [`Charm::endpoints`] declares them.
    pub endpoints: Vec<Value>,
    pub status: Status,
}

#[derive(Clone, Debug)]
pub struct Task {
    /// Tasks and operations share one row of numbers.
    pub id: u64,
    pub operation: u64,
    pub application: String,
    pub unit: u32,
    pub action: String,
    pub parameters: Map<String, Value>,
    pub status: String,
    pub message: String,
    pub log: Vec<(Timestamp, String)>,
    pub output: Map<String, Value>,
    pub enqueued: Timestamp,
    pub started: Option<Timestamp>,
    pub completed: Option<Timestamp>,
}

/// A charm that Charmhub has published.
#[derive(Clone, Debug)]
pub struct Release {
    /// `1.0/stable`: the channels whose newest this is.
    pub channels: Vec<String>,
    pub charm: Charm,
    /// Releases of ubuntu, such as `22.04`.
    pub bases: Vec<String>,
    /// The resources of those channels' tips.
    pub resources: Vec<Resource>,
}

/// What is asked of a model.
#[derive(Clone, Debug)]
pub enum Change {
    /// A charm of Charmhub, or one that was uploaded, becomes known.
    AddCharm(Charm),
    /// The application has another charm from now on, and these resources with it; its units follow.
    SetCharm { application: String, url: String, origin: Value, channel: String, resources: Vec<Resource> },
    /// Options change.
    SetOptions { application: String, options: BTreeMap<String, Value> },
    /// A resource changes.
    UseResource { application: String, resource: Resource },
    /// Two endpoints are related. Answers the relation's number.
    Relate { interface: String, ends: [End; 2] },
    /// A relation begins to go.
    Separate { relation: i64 },
    /// An operation with one task; none for a unit that is not there. Answers the operation's number.
    Enqueue { unit: Option<(String, u32)>, action: String, parameters: Map<String, Value> },
    /// A task shall stop.
    Cancel { task: u64 },
}

/// A model behind the facades.
pub trait Model: Send {
    fn name(&self) -> String;
    fn uuid(&self) -> String;
    /// `iaas` or `caas`.
    fn kind(&self) -> String;
    fn applications(&self) -> BTreeMap<String, Application>;
    /// Applications of other models, by their name here.
    fn remotes(&self) -> BTreeMap<String, Remote>;
    fn relations(&self) -> Vec<Relation>;
    fn tasks(&self) -> Vec<Task>;
    /// Charms that the model knows.
    fn charms(&self) -> Vec<Charm>;
    /// What Charmhub has.
    fn releases(&self) -> Vec<Release>;
    /// Does what was asked for, or begins to. The answer is a number where [`Change`] says so; an error is what the
    /// facades could not foresee.
    fn apply(&mut self, change: Change) -> Result<u64>;
}

/// A model's charm by URL, with or without the architecture.
pub fn charm_of(model: &dyn Model, url: &str) -> Option<Charm> {
    let end = |url: &str| url.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let schema = |url: &str| url.split(':').next().unwrap_or_default().to_owned();
    model.charms().into_iter().find(|charm| schema(&charm.url) == schema(url) && end(&charm.url) == end(url))
}
