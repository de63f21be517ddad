//! `Client.FullStatus`: the whole model, as far as we need it. Needs access `read`.

use super::charm::Base;
use super::error::Result;
use super::login::Session;
use super::wire::{Time, null_as_default};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// A status with its message and age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DetailedStatus {
    /// Agent: allocating, executing, idle, error, failed, lost, rebooting. Workload: active, blocked, waiting,
    /// maintenance, unknown, error, terminated. Relation: joining, joined, broken, suspended, suspending, error.
    #[serde(deserialize_with = "null_as_default")]
    pub status: String,
    /// The message.
    #[serde(deserialize_with = "null_as_default")]
    pub info: String,
    /// Since when, on the controller's clock.
    pub since: Time,
    /// For an agent, the unit agent's Juju release.
    #[serde(deserialize_with = "null_as_default")]
    pub version: String,
}

/// A unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct UnitStatus {
    /// What its agent does.
    pub agent_status: DetailedStatus,
    /// What its charm says.
    pub workload_status: DetailedStatus,
    /// The charm URL while it differs from the application's; seen empty throughout a refresh on 4.0.14.
    #[serde(deserialize_with = "null_as_default")]
    pub charm: String,
    /// What its charm set, perhaps nothing.
    #[serde(deserialize_with = "null_as_default")]
    pub workload_version: String,
    /// True on at most one unit; absent on all is "unknown", then ask for the leader.
    #[serde(deserialize_with = "null_as_default")]
    pub leader: bool,
}

/// An application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ApplicationStatus {
    /// The charm URL.
    #[serde(deserialize_with = "null_as_default")]
    pub charm: String,
    /// The charm's revision.
    #[serde(deserialize_with = "null_as_default")]
    pub charm_rev: i64,
    /// The channel, `<track>/<risk>`; empty for local charms.
    #[serde(deserialize_with = "null_as_default")]
    pub charm_channel: String,
    /// What its units run on.
    #[serde(deserialize_with = "null_as_default")]
    pub base: Base,
    /// `alive`, `dying` or `dead`.
    #[serde(deserialize_with = "null_as_default")]
    pub life: String,
    /// The wanted number of units, on Kubernetes only.
    #[serde(rename = "int", deserialize_with = "null_as_default")]
    pub scale: usize,
    /// What the application says of itself, or the worst of its units.
    pub status: DetailedStatus,
    /// On 4.0 taken from its units.
    #[serde(deserialize_with = "null_as_default")]
    pub workload_version: String,
    /// The units, by name.
    #[serde(deserialize_with = "null_as_default")]
    pub units: BTreeMap<String, UnitStatus>,
    /// Why this entry cannot be used, when it cannot.
    pub err: Option<serde_json::Value>,
}

/// One end of a relation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RelationEndpointStatus {
    /// The application.
    #[serde(deserialize_with = "null_as_default")]
    pub application: String,
    /// The endpoint.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `provider`, `requirer` or `peer`.
    #[serde(deserialize_with = "null_as_default")]
    pub role: String,
}

/// A relation. It is there until it is gone: its life is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RelationStatus {
    /// The number that `juju status --relations` and hooks show; a new relation has a new one.
    #[serde(deserialize_with = "null_as_default")]
    pub id: i64,
    /// The interface.
    #[serde(deserialize_with = "null_as_default")]
    pub interface: String,
    /// Both ends, or the one of a peer relation.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<RelationEndpointStatus>,
    /// joining, joined, broken, suspended, suspending or error.
    pub status: DetailedStatus,
}

/// An application of another model, consumed through an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RemoteApplicationStatus {
    /// The offer's URL, `[<controller>:]<owner>/<model>.<offer>`.
    #[serde(deserialize_with = "null_as_default")]
    pub offer_url: String,
    /// What is offered.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<OfferedEndpoint>,
    /// `alive`, `dying` or `dead`.
    #[serde(deserialize_with = "null_as_default")]
    pub life: String,
    /// What is known of it.
    pub status: DetailedStatus,
}

/// One endpoint of an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct OfferedEndpoint {
    /// The endpoint.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
}

impl RemoteApplicationStatus {
    /// The name of the model that offers it.
    pub fn model(&self) -> &str {
        let offer = self.offer_url.rsplit('/').next().unwrap_or_default();
        offer.split_once('.').map_or("", |(model, _)| model)
    }
}

/// The model itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModelSummary {
    /// The model's name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `caas` on Kubernetes, `iaas` on machines.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// The model's Juju release.
    #[serde(deserialize_with = "null_as_default")]
    pub version: String,
    /// `available`, or what keeps it busy.
    pub model_status: DetailedStatus,
}

/// The model at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FullStatus {
    /// The model itself.
    pub model: ModelSummary,
    /// When, on the controller's clock: what a `since` is compared with.
    pub controller_timestamp: Time,
    /// The applications, by name.
    #[serde(deserialize_with = "null_as_default")]
    pub applications: BTreeMap<String, ApplicationStatus>,
    /// The relations, in no lasting order.
    #[serde(deserialize_with = "null_as_default")]
    pub relations: Vec<RelationStatus>,
    /// Applications of other models, by their name here.
    #[serde(deserialize_with = "null_as_default")]
    pub remote_applications: BTreeMap<String, RemoteApplicationStatus>,
}

impl Session {
    /// Reads the model.
    ///
    /// # Errors
    /// As every call.
    pub async fn full_status(&self) -> Result<FullStatus> {
        // Filtering by the controller left in 4.0.0 and came back later: never asked for.
        let params = json!({"patterns": [], "include-storage": false});
        self.call("Client", "FullStatus", &params, "read the model's status").await
    }
}
