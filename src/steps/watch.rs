//! Looked at in every cycle: is what the journal says still true? A slot that is gone, a lease that
//! ran out and snapshots that died are found here, never assumed away.

use super::context::Context;
use super::observe;
use super::prepare::forward;
use crate::migration::{Failure, Phase, Record, Run, Status, Step};
use crate::postgres::fence::{self, FenceState};
use crate::postgres::{inspect, slot, subscription};
use std::time::{Duration, Instant};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What was found to be no longer true, as a record for the journal.
///
/// # Errors
/// The servers'.
pub async fn watch(context: &mut Context<'_>) -> Result<Option<Record>, Failure> {
    // Between two steps that hurry there is nothing to find that the steps do not look at themselves.
    if context.live.watched.is_some_and(|at| at.elapsed() < EVERY) {
        return Ok(None);
    }
    context.live.watched = Some(Instant::now());
    let Some(run) = context.state.active().cloned() else { return Ok(None) };
    if run.phase == Phase::RollingBack || run.is_done(Step::HandOver) {
        return Ok(None);
    }
    if run.status(Step::Fence) != Status::Pending
        && let Some(record) = lease(context, &run).await?
    {
        return Ok(Some(record));
    }
    if run.is_done(Step::Snapshot) && !run.is_done(Step::Verify) && context.live.comparison.is_none() {
        let reason = "the snapshots ended with the worker that held them".to_owned();
        return Ok(Some(Record::Lost { step: Step::Snapshot, reason }));
    }
    if run.is_done(Step::Follow) && run.status(Step::HandOver) == Status::Pending {
        return replication(context, &run).await;
    }
    Ok(None)
}

/// A worker that sees its lease run out lifts the fence properly and never goes on to open the target.
async fn lease(context: &mut Context<'_>, run: &Run) -> Result<Option<Record>, Failure> {
    let Some(generation) = context.noted(Step::Fence, "generation") else { return Ok(None) };
    let source = context.world.source("lease").await?;
    let Some(row) = fence::state(&source, &generation).await? else { return Ok(None) };
    let until = row.remaining_ms.map(|left| super::migrate::now_ms() + left);
    context.progress.update(|p| p.lease_until = (row.state == FenceState::Leased).then_some(until).flatten());
    let over = row.state == FenceState::Expired || row.lapsed();
    if !over || !run.is_done(Step::Fence) {
        return Ok(None);
    }
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    fence::lift(&source, &generation, context.epoch, lock_timeout).await?;
    if run.status(Step::Migrate) != Status::Pending && run.order == crate::migration::Order::Documented {
        // The target went on to another schema while the source takes writes again.
        super::follow::stop(context).await?;
    }
    let reason = format!("its lease of {} s ran out before the hand-over", context.settings().outage_limit);
    Ok(Some(Record::Lifted { reason }))
}

/// Slot and subscription, by identity; the lag.
async fn replication(context: &mut Context<'_>, run: &Run) -> Result<Option<Record>, Failure> {
    let name = forward(context)?;
    let source = context.world.source("watch").await?;
    let noted = run.note(Step::Copy, "slot").and_then(|slot| slot.get("identity")).cloned().unwrap_or_default();
    let lost = |reason: String| Ok(Some(Record::Lost { step: Step::Copy, reason }));
    let now = observe::identity_value(&inspect::cluster_identity(&source).await?);
    if noted != now {
        return lost(format!("the source at {} is another cluster or timeline than the copy's", source.address));
    }
    let Some(seen) = slot::observe(&source, &name).await? else {
        return lost(format!("replication slot {name} is gone on {}", source.address));
    };
    if seen.wal_status.as_deref() == Some("lost") {
        return lost(format!("replication slot {name} lost the WAL it needs on {}", source.address));
    }
    let lag = seen.lag_bytes.and_then(|lag| u64::try_from(lag).ok());
    let paused = run.phase == Phase::Migrating;
    let target = context.world.target("watch").await?;
    let subscription = subscription::state(&target, &name).await?;
    let trouble = match &subscription {
        None => {
            return lost(format!("subscription {name} is gone on {}", target.address));
        }
        Some(state) if !state.enabled && !paused => Some(format!(
            "cannot follow the source: subscription {name} is disabled on {}, by hand or after an apply error in its \
             log; mend that, then run {}",
            target.address,
            context.command("replicate")
        )),
        _ => None,
    };
    context.progress.update(|p| {
        p.lag_bytes = lag;
        if run.phase == Phase::Following || trouble.is_some() {
            p.trouble = trouble;
        }
    });
    Ok(None)
}
