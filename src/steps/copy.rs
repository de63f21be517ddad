//! The initial copy: a slot with its exported snapshot, every table in that snapshot, then indexes,
//! foreign keys and statistics. A copy that was cut off starts again from a new slot.

use super::context::{Answer, Context, Outcome};
use super::observe::{self, human_bytes};
use super::prepare::forward;
use crate::apps::KRATOS;
use crate::failpoint;
use crate::migration::{Class, Engine, Failure, Step};
use crate::postgres::copy::{self, CopyProgress};
use crate::postgres::names::TableName;
use crate::postgres::schema::{self, Definition, DefinitionKind};
use crate::postgres::{Error, inspect, replication, slot, subscription};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the slot may wait for transactions that were running before it.
pub(super) const SLOT_WITHIN: Duration = Duration::from_secs(120);

/// How long a slot's walsender may take to end.
pub(super) const SLOT_ENDS: Duration = Duration::from_secs(30);

/// The engines in the journal, in `show` and in results.
const NATIVE: &str = "native";
const SNAPSHOT: &str = "snapshot";

/// Copies everything: from the beginning, but for what PostgreSQL's own engine has already.
///
/// # Errors
/// The servers'; a schema that is no longer the source's; a transaction that the slot waits for.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let tables = observe::replicated_tables(context)?;
    refuse_other_schema(context).await?;
    let engine = engine(context).await?;
    let definitions = definitions(context, &tables).await?;
    match engine {
        Engine::Native => super::native::perform(context, &definitions, &tables).await,
        Engine::Auto => from_snapshot(context, definitions, tables).await,
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

/// The whole copy in the snapshot of a slot that we make.
async fn from_snapshot(context: &mut Context<'_>, definitions: Vec<Definition>, tables: Vec<TableName>) -> Answer {
    let began = Instant::now();
    let name = forward(context)?;
    let source = context.world.source("copy").await?;
    let target = context.world.target("copy").await?;
    clear(context, &name).await?;
    super::prepare::publish(context, &tables).await?;
    context.progress.say("emptying the target");
    schema::drop_definitions(&target, &definitions).await?;
    copy::truncate(&target, &tables).await?;
    failpoint::reach(failpoint::COPY_TRUNCATED);
    context.progress.say("waiting for the slot and its snapshot");
    let snapshot = replication::create_slot_with_snapshot(
        &context.world.source,
        &context.world.source_database,
        &name,
        SLOT_WITHIN,
    )
    .await
    .map_err(|error| refused(error, context))?;
    failpoint::reach(failpoint::COPY_SLOT);
    let identity = inspect::cluster_identity(&source).await?;
    context
        .note(
            Step::Copy,
            "slot",
            json!({"consistent-point": snapshot.consistent_point.to_string(), "identity": observe::identity_value(&identity)}),
        )
        .await?;
    let wanted: Vec<_> =
        inspect::tables(&source).await?.into_iter().filter(|table| tables.contains(&table.name)).collect();
    let jobs = jobs(context, &source).await?;
    let world = context.world;
    let into = inspect::tables(&target).await?;
    let parts = copy::plan_copy(&wanted, &into, jobs)?;
    let holder = copy::hold_snapshot(&world.source, &world.source_database, &snapshot.snapshot, &tables).await?;
    // From here on the holder keeps the snapshot.
    drop(snapshot);
    failpoint::reach(failpoint::COPY_SNAPSHOT);
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
    loop {
        tokio::select! {
            ended = &mut load => { ended?; break; }
            _ = ticks.tick() => tell(context, &progress, began),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    tell(context, &progress, began);
    Ok(Outcome::Done(json!({
        "engine": SNAPSHOT,
        "bytes-copied": progress.figures().bytes,
        "rows-copied": progress.figures().rows,
        "seconds": seconds,
        "jobs": jobs,
    })))
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
async fn jobs(context: &Context<'_>, source: &crate::postgres::Session) -> Result<usize, Failure> {
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
        let emptied: Vec<TableName> = tables.into_iter().filter(|table| !KRATOS.is_seeded_table(&table.name)).collect();
        copy::truncate(&target, &emptied).await?;
        for definition in schema::missing(&target, &definitions).await? {
            schema::create(&target, &definition).await?;
        }
    }
    Ok(Outcome::Done(serde_json::Value::Null))
}
