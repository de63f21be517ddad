//! Preflight: every check there is, before anything is touched. Facts are gathered from both sides
//! at once; each check is then a small pure function over them, all listed in one table
//! ([`checks::CHECKS`]).

pub mod adoption;
mod application;
pub mod behaviour;
mod budget;
pub mod checks;
mod cluster;
pub mod contents;
mod data;
mod database;
pub mod documents;
mod entry;
pub mod finding;
mod hydra;
mod judgement;
mod likeness;
pub mod model;
pub mod order;
mod others;
mod patroni;
mod remedy;
mod routes;
mod schema;
mod settings;
mod sides;
mod typed;
mod wal;

pub use finding::{Finding, Verdict, failed, report, summary, warned};
pub use order::{ChosenOrder, choose, keeping};
pub use typed::{End, Ends};

use super::{follow, migrate, way_back};
use crate::apps::{self, App, Cookie, Health, Readable, Recognised, Told};
use crate::migration::{Rehearsed, Settings};
use crate::postgres::patroni::Patroni;
use crate::postgres::reach::reach;
use crate::postgres::survey::{Survey, occupied, survey_session};
use crate::postgres::{Password, Server};
use contents::Contents;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Where to look, and what is wanted.
#[derive(Clone, Debug)]
pub struct Look {
    /// The identity app.
    pub app: &'static App,
    /// The source's server and the app's database there.
    pub source: Server,
    /// Name of the app's database on the source.
    pub source_database: String,
    /// The target's server.
    pub target: Server,
    /// Name of the app's database on the target.
    pub target_database: String,
    /// The source application's server; `None` while its relation gives no address.
    pub source_app: Option<apps::Server>,
    /// The target application's server; `None` while its relation gives no address.
    pub target_app: Option<apps::Server>,
    /// Port of the Patroni beside the source's server.
    pub source_patroni: u16,
    /// Port of the Patroni beside the target's server.
    pub target_patroni: u16,
    /// The operator's settings.
    pub settings: Settings,
    /// The target keeps the source's release.
    pub keep_release: bool,
    /// What the last rehearsal measured.
    pub rehearsed: Option<Rehearsed>,
    /// The run that is under way, if any: then its own traces are no leftovers.
    pub run: Option<String>,
    /// Our application's name, for commands.
    pub coordinator: String,
    /// The target application's name with its `-m model ` flag before it, for commands.
    pub target_application: String,
    /// Who is at the other ends of our relations, for commands.
    pub ends: Ends,
    /// How we come into the model.
    pub controller: super::Credentials,
}

/// One side as it was found.
#[derive(Clone, Debug)]
pub struct Side {
    /// Cluster and database.
    pub survey: Survey,
    /// The app's rows.
    pub contents: Contents,
    /// The release that its schema migrations tell.
    pub schema: Recognised,
    /// The app's server; `None` while its relation gives no address.
    pub health: Option<Health>,
    /// The identity schemas the server is configured with, documents by id; `None` when it did not say.
    pub schemas: Option<BTreeMap<String, Json>>,
    /// Whether the server reads a row of what it keeps; `None` when there is none or nobody answers.
    pub readable: Option<Readable>,
    /// The signing keys that a Hydra publishes; `None` when it would have to make some, or nobody answers.
    pub keys: Option<Told<BTreeSet<String>>>,
    /// The issuer that a Hydra names; `None` when it would have to make a key, or nobody answers.
    pub issuer: Option<Told<String>>,
    /// What a Hydra says that it can do; `None` when it would have to make a key, or nobody answers.
    pub discovery: Option<Json>,
    /// What a Kratos asks browsers to keep; `None` when nobody answers.
    pub cookie: Option<Cookie>,
    /// What the Patroni beside the server says; `None` when nobody answers.
    pub patroni: Option<Patroni>,
}

impl Side {
    /// The release whose schema the database has, when it is exactly one.
    pub fn release(&self) -> Option<&str> {
        match &self.schema {
            Recognised::Release(name) => Some(name),
            _ => None,
        }
    }

    /// The running server's release.
    pub fn running(&self) -> Option<&str> {
        match &self.health {
            Some(Health::Ready { version }) => Some(version),
            _ => None,
        }
    }
}

/// Everything the checks judge.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where it was looked.
    pub look: Look,
    /// The side we leave.
    pub source: Side,
    /// The side we go to.
    pub target: Side,
    /// What the target's identity schemas would do to the source's people.
    pub documents: documents::Looked,
    /// What the model shows.
    pub model: model::Model,
    /// The target's server reaching the source's, as the subscription will.
    pub forward: Result<(), String>,
    /// The source's server reaching the target's, for the way back.
    pub backward: Result<(), String>,
}

impl Facts {
    /// The order that a run would take now.
    ///
    /// # Errors
    /// Why the wanted order is impossible.
    pub fn order(&self) -> Result<ChosenOrder, String> {
        if self.look.keep_release {
            return Ok(keeping(self.look.settings.order));
        }
        choose(self.look.app, self.look.settings.order, self.source.release(), self.target.running())
    }

    /// The release that the target will have, as far as that can be told now.
    pub fn destination(&self) -> Option<&str> {
        if self.look.keep_release {
            return self.source.release();
        }
        let to = self.order().ok().and_then(|chosen| chosen.pair).map(|pair| pair.to);
        let kept = |to: &str| self.source.release().is_some_and(|from| self.look.app.serves(to, from));
        to.or(self.target.running().filter(|to| !kept(to)))
    }

    /// Whether a schema migration of this release lies between source and target; one that may lie there counts.
    pub fn may_pass(&self, release: &str) -> bool {
        let releases = self.look.app.releases();
        let place = |name: &str| releases.iter().position(|known| known.is(name));
        let (Some(from), at) = (self.source.release().and_then(place), place(release)) else { return false };
        Some(from) < at && self.destination().and_then(place).is_none_or(|to| at <= Some(to))
    }

    /// Seconds that the app's own schema migration took in a rehearsal of the same road.
    pub fn measured_seconds(&self) -> Option<f64> {
        self.look.rehearsed.as_ref()?.measured_from(self.source.release()?)
    }

    /// Seconds that the app's own schema migration should be given.
    pub fn migration_seconds(&self) -> u64 {
        let (app, survey) = (self.look.app, &self.source.survey);
        let from = self.source.release().unwrap_or_default();
        let to = self.destination().unwrap_or_default();
        let estimated =
            app.migration_seconds(from, to, |table| survey.estimated_rows(table), survey.all_estimated_rows());
        migrate::granted(self.look.rehearsed.as_ref(), from, self.look.run.as_deref(), estimated)
    }
}

/// Looks and judges; never changes anything. A side that does not answer is itself the finding.
pub async fn preflight(look: Look) -> Vec<Finding> {
    match gather(look).await {
        Ok(facts) => checks::judge(&facts),
        Err(findings) => findings,
    }
}

/// Gathers the facts of both sides at the same time.
///
/// # Errors
/// One finding for each side that cannot be surveyed.
pub async fn gather(look: Look) -> Result<Facts, Vec<Finding>> {
    let (source, target, model, forward, backward) = tokio::join!(
        side(&look, "source"),
        side(&look, "target"),
        model::look(&look),
        reaches(
            (&look.target, &look.target_database),
            follow::conninfo(&look.source, &look.source_database),
            &look.source,
        ),
        reaches(
            (&look.source, &look.source_database),
            way_back::conninfo(&look.target, &look.target_database),
            &look.target,
        ),
    );
    match (source, target) {
        (Ok(source), Ok(target)) => {
            let documents = documents::look(&look, &source, &target).await;
            Ok(Facts { look, source, target, documents, model, forward, backward })
        }
        (source, target) => Err([source.err(), target.err()].into_iter().flatten().collect()),
    }
}

/// One side: database and server at the same time, then the question that needs both.
async fn side(look: &Look, name: &'static str) -> Result<Side, Finding> {
    let (app, is_target) = (look.app, name == "target");
    let (server, database, app_server, port) = match is_target {
        false => (&look.source, &look.source_database, look.source_app.as_ref(), look.source_patroni),
        true => (&look.target, &look.target_database, look.target_app.as_ref(), look.target_patroni),
    };
    let (database, answers, patroni) = tokio::join!(
        async {
            let session = entry::enter(name, server, database).await?;
            let looked = async {
                let mut survey = survey_session(&session).await?;
                if is_target {
                    survey.occupied = occupied(&session, &survey.tables).await?;
                }
                let contents = contents::contents(&session, app, &survey).await?;
                Ok((survey, contents))
            };
            match looked.await {
                Ok(found) => Ok(found),
                Err(error) => Err(entry::hindered(name, server, database, &error).await),
            }
        },
        async {
            let app_server = app_server?;
            Some(tokio::join!(app_server.health(), app_server.schemas(), app_server.cookie()))
        },
        crate::postgres::patroni::look(server, port),
    );
    let (survey, contents): (Survey, Contents) = database?;
    let (health, schemas, cookie) = match answers {
        Some((health, schemas, cookie)) => (Some(health), schemas.ok(), cookie.ok().flatten()),
        None => (None, None, None),
    };
    let answering = app_server.filter(|_| matches!(health, Some(Health::Ready { .. })));
    let readable = match (answering, &contents.some_kept) {
        (Some(app_server), Some(id)) => app_server.readable(id).await.ok(),
        _ => None,
    };
    // A Hydra that lacks keys would make them when it is asked.
    let keys = match answering.filter(|_| contents.signing_keys.are_complete()) {
        Some(app_server) => app_server.keys().await.ok(),
        None => None,
    };
    let (issuer, discovery) = match answering.filter(|_| contents.signing_keys.name_the_issuer()) {
        Some(app_server) => {
            let (issuer, discovery) = tokio::join!(app_server.issuer(), app_server.discovery());
            (issuer.ok(), discovery.ok().and_then(Told::yes))
        }
        None => (None, None),
    };
    let schema = app.recognise(&contents.migrations);
    Ok(Side { survey, contents, schema, health, schemas, readable, keys, issuer, discovery, cookie, patroni })
}

/// Tries the very connection that a subscription in that database of `from` will make to `to`.
async fn reaches(from: (&Server, &str), conninfo: Password, to: &Server) -> Result<(), String> {
    reach(from.0, from.1, &conninfo, &to.address()).await.map_err(|error| error.to_string())
}
