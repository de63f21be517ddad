//! Without a journal: what the two databases show of a run is all that is known of it. Writes are let pass again where
//! that is safe, and `rollback` removes everything of a run that no living coordinator works on. Which side users are on
//! is decided by the fence's rows: once the target has opened, nothing leads back.

use super::native::drop_subscription;
use super::observe;
use super::store::Store;
use super::world::{Applications, World};
use crate::apps::{App, Health};
use crate::migration::{Failure, Side};
use crate::postgres::fence::{self, Close, FenceRow, FenceState};
use crate::postgres::leftovers::{self, Leftover, LeftoverKind};
use crate::postgres::names::{RunId, TableName};
use crate::postgres::reset::{self, Rows};
use crate::postgres::schema::{self, DefinitionKind};
use crate::postgres::{Session, copy, others};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the tables of one side are waited for, all in all.
const LOCKS_WITHIN: Duration = Duration::from_secs(60);

/// What a sweep is given.
pub struct Ground<'a> {
    /// The two sides.
    pub world: &'a World,
    /// What the relations tell of the applications.
    pub applications: &'a Applications,
    /// The journal, as far as it is there.
    pub store: &'a Store,
    /// This worker's epoch.
    pub epoch: i64,
    /// How long one lock is waited for.
    pub lock_timeout: Duration,
}

/// What was found, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing of a run that would be ours.
    Nothing,
    /// A run of ours stands, or stood; writes pass on the source, or will when the lease is over.
    Remains,
    /// Users are on this side for good.
    Decided(Side),
}

/// One side, as it is.
struct Place {
    session: Session,
    left: Vec<Leftover>,
    owner: Option<String>,
    newest: Option<FenceRow>,
}

impl Place {
    async fn look(session: Session) -> Result<Self, Failure> {
        let left = leftovers::list(&session).await?;
        let installed = fence::installed(&session).await?;
        let owner = fence::owning_run(&session).await?;
        let newest = if installed { fence::latest(&session).await?.into_iter().next() } else { None };
        Ok(Self { session, left, owner, newest })
    }

    /// The runs that left something here.
    fn runs(&self) -> BTreeSet<String> {
        let named = self.left.iter().filter_map(|thing| RunId::of(&thing.name)).map(|run| run.to_string());
        named.chain(self.owner.clone()).collect()
    }

    fn is_ours(&self, ours: &BTreeSet<String>) -> bool {
        self.owner.as_ref().is_some_and(|owner| ours.contains(owner))
    }
}

/// Both sides, and the runs there that are nobody else's.
struct Traces {
    source: Place,
    target: Place,
    ours: BTreeSet<String>,
}

impl Traces {
    /// A run is ours when our journal still names it, or when it moves this very pair and no other journal on the
    /// target's server knows it as one that is under way.
    async fn look(world: &World, store: &Store) -> Result<Self, Failure> {
        let (source, target) = tokio::try_join!(world.source("sweep"), world.target("sweep"))?;
        let (source, target) = tokio::try_join!(Place::look(source), Place::look(target))?;
        let mut ours: BTreeSet<String> = source.runs().intersection(&target.runs()).cloned().collect();
        if let Some(adopted) = store.adopted().await?
            && (source.runs().contains(&adopted) || target.runs().contains(&adopted))
        {
            ours.insert(adopted);
        }
        if !ours.is_empty() {
            for living in others::living_runs(&world.target, &target.session, &world.journal_database).await? {
                ours.remove(&living);
            }
        }
        Ok(Self { source, target, ours })
    }
}

/// True when something of a run stands that would be ours to remove.
///
/// # Errors
/// The servers'.
pub async fn stands(world: &World, store: &Store) -> Result<bool, Failure> {
    Ok(!Traces::look(world, store).await?.ours.is_empty())
}

/// Looks, and lets writes pass again where that is safe. Nothing else is changed.
///
/// # Errors
/// The servers'; a table of the target that cannot be locked in time.
pub async fn relieve(ground: &Ground<'_>) -> Result<Found, Failure> {
    let traces = Traces::look(ground.world, ground.store).await?;
    match traces.ours.first() {
        None => Ok(Found::Nothing),
        Some(run) => {
            // Should we die on the way, one side alone may show the run.
            ground.store.adopt(run).await?;
            open_one(ground, &traces).await
        }
    }
}

/// Sees that exactly one side takes writes, by what the fence's rows say of the other.
async fn open_one(ground: &Ground<'_>, traces: &Traces) -> Result<Found, Failure> {
    let Traces { source, target, ours } = traces;
    let (Some(row), true) = (&source.newest, source.is_ours(ours)) else { return Ok(Found::Remains) };
    let (epoch, lock_timeout) = (ground.epoch, ground.lock_timeout);
    let there = target.newest.as_ref();
    match (row.state, there.map(|row| row.state)) {
        (FenceState::Leased, _) => {
            take_over(ground, traces).await?;
            fence::lift(&source.session, &row.generation, epoch, lock_timeout).await?;
            log::warn!("the journal is lost: the fence of the source was lifted");
        }
        // The hand-over was cut off before the target opened: now it never does.
        (FenceState::Permanent, Some(FenceState::Closed)) => {
            take_over(ground, traces).await?;
            let run = source.owner.clone().unwrap_or_default();
            let generation = observe::new_generation(&target.session, &run).await?;
            let tables = fence::user_tables(&target.session).await?;
            let close = Close { generation: &generation, tables: &tables, epoch, lock_timeout, give_up: LOCKS_WITHIN };
            fence::close_target(&target.session, &close).await?;
            fence::reopen(&source.session, &row.generation, epoch, lock_timeout).await?;
            log::warn!("the journal is lost: the source was opened again, the target never was");
        }
        // The road back was cut off between both sides, which have the same rows: users stay where they were.
        (FenceState::Permanent, Some(FenceState::Permanent)) => {
            take_over(ground, traces).await?;
            let generation = there.map(|row| row.generation.clone()).unwrap_or_default();
            fence::reopen(&target.session, &generation, epoch, lock_timeout).await?;
            return Ok(Found::Decided(Side::Target));
        }
        (FenceState::Permanent, Some(FenceState::Leased)) => {
            take_over(ground, traces).await?;
            let generation = there.map(|row| row.generation.clone()).unwrap_or_default();
            fence::lift(&target.session, &generation, epoch, lock_timeout).await?;
            return Ok(Found::Decided(Side::Target));
        }
        (FenceState::Permanent, _) => return Ok(Found::Decided(Side::Target)),
        (FenceState::Expired, Some(FenceState::Permanent)) => return Ok(Found::Decided(Side::Source)),
        _ => {}
    }
    Ok(Found::Remains)
}

/// Whoever still acts on what the journal said loses.
async fn take_over(ground: &Ground<'_>, traces: &Traces) -> Result<(), Failure> {
    for place in [&traces.source, &traces.target].into_iter().filter(|place| place.is_ours(&traces.ours)) {
        fence::bump_epoch(&place.session, ground.epoch, Duration::from_secs(5)).await?;
    }
    Ok(())
}

/// Removes everything of the runs that are ours: replication, then what the copy and the schema migration did to the
/// target, then the fences. May be run again at any point.
///
/// # Errors
/// The servers'; the target application's schema migration while it runs; what cannot be removed.
pub async fn perform(ground: &Ground<'_>) -> Result<Found, Failure> {
    let found = relieve(ground).await?;
    if matches!(found, Found::Nothing | Found::Decided(Side::Target)) {
        return Ok(found);
    }
    let traces = Traces::look(ground.world, ground.store).await?;
    let (source, target) = (&traces.source, &traces.target);
    take_over(ground, &traces).await?;
    refuse_while_migrating(ground, &target.session).await?;
    for (place, other) in [(target, source), (source, target)] {
        for thing in named(place, &traces.ours).filter(|thing| thing.kind == LeftoverKind::Subscription) {
            drop_subscription(&other.session, &place.session, &thing.name).await?;
        }
    }
    for place in [source, target] {
        let named: Vec<Leftover> = named(place, &traces.ours).cloned().collect();
        leftovers::sweep(&place.session, &named).await?;
    }
    if target.is_ours(&traces.ours) {
        as_the_application_made_it(ground.world.app, source, target).await?;
    }
    for place in [target, source] {
        remove_fence(ground, place, &traces.ours).await?;
    }
    Ok(Found::Remains)
}

/// What carries the name of one of the runs.
fn named<'a>(place: &'a Place, ours: &'a BTreeSet<String>) -> impl Iterator<Item = &'a Leftover> {
    place.left.iter().filter(|thing| RunId::of(&thing.name).is_some_and(|run| ours.contains(run.as_str())))
}

/// Its end cannot be undone under its feet.
async fn refuse_while_migrating(ground: &Ground<'_>, target: &Session) -> Result<(), Failure> {
    let health = observe::server(ground.world.app, &ground.applications.target).health().await;
    if matches!(health, Health::Down(_)) && observe::others_connected(target).await? {
        return Err(Failure::retry("roll back", "the target application's schema migration is still running"));
    }
    Ok(())
}

/// Empties the target and gives it the source's schema, whose indexes and constraints its own are made after: those
/// that the journal kept are lost with it.
async fn as_the_application_made_it(app: &App, source: &Place, target: &Place) -> Result<(), Failure> {
    let (source, target) = (&source.session, &target.session);
    let tables: Vec<TableName> = observe::application_tables(app, source).await?.into_iter().map(|t| t.name).collect();
    let definitions = schema::definitions(source, &tables).await?;
    if observe::schema_versions(app, source).await? != observe::schema_versions(app, target).await? {
        reset::make_like(source, target, &definitions, (app.migration_table, app.seeded_tables), Rows::Emptied).await?;
        return Ok(());
    }
    let keys: Vec<_> = definitions.iter().filter(|d| d.kind == DefinitionKind::ForeignKey).cloned().collect();
    schema::drop_definitions(target, &keys).await?;
    let emptied: Vec<TableName> = tables.into_iter().filter(|table| !app.is_seeded_table(&table.name)).collect();
    copy::truncate(target, &emptied).await?;
    for definition in schema::missing(target, &definitions).await? {
        schema::create(target, &definition).await?;
    }
    Ok(())
}

/// The fence of a side that is ours, with whatever else of ours is there; proves that nothing is left.
async fn remove_fence(ground: &Ground<'_>, place: &Place, ours: &BTreeSet<String>) -> Result<(), Failure> {
    // What carries no run's name belongs to the run that owns the fence; where none does, to the one that made it here.
    if place.owner.is_some() && !place.is_ours(ours) {
        return Ok(());
    }
    let session = &place.session;
    fence::remove(session, ground.lock_timeout, LOCKS_WITHIN).await?;
    leftovers::sweep(session, &leftovers::list(session).await?).await?;
    let left = leftovers::list(session).await?;
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(Failure::operator(
        "roll back without the journal",
        format!("still in database {} on {}: {}", session.database, session.address, names.join(", ")),
        "drop these by hand and run rollback again",
    ))
}
