//! The two sides: where they are and who we are there. Passed to the worker through a pipe.

use crate::apps::App;
use crate::migration::Side;
use crate::postgres::{Result, Server, Session, others};
use serde::{Deserialize, Serialize};

/// Both database servers and the three databases that matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The identity app that moves.
    pub app: &'static App,
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

impl World {
    /// True where only one side is related, for an upgrade in place: it is the source and the target.
    pub fn is_in_place(&self) -> bool {
        self.source == self.target && self.source_database == self.target_database
    }

    /// The sentence with a server's address told as which side it is.
    pub fn with_side(&self, sentence: &str) -> String {
        let sided = with_side(sentence, &self.source.address(), "source");
        if self.is_in_place() {
            return sided;
        }
        with_side(&sided, &self.target.address(), "target")
    }
}

/// The sentence with the side's name behind the first mention of its address.
pub fn with_side(sentence: &str, address: &str, side: &str) -> String {
    let mention = sentence.match_indices(address).find(|(at, _)| {
        // A port that only begins like this one is another.
        !sentence[at + address.len()..].starts_with(|next: char| next.is_ascii_digit())
    });
    match mention {
        Some((at, _)) => {
            let (before, after) = sentence.split_at(at + address.len());
            format!("{before} (the {side}){after}")
        }
        None => sentence.to_owned(),
    }
}

/// Puts a worker that does not move out of its sessions on both sides.
///
/// # Errors
/// The servers'.
pub async fn end_other_workers(world: &World) -> Result<()> {
    if world.is_in_place() {
        // Another coordinator may move this database elsewhere.
        return others::end_workers(&world.target("take over").await?, &[&world.journal_database]).await;
    }
    others::end_workers(&world.source("take over").await?, &[&world.source_database]).await?;
    others::end_workers(&world.target("take over").await?, &[&world.target_database, &world.journal_database]).await
}

/// What the relations tell of the two identity applications. Holds no secret; kept beside the journal
/// so that a change reaches a running worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Applications {
    /// The identity app that both are.
    pub app: &'static App,
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
    /// What our model calls it, which differs where it lives in another; empty where it has no name here.
    pub called: String,
    /// Its model's name when it is another than ours; commands then carry `-m`.
    pub model: Option<String>,
    /// The admin API's URL; empty while the relation gives none.
    pub admin_endpoint: String,
    /// The public API's URL; empty while the relation gives none.
    pub public_endpoint: String,
    /// Its database's name; empty while it cannot be told.
    pub database: String,
    /// The PostgreSQL application on whose cluster it is, as our model calls it; empty while that cannot be told.
    pub postgresql: String,
    /// The UUID of that one's model when it is another than ours; `-m` takes it, too.
    pub postgresql_model: Option<String>,
}

impl Application {
    /// The `-m model ` part of a command about this application.
    pub fn model_flag(&self) -> String {
        self.model.as_ref().map(|model| format!("-m {model} ")).unwrap_or_default()
    }

    /// What is typed so that our model knows one of another model by a name, and that name; `None` where neither its own
    /// name nor its model's is known.
    pub fn introduced(&self, endpoint: &str, side: Side) -> Option<([String; 2], String)> {
        let (name, model) = (&self.name, self.model.as_ref().filter(|_| !self.name.is_empty())?);
        let alias = format!("{name}-{}", side.name());
        let offer = format!("juju offer {model}.{name}:{endpoint}");
        Some(([offer, format!("juju consume {model}.{name} {alias}")], alias))
    }
}

#[cfg(test)]
mod tests {
    use super::with_side;

    #[test]
    fn the_side_is_told_behind_its_address() {
        let told = with_side("cannot connect to 10.0.0.1:54321 or 10.0.0.1:5432: closed", "10.0.0.1:5432", "source");
        assert_eq!(told, "cannot connect to 10.0.0.1:54321 or 10.0.0.1:5432 (the source): closed");
        assert_eq!(with_side("cannot go on", "10.0.0.1:5432", "source"), "cannot go on");
    }
}
