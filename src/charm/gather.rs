//! Everything one run looks at, read once: options, leadership, relations, and what follows from them.

use super::config::{BadOption, Config};
use super::event::Context;
use super::relations::{Access, RelationsFacts, Side};
use crate::juju::{HookToolError, HookTools};
use crate::steps::{Application, Applications, World};

/// What Juju says in this run.
pub struct Gathered {
    /// Whether this unit leads.
    pub leader: bool,
    /// The options, or the one that cannot be used.
    pub config: Result<Config, BadOption>,
    /// The relations.
    pub relations: RelationsFacts,
    /// Both sides, or what they lack.
    pub world: Result<World, Lacking>,
    /// What the relations tell of the applications.
    pub applications: Applications,
}

/// What a migration lacks before anything can be asked of the databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// `cannot …: …; …`.
    pub sentence: String,
    /// True when a person must act.
    pub person: bool,
}

impl Gathered {
    /// Asks Juju.
    ///
    /// # Errors
    /// When a hook tool fails in a way that says nothing about the model.
    pub fn new(tools: &HookTools, context: &Context) -> Result<Self, HookToolError> {
        let config = Config::from_options(&tools.config()?);
        let leader = tools.is_leader()?;
        let relations = RelationsFacts::gather(tools, context, leader)?;
        let applications = applications(context, config.as_ref().ok(), &relations);
        let world = world(context, config.as_ref(), &relations);
        Ok(Self { leader, config, relations, world, applications })
    }
}

fn applications(context: &Context, config: Option<&Config>, relations: &RelationsFacts) -> Applications {
    let one = |side: Side| {
        let Some(info) = relations.kratos(side).ready() else { return Application::default() };
        let option = config.and_then(|config| named(config, side).0);
        let names = info.names(side, option, None).ok();
        Application {
            name: names.as_ref().map_or_else(|| info.application.clone(), |names| names.application.clone()),
            model: names.filter(|names| names.model != context.model_name).map(|names| names.model),
            admin_endpoint: info.admin_endpoint().to_owned(),
            public_endpoint: info.public_endpoint().to_owned(),
        }
    };
    Applications { source: one(Side::Source), target: one(Side::Target), coordinator: context.application.clone() }
}

/// The application's and the database's name from config, where they are set.
fn named(config: &Config, side: Side) -> (Option<&str>, Option<&str>) {
    match side {
        Side::Source => (config.source_application.as_deref(), config.source_database_name.as_deref()),
        Side::Target => (config.target_application.as_deref(), config.target_database_name.as_deref()),
    }
}

fn world(context: &Context, config: Result<&Config, &BadOption>, relations: &RelationsFacts) -> Result<World, Lacking> {
    let person = |sentence: String| Lacking { sentence, person: true };
    let config = config.map_err(|bad| person(bad.to_string()))?;
    if let Some(mistake) = &relations.mistake {
        return Err(person(mistake.to_string()));
    }
    let source = ready(context, &relations.source_database, Side::Source.database_endpoint())?;
    let target = ready(context, &relations.target_database, Side::Target.database_endpoint())?;
    let database = |side: Side| -> Result<String, Lacking> {
        let (application, database) = named(config, side);
        let access = relations.kratos(side);
        let info = match (ready(context, access, side.kratos_endpoint()), database) {
            (Ok(info), _) => info,
            (Err(_), Some(name)) => return Ok(name.to_owned()),
            (Err(lacking), None) => return Err(lacking),
        };
        // Commands about the application need its name even where the database's is given.
        let names = info.names(side, application, database).map_err(|unnamed| person(unnamed.to_string()))?;
        Ok(names.database)
    };
    Ok(World {
        source_database: database(Side::Source)?,
        target_database: database(Side::Target)?,
        source: source.server.clone(),
        target: target.server.clone(),
        journal_database: target.database.clone(),
    })
}

/// What a relation brings, or what it lacks as a sentence.
fn ready<'a, T>(context: &Context, access: &'a Access<T>, endpoint: &str) -> Result<&'a T, Lacking> {
    match access {
        Access::Ready(value) => Ok(value),
        Access::NoRelation => Err(Lacking {
            sentence: format!(
                "cannot begin: nothing is related to {endpoint}; run juju integrate {}:{endpoint} <application>",
                context.application
            ),
            person: true,
        }),
        Access::Waiting(waiting) => Err(Lacking {
            sentence: format!("cannot use {endpoint}: {}; {}", waiting.found, waiting.cure),
            person: waiting.person,
        }),
    }
}
