//! Relations: made and removed. Both calls only mark; whether it is done is seen in the model's status.

use super::error::{Code, Error, Result};
use super::login::Session;
use super::wire::null_as_default;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An endpoint of a new relation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RelationEndpoint {
    /// The endpoint's name.
    #[serde(deserialize_with = "null_as_default")]
    pub name: String,
    /// `provider`, `requirer` or `peer`.
    #[serde(deserialize_with = "null_as_default")]
    pub role: String,
    /// The interface.
    #[serde(deserialize_with = "null_as_default")]
    pub interface: String,
    /// How many relations it takes; 0 is any number.
    #[serde(deserialize_with = "null_as_default")]
    pub limit: u32,
}

/// What became of a wish to integrate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrated {
    /// The relation was made: its endpoint by application.
    Made(BTreeMap<String, RelationEndpoint>),
    /// It was there. On 4.0 the controller says so of a relation that is going, too: look at it, and for how long.
    WasThere,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Added {
    #[serde(deserialize_with = "null_as_default")]
    endpoints: BTreeMap<String, RelationEndpoint>,
}

impl Session {
    /// Integrates two endpoints, each `<application>:<endpoint>`. Needs access `write`.
    ///
    /// # Errors
    /// As every call; [`Code::Dying`] where the controller says that the old relation is still going.
    pub async fn add_relation(&self, one: &str, other: &str) -> Result<Integrated> {
        let doing = format!("integrate {one} with {other}");
        let params = json!({"endpoints": [one, other]});
        match self.call::<_, Added>("Application", "AddRelation", &params, &doing).await {
            Ok(added) => Ok(Integrated::Made(added.endpoints)),
            Err(error) if error.code() == Some(Code::AlreadyExists) => Ok(Integrated::WasThere),
            Err(error) => Err(error),
        }
    }

    /// Asks for the removal of the relation between two endpoints, each `<application>:<endpoint>`. Success also when
    /// it is going, or gone. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn destroy_relation(&self, one: &str, other: &str) -> Result<()> {
        let params = json!({"endpoints": [one, other], "relation-id": 0});
        self.destroy(&params, &format!("remove the relation of {one} with {other}")).await
    }

    /// Asks for the removal of a relation by its number: no other relation can be meant. Success also when it is
    /// going, or gone. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn destroy_relation_by_id(&self, id: i64) -> Result<()> {
        let params = json!({"endpoints": [], "relation-id": id});
        self.destroy(&params, &format!("remove relation {id}")).await
    }

    async fn destroy(&self, params: &Value, doing: &str) -> Result<()> {
        match self.call::<_, Value>("Application", "DestroyRelation", params, doing).await {
            Err(error @ Error::Refused { .. }) if error.code() == Some(Code::NotFound) => {
                log::debug!("{error}");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
