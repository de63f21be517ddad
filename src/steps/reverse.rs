//! The road back after the flip, in its order: writes on the target stop under a lease, the source gets the last of
//! them, every row is compared, the target closes for good, the source opens, consumers go back. The mirror of fence,
//! drain, verification, hand-over and flip; who may write is decided by the fence rows here too.

use super::context::{Answer, Context, Outcome, wait};
use super::drain::{DRAIN_WITHIN, MARKER_WITHIN, SEQUENCE_MARGIN, refuse_other_clusters};
use super::fence::CLOSE_WITHIN;
use super::hand_over::{Closing, STANDBYS_WITHIN, close_for_good};
use super::judge::Revival;
use super::migrate::now_ms;
use super::{observe, verify, way_back};
use crate::apps::Health;
use crate::migration::journal::Side;
use crate::migration::{Failure, Status, Step, Verification};
use crate::postgres::compare::{self, Depth};
use crate::postgres::fence::{self, Close, FenceState};
use crate::postgres::{Session, inspect, marker, reverse, sequences, slot, subscription};
use serde_json::json;
use std::time::Duration;

/// The note that lets hooks and actions write the source's facts.
pub const GATES_PASSED: &str = "gates-passed";

/// Closes the target under a new generation with a lease, or goes on with the one that was begun.
///
/// # Errors
/// The servers'; a writer that does not end.
pub async fn stop_writes(context: &mut Context<'_>) -> Answer {
    // A comparison of what was true before the flip says nothing about what comes.
    if let Some(task) = context.live.comparison.take() {
        task.abort();
    }
    if context.run()?.status(Step::FollowBack) != Status::Done {
        match way_back::follow(context).await? {
            Outcome::Done(_) => {}
            other => return Ok(other),
        }
    }
    let target = context.world.target("stop writes").await?;
    let generation = match standing(context, &target).await? {
        Some(generation) => generation,
        None => {
            if let Some(waiting) = not_near(context, &target).await? {
                return waiting;
            }
            let generation = observe::new_generation(&target, &context.run()?.id.clone()).await?;
            context.note(Step::ReverseFence, "generation", json!(generation)).await?;
            context.note(Step::ReverseFence, "fenced-from", json!(now_ms())).await?;
            generation
        }
    };
    context.progress.say("stopping writes on the target");
    let tables = fence::user_tables(&target).await?;
    let close = Close {
        generation: &generation,
        tables: &tables,
        epoch: context.epoch,
        lock_timeout: lock_timeout(context),
        give_up: CLOSE_WITHIN,
    };
    let closed = fence::close_source(&target, &close, Duration::from_secs(context.settings().outage_limit)).await?;
    let lease = closed.remaining_ms.map(|left| now_ms() + left);
    context.progress.update(|p| p.lease_until = lease);
    Ok(Outcome::Done(json!({"generation": generation, "tables": closed.table_count, "lease-until": lease})))
}

fn lock_timeout(context: &Context<'_>) -> Duration {
    Duration::from_millis(context.settings().lock_timeout_ms)
}

/// The generation that stops writes on the target, once it was begun.
pub fn generation(context: &Context<'_>) -> Option<String> {
    context.noted(Step::ReverseFence, "generation")
}

async fn standing(context: &Context<'_>, target: &Session) -> Result<Option<String>, Failure> {
    let Some(generation) = generation(context) else { return Ok(None) };
    Ok(match fence::state(target, &generation).await? {
        Some(row) if row.state == FenceState::Permanent => Some(generation),
        Some(row) if row.state == FenceState::Leased && !row.lapsed() => Some(generation),
        _ => None,
    })
}

/// Stopping writes before the source is near would only make the outage long.
async fn not_near(context: &mut Context<'_>, target: &Session) -> Result<Option<Answer>, Failure> {
    let name = way_back::reverse_name(context)?;
    let source = context.world.source("lag").await?;
    let lag = slot::observe(target, &name).await?.and_then(|s| s.lag_bytes).and_then(|lag| u64::try_from(lag).ok());
    let state = subscription::state(&source, &name).await?;
    let applies = state.as_ref().is_some_and(|state| state.enabled && state.worker_pid.is_some());
    if let Some(reason) = rests(context, &source, &name).await? {
        return Ok(Some(wait(reason, "")));
    }
    let limit = context.settings().max_lag_bytes;
    Ok(match lag {
        Some(lag) if applies && lag <= limit => None,
        Some(lag) if applies => Some(wait(
            format!(
                "the source is {} behind the target, the limit before writes stop is {}",
                observe::human_bytes(lag),
                observe::human_bytes(limit)
            ),
            "",
        )),
        _ => Some(wait("the source's apply worker is not running", "")),
    })
}

/// Why nothing flows back, where only a person can change that. A lost connection disables the subscription too, and nobody
/// else looks after the way back from here on.
async fn rests(context: &mut Context<'_>, source: &Session, name: &str) -> Result<Option<String>, Failure> {
    let Some(state) = subscription::state(source, name).await?.filter(|state| !state.enabled) else { return Ok(None) };
    if way_back::revive(context, source, name, &state).await? != Revival::Leave {
        return Ok(None);
    }
    Ok(Some(format!("{}, and this goes on", way_back::disabled(source, name))))
}

/// Commits a marker behind the last write of the target and waits until the source shows it and has flushed
/// everything before it.
///
/// # Errors
/// The servers'; a table that took writes unfenced; a cluster that is not the one we began with.
pub async fn drain(context: &mut Context<'_>) -> Answer {
    let source = context.world.source("drain").await?;
    let target = context.world.target("drain").await?;
    refuse_unfenced(context, &target).await?;
    if way_back::is_lost(context, &source, &target).await? {
        // The watch lets writes go on at its next look, which is now.
        context.live.watched = None;
        return Ok(Outcome::Again(Duration::ZERO));
    }
    context.progress.say("applying the last changes on the source");
    let name = way_back::reverse_name(context)?;
    if let Some(reason) = rests(context, &source, &name).await? {
        return wait(reason, "");
    }
    let point = marker::drain_point(&target, MARKER_WITHIN).await?;
    marker::wait_drained(&target, &source, &name, &point, DRAIN_WITHIN).await?;
    let mut seeds = 0;
    for table in observe::replicated_tables(context)?.iter().filter(|table| context.app().is_seeded_table(&table.name))
    {
        seeds += reverse::carry_referenced(&source, &target, table).await?;
    }
    let known = sequences::read(&source).await?;
    let shared: Vec<_> = point.sequences.into_iter().filter(|s| known.iter().any(|k| k.name == s.name)).collect();
    let carried = sequences::set(&source, &shared, SEQUENCE_MARGIN).await?;
    let from = context.run()?.note(Step::ReverseFence, "fenced-from").and_then(|v| v.as_i64()).unwrap_or(now_ms());
    Ok(Outcome::Done(json!({"drain-ms": now_ms() - from, "sequences": carried.set, "seeds": seeds})))
}

async fn refuse_unfenced(context: &Context<'_>, target: &Session) -> Result<(), Failure> {
    let unfenced = fence::unfenced_tables(target, &generation(context).unwrap_or_default()).await?;
    match unfenced.first() {
        None => Ok(()),
        Some(table) => Err(Failure::retry(
            "go back to the source",
            format!("{} tables of the target take writes, first {table}", unfenced.len()),
        )),
    }
}

/// A trigger went while the target closed for good: users stay there. The watch tells it.
async fn take_back_if_it_leaked(context: &Context<'_>, target: &Session) -> Result<(), Failure> {
    let Err(leaks) = refuse_unfenced(context, target).await else { return Ok(()) };
    let generation = generation(context).unwrap_or_default();
    fence::reopen(target, &generation, context.epoch, lock_timeout(context)).await?;
    Err(leaks)
}

/// Compares every row of what both schemas know, while nobody can write on either side.
///
/// # Errors
/// Rows that differ: then writes go on on the target; the servers'.
pub async fn compare(context: &mut Context<'_>) -> Answer {
    context.progress.say("comparing every row before users go back");
    let world = context.world;
    let source = inspect::tables(&world.source("verify").await?).await?;
    let target = inspect::tables(&world.target("verify").await?).await?;
    let replicated = observe::replicated_tables(context)?;
    let comparisons = verify::shared_comparisons(context.app(), &source, &target, &replicated);
    let twins =
        compare::open_twins(&world.source, &world.source_database, &world.target, &world.target_database).await?;
    let depth = match context.settings().verification {
        Verification::Counts => Depth::Counts,
        Verification::Twin | Verification::Strict => Depth::Rows,
    };
    let progress = std::sync::Arc::clone(&context.live.compare_progress);
    let verdict = compare::compare(&twins, comparisons, depth, verify::JOBS, progress).await?;
    twins.close().await?;
    if verdict.rows_different > 0 {
        let target = world.target("stop writes").await?;
        fence::lift(&target, &generation(context).unwrap_or_default(), context.epoch, lock_timeout(context)).await?;
        return Err(Failure::operator(
            "go back to the source",
            verify::describe(&verdict),
            "users stay on the target; look at these rows on both sides",
        ));
    }
    Ok(Outcome::Done(json!({"rows-verified": verdict.rows_verified, "rows-different": 0})))
}

/// The target closes for good, then the source opens.
///
/// # Errors
/// A lease that ran out; a standby that would reopen; the servers'.
pub async fn hand_over(context: &mut Context<'_>) -> Answer {
    let world = context.world;
    let (source, target) = tokio::try_join!(world.source("hand over"), world.target("hand over"))?;
    let opening = context.noted(Step::Fence, "generation").unwrap_or_default();
    if !fence::state(&source, &opening).await?.is_some_and(|row| row.state == FenceState::Expired) {
        take_back_if_it_leaked(context, &target).await?;
        refuse_other_clusters(context, &source, &target).await?;
        context.progress.say("stopping replication");
        let name = way_back::reverse_name(context)?;
        if subscription::state(&source, &name).await?.is_some() {
            subscription::disable(&source, &name, way_back::ENDS).await?;
        }
        slot::wait_inactive(&target, &name, way_back::ENDS).await?;
        let generation = generation(context).unwrap_or_default();
        context.note(Step::ReverseHandOver, "closing-target", json!(generation)).await?;
        context.progress.say("closing the target for good");
        let closing = Closing {
            server: &world.target,
            database: &world.target_database,
            session: &target,
            generation: &generation,
            again: "rollback",
        };
        let position = close_for_good(context, &closing).await?;
        fence::wait_flushed_by_standbys(&target, position, STANDBYS_WITHIN).await?;
        take_back_if_it_leaked(context, &target).await?;
        context.note(Step::ReverseHandOver, "opening-source", json!(opening)).await?;
        context.progress.say("opening the source");
        let row = fence::reopen(&source, &opening, context.epoch, lock_timeout(context)).await?;
        if !row.as_ref().is_some_and(|row| row.state == FenceState::Expired) {
            return Err(Failure::retry("open the source", format!("its fence row is {row:?}")));
        }
    }
    let opened_at = now_ms();
    let from = context.run()?.note(Step::ReverseFence, "fenced-from").and_then(|v| v.as_i64()).unwrap_or(opened_at);
    context.progress.update(|p| p.lease_until = None);
    Ok(Outcome::Done(json!({"opened-at": opened_at, "outage-ms": opened_at - from})))
}

/// Passes the gate of the source's server, then waits until a hook or an action gave the consumers its facts.
///
/// # Errors
/// The journal's.
pub async fn flip(context: &mut Context<'_>) -> Answer {
    if context.run()?.brokered != Some(Side::Target) {
        return super::flip::flipped(context, Side::Source).await;
    }
    if context.run()?.note(Step::ReverseFlip, GATES_PASSED).is_none() {
        match observe::server(context.app(), &context.applications.source).health().await {
            Health::Ready { version } => context.note(Step::ReverseFlip, GATES_PASSED, json!(version)).await?,
            other => return wait(format!("the source's server is not ready: {other}"), ""),
        }
    }
    context.progress.say("pointing consumers at the source");
    Ok(Outcome::Again(Duration::from_millis(100)))
}
