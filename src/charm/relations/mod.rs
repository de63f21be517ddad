//! What the relations say, gathered once per run, and what is to be written to them.

pub mod identity;
pub mod postgresql_client;

pub use identity::{Consumer, Identity, broker_writes};
pub use postgresql_client::DatabaseRelation;

use super::event::Context;
use crate::apps::{APPS, App};
use crate::juju::{HookToolError, HookTools, Kind, RelationWrite};
use std::collections::BTreeMap;

/// Which end of the migration something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one we leave.
    Source,
    /// The one we go to.
    Target,
}

impl Side {
    /// The word in endpoints and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// The `postgresql_client` endpoint of this side.
    pub fn database_endpoint(self) -> &'static str {
        match self {
            Self::Source => "source-database",
            Self::Target => "target-database",
        }
    }

    /// The endpoint of this side for an identity app, such as `source-kratos`.
    pub fn endpoint_for(self, app: &App) -> String {
        format!("{}-{}", self.name(), app.name)
    }
}

/// How far a relation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access<T> {
    /// There is no such relation.
    NoRelation,
    /// It exists and lacks something.
    Waiting(Waiting),
    /// Everything is there.
    Ready(T),
}

impl<T> Access<T> {
    /// What it brings, once it does.
    pub fn ready(&self) -> Option<&T> {
        match self {
            Self::Ready(value) => Some(value),
            _ => None,
        }
    }
}

/// What a relation still lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The relation, `<endpoint>:<number>`.
    pub relation_id: String,
    /// The application at the other end, as this model calls it.
    pub application: Option<String>,
    /// What is lacking, as in "cannot …: <found>".
    pub found: String,
    /// What to do about it.
    pub cure: String,
    /// The commands of the cure, to be typed one by one in this order; none where nothing can be typed as it is.
    pub commands: Vec<String>,
    /// True when a person must act; false when it should come by itself.
    pub person: bool,
}

/// Relations that cannot be meant so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Both database endpoints lead to one cluster.
    #[error(
        "cannot migrate: source-database and target-database both lead to {0}; \
         remove one of the two relations and relate that endpoint to the other cluster"
    )]
    OneCluster(String),
    /// Both endpoints of an identity app lead to one application.
    #[error(
        "cannot migrate: source-{name} and target-{name} both lead to {application}; \
         remove one of the two relations and relate that endpoint to the other {title}",
        name = .app.name,
        title = .app.title
    )]
    OneApplication {
        /// The identity app.
        app: &'static App,
        /// The application.
        application: String,
    },
    /// Kratos and Hydra are related, and one of them is all that one application of this charm moves.
    #[error(
        "cannot migrate: {endpoint} and {other} are both related; one application of this charm moves one identity app: \
         remove one of the two relations, and deploy this charm once more for the other app"
    )]
    TwoApps {
        /// An endpoint that is related.
        endpoint: String,
        /// Another one, of another app.
        other: String,
    },
}

/// What all relations say in this run.
#[derive(Clone, Debug)]
pub struct RelationsFacts {
    /// The PostgreSQL that we leave.
    pub source_database: Access<DatabaseRelation>,
    /// The PostgreSQL that we go to.
    pub target_database: Access<DatabaseRelation>,
    /// The identity app, told by what is related; `None` while neither of its applications is.
    pub app: Option<&'static App>,
    /// The identity application that we leave.
    pub source_identity: Access<Identity>,
    /// The identity application that we go to.
    pub target_identity: Access<Identity>,
    /// Who takes the identity app's address from us, and what we told them; read on the leader only.
    pub consumers: Vec<Consumer>,
    /// What the leader still has to ask the databases for.
    pub requests: Vec<RelationWrite>,
    /// Relations that cannot be meant so.
    pub mistake: Option<Mistake>,
}

impl RelationsFacts {
    /// Reads all relations with as few hook tools as possible. A relation that goes away
    /// meanwhile counts as absent, a secret that is not granted yet as waiting.
    ///
    /// # Errors
    /// When a hook tool fails in a way that says nothing about the relation.
    pub fn gather(tools: &HookTools, context: &Context, leader: bool) -> Result<Self, HookToolError> {
        let reader = Reader { tools, context, leader };
        let mut requests = Vec::new();
        let source = reader.end(Side::Source.database_endpoint())?;
        let target = reader.end(Side::Target.database_endpoint())?;
        let source_database = postgresql_client::read(&reader, source.as_ref(), &mut requests)?;
        let target_database = postgresql_client::read(&reader, target.as_ref(), &mut requests)?;
        let mut related = Vec::new();
        for app in APPS {
            let ends = [reader.end(&Side::Source.endpoint_for(app))?, reader.end(&Side::Target.endpoint_for(app))?];
            if ends.iter().any(Option::is_some) {
                related.push((*app, ends));
            }
        }
        let mistake = two_apps(&related)
            .or_else(|| one_application(&related))
            .or_else(|| one_cluster(source.as_ref(), target.as_ref(), &source_database, &target_database));
        // Of two apps nobody can say which is meant.
        let (app, [source_end, target_end]) = match related.pop() {
            Some((app, ends)) if related.is_empty() => (Some(app), ends),
            _ => (None, [None, None]),
        };
        Ok(Self {
            source_database,
            target_database,
            app,
            source_identity: identity::read(&reader, app, source_end)?,
            target_identity: identity::read(&reader, app, target_end)?,
            consumers: identity::consumers(&reader, app)?,
            requests,
            mistake,
        })
    }

    /// The PostgreSQL of a side.
    pub fn database(&self, side: Side) -> &Access<DatabaseRelation> {
        match side {
            Side::Source => &self.source_database,
            Side::Target => &self.target_database,
        }
    }

    /// The database relations that brought everything.
    pub fn database_relations(&self) -> Vec<String> {
        let both = [&self.source_database, &self.target_database];
        both.into_iter().filter_map(Access::ready).map(|database| database.relation_id.clone()).collect()
    }

    /// The identity application of a side.
    pub fn identity(&self, side: Side) -> &Access<Identity> {
        match side {
            Side::Source => &self.source_identity,
            Side::Target => &self.target_identity,
        }
    }
}

/// Writes to our own application databags; a relation that went away meanwhile needs nothing.
///
/// # Errors
/// [`Kind::NotLeader`] when leadership was lost since it was asked for: leave the rest to the new leader.
pub fn write_all(tools: &HookTools, writes: &[RelationWrite]) -> Result<(), HookToolError> {
    writes.iter().try_for_each(|write| unless_gone(tools.write_application_bag(write)).map(drop))
}

/// The other end of a relation.
struct End {
    relation_id: String,
    /// As this model calls it; unique in the model, other models' applications included.
    application: String,
    /// Its application databag.
    bag: BTreeMap<String, String>,
}

struct Reader<'a> {
    tools: &'a HookTools,
    context: &'a Context,
    leader: bool,
}

impl Reader<'_> {
    /// The relations of an endpoint without the one that is breaking in this hook.
    fn ids(&self, endpoint: &str) -> Result<Vec<String>, HookToolError> {
        let mut ids = self.tools.relation_ids(endpoint)?;
        ids.retain(|id| self.context.breaking() != Some(id));
        Ok(ids)
    }

    /// The one relation of an endpoint with limit 1. While it is replaced there may be two for a
    /// moment: the newer counts.
    fn end(&self, endpoint: &str) -> Result<Option<End>, HookToolError> {
        let number = |id: &String| id.rsplit(':').next().and_then(|text| text.parse::<u64>().ok());
        let Some(relation_id) = self.ids(endpoint)?.into_iter().max_by_key(number) else { return Ok(None) };
        let Some(Some(application)) = unless_gone(self.tools.remote_application(&relation_id))? else {
            return Ok(None);
        };
        let Some(bag) = unless_gone(self.tools.application_bag(&relation_id, &application))? else { return Ok(None) };
        Ok(Some(End { relation_id, application, bag }))
    }

    /// The UUID of the model at the other end, when it is another than ours. Early 3.6 agents lack the tool that tells;
    /// there we take it for ours.
    fn other_model(&self, relation_id: &str) -> Option<String> {
        self.tools.remote_model(relation_id).ok().filter(|uuid| *uuid != self.context.model_uuid)
    }

    /// What we have written to a relation ourselves; only the leader may ask.
    fn own_bag(&self, relation_id: &str) -> Result<Option<BTreeMap<String, String>>, HookToolError> {
        unless_gone(self.tools.application_bag(relation_id, &self.context.application))
    }
}

/// `None` when the relation went away.
pub(super) fn unless_gone<T>(result: Result<T, HookToolError>) -> Result<Option<T>, HookToolError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind, Kind::RelationGone | Kind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each identity app of which something is related, with the ends of its source and its target.
type Related = [(&'static App, [Option<End>; 2])];

fn two_apps(related: &Related) -> Option<Mistake> {
    let mut ends = related.iter().filter_map(|(_, ends)| ends.iter().flatten().next());
    let endpoint = |end: &End| end.relation_id.split(':').next().unwrap_or_default().to_owned();
    let (one, other) = (ends.next()?, ends.next()?);
    Some(Mistake::TwoApps { endpoint: endpoint(one), other: endpoint(other) })
}

fn one_application(related: &Related) -> Option<Mistake> {
    related.iter().find_map(|(app, [source, target])| {
        let (source, target) = (source.as_ref()?, target.as_ref()?);
        let application = source.application.clone();
        (source.application == target.application).then_some(Mistake::OneApplication { app, application })
    })
}

fn one_cluster(
    source_end: Option<&End>,
    target_end: Option<&End>,
    source: &Access<DatabaseRelation>,
    target: &Access<DatabaseRelation>,
) -> Option<Mistake> {
    let (source_end, target_end) = (source_end?, target_end?);
    if source_end.application == target_end.application {
        return Some(Mistake::OneCluster(source_end.application.clone()));
    }
    let (source, target) = (source.ready()?, target.ready()?);
    let same = (&source.server.host, source.server.port) == (&target.server.host, target.server.port);
    same.then(|| Mistake::OneCluster(source.server.address()))
}

#[cfg(test)]
mod tests;
