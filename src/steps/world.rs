//! The two sides: where they are and who we are there. Passed to the worker through a pipe.

use crate::postgres::{Result, Server, Session, others};
use serde::{Deserialize, Serialize};

/// Both database servers and the three databases that matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The cluster we leave.
    pub source: Server,
    /// The cluster we go to.
    pub target: Server,
    /// The identity app's database on the source.
    pub source_database: String,
    /// The identity app's database on the target.
    pub target_database: String,
    /// The coordinator's own database on the target cluster: the journal's place.
    pub journal_database: String,
}

impl World {
    /// A session in the identity app's database on the source.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub async fn source(&self, purpose: &str) -> Result<Session> {
        self.source.connect(&self.source_database, purpose).await
    }

    /// A session in the identity app's database on the target.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub async fn target(&self, purpose: &str) -> Result<Session> {
        self.target.connect(&self.target_database, purpose).await
    }
}

/// Puts a worker that does not move out of its sessions on both sides.
///
/// # Errors
/// The servers'.
pub async fn end_other_workers(world: &World) -> Result<()> {
    others::end_workers(&world.source("take over").await?, &[&world.source_database]).await?;
    others::end_workers(&world.target("take over").await?, &[&world.target_database, &world.journal_database]).await
}

/// What the relations tell of the two identity applications. Holds no secret; kept beside the journal
/// so that a change reaches a running worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Applications {
    /// The application we leave.
    pub source: Application,
    /// The application we go to.
    pub target: Application,
    /// Our own application's name, for the commands we print.
    pub coordinator: String,
}

/// One identity application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Application {
    /// The Juju application's name.
    pub name: String,
    /// Its model's name when it is another than ours; commands then carry `-m`.
    pub model: Option<String>,
    /// The admin API's URL; empty while the relation gives none.
    pub admin_endpoint: String,
    /// The public API's URL; empty while the relation gives none.
    pub public_endpoint: String,
    /// Its database's name; empty while it cannot be told.
    pub database: String,
}

impl Application {
    /// The `-m model ` part of a command about this application.
    pub fn model_flag(&self) -> String {
        self.model.as_ref().map(|model| format!("-m {model} ")).unwrap_or_default()
    }
}
