//! Writes on the source stop: a barrier, not a flag, and under a lease that the source keeps itself.

use super::context::{Answer, Context, Outcome, wait};
use super::guard;
use super::observe::{self, human_bytes};
use super::prepare::forward;
use super::world::World;
use crate::migration::{Class, Failure, Order, State, Step};
use crate::postgres::fence::{self, Close, FenceState};
use crate::postgres::{Session, slot, subscription};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long the last writers of all tables are waited for, all in all, before the fence gives up.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// Extra seconds that a person and the application's start get inside the documented order's outage.
const PERSON: u64 = 600;

/// True when the target's schema migration comes inside the outage, and was not made in an earlier one.
async fn still_migrates(context: &Context<'_>, source: &Session, target: &Session) -> Result<bool, Failure> {
    let run = context.run()?;
    if run.order != Order::Documented || run.keeps.is_some() {
        return Ok(false);
    }
    let app = context.app();
    Ok(observe::schema_versions(app, source).await? == observe::schema_versions(app, target).await?)
}

/// Closes the source under a new generation, or goes on with the one that was begun.
///
/// # Errors
/// The servers'; a writer that does not end; an outage limit that cannot hold what comes.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let source = context.world.source("fence").await?;
    if let Some(budget) = budget_too_small(context).await? {
        return Err(budget);
    }
    let generation = match standing(context).await? {
        Some(generation) => generation,
        None => {
            if let Some(waiting) = not_near(context).await? {
                return waiting;
            }
            if let Some(waiting) = super::through_controller::plan_routes(context).await? {
                return waiting;
            }
            if still_migrates(context, &source, &context.world.target("fence").await?).await?
                && let Some(waiting) = super::migrate::must_restart(context).await?
            {
                return waiting;
            }
            if let Some(found) = guard::altered(context, context.run()?, &source).await? {
                return Err(Failure::new(format!("cannot stop writes: {found}"), Class::Operator));
            }
            let target = context.world.target("fence").await?;
            let unfenced = observe::unfenced_target(&target).await?;
            if let Some(table) = unfenced.first() {
                return Err(Failure::operator(
                    "stop writes",
                    format!("{} tables of the target are not closed, first {table}", unfenced.len()),
                    format!("run {}, then start again", context.command("rollback")),
                ));
            }
            let generation = observe::new_generation(&source, &context.run()?.id.clone()).await?;
            context.note(Step::Fence, "generation", json!(generation)).await?;
            context.note(Step::Fence, "fenced-from", json!(super::migrate::now_ms())).await?;
            generation
        }
    };
    context.progress.say("stopping writes on the source");
    let tables = fence::user_tables(&source).await?;
    let began = Instant::now();
    let close = Close {
        generation: &generation,
        tables: &tables,
        epoch: context.epoch,
        lock_timeout: Duration::from_millis(context.settings().lock_timeout_ms),
        give_up: CLOSE_WITHIN,
    };
    let closed = fence::close_source(&source, &close, Duration::from_secs(context.settings().outage_limit)).await?;
    let lease = closed.remaining_ms.map(|left| super::migrate::now_ms() + left);
    context.progress.update(|p| p.lease_until = lease);
    Ok(Outcome::Done(json!({
        "generation": generation,
        "tables": closed.table_count,
        "retries": closed.retries,
        "fence-ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "lease-until": lease,
    })))
}

/// The generation that this step began and whose lease still runs.
async fn standing(context: &Context<'_>) -> Result<Option<String>, Failure> {
    let Some(generation) = context.noted(Step::Fence, "generation") else { return Ok(None) };
    let source = context.world.source("fence").await?;
    Ok(match fence::state(&source, &generation).await? {
        Some(row) if row.state == FenceState::Leased && !row.lapsed() => Some(generation),
        Some(row) if row.state == FenceState::Permanent => Some(generation),
        _ => None,
    })
}

/// A fence before the target is near would only make the outage long.
async fn not_near(context: &Context<'_>) -> Result<Option<Answer>, Failure> {
    let name = forward(context)?;
    let source = context.world.source("lag").await?;
    let target = context.world.target("lag").await?;
    let lag = slot::observe(&source, &name).await?.and_then(|s| s.lag_bytes).and_then(|l| u64::try_from(l).ok());
    let applies = subscription::state(&target, &name).await?.is_some_and(|s| s.enabled && s.worker_pid.is_some());
    let limit = context.settings().max_lag_bytes;
    Ok(match lag {
        Some(lag) if applies && lag <= limit => None,
        Some(lag) if applies => Some(wait(
            format!("the target is {} behind, the limit before a fence is {}", human_bytes(lag), human_bytes(limit)),
            "",
        )),
        _ => Some(wait("the target's apply worker is not running", "")),
    })
}

/// Whatever runs inside the outage must fit into the lease, or is refused before it starts.
async fn budget_too_small(context: &Context<'_>) -> Result<Option<Failure>, Failure> {
    let run = context.run()?;
    if run.order != Order::Documented || run.is_done(Step::Migrate) || run.keeps.is_some() {
        return Ok(None);
    }
    let from = match observe::recognise(context.app(), &context.world.source("estimate").await?).await? {
        crate::apps::Recognised::Release(name) => name,
        _ => String::new(),
    };
    let needed = super::migrate::timeout(context, &from).await? + PERSON;
    let limit = context.settings().outage_limit;
    Ok((limit < needed).then(|| {
        Failure::operator(
            "stop writes",
            format!(
                "in the documented order the schema migration runs inside the outage and may need {needed} s with a \
                 person at hand, the outage limit is {limit} s"
            ),
            format!("run {} or set the option outage-limit", context.command(&format!("drain outage-limit={needed}"))),
        )
        .cured_by(format!("drain outage-limit={needed}"))
    }))
}

/// Lifts the lease: writes go to the source again at once. The triggers go with `prepare`.
///
/// # Errors
/// The server's.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    if let Some(generation) = context.noted(Step::Fence, "generation") {
        let source = context.world.source("undo").await?;
        if fence::installed(&source).await? {
            let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
            let row = fence::lift(&source, &generation, context.epoch, lock_timeout).await?;
            if row.is_some_and(|row| row.state == FenceState::Permanent) {
                // The target is proven closed by the hand-over's undo: writes come back before the rest is undone.
                fence::remove(&source, lock_timeout, CLOSE_WITHIN).await?;
            }
        }
    }
    context.progress.update(|p| p.lease_until = None);
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// The highest epoch that any fence of ours carries: a failover of the target may have lost the
/// journal's own count.
///
/// # Errors
/// The servers'.
pub async fn highest_epoch(world: &World) -> Result<i64, Failure> {
    let mut highest = 0;
    for session in [world.source("take over").await?, world.target("take over").await?] {
        if fence::installed(&session).await? {
            highest = highest.max(fence::epoch(&session).await?);
        }
    }
    Ok(highest)
}

/// Writes the new worker's epoch to both sides first, so that an older worker that still lives loses.
///
/// # Errors
/// The servers'.
pub async fn take_over(world: &World, state: &State, epoch: i64) -> Result<(), Failure> {
    // A fence that stands before the run has prepared anything is another coordinator's.
    let Some(run) = state.active().filter(|run| run.has_touched()) else { return Ok(()) };
    for session in [world.source("take over").await?, world.target("take over").await?] {
        let ours = fence::owning_run(&session).await?.is_none_or(|owner| owner == run.id);
        if ours && fence::installed(&session).await? {
            fence::bump_epoch(&session, epoch, Duration::from_secs(5)).await?;
        }
    }
    Ok(())
}
