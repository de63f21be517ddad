//! Repair without starting over: a target that holds a whole copy, which is only no longer followed, is compared with
//! the source in a new slot's snapshot, and the rows that differ are copied again. Chosen where that promises to be
//! cheaper than a new copy; where the target's schema was migrated since, it is the only way on.

use super::context::{Answer, Context};
use super::copy::SNAPSHOT;
use super::observe::{self, human_bytes};
use super::{catch_up, migrate, verify};
use crate::apps::{Pair, Recognised, pair};
use crate::failpoint;
use crate::migration::{Failure, Run, Status, Step};
use crate::postgres::compare::{self, CompareProgress, Found, TableComparison, Unequal};
use crate::postgres::copy::{self, CopyPart, CopyProgress, SnapshotHolder};
use crate::postgres::inspect::{self, Table};
use crate::postgres::names::TableName;
use crate::postgres::repair::{self, Estimate, Measured, Rewritten};
use crate::postgres::schema::{self, Definition};
use crate::postgres::{Error, Result as Asked, Server};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The note of a whole copy on the target: how much it was and how long it took. Null from when the target is emptied
/// until the next copy ended.
const WHOLE: &str = "whole-copy";

/// The note of the last choice between a repair and a new copy, with its figures.
const CHOICE: &str = "choice";

/// How often progress is told.
const TICKS: Duration = Duration::from_millis(500);

/// The way that a copy takes.
pub enum Choice {
    /// Everything is copied; why, where a repair was thought of.
    Copy(Option<Chosen>),
    /// What differs is repaired.
    Repair(Chosen),
    /// Something outside must happen first.
    Wait(Answer),
}

/// A choice as it is shown.
#[derive(Clone)]
pub struct Chosen {
    /// In words, with both figures.
    pub said: String,
    /// Both figures.
    pub estimate: Estimate,
    /// The target has a later release's schema, so that nothing but a repair fits.
    pub migrated: Option<&'static Pair>,
}

/// Keeps that the target holds a whole copy, and what it cost.
///
/// # Errors
/// The journal's.
pub async fn note_whole(context: &mut Context<'_>, copied: Measured) -> Result<(), Failure> {
    context.note(Step::Copy, WHOLE, json!(copied)).await
}

/// The target is about to be emptied.
///
/// # Errors
/// The journal's.
pub async fn forget_whole(context: &mut Context<'_>) -> Result<(), Failure> {
    match whole(context.run()?) {
        Some(_) => context.note(Step::Copy, WHOLE, Value::Null).await,
        None => Ok(()),
    }
}

/// True while the target holds a whole copy, however old.
pub fn holds_whole(run: &Run) -> bool {
    whole(run).is_some()
}

fn whole(run: &Run) -> Option<Measured> {
    serde_json::from_value(run.note(Step::Copy, WHOLE)?.clone()).ok()
}

/// The road to the later release whose schema the target has by now, where it holds a copy and late rows are known to
/// fit.
///
/// # Errors
/// The servers'.
pub async fn migrated_since(context: &Context<'_>) -> Result<Option<&'static Pair>, Failure> {
    if whole(context.run()?).is_none() {
        return Ok(None);
    }
    let source = observe::recognise(context.app(), &context.world.source("repair").await?).await?;
    let target = observe::recognise(context.app(), &context.world.target("repair").await?).await?;
    Ok(match (source, target) {
        (Recognised::Release(from), Recognised::Release(to)) => {
            pair(context.app(), &from, &to).filter(|pair| pair.earned)
        }
        _ => None,
    })
}

/// Chooses by what was measured: a comparison's speed on a part of the biggest table, and the last copy.
///
/// # Errors
/// The servers'.
pub async fn choose(
    context: &mut Context<'_>,
    tables: &[TableName],
    migrated: Option<&'static Pair>,
) -> Result<Choice, Failure> {
    let Some(copied) = whole(context.run()?) else { return Ok(Choice::Copy(None)) };
    if context.run()?.status(Step::Migrate) == Status::Lost
        && let Some(waiting) = migrate::settle(context).await?
    {
        return Ok(Choice::Wait(waiting));
    }
    context.progress.say("measuring what is cheaper: a repair or a new copy");
    let there = replicated(&inspect::tables(&context.world.source("estimate").await?).await?, tables);
    let estimate = estimate(context, &there, copied).await?;
    let repairs = migrated.is_some() || estimate.repair_is_cheaper();
    let why = match (migrated.is_some(), repairs) {
        (true, _) => "what differs is repaired, since the target's schema is migrated already",
        (false, true) => "what differs is repaired",
        (false, false) => "everything is copied anew",
    };
    let said = format!(
        "comparing both sides takes about {}, a new copy about {}: {why}",
        seconds(estimate.repair_seconds),
        seconds(estimate.copy_seconds)
    );
    log::info!("{said}");
    context.progress.say(said.clone());
    let chosen = Chosen { said, estimate, migrated };
    Ok(if repairs { Choice::Repair(chosen) } else { Choice::Copy(Some(chosen)) })
}

/// Keeps the choice.
///
/// # Errors
/// The journal's.
pub async fn note_choice(context: &mut Context<'_>, chosen: &Chosen, repairs: bool) -> Result<(), Failure> {
    let engine = if repairs { REPAIR } else { SNAPSHOT };
    let value = json!({"engine": engine, "said": chosen.said, "estimate": chosen.estimate});
    context.note(Step::Copy, CHOICE, value).await
}

/// The engine in results, where what differed was copied.
pub const REPAIR: &str = "repair";

/// Seconds as a person reads them.
fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

async fn estimate(context: &Context<'_>, tables: &[Table], copied: Measured) -> Result<Estimate, Failure> {
    let bytes = tables.iter().map(|table| table.total_bytes).sum();
    let names: Vec<TableName> = tables.iter().map(|table| table.name.clone()).collect();
    let comparisons = verify::table_comparisons(context.app(), tables, &names);
    let biggest = comparisons.into_iter().zip(tables).max_by_key(|(comparison, _)| comparison.bytes);
    let world = context.world;
    let (source, target) =
        ((&world.source, world.source_database.as_str()), (&world.target, world.target_database.as_str()));
    let sample = match biggest {
        Some((comparison, table)) => compare::sample(source, target, comparison, table.heap_pages).await?,
        None => compare::Sample { bytes: 0, took: Duration::ZERO },
    };
    Ok(Estimate::of(bytes, copied, sample, verify::JOBS))
}

fn replicated(tables: &[Table], wanted: &[TableName]) -> Vec<Table> {
    tables.iter().filter(|table| wanted.contains(&table.name)).cloned().collect()
}

/// Compares in the holder's snapshot and copies again what differs. Answers `None`, with the reason for the choice
/// changed, where a new copy is better after all.
///
/// # Errors
/// The servers'; rows of a migrated target that cannot be repaired.
pub async fn perform(
    context: &mut Context<'_>,
    chosen: &mut Chosen,
    holder: &SnapshotHolder,
    tables: &[TableName],
    definitions: &[Definition],
) -> Result<Option<Value>, Failure> {
    let began = Instant::now();
    let world = context.world;
    repair::settle(&world.target("repair").await?, tables).await?;
    let source = inspect::tables(&world.source("repair").await?).await?;
    let target = inspect::tables(&world.target("repair").await?).await?;
    let parts = copy::plan_copy(&replicated(&source, tables), &target, 1)?;
    let comparisons = in_order(verify::table_comparisons(context.app(), &source, tables), chosen.migrated);
    let total: u64 = comparisons.iter().map(|table| table.bytes).sum();
    // Of a migrated target everything is repaired, however much it is: nothing can be copied into it anew.
    let most = chosen.migrated.is_none().then_some(total / 2);
    let ends = Ends::forward(context);
    let instead = format!(" (a new copy: about {})", seconds(chosen.estimate.copy_seconds));
    let repaired = match compared(context, &ends, holder, comparisons, most, &instead).await {
        Ok(Some(found)) => {
            failpoint::reach(failpoint::REPAIR_FOUND);
            rewritten(context, &ends, holder, &parts, &found).await.map(|done| (found, done))
        }
        Ok(None) => {
            let found = format!("more than half of {} differs", human_bytes(total));
            return copies_after_all(context, chosen, &found).await;
        }
        Err(error) => Err(error),
    };
    let (found, (figures, written)) = match repaired {
        Ok(repaired) => repaired,
        Err(error) if chosen.migrated.is_none() && needs_a_copy(&error) => {
            return copies_after_all(context, chosen, &error.to_string()).await;
        }
        Err(error) => return Err(error.into()),
    };
    match chosen.migrated {
        Some(pair) => catch_up::refuse_unfilled(context, pair).await?,
        // What the application's own migration replaced is not to come back; nothing of ours took it away.
        None => build_missing(context, definitions).await?,
    }
    Ok(Some(json!({
        "engine": REPAIR,
        "choice": chosen.said,
        "estimate": chosen.estimate,
        "bytes-copied": figures,
        "rows-copied": written.copied,
        "rows-deleted": written.deleted,
        "rows-compared": found.rows,
        "tables-compared": tables.len(),
        "tables-repaired": found.unequal.len(),
        "tables-rewritten": found.unequal.iter().filter(|table| table.is_whole()).count(),
        "chunks-compared": found.chunks,
        "seconds": began.elapsed().as_secs_f64(),
    })))
}

/// An index or constraint that was dropped by hand since the copy is made again.
async fn build_missing(context: &Context<'_>, definitions: &[Definition]) -> Result<(), Failure> {
    let session = context.world.target("repair").await?;
    for definition in schema::missing(&session, definitions).await? {
        context.progress.say(format!("building {definition}"));
        schema::create(&session, &definition).await?;
    }
    Ok(())
}

/// The rows cannot be brought in line one by one, but a new copy may well fit.
fn needs_a_copy(error: &Error) -> bool {
    let refused = error.sqlstate().is_some_and(|state| state.code().starts_with("23"));
    refused || matches!(error, Error::Found { .. })
}

async fn copies_after_all(
    context: &mut Context<'_>,
    chosen: &mut Chosen,
    found: &str,
) -> Result<Option<Value>, Failure> {
    chosen.said = format!("{found}, so everything is copied anew (about {})", seconds(chosen.estimate.copy_seconds));
    log::info!("{}", chosen.said);
    context.progress.say(chosen.said.clone());
    note_choice(context, chosen, false).await?;
    Ok(None)
}

/// A fill looks at its parent's row, so that comes first. Before the schema migration the target has nothing of its
/// own: all that it has more than the source is too much.
fn in_order(mut comparisons: Vec<TableComparison>, migrated: Option<&Pair>) -> Vec<TableComparison> {
    for comparison in &mut comparisons {
        comparison.target_may_have_more &= migrated.is_some();
    }
    let fills = migrated.map_or(&[][..], |pair| pair.fills);
    comparisons.sort_by_key(|table| !fills.iter().any(|fill| fill.parent() == Some(table.table.name.as_str())));
    comparisons
}

/// Whose rows are true, and who is brought in line: server and database.
pub(super) struct Ends<'a> {
    true_one: (&'a Server, &'a str),
    repaired: (&'a Server, &'a str),
}

impl<'a> Ends<'a> {
    /// The target is brought in line with the source.
    fn forward(context: &Context<'a>) -> Self {
        let world = context.world;
        Self {
            true_one: (&world.source, world.source_database.as_str()),
            repaired: (&world.target, world.target_database.as_str()),
        }
    }

    /// The source is brought in line with the target.
    pub(super) fn backward(context: &Context<'a>) -> Self {
        let Self { true_one, repaired } = Self::forward(context);
        Self { true_one: repaired, repaired: true_one }
    }
}

/// Compares in the holder's snapshot; `instead` is what else could be done, for whoever watches.
pub(super) async fn compared(
    context: &Context<'_>,
    ends: &Ends<'_>,
    holder: &SnapshotHolder,
    comparisons: Vec<TableComparison>,
    most: Option<u64>,
    instead: &str,
) -> Asked<Option<Found>> {
    let ((from, from_database), (to, to_database)) = (ends.true_one, ends.repaired);
    let twins = compare::open_twins_at(from, from_database, &holder.snapshot, to, to_database).await?;
    let progress = CompareProgress::default();
    let find = compare::find(&twins, comparisons, most, verify::JOBS, &progress);
    let found = telling(find, || {
        let (done, all) = (progress.bytes.load(Ordering::Relaxed), progress.bytes_total.load(Ordering::Relaxed));
        let what = if done < all { "comparing both sides" } else { "looking into the tables that differ" };
        let (done, all) = (human_bytes(done.min(all)), human_bytes(all));
        context.progress.say(format!("repair: {what}, {done} of {all} compared{instead}"));
    })
    .await?;
    twins.close().await?;
    Ok(found)
}

/// Copies again what differs; answers the bytes and rows of that.
pub(super) async fn rewritten(
    context: &Context<'_>,
    ends: &Ends<'_>,
    holder: &SnapshotHolder,
    parts: &[CopyPart],
    found: &Found,
) -> Asked<(u64, Rewritten)> {
    let rows: u64 = found.unequal.iter().map(Unequal::rows).sum();
    log::info!("{rows} rows in {} tables differ and are copied again", found.unequal.len());
    let progress = Arc::new(CopyProgress::default());
    let rewrite = repair::rewrite(ends.true_one, ends.repaired, holder, parts, &found.unequal, &progress);
    let written = telling(rewrite, || {
        let now = progress.figures();
        context.progress.update(|p| {
            p.bytes_copied = Some(now.bytes);
            p.rows_copied = Some(now.rows);
            p.text =
                format!("repair: copying again what differs, {} of {rows} rows, {}", now.rows, human_bytes(now.bytes));
        });
    })
    .await?;
    Ok((progress.figures().bytes, written))
}

/// Waits for the work and tells how far it is, now and then.
async fn telling<T>(work: impl Future<Output = Asked<T>>, tell: impl Fn()) -> Asked<T> {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval(TICKS);
    loop {
        tokio::select! {
            ended = &mut work => { tell(); return ended; }
            _ = ticks.tick() => tell(),
        }
    }
}
