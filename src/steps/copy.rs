//! The initial copy: a slot with its exported snapshot, every table in that snapshot, then indexes,
//! foreign keys and statistics. A copy that was cut off starts again from a new slot. Where the target holds a whole
//! copy already, `repair` may do with less.

use super::context::{Answer, Context, Outcome};
use super::observe::{self, human_bytes};
use super::prepare::forward;
use super::repair::{self, Choice, Chosen};
use super::room;
use crate::failpoint;
use crate::migration::{Class, Engine, Failure, Side, Step};
use crate::postgres::copy::{self, CopyProgress};
use crate::postgres::names::TableName;
use crate::postgres::repair::Measured;
use crate::postgres::schema::{self, Definition, DefinitionKind};
use crate::postgres::{Error, Session, inspect, replication, slot, subscription};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the slot may wait for transactions that were running before it.
pub(super) const SLOT_WITHIN: Duration = Duration::from_secs(120);

/// How often it is said what the slot waits for.
const TELLS: Duration = Duration::from_secs(1);

/// How long a slot's walsender may take to end.
pub(super) const SLOT_ENDS: Duration = Duration::from_secs(30);

/// How often it is looked how much WAL the slot keeps.
const ROOM: Duration = Duration::from_secs(2);

/// The engines in the journal, in `show` and in results.
const NATIVE: &str = "native";
pub(super) const SNAPSHOT: &str = "snapshot";

/// Copies everything, from the beginning, but for what PostgreSQL's own engine has already; or repairs what a whole
/// copy has become.
///
/// # Errors
/// The servers'; a schema that is no longer the source's; a transaction that the slot waits for.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let tables = observe::replicated_tables(context)?;
    let engine = engine(context).await?;
    let migrated = match engine {
        Engine::Native => None,
        Engine::Auto => repair::migrated_since(context).await?,
    };
    if migrated.is_none() {
        refuse_other_schema(context).await?;
    }
    let definitions = definitions(context, &tables).await?;
    match engine {
        Engine::Native => super::native::perform(context, &definitions, &tables).await,
        Engine::Auto => match repair::choose(context, &tables, migrated).await? {
            Choice::Wait(waiting) => waiting,
            Choice::Copy(chosen) => from_snapshot(context, definitions, tables, chosen, false).await,
            Choice::Repair(chosen) => from_snapshot(context, definitions, tables, Some(chosen), true).await,
        },
    }
}

/// The engine that was asked for, else the one that the run began with. There is no falling back from one to the
/// other by itself: what refuses our replication connection (a pooler, a missing right, `max_wal_senders`) nearly always
/// refuses the subscription's too, and native needs more of them.
async fn engine(context: &mut Context<'_>) -> Result<Engine, Failure> {
    let before = context.noted(Step::Copy, "engine");
    let native = context.settings().engine == Engine::Native || before.as_deref() == Some(NATIVE);
    let word = if native { NATIVE } else { SNAPSHOT };
    if before.as_deref() != Some(word) {
        context.note(Step::Copy, "engine", json!(word)).await?;
    }
    Ok(if native { Engine::Native } else { Engine::Auto })
}

/// The repair, or the whole copy, in the snapshot of a slot that we make.
async fn from_snapshot(
    context: &mut Context<'_>,
    definitions: Vec<Definition>,
    tables: Vec<TableName>,
    mut chosen: Option<Chosen>,
    repairs: bool,
) -> Answer {
    let began = Instant::now();
    let name = forward(context)?;
    let source = context.world.source("copy").await?;
    let target = context.world.target("copy").await?;
    clear(context, &name).await?;
    super::prepare::publish(context, &tables).await?;
    if !repairs {
        empty(context, &target, &definitions, &tables).await?;
    }
    let (server, database) = (&context.world.source, &context.world.source_database);
    let making = replication::create_slot_with_snapshot(server, database, &name, SLOT_WITHIN);
    let snapshot = until_made(context, &source, &name, making).await.map_err(|error| refused(error, context))?;
    failpoint::reach(failpoint::COPY_SLOT);
    let point = snapshot.consistent_point.to_string();
    note_slot(context, Some(point), &source, &target).await?;
    if let Some(chosen) = &chosen {
        repair::note_choice(context, chosen, repairs).await?;
    }
    let world = context.world;
    let holder = copy::hold_snapshot(&world.source, &world.source_database, &snapshot.snapshot, &tables).await?;
    // From here on the holder keeps the snapshot.
    drop(snapshot);
    failpoint::reach(failpoint::COPY_SNAPSHOT);
    if repairs && let Some(chosen) = &mut chosen {
        if let Some(output) = repair::perform(context, chosen, &holder, &tables, &definitions).await? {
            refuse_another_target(context).await?;
            return Ok(Outcome::Done(output));
        }
        empty(context, &target, &definitions, &tables).await?;
    }
    let wanted: Vec<_> =
        inspect::tables(&source).await?.into_iter().filter(|table| tables.contains(&table.name)).collect();
    let jobs = jobs(context, &source).await?;
    let into = inspect::tables(&target).await?;
    let parts = copy::plan_copy(&wanted, &into, jobs)?;
    let progress = Arc::new(CopyProgress::default());
    let (table_done, finished) = tokio::sync::mpsc::unbounded_channel();
    let load = async {
        tokio::try_join!(
            copy::copy_parts(
                (&world.source, &world.source_database),
                (&world.target, &world.target_database),
                &holder,
                parts,
                jobs,
                Arc::clone(&progress),
                table_done,
            ),
            copy::build_definitions(
                &world.target,
                &world.target_database,
                definitions,
                finished,
                jobs,
                Arc::clone(&progress),
            ),
        )
    };
    tokio::pin!(load);
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let mut looks = tokio::time::interval(ROOM);
    loop {
        tokio::select! {
            ended = &mut load => { ended?; break; }
            _ = ticks.tick() => tell(context, &progress, began),
            _ = looks.tick() => keeps_room(context, &source, &name).await?,
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    tell(context, &progress, began);
    refuse_another_target(context).await?;
    let bytes = wanted.iter().map(|table| table.total_bytes).sum();
    repair::note_whole(context, Measured { bytes, seconds }).await?;
    Ok(Outcome::Done(json!({
        "engine": SNAPSHOT,
        "choice": chosen.as_ref().map(|chosen| &chosen.said),
        "estimate": chosen.as_ref().map(|chosen| chosen.estimate),
        "bytes-copied": progress.figures().bytes,
        "rows-copied": progress.figures().rows,
        "seconds": seconds,
        "jobs": jobs,
    })))
}

/// Waits for the slot, and says meanwhile whose transaction it waits for: it may be one of another database.
async fn until_made<T>(context: &Context<'_>, source: &Session, name: &str, making: impl Future<Output = T>) -> T {
    const WAITING: &str = "waiting for the slot and its snapshot";
    context.progress.say(WAITING);
    let mut making = std::pin::pin!(making);
    loop {
        tokio::select! {
            made = &mut making => return made,
            () = tokio::time::sleep(TELLS) => match replication::slot_waits_for(source, name).await {
                Ok(Some(found)) => context.progress.say(format!("{WAITING}: {found}")),
                Ok(None) => {}
                Err(error) => log::warn!("what the slot waits for is not known: {error}"),
            },
        }
    }
}

/// While rows are copied nobody reads the slot yet, and what is written meanwhile is kept.
async fn keeps_room(context: &Context<'_>, source: &Session, name: &str) -> Result<(), Failure> {
    let Some(seen) = slot::observe(source, name).await? else { return Ok(()) };
    match room::give_up_if_full(context, source, None, name, &seen).await? {
        None => Ok(()),
        Some(found) => {
            let cure = format!(
                "raise the option if the disk has room, or run {} when less is written",
                context.command("replicate")
            );
            Err(Failure::operator("go on copying", found, cure))
        }
    }
}

/// Takes rows, indexes and constraints away from the target; it holds no whole copy from here on.
async fn empty(
    context: &mut Context<'_>,
    target: &Session,
    definitions: &[Definition],
    tables: &[TableName],
) -> Result<(), Failure> {
    repair::forget_whole(context).await?;
    context.progress.say("emptying the target");
    schema::drop_definitions(target, definitions).await?;
    copy::truncate(target, tables).await?;
    failpoint::reach(failpoint::COPY_TRUNCATED);
    Ok(())
}

/// Keeps where the slot's changes begin (PostgreSQL's own engine does not tell) and which clusters they lie between.
pub(super) async fn note_slot(
    context: &mut Context<'_>,
    consistent_point: Option<String>,
    source: &Session,
    target: &Session,
) -> Result<(), Failure> {
    let mut slot = json!({
        "identity": observe::identity_value(&inspect::cluster_identity(source).await?),
        "target-identity": observe::identity_value(&inspect::cluster_identity(target).await?),
    });
    if let Some(point) = consistent_point {
        slot["consistent-point"] = json!(point);
    }
    context.note(Step::Copy, "slot", slot).await
}

/// Rows that were written before the target failed over may be missing after it.
async fn refuse_another_target(context: &Context<'_>) -> Result<(), Failure> {
    let target = context.world.target("copy").await?;
    match observe::another_cluster(context.run()?, Side::Target, &target).await? {
        Some(found) => Err(Failure::retry("end the copy", found)),
        None => Ok(()),
    }
}

/// A refused replication connection, with its cure. Sessions of the other kind work, else we were not here.
fn refused(error: Error, context: &Context<'_>) -> Failure {
    let native = context.command("replicate engine=native");
    let role = crate::postgres::names::ident(&context.world.source.user);
    let cure = match error.sqlstate().map(|state| state.code()) {
        Some("42501") => {
            format!("give the role the right by ALTER ROLE {role} REPLICATION (engine=native needs it too)")
        }
        Some("28000" | "28P01") => {
            format!("have pg_hba.conf admit it, or run {native} if it admits the target's server")
        }
        Some("08P01" | "42601") => "relate to PostgreSQL itself and not to a pooler".to_owned(),
        Some("53400") => "drop a replication slot that nobody needs, or raise max_replication_slots".to_owned(),
        Some("53300") => {
            let cure = "trying again; end another replication connection, or raise max_wal_senders";
            return Failure::new(format!("{error}; {cure}"), Class::Retry);
        }
        None if error.is_connection() => {
            let cure = format!("trying again; if that stays so while other sessions work, run {native}");
            return Failure::new(format!("{error}; {cure}"), Class::Retry);
        }
        _ => return error.into(),
    };
    Failure::new(format!("{error}; {cure}, then run the action again"), Class::Operator)
}

/// As many streams as were asked for; else as many as the smaller side's cores are likely to feed.
async fn jobs(context: &Context<'_>, source: &Session) -> Result<usize, Failure> {
    if context.settings().copy_jobs > 0 {
        return Ok(context.settings().copy_jobs);
    }
    let row = source
        .query_one("SELECT current_setting('max_worker_processes')::int", &[])
        .await
        .map_err(crate::postgres::Error::doing(format!("size the copy on {}", source.address)))?;
    // The charms derive this setting from the cores (twice as many); half of it is the cores.
    let workers: i32 = row.get(0);
    Ok(usize::try_from(workers / 2).unwrap_or(2).clamp(2, 8))
}

/// Rate and time left go into status and `show`.
fn tell(context: &Context<'_>, progress: &CopyProgress, began: Instant) {
    let now = progress.figures();
    let rate = now.planned_bytes_done as f64 / began.elapsed().as_secs_f64().max(0.001);
    let left = now.planned_bytes_total.saturating_sub(now.planned_bytes_done);
    let copied_all = now.parts_total > 0 && now.parts_done == now.parts_total;
    let eta = (rate > 0.0 && !copied_all).then(|| (left as f64 / rate).ceil() as u64);
    context.progress.update(|p| {
        p.bytes_copied = Some(now.bytes);
        p.rows_copied = Some(now.rows);
        p.eta_seconds = eta;
        p.text = if copied_all {
            format!(
                "copied {}, {} of {} indexes and constraints built",
                human_bytes(now.bytes),
                now.definitions_done,
                now.definitions_total
            )
        } else {
            let eta = eta.map(|eta| format!(", about {eta} s left")).unwrap_or_default();
            format!(
                "copied {} of about {}, {}/s{eta}",
                human_bytes(now.bytes),
                human_bytes(now.planned_bytes_total),
                human_bytes(rate as u64)
            )
        };
    });
}

/// A copy into another schema would fail half-way, or silently lose a column.
async fn refuse_other_schema(context: &Context<'_>) -> Result<(), Failure> {
    let mut source = inspect::tables(&context.world.source("schema").await?).await?;
    let mut target = inspect::tables(&context.world.target("schema").await?).await?;
    if noted_definitions(context).is_some() {
        // An earlier attempt may have dropped keys on the target; they are rebuilt from the journal.
        source.iter_mut().chain(&mut target).for_each(|table| table.primary_key.clear());
    }
    let differences = inspect::schema_differences(&source, &target);
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(Failure::operator(
            "copy",
            format!("the target's schema is not the source's ({} differences, first: {first})", differences.len()),
            format!("run {}, then start again with both applications at one release", context.command("rollback")),
        )),
    }
}

/// Removes what a copy that was cut off left: a subscription without its slot, a slot without its snapshot.
pub(super) async fn clear(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let target = context.world.target("copy").await?;
    if subscription::state(&target, name).await?.is_some() {
        super::follow::drop_subscription(context).await?;
    }
    let source = context.world.source("copy").await?;
    slot::drop_slot(&source, name, SLOT_ENDS).await?;
    Ok(())
}

/// The target's indexes and constraints, journalled before they are dropped for the first time.
async fn definitions(context: &mut Context<'_>, tables: &[TableName]) -> Result<Vec<Definition>, Failure> {
    if let Some(noted) = noted_definitions(context) {
        return Ok(noted);
    }
    let target = context.world.target("definitions").await?;
    let definitions = schema::definitions(&target, tables).await?;
    context.note(Step::Copy, "definitions", json!(definitions)).await?;
    Ok(definitions)
}

/// The definitions that the journal holds.
pub fn noted_definitions(context: &Context<'_>) -> Option<Vec<Definition>> {
    let value = context.state.active()?.note(Step::Copy, "definitions")?;
    serde_json::from_value(value.clone()).ok()
}

/// Drops the slot, empties the target (but for what its own migrations put there) and rebuilds
/// every index and constraint, so that the target is as the application made it.
///
/// # Errors
/// The servers'.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    let name = forward(context)?;
    let source = context.world.source("undo").await?;
    super::follow::drop_subscription(context).await?;
    slot::drop_slot(&source, &name, SLOT_ENDS).await?;
    if let Some(definitions) = noted_definitions(context) {
        let target = context.world.target("undo").await?;
        let tables = observe::replicated_tables(context)?;
        let keys: Vec<Definition> =
            definitions.iter().filter(|d| d.kind == DefinitionKind::ForeignKey).cloned().collect();
        // TRUNCATE refuses a table that another one's foreign key points at, unless both go together.
        schema::drop_definitions(&target, &keys).await?;
        let emptied: Vec<TableName> =
            tables.into_iter().filter(|table| !context.app().is_seeded_table(&table.name)).collect();
        copy::truncate(&target, &emptied).await?;
        for definition in schema::missing(&target, &definitions).await? {
            schema::create(&target, &definition).await?;
        }
    }
    Ok(Outcome::Done(serde_json::Value::Null))
}
