//! Everything one run looks at, read once: options, leadership, relations, and what follows from them.

use super::config::{BadOption, Config};
use super::credentials::Controller;
use super::event::Context;
use super::memory::Memory;
use super::relations::identity::is_anonymous;
use super::relations::{Access, Identity, Mistake, RelationsFacts, Side};
use crate::apps::{App, HYDRA};
use crate::juju::{HookToolError, HookTools};
use crate::postgres::Server;
use crate::steps::{Application, Applications, World};

/// What Juju says in this run.
pub struct Gathered {
    /// Whether this unit leads.
    pub leader: bool,
    /// The options, and those that cannot be used.
    pub config: Config,
    /// The relations.
    pub relations: RelationsFacts,
    /// What the leader remembers without the journal.
    pub memory: Memory,
    /// Where the journal is: that needs nothing but the target's database.
    pub journal: Result<JournalPlace, Lacking>,
    /// Both sides, or what they lack. During a run the databases are those that it began with.
    pub world: Result<World, Lacking>,
    /// How we come into the model, where the operator lets us change it.
    pub controller: Controller,
    /// What the relations tell of the applications, and during a run what they told before.
    pub applications: Applications,
    /// Set while journal and world are those of an upgrade in place: what a migration between two sides lacks.
    pub one_sided: Option<Lacking>,
    /// Set by the actions that an upgrade in place begins with.
    pub begins_in_place: bool,
}

/// The server and the database of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace {
    /// The target's server.
    pub server: Server,
    /// The coordinator's own database there.
    pub database: String,
    /// The PostgreSQL application, as this model calls it.
    pub application: String,
    /// The side that it is on.
    pub side: &'static str,
}

/// What a migration lacks before anything can be asked of the databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// `cannot …: …; …`.
    pub sentence: String,
    /// The commands that cure it, to be typed one by one; `<…>` stands for what only the operator knows.
    pub commands: Vec<String>,
    /// True when a person must act.
    pub person: bool,
}

impl Lacking {
    /// Something that only a person can mend.
    pub fn person(sentence: impl ToString) -> Self {
        Self { sentence: sentence.to_string(), commands: Vec::new(), person: true }
    }

    /// An option that cannot be used; its default always can.
    pub fn option(context: &Context, bad: &BadOption) -> Self {
        let reset = format!("juju config {} --reset {}", context.application, bad.option);
        Self { commands: vec![reset], ..Self::person(bad) }
    }

    /// Something that comes by itself.
    pub fn passing(sentence: impl ToString) -> Self {
        Self { sentence: sentence.to_string(), commands: Vec::new(), person: false }
    }
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
        let memory = if leader { Memory::read(tools, &context.application)? } else { Memory::default() };
        let applications = applications(context, &config, &relations);
        let controller = if leader { Controller::read(tools, context, &config)? } else { Controller::NotGiven };
        let journal = journal(context, &relations);
        let world = world(context, &config, &relations, &applications);
        let (one_sided, begins_in_place) = (None, false);
        Ok(Self {
            leader,
            config,
            relations,
            memory,
            journal,
            world,
            controller,
            applications,
            one_sided,
            begins_in_place,
        })
    }

    /// Takes over what a run that is under way was begun with: its databases stay the same to its end, and a name
    /// that cannot be told any more is still known.
    pub fn keep_to(&mut self, context: &Context, kept: &Applications) {
        let another = self.relations.app.filter(|app| *app != kept.app);
        if self.relations.mistake.is_some() || another.is_some() {
            // What is related now is not what the run is about: nothing of it may reach a step.
            self.applications = Applications { coordinator: context.application.clone(), ..kept.clone() };
        }
        let (source, target) = (&mut self.applications.source, &mut self.applications.target);
        for (now, kept, option) in
            [(source, &kept.source, "source-application"), (target, &kept.target, "target-application")]
        {
            if !kept.database.is_empty() {
                now.database.clone_from(&kept.database);
            }
            if now.name.is_empty() || self.config.bad_among(&[option]).is_some() {
                now.name.clone_from(&kept.name);
                now.model.clone_from(&kept.model);
            }
        }
        self.applications.app = kept.app;
        self.world = match another.filter(|_| self.relations.mistake.is_none()) {
            Some(other) => Err(Lacking::person(format!(
                "cannot go on: the run that is under way moves {0}, but a {1} is related; remove its relation and integrate \
                 the {0} again",
                kept.app.title, other.title
            ))),
            None => match self.journal.clone() {
                Ok(place) if self.one_sided.is_some() => self.one_world(context, &place),
                _ => world(context, &self.config, &self.relations, &self.applications),
            },
        };
    }

    /// Takes this place for the journal, and the source for the only side there is.
    pub fn be_in_place(&mut self, context: &Context, place: JournalPlace) {
        let both = || Lacking::person("cannot begin: an upgrade in place is under way; run show");
        self.one_sided = Some(self.unrelated(context).unwrap_or_else(both));
        self.world = self.one_world(context, &place);
        self.journal = Ok(place);
    }

    /// The world of one side: its application is the one that is gone to as well.
    fn one_world(&mut self, context: &Context, place: &JournalPlace) -> Result<World, Lacking> {
        self.applications.target = self.applications.source.clone();
        if let Some(mistake) = &self.relations.mistake {
            return Err(Lacking::person(mistake));
        }
        let database = match self.applications.source.database.as_str() {
            "" => database(context, &self.config, &self.relations, Side::Source)?,
            name => name.to_owned(),
        };
        Ok(super::in_place::world(place, &self.applications, database))
    }

    /// What an upgrade in place lacks.
    pub fn one_side(&self, context: &Context) -> Option<Lacking> {
        let source = ready(context, &self.relations.source_database, Side::Source.database_endpoint()).err();
        let source = source.or_else(|| self.relations.mistake.as_ref().map(Lacking::person));
        let source = source.or_else(|| identity(context, &self.relations, Side::Source).err());
        source.or_else(|| database(context, &self.config, &self.relations, Side::Source).err())
    }

    /// What a migration lacks: an option or a relation, whether work that was begun needs it or not.
    pub fn lacking(&self, context: &Context) -> Option<Lacking> {
        self.config.bad.first().map(|bad| Lacking::option(context, bad)).or_else(|| self.unrelated(context))
    }

    /// The same without the options.
    pub fn unrelated(&self, context: &Context) -> Option<Lacking> {
        if let Some(lacking) = &self.one_sided {
            return Some(lacking.clone());
        }
        if let Err(lacking) = &self.world {
            return Some(lacking.clone());
        }
        [Side::Source, Side::Target].into_iter().find_map(|side| identity(context, &self.relations, side).err())
    }
}

fn applications(context: &Context, config: &Config, relations: &RelationsFacts) -> Applications {
    let one = |side: Side| {
        let (application, _) = named(config, side);
        let database = database(context, config, relations, side).unwrap_or_default();
        let server = relations.database(side).ready();
        let postgresql = server.map(|found| found.application.clone()).unwrap_or_default();
        let postgresql_model = server.and_then(|found| found.other_model.clone());
        let Some(info) = relations.identity(side).ready() else {
            return Application { database, postgresql, postgresql_model, ..Default::default() };
        };
        let names = info.names(side, application, None).ok();
        Application {
            name: names.as_ref().map_or_else(|| info.application.clone(), |names| names.application.clone()),
            called: if is_anonymous(&info.application) { String::new() } else { info.application.clone() },
            model: names.filter(|names| names.model != context.model_name).map(|names| names.model),
            admin_endpoint: info.admin_endpoint().to_owned(),
            public_endpoint: info.public_endpoint().to_owned(),
            database,
            postgresql,
            postgresql_model,
        }
    };
    let app = relations.app.unwrap_or_default();
    Applications { app, source: one(Side::Source), target: one(Side::Target), coordinator: context.application.clone() }
}

/// The application's and the database's name from config, where they are set.
fn named(config: &Config, side: Side) -> (Option<&str>, Option<&str>) {
    match side {
        Side::Source => (config.source_application.as_deref(), config.source_database_name.as_deref()),
        Side::Target => (config.target_application.as_deref(), config.target_database_name.as_deref()),
    }
}

/// The name of one side's identity database.
fn database(context: &Context, config: &Config, relations: &RelationsFacts, side: Side) -> Result<String, Lacking> {
    let options = match side {
        Side::Source => ["source-application", "source-database-name"],
        Side::Target => ["target-application", "target-database-name"],
    };
    if let Some(bad) = config.bad_among(&options) {
        return Err(Lacking::option(context, bad));
    }
    let (application, database) = named(config, side);
    let info = match (identity(context, relations, side), database) {
        (Ok(info), _) => info,
        (Err(_), Some(name)) => return Ok(name.to_owned()),
        (Err(lacking), None) => return Err(lacking),
    };
    // Commands about the application need its name even where the database's is given.
    let names = info.names(side, application, database);
    Ok(names.map_err(|unnamed| Lacking { commands: vec![unnamed.command()], ..Lacking::person(unnamed) })?.database)
}

fn journal(context: &Context, relations: &RelationsFacts) -> Result<JournalPlace, Lacking> {
    if let Some(mistake @ Mistake::OneCluster(_)) = &relations.mistake {
        return Err(Lacking::person(mistake));
    }
    let target = ready(context, &relations.target_database, Side::Target.database_endpoint())?;
    Ok(JournalPlace {
        server: target.server.clone(),
        database: target.database.clone(),
        application: target.application.clone(),
        side: Side::Target.name(),
    })
}

fn world(
    context: &Context,
    config: &Config,
    relations: &RelationsFacts,
    applications: &Applications,
) -> Result<World, Lacking> {
    if let Some(mistake) = &relations.mistake {
        return Err(Lacking::person(mistake));
    }
    let source = ready(context, &relations.source_database, Side::Source.database_endpoint())?;
    let target = ready(context, &relations.target_database, Side::Target.database_endpoint())?;
    let name = |side: Side, application: &Application| match application.database.as_str() {
        "" => database(context, config, relations, side),
        name => Ok(name.to_owned()),
    };
    Ok(World {
        app: applications.app,
        source_database: name(Side::Source, &applications.source)?,
        target_database: name(Side::Target, &applications.target)?,
        source: source.server.clone(),
        target: target.server.clone(),
        journal_database: target.database.clone(),
    })
}

/// The identity application of a side.
///
/// # Errors
/// What its relation lacks, as a sentence.
pub fn identity<'a>(context: &Context, relations: &'a RelationsFacts, side: Side) -> Result<&'a Identity, Lacking> {
    let endpoint = side.endpoint_for(relations.app.unwrap_or_default());
    let told = match relations.app {
        Some(_) => endpoint.clone(),
        None => format!("{endpoint} or {}", side.endpoint_for(&HYDRA)),
    };
    found(context, relations.identity(side), &endpoint, &told)
}

/// What belongs at an endpoint; which application that is only the operator knows.
fn wanted(endpoint: &str) -> String {
    let (side, what) = endpoint.split_once('-').unwrap_or((endpoint, ""));
    let age = if side == "source" { "old" } else { "new" };
    match App::named(what) {
        Some(app) => format!("<{age} {}>:{}", app.title, app.consumers_endpoint),
        None => format!("<PostgreSQL of the {age} Kratos or Hydra>"),
    }
}

/// What a relation brings.
///
/// # Errors
/// What it lacks, as a sentence.
pub fn ready<'a, T>(context: &Context, access: &'a Access<T>, endpoint: &str) -> Result<&'a T, Lacking> {
    found(context, access, endpoint, endpoint)
}

/// What a relation brings, or what it lacks as a sentence, in which its endpoint may be told beside others.
fn found<'a, T>(context: &Context, access: &'a Access<T>, endpoint: &str, told: &str) -> Result<&'a T, Lacking> {
    match access {
        Access::Ready(value) => Ok(value),
        Access::NoRelation => {
            let command = format!("juju integrate {}:{endpoint} {}", context.application, wanted(endpoint));
            let sentence = format!("cannot begin: nothing is related to {told}; run {command}");
            Err(Lacking { commands: vec![command], ..Lacking::person(sentence) })
        }
        Access::Waiting(waiting) => Err(Lacking {
            sentence: format!("cannot use {endpoint}: {}; {}", waiting.found, waiting.cure),
            commands: waiting.commands.clone(),
            person: waiting.person,
        }),
    }
}
