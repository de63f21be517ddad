//! Everything that it takes to come into one model.

use super::dial::{Controller, Timing};
use super::error::Result;
use super::login::{Credentials, Session};
use crate::password::Password;
use serde::{Deserialize, Serialize};

/// Where a model's controller is, whom to believe that it is the controller, and who we are there: from the unit's own
/// surroundings and the operator's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelLogin {
    /// `host:port` of each API server.
    pub addresses: Vec<String>,
    /// The controller's CA certificate, PEM.
    pub ca: String,
    /// The model's UUID.
    pub model_uuid: String,
    /// The Juju user's name.
    pub username: String,
    /// The Juju user's password.
    pub password: Password,
}

impl ModelLogin {
    /// Logs in, with access to change the model.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open(&self, timing: Timing) -> Result<Session> {
        let controller = Controller { addresses: self.addresses.clone(), ca: self.ca.clone() };
        let credentials = Credentials { username: self.username.clone(), password: self.password.clone() };
        Session::open(&controller, &credentials, &self.model_uuid, timing).await
    }
}
