//! Preflight: every check there is, before anything is touched. Facts are gathered from both sides
//! at once; each check is then a small pure function over them, all listed in one table
//! ([`checks::CHECKS`]).

mod application;
mod budget;
pub mod checks;
mod cluster;
pub mod contents;
mod data;
mod database;
mod entry;
pub mod finding;
mod judgement;
mod likeness;
pub mod order;
mod others;
mod schema;
mod settings;
mod sides;
mod typed;
mod wal;

pub use finding::{Finding, Verdict, failed, report, summary, warned};
pub use order::{ChosenOrder, choose};
pub use typed::{End, Ends};

use crate::apps::{self, App, Health, Readable, Recognised};
use crate::migration::Settings;
use crate::postgres::Server;
use crate::postgres::names::PREFIX;
use crate::postgres::reach::reach;
use crate::postgres::survey::{Survey, survey_session};
use contents::Contents;

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
    /// The operator's settings.
    pub settings: Settings,
    /// The run that is under way, if any: then its own traces are no leftovers.
    pub run: Option<String>,
    /// Our application's name, for commands.
    pub coordinator: String,
    /// The target application's name with its `-m model ` flag before it, for commands.
    pub target_application: String,
    /// Who is at the other ends of our relations, for commands.
    pub ends: Ends,
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
    /// Ids of the identity schemas the server is configured with; `None` when it did not say.
    pub schema_ids: Option<Vec<String>>,
    /// Whether the server reads one of its identities; `None` when there is none or nobody answers.
    pub readable: Option<Readable>,
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
        choose(self.look.app, self.look.settings.order, self.source.release(), self.target.running())
    }

    /// Seconds that the app's own schema migration should be given.
    pub fn migration_seconds(&self) -> u64 {
        let (app, survey) = (self.look.app, &self.source.survey);
        let from = self.source.release().unwrap_or_default();
        let to = self.order().ok().and_then(|chosen| chosen.pair).map(|pair| pair.to);
        let to = to.or(self.target.running().filter(|to| *to != from)).unwrap_or_default();
        app.migration_seconds(from, to, |table| survey.estimated_rows(table), survey.all_estimated_rows())
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
    let (source, target, forward, backward) = tokio::join!(
        side(look.app, "source", &look.source, &look.source_database, look.source_app.as_ref()),
        side(look.app, "target", &look.target, &look.target_database, look.target_app.as_ref()),
        reaches(&look.target, &look.target_database, &look.source, &look.source_database),
        reaches(&look.source, &look.source_database, &look.target, &look.target_database),
    );
    match (source, target) {
        (Ok(source), Ok(target)) => Ok(Facts { look, source, target, forward, backward }),
        (source, target) => Err([source.err(), target.err()].into_iter().flatten().collect()),
    }
}

/// One side: database and server at the same time, then the question that needs both.
async fn side(
    app: &App,
    name: &'static str,
    server: &Server,
    database: &str,
    app_server: Option<&apps::Server>,
) -> Result<Side, Finding> {
    let (database, answers) = tokio::join!(
        async {
            let session = entry::enter(name, server, database).await?;
            let looked = async {
                let survey = survey_session(&session).await?;
                let contents = contents::contents(&session, app, &survey).await?;
                Ok((survey, contents))
            };
            looked.await.map_err(|error| entry::finding(name, server, database, &error))
        },
        async {
            let app_server = app_server?;
            let (health, schemas) = tokio::join!(app_server.health(), app_server.schemas());
            Some((health, schemas.ok()))
        },
    );
    let (survey, contents): (Survey, Contents) = database?;
    let (health, schema_ids) = answers.map_or((None, None), |(health, schemas)| (Some(health), schemas));
    let readable = match (app_server, &contents.some_identity, &health) {
        (Some(app_server), Some(id), Some(Health::Ready { .. })) => app_server.identity(id).await.ok(),
        _ => None,
    };
    let schema = app.recognise(&contents.migrations);
    Ok(Side { survey, contents, schema, health, schema_ids, readable })
}

/// Tries the connection that a subscription on `from` will make to `to`.
async fn reaches(from: &Server, database: &str, to: &Server, to_database: &str) -> Result<(), String> {
    let conninfo = to.conninfo(to_database, PREFIX);
    reach(from, database, &conninfo, &to.address()).await.map_err(|error| error.to_string())
}
