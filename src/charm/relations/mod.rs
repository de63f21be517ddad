//! What the relations say, gathered once per run, and what is to be written to them.

pub mod kratos_info;
pub mod postgresql_client;

pub use kratos_info::{Consumer, KratosInfo, broker_writes};
pub use postgresql_client::DatabaseRelation;

use super::event::Context;
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

    /// The `kratos_info` endpoint of this side.
    pub fn kratos_endpoint(self) -> &'static str {
        match self {
            Self::Source => "source-kratos",
            Self::Target => "target-kratos",
        }
    }
}

/// The endpoint on which consumers take Kratos' address from us.
pub const CONSUMERS_ENDPOINT: &str = "kratos-info";

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
    /// Both Kratos endpoints lead to one application.
    #[error(
        "cannot migrate: source-kratos and target-kratos both lead to {0}; \
         remove one of the two relations and relate that endpoint to the other Kratos"
    )]
    OneKratos(String),
}

/// What all relations say in this run.
#[derive(Clone, Debug)]
pub struct RelationsFacts {
    /// The PostgreSQL that we leave.
    pub source_database: Access<DatabaseRelation>,
    /// The PostgreSQL that we go to.
    pub target_database: Access<DatabaseRelation>,
    /// The Kratos that we leave.
    pub source_kratos: Access<KratosInfo>,
    /// The Kratos that we go to.
    pub target_kratos: Access<KratosInfo>,
    /// Who takes Kratos' address from us, and what we told them; read on the leader only.
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
        let source_kratos_end = reader.end(Side::Source.kratos_endpoint())?;
        let target_kratos_end = reader.end(Side::Target.kratos_endpoint())?;
        let mistake = one_kratos(source_kratos_end.as_ref(), target_kratos_end.as_ref())
            .or_else(|| one_cluster(source.as_ref(), target.as_ref(), &source_database, &target_database));
        Ok(Self {
            source_database,
            target_database,
            source_kratos: kratos_info::read(&reader, source_kratos_end)?,
            target_kratos: kratos_info::read(&reader, target_kratos_end)?,
            consumers: kratos_info::consumers(&reader)?,
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

    /// The Kratos of a side.
    pub fn kratos(&self, side: Side) -> &Access<KratosInfo> {
        match side {
            Side::Source => &self.source_kratos,
            Side::Target => &self.target_kratos,
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

fn one_kratos(source: Option<&End>, target: Option<&End>) -> Option<Mistake> {
    let (source, target) = (source?, target?);
    (source.application == target.application).then(|| Mistake::OneKratos(source.application.clone()))
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
