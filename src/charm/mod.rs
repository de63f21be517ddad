//! The composition root: what Juju calls. Every hook reconciles: gather, plan, act, record, status.
//! Actions write a request into the journal and watch it.

pub mod actions;
pub mod broker;
pub mod config;
pub mod event;
pub mod gather;
pub mod relations;
pub mod show;
pub mod status;
pub mod watch;

use crate::juju::{HookTools, logging};
use crate::migration::{Progress, State};
use crate::steps::Store;
use crate::worker::control::{self, Handover};
use event::{Context, Event};
use gather::Gathered;
use log::LevelFilter;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs as the hook or action that the environment names.
///
/// # Errors
/// Only when a retry by Juju is wanted: the environment is no hook's, or a hook tool failed.
pub fn main() -> anyhow::Result<()> {
    let environment = std::env::vars().collect();
    let context = Context::from_environment(&environment)?;
    let tools = HookTools::new();
    if let Event::Restricted(_) = &context.event {
        return Ok(());
    }
    if matches!(context.event, Event::Stop | Event::Remove) {
        return control::stop(&context.charm_dir);
    }
    let gathered = Gathered::new(&tools, &context)?;
    let level = gathered.config.as_ref().map_or(LevelFilter::Info, |config| config.log_level);
    logging::start_in_hook(tools.clone(), level);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match &context.event {
        Event::Action { name, .. } => runtime.block_on(actions::run(name, &tools, &context, &gathered)),
        _ => runtime.block_on(reconcile(&tools, &context, &gathered)),
    };
    log::logger().flush();
    result
}

/// What every hook does.
///
/// # Errors
/// A hook tool's.
pub async fn reconcile(tools: &HookTools, context: &Context, gathered: &Gathered) -> anyhow::Result<()> {
    if gathered.leader {
        relations::write_all(tools, &gathered.relations.requests)?;
    }
    let journal = match (&gathered.world, gathered.leader) {
        (Ok(_), true) => read_journal(gathered).await,
        _ => Err("the leader reads the journal".to_owned()),
    };
    if let Ok((store, state, _)) = &journal
        && let Some(record) = broker::tell(tools, gathered, state)?
    {
        store.append(&record).await?;
    }
    keep_worker(context, gathered)?;
    set_status(tools, context, gathered, journal.as_ref().map(|(_, state, progress)| (state, progress)))?;
    Ok(())
}

/// Opens the journal, keeps the applications' facts there and reads it.
///
/// # Errors
/// A sentence for the status.
pub async fn read_journal(gathered: &Gathered) -> Result<(Store, State, Progress), String> {
    let world = gathered.world.as_ref().map_err(|lacking| lacking.sentence.clone())?;
    let read = async {
        let store = Store::open(&world.target, &world.journal_database, "charm").await?;
        store.keep_applications(&gathered.applications).await?;
        let state = store.load().await?;
        let progress = store.progress().await?;
        Ok::<_, crate::postgres::Error>((store, state, progress))
    };
    read.await.map_err(|error| format!("{error}; trying again at the next hook"))
}

/// A worker on the leader, as soon as both sides are known; none elsewhere.
fn keep_worker(context: &Context, gathered: &Gathered) -> anyhow::Result<()> {
    if !gathered.leader {
        return control::stop(&context.charm_dir);
    }
    let Ok(world) = &gathered.world else { return Ok(()) };
    let level = gathered.config.as_ref().map_or(LevelFilter::Info, |config| config.log_level);
    control::ensure(&Handover {
        world: world.clone(),
        unit: context.unit.clone(),
        charm_dir: context.charm_dir.clone(),
        log_level: level.to_string(),
        relations: gathered.relations.database_relations(),
    })
}

/// Sets the unit's status, last of all.
fn set_status(
    tools: &HookTools,
    context: &Context,
    gathered: &Gathered,
    journal: Result<(&State, &Progress), &String>,
) -> anyhow::Result<()> {
    let view = status::View {
        leader: gathered.leader,
        application: &context.application,
        lacking: gathered.world.as_ref().err(),
        journal: journal.map_err(String::as_str),
        now: now_ms(),
    };
    let (kind, message) = status::status(&view);
    tools.set_unit_status(kind, &message)?;
    Ok(())
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
