//! The composition root: what Juju calls. Every hook reconciles: gather, plan, act, record, status.
//! Actions write a request into the journal and watch it.

pub mod actions;
mod back_up;
pub mod broker;
pub mod config;
pub mod credentials;
pub mod desk;
pub mod event;
pub mod gather;
pub mod in_place;
pub mod local_charm;
pub mod memory;
pub mod parameters;
pub mod relations;
pub mod retire;
pub mod show;
pub mod status;
pub mod verify;
pub mod watch;

use crate::failpoint;
use crate::juju::{HookTools, logging};
use crate::migration::{self, Phase, Progress, Record, State, Step};
use crate::postgres::UNREACHABLE_CURE;
use crate::steps::{Store, with_side};
use crate::worker::control::{self, Handover};
use event::{Context, Event};
use gather::{Gathered, JournalPlace};
use relations::Side;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs as the hook or action that the environment names.
///
/// # Errors
/// Only when a retry by Juju is wanted: the environment is no hook's, or a hook tool failed.
pub fn main() -> anyhow::Result<()> {
    let environment = std::env::vars().collect();
    let context = Context::from_environment(&environment)?;
    failpoint::reach(failpoint::HOOK_BEGIN);
    let tools = HookTools::new();
    if let Event::Restricted(_) = &context.event {
        return Ok(());
    }
    if matches!(context.event, Event::Stop | Event::Remove) {
        return control::stop(&context.charm_dir);
    }
    let mut gathered = Gathered::new(&tools, &context)?;
    logging::start_in_hook(tools.clone(), gathered.config.log_level);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match &context.event {
        Event::Action { name, .. } => runtime.block_on(actions::run(name, &tools, &context, &mut gathered)),
        _ => runtime.block_on(reconcile(&tools, &context, &mut gathered)),
    };
    log::logger().flush();
    result
}

/// What every hook does.
///
/// # Errors
/// A hook tool's, or the worker's that cannot be started or stopped.
pub async fn reconcile(tools: &HookTools, context: &Context, gathered: &mut Gathered) -> anyhow::Result<()> {
    if gathered.leader {
        relations::write_all(tools, &gathered.relations.requests)?;
        if matches!(context.event, Event::Start | Event::UpgradeCharm | Event::LeaderElected) {
            tools.set_application_version(env!("CARGO_PKG_VERSION"))?;
        }
    }
    let mut journal = Journal::open(context, gathered).await;
    if gathered.leader {
        gathered.memory.keep_place(tools, gathered.one_sided.is_some())?;
    }
    if gathered.leader
        && let Some(record) = broker::tell(tools, gathered, journal.as_ref().ok().map(|journal| &journal.state))?
        && let Ok(open) = &mut journal
        && let Err(sentence) = open.append(gathered, &record).await
    {
        journal = Err(sentence);
    }
    if let Ok(open) = &journal {
        local_charm::keep(tools, context, &open.state);
    }
    keep_worker(context, gathered, journal.as_ref().ok().map(|journal| &journal.state))?;
    set_status(tools, context, gathered, &journal)
}

/// How long the journal may take to answer: a hook or an action never hangs on a server that does.
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);

/// The journal as a hook or an action has it.
pub struct Journal {
    /// Its tables.
    pub store: Store,
    /// Replayed.
    pub state: State,
    /// What the worker is doing.
    pub progress: Progress,
}

impl Journal {
    /// Opens the journal, keeps the applications' facts there and reads it. A run that is under way holds what we
    /// gathered to what it began with.
    ///
    /// # Errors
    /// A sentence for the status.
    pub async fn open(context: &Context, gathered: &mut Gathered) -> Result<Self, String> {
        if !gathered.leader {
            return Err("cannot read the journal: this unit does not lead; run the action on the leader".to_owned());
        }
        in_place::choose(context, gathered).await;
        let place = gathered.journal.clone().map_err(|lacking| lacking.sentence)?;
        let read = async {
            let store = Store::open(&place.server, &place.database, "charm").await?;
            let state = store.load().await?;
            if (state.active().is_some() || state.damaged.is_some())
                && let Some(kept) = store.applications().await?
            {
                gathered.keep_to(context, &kept);
            }
            // Over or taken back, it is no more than a journal.
            if let Some(lacking) =
                gathered.one_sided.clone().filter(|_| !gathered.begins_in_place && !state.is_in_place())
            {
                gathered.world = Err(lacking);
            }
            store.keep_applications(&gathered.applications).await?;
            let progress = store.progress().await?;
            Ok(Self { store, state, progress })
        };
        answered(&place, read).await
    }

    /// Brings state and progress up to date.
    ///
    /// # Errors
    /// A sentence for the status.
    pub async fn refresh(&mut self, gathered: &Gathered) -> Result<(), String> {
        let place = gathered.journal.clone().map_err(|lacking| lacking.sentence)?;
        answered(&place, async {
            self.store.refresh(&mut self.state).await?;
            self.progress = self.store.progress().await?;
            Ok(())
        })
        .await
    }

    /// Appends a record and takes it in.
    ///
    /// # Errors
    /// A sentence for the status.
    pub async fn append(&mut self, gathered: &Gathered, record: &Record) -> Result<(), String> {
        let place = gathered.journal.clone().map_err(|lacking| lacking.sentence)?;
        answered(&place, async {
            self.store.append(record).await?;
            self.store.refresh(&mut self.state).await
        })
        .await
    }
}

/// What the journal's server answers within [`ANSWERS_WITHIN`], or a sentence with the cure.
async fn answered<T>(
    place: &JournalPlace,
    asked: impl Future<Output = crate::postgres::Result<T>>,
) -> Result<T, String> {
    let cure = format!("{UNREACHABLE_CURE} (juju status {}), it is tried again at every hook", place.application);
    match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ crate::postgres::Error::Found { .. })) => Err(error.to_string()),
        Ok(Err(error)) => {
            Err(format!("{}; {cure}", with_side(&error.to_string(), &place.server.address(), place.side)))
        }
        Err(_) => {
            let (address, limit) = (place.server.address(), ANSWERS_WITHIN.as_secs());
            let side = place.side;
            Err(format!("cannot read the journal: {address} (the {side}) did not answer within {limit} s; {cure}"))
        }
    }
}

/// True once nothing is left to do: by the journal, or by what was remembered where the journal is gone.
pub fn is_finalized(gathered: &Gathered, state: Option<&State>) -> bool {
    match state.filter(|state| state.run.is_some()) {
        Some(state) => state.phase() == Phase::Finalized && state.active().is_none() && state.request.is_none(),
        None => gathered.memory.finalized.is_some(),
    }
}

/// True when users are on the target and the journal no longer knows of the migration that led them there: its database
/// was dropped or brought back from before, or its records were deleted.
pub fn is_lost(gathered: &Gathered, state: Option<&State>) -> bool {
    let Some(state) = state.filter(|state| state.run.is_none()) else { return false };
    let beyond = match state.void {
        Some(side) => side == migration::Side::Target,
        None => gathered.memory.flipped,
    };
    beyond && gathered.memory.finalized.is_none()
}

/// A worker on the leader, as soon as both sides are known; none elsewhere, and none once all is done. One that
/// lives is left alone while a relation or an option is in disorder: it goes on with what it was told.
fn keep_worker(context: &Context, gathered: &Gathered, state: Option<&State>) -> anyhow::Result<()> {
    if !gathered.leader || is_finalized(gathered, state) {
        return control::stop(&context.charm_dir);
    }
    let (Ok(world), Some(_)) = (&gathered.world, state) else { return Ok(()) };
    // A copy or a comparison would have to begin again, or could not; and users may be waiting.
    let busy = state.and_then(State::active).is_some_and(|run| {
        let long = [Step::Copy, Step::Prove, Step::FollowBack, Step::Verify];
        let doing = long.into_iter().any(|step| run.status(step) == migration::Status::Doing);
        doing || run.awaits_comparison() || matches!(run.phase, Phase::Fenced | Phase::Drained | Phase::Reversing)
    });
    let handover = Handover {
        world: world.clone(),
        controller: gathered.controller.clone().into(),
        unit: context.unit.clone(),
        charm_dir: context.charm_dir.clone(),
        log_level: gathered.config.log_level.to_string(),
        relations: gathered.relations.database_relations(),
    };
    control::ensure(&handover, busy)
}

/// Sets the unit's status, last of all.
fn set_status(
    tools: &HookTools,
    context: &Context,
    gathered: &Gathered,
    journal: &Result<Journal, String>,
) -> anyhow::Result<()> {
    let state = journal.as_ref().ok().map(|journal| &journal.state);
    // What is under way goes on without the controller, and says so where it needs it.
    let at_rest = state.is_none_or(|state| state.request.is_none());
    let lacking = in_place::lacking(context, gathered, state).unwrap_or_else(|| gathered.lacking(context));
    let lacking = lacking.or_else(|| gathered.controller.lacking().filter(|_| at_rest));
    let finalized = (gathered.leader && is_finalized(gathered, state)).then(|| status::Finalized {
        target: gather::identity(context, &gathered.relations, Side::Target).map(|info| info.application.clone()),
        consumers: gathered.relations.consumers.len(),
        source_related: !retire::source(context, gathered).is_empty(),
        journal_gone: state.is_none_or(|state| state.run.is_none()),
    });
    let lost = is_lost(gathered, state).then(|| status::journal_lost(context, gathered));
    let view = status::View {
        leader: gathered.leader,
        application: &context.application,
        finalized: finalized.as_ref(),
        journal_lost: lost.as_deref(),
        lacking: lacking.as_ref(),
        journal: journal.as_ref().map(|journal| (&journal.state, &journal.progress)).map_err(String::as_str),
        now: now_ms(),
    };
    let (kind, message) = status::status(&view);
    failpoint::reach(failpoint::HOOK_STATUS);
    tools.set_unit_status(kind, &message)?;
    Ok(())
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
