//! One application: its config, its leader, the switch to another charm.

use super::charm::{Base, CharmOrigin};
use super::error::{Code, ErrorDetail, Result};
use super::login::Session;
use super::wire::{application_tag, null_as_default};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A config option of an application, with its value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConfigOption {
    /// The value; `null` where there is none.
    pub value: Value,
    /// `default`, `user` or `unset`.
    #[serde(deserialize_with = "null_as_default")]
    pub source: String,
    /// string, int, float, boolean or secret.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
}

/// What an application is configured to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ApplicationConfig {
    /// The charm's name, without revision.
    #[serde(deserialize_with = "null_as_default")]
    pub charm: String,
    /// The channel; empty for a local charm.
    #[serde(deserialize_with = "null_as_default")]
    pub channel: String,
    /// What it runs on.
    #[serde(deserialize_with = "null_as_default")]
    pub base: Base,
    /// Its options, by name.
    #[serde(deserialize_with = "null_as_default")]
    pub config: BTreeMap<String, ConfigOption>,
}

/// The switch of an application to another charm: what `juju refresh` ends with. Nothing is ever forced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetCharm {
    /// The application.
    pub application: String,
    /// The charm's URL, with the revision.
    pub charm_url: String,
    /// As `AddCharm` answered it, or [`CharmOrigin::uploaded`].
    pub charm_origin: CharmOrigin,
    /// The risk; both releases read the origin instead.
    pub channel: String,
    /// What `AddPendingResources` answered, by name. 3.6 takes them with the charm; on 4.0 they are in use since they
    /// were added, and this is ignored.
    pub resource_ids: BTreeMap<String, String>,
    /// Needed on 4.0 when the base changes: the operator's own wish.
    pub force_base: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default, deserialize_with = "null_as_default")]
    results: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    error: Option<ErrorDetail>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LeaderReply {
    #[serde(deserialize_with = "null_as_default")]
    result: String,
    error: Option<ErrorDetail>,
}

impl Session {
    /// An application's charm and options. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn application(&self, application: &str) -> Result<ApplicationConfig> {
        let params = json!({"application": application, "branch": ""});
        self.call("Application", "Get", &params, &format!("read the options of {application}")).await
    }

    /// The unit that leads, `kratos/0`; `None` while nobody does. Needs access `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn leader(&self, application: &str) -> Result<Option<String>> {
        let doing = format!("find the leader of {application}");
        let params = json!({"tag": application_tag(application)});
        let reply: LeaderReply = self.call("Application", "Leader", &params, &doing).await?;
        match reply.error {
            Some(error) if error.code() == Code::NotFound => Ok(None),
            Some(error) => Err(error.refused(&doing)),
            None => Ok(Some(reply.result).filter(|unit| !unit.is_empty())),
        }
    }

    /// Sets options; values are texts, as on the command line. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_config(&self, application: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let doing = format!("set options of {application}");
        let params = json!({"Args": [{
            "application": application,
            "generation": "",
            "config": options,
            "config-yaml": "",
        }]});
        let reply: Results = self.call("Application", "SetConfigs", &params, &doing).await?;
        match reply.results.into_iter().find_map(|result| result.error) {
            Some(error) => Err(error.refused(&doing)),
            None => Ok(()),
        }
    }

    /// Switches an application to another charm; its units follow one after the other. The same charm again is taken,
    /// and runs no hook. Config never goes along: 4.0 would silently leave it out. Needs access `write`.
    ///
    /// # Errors
    /// As every call; a refusal means that the plan does not fit, but for blocks and busy models.
    pub async fn set_charm(&self, switch: &SetCharm) -> Result<()> {
        let doing = format!("refresh {} to {}", switch.application, switch.charm_url);
        let mut params = serde_json::to_value(switch).unwrap_or_default();
        params["generation"] = json!("");
        params["force"] = json!(false);
        params["force-units"] = json!(false);
        self.call::<_, Value>("Application", "SetCharm", &params, &doing).await.map(drop)
    }
}
