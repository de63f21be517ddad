//! The initial copy by PostgreSQL itself, for a source that refuses the coordinator a replication connection: a
//! subscription that makes its slot and synchronises every table. PostgreSQL remembers which tables it has, so a
//! coordinator that was killed only goes on watching.
//!
//! The target keeps its indexes meanwhile, for nothing of ours is there to build them again at the right moment;
//! only foreign keys are held back: the apply worker does not check them, so they are checked when all rows are there.

use super::context::{Answer, Context, Outcome};
use super::copy::{SLOT_ENDS, SLOT_WITHIN};
use super::observe::{self, human_bytes};
use super::prepare::forward;
use crate::failpoint;
use crate::migration::{Failure, Step};
use crate::postgres::copy::{SyncFailures, SyncedTable, drop_sync_slots, synced_tables};
use crate::postgres::inspect::{self, Table};
use crate::postgres::marker::MARKER_TABLE;
use crate::postgres::names::TableName;
use crate::postgres::schema::{self, Definition, DefinitionKind};
use crate::postgres::subscription::{self, SubscriptionSpec};
use crate::postgres::{Error, Session, copy, publication, replication, slot};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a worker of the subscription may take to end.
const WORKER_ENDS: Duration = Duration::from_secs(30);

/// Failures without any progress between them after which a person is asked. PostgreSQL tries again every
/// `wal_retrieve_retry_interval`, 5 s by default.
const FAILURES: u64 = 5;

/// Has PostgreSQL copy, or goes on watching that; done when every table is followed and every foreign key stands.
///
/// # Errors
/// The servers'; synchronisation that fails again and again; rows that break a foreign key.
pub async fn perform(context: &mut Context<'_>, definitions: &[Definition], tables: &[TableName]) -> Answer {
    let began = Instant::now();
    let name = forward(context)?;
    let source = context.world.source("copy").await?;
    let target = context.world.target("copy").await?;
    if !is_under_way(context, &source, &target, &name).await? {
        begin(context, definitions, tables, &name).await?;
    }
    subscription::enable(&target, &name).await?;
    failpoint::reach(failpoint::COPY_NATIVE_ENABLED);
    let bytes = watch(context, (&source, &target), &name, tables).await?;
    subscription::stop_on_error(&target, &name).await?;
    context.progress.say("checking the foreign keys");
    failpoint::reach(failpoint::COPY_FOREIGN_KEYS);
    for definition in schema::missing(&target, definitions).await? {
        schema::create(&target, &definition).await?;
    }
    failpoint::reach(failpoint::COPY_ANALYZE);
    context.progress.say("gathering statistics");
    for table in tables {
        let sql = format!("ANALYZE {}", table.sql());
        target.batch_execute(&sql).await.map_err(Error::doing(format!("gather statistics of table {table}")))?;
    }
    // A copy that is lost later is begun anew, never taken for this one.
    context.note(Step::Copy, "native", json!("ended")).await?;
    Ok(Outcome::Done(json!({
        "engine": "native",
        "bytes-copied": bytes,
        "seconds": began.elapsed().as_secs_f64(),
    })))
}

/// True when the subscription and its slot are both there, and the source is the one that they were made for.
async fn is_under_way(context: &Context<'_>, source: &Session, target: &Session, name: &str) -> Result<bool, Failure> {
    let noted = context.run()?.note(Step::Copy, "slot").and_then(|slot| slot.get("identity")).cloned();
    let now = observe::identity_value(&inspect::cluster_identity(source).await?);
    let whole = slot::observe(source, name).await?.is_some_and(|slot| slot.wal_status.as_deref() != Some("lost"))
        && publication::tables_of(source, name).await?.is_some();
    // A subscription without tables is the other engine's, or one that was made for nothing.
    let copies = subscription::state(target, name).await?.is_some_and(|there| there.slot.is_some() && there.tables > 0);
    Ok(copies && whole && noted == Some(now) && context.noted(Step::Copy, "native").as_deref() == Some("begun"))
}

/// Empties the target, then has PostgreSQL make slot and subscription, in one statement.
async fn begin(
    context: &mut Context<'_>,
    definitions: &[Definition],
    tables: &[TableName],
    name: &str,
) -> Result<(), Failure> {
    // What an earlier attempt left is no more than a remnant; only what is made from here on may be gone on with.
    context.note(Step::Copy, "native", json!("clearing")).await?;
    let source = context.world.source("copy").await?;
    let target = context.world.target("copy").await?;
    super::copy::clear(context, name).await?;
    super::prepare::publish(context, tables).await?;
    super::repair::forget_whole(context).await?;
    context.progress.say("emptying the target");
    let (foreign_keys, rest): (Vec<_>, Vec<_>) =
        definitions.iter().cloned().partition(|definition| definition.kind == DefinitionKind::ForeignKey);
    schema::drop_definitions(&target, &foreign_keys).await?;
    copy::truncate(&target, tables).await?;
    // The marker travels with the tables: a row that is there already would not be taken twice.
    target
        .batch_execute(&format!("DELETE FROM {MARKER_TABLE}"))
        .await
        .map_err(Error::doing(format!("empty the marker's table on {}", target.address)))?;
    // The other engine may have been cut off with indexes still to be built.
    for definition in schema::missing(&target, &rest).await? {
        schema::create(&target, &definition).await?;
    }
    failpoint::reach(failpoint::COPY_TRUNCATED);
    super::copy::note_slot(context, None, &source, &target).await?;
    context.note(Step::Copy, "native", json!("begun")).await?;
    context.progress.say("waiting for the slot");
    let spec = SubscriptionSpec {
        name: name.to_owned(),
        slot: name.to_owned(),
        publication: name.to_owned(),
        conninfo: super::follow::conninfo(&context.world.source, &context.world.source_database),
        only_local_changes: false,
    };
    let world = context.world;
    let made = subscription::create_with_copy(&world.target, &world.target_database, &spec, SLOT_WITHIN).await;
    if let Err(error) = made {
        let cancelled = error.sqlstate().is_some_and(|state| state.code() == "57014");
        let last_seen = if cancelled { replication::slot_blocker(&source, name).await? } else { String::new() };
        slot::drop_slot(&source, name, SLOT_ENDS).await?;
        return Err(match cancelled {
            true => {
                let doing = format!("create replication slot {name} on {}", source.address);
                Error::Timeout { doing, limit: SLOT_WITHIN, last_seen }.into()
            }
            false => error.into(),
        });
    }
    failpoint::reach(failpoint::COPY_SLOT);
    Ok(())
}

/// Waits until every table is ready; answers the bytes of heap and TOAST that were copied.
async fn watch(
    context: &Context<'_>,
    (source, target): (&Session, &Session),
    name: &str,
    tables: &[TableName],
) -> Result<u64, Failure> {
    let planned: Vec<Table> =
        inspect::tables(source).await?.into_iter().filter(|table| tables.contains(&table.name)).collect();
    let mut failures = SyncFailures::default();
    let mut forgiven = 0;
    let mut furthest = None;
    let mut first = None;
    loop {
        let seen = synced_tables(target, name).await?;
        if subscription::state(target, name).await?.is_none_or(|there| !there.enabled) {
            let found = format!("subscription {name} was dropped or disabled by hand on {}", target.address);
            return Err(Failure::operator("copy", found, "run replicate again"));
        }
        let failed = failures.look(target, name, &seen).await?;
        let now = Figures::of(&planned, &seen);
        if furthest.as_ref().is_none_or(|before| now > *before) {
            furthest = Some(now.clone());
            forgiven = failed;
        }
        // A source that is down answers with its own error, which is waited out.
        slot::observe(source, name).await?;
        if failed >= forgiven + FAILURES {
            subscription::disable(target, name, WORKER_ENDS).await?;
            let unfinished: Vec<String> =
                seen.iter().filter(|table| table.state != "r").take(3).map(|table| table.name.to_string()).collect();
            return Err(Failure::operator(
                "copy",
                format!(
                    "PostgreSQL's table synchronisation failed {} times without getting on, with {} still to be copied",
                    failed - forgiven,
                    unfinished.join(", ")
                ),
                format!("mend what the log of {} says, then run replicate again", target.address),
            ));
        }
        let (since, from) = first.get_or_insert_with(|| (Instant::now(), now.bytes));
        tell(context, &now, now.bytes.saturating_sub(*from) as f64 / since.elapsed().as_secs_f64().max(0.001), failed);
        if now.ready == seen.len() && !seen.is_empty() {
            return Ok(now.bytes);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How far it is; ordered by what counts as getting on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Figures {
    ready: usize,
    copied: usize,
    tables: usize,
    bytes: u64,
    bytes_total: u64,
}

impl Figures {
    /// A table that is copied counts with its size on the source; one that is being copied with what COPY has
    /// read, but never more.
    fn of(planned: &[Table], seen: &[SyncedTable]) -> Self {
        let size = |name: &TableName| planned.iter().find(|table| table.name == *name).map_or(0, |t| t.total_bytes);
        let done = |table: &&SyncedTable| matches!(table.state.as_str(), "f" | "s" | "r");
        Self {
            ready: seen.iter().filter(|table| table.state == "r").count(),
            copied: seen.iter().filter(done).count(),
            tables: seen.len(),
            bytes: seen.iter().map(|t| if done(&t) { size(&t.name) } else { t.bytes.min(size(&t.name)) }).sum(),
            bytes_total: planned.iter().map(|table| table.total_bytes).sum(),
        }
    }
}

/// Rate and time left go into status and `show`.
fn tell(context: &Context<'_>, now: &Figures, rate: f64, failed: u64) {
    let left = now.bytes_total.saturating_sub(now.bytes);
    let eta = (rate > 0.0 && now.copied < now.tables).then(|| (left as f64 / rate).ceil() as u64);
    context.progress.update(|p| {
        p.bytes_copied = Some(now.bytes);
        p.eta_seconds = eta;
        p.trouble =
            (failed > 0).then(|| format!("table synchronisation failed {failed} times; PostgreSQL tries again"));
        let eta = eta.map(|eta| format!(", about {eta} s left")).unwrap_or_default();
        p.text = format!(
            "PostgreSQL copied {} of about {}, {} of {} tables follow, {}/s{eta}",
            human_bytes(now.bytes),
            human_bytes(now.bytes_total),
            now.ready,
            now.tables,
            human_bytes(rate as u64)
        );
    });
}

/// Drops the subscription with everything that its table synchronisation left on the source, which need not answer
/// when no table was still being synchronised.
///
/// # Errors
/// The servers'.
pub async fn drop_with_its_slots(context: &Context<'_>, target: &Session, name: &str) -> Result<(), Failure> {
    let there = subscription::state(target, name).await?;
    if there.is_some_and(|there| !there.tables_not_ready.is_empty()) {
        return drop_subscription(&context.world.source("undo").await?, target, name).await;
    }
    Ok(subscription::drop_subscription(target, name, WORKER_ENDS).await?)
}

/// The same with a source that answers.
///
/// # Errors
/// The servers'.
pub async fn drop_subscription(source: &Session, target: &Session, name: &str) -> Result<(), Failure> {
    let there = subscription::state(target, name).await?;
    if there.is_some_and(|there| !there.tables_not_ready.is_empty()) {
        subscription::disable(target, name, WORKER_ENDS).await?;
        drop_sync_slots(source, target, name, SLOT_ENDS).await?;
    }
    Ok(subscription::drop_subscription(target, name, WORKER_ENDS).await?)
}
