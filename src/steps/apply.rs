//! Does the subscription's apply worker live? It is revived where the server stopped it for something that passes,
//! and what stopped it is said where only a person can help.

use super::context::Context;
use super::judge::{Apply, HEALTHY, REVIVALS};
use crate::migration::{Failure, Order, Run, Status, Step};
use crate::postgres::slot::SlotState;
use crate::postgres::subscription::{self, ErrorCount, SubscriptionState};
use crate::postgres::{Session, server_log, slot};
use serde_json::json;
use std::time::Instant;

/// The note of the errors that the server had counted when the subscription was enabled or healthy last: more of them
/// mean that the server disabled it, as many mean that a person did.
const ERRORS: &str = "apply-errors";

/// How the subscription is.
pub enum Health {
    /// As it should be, or not to be judged now.
    Good,
    /// To be seen at the next look.
    Unknown,
    /// It stopped and a person must act: what was found, with the cure.
    Stopped(String),
}

/// The step that wants the subscription enabled now.
pub fn wanted_by(run: &Run) -> Step {
    let paused = matches!(run.status(Step::Pause), Status::Doing | Status::Done | Status::Failed);
    if paused { Step::CatchUp } else { Step::Follow }
}

/// The attempt of a step, told from an earlier one.
fn attempt(run: &Run, step: Step) -> Option<(Step, i64)> {
    run.steps.get(&step)?.started.map(|started| (step, started))
}

/// True once this attempt of the step has enabled the subscription.
pub fn was_enabled(context: &Context<'_>, step: Step) -> bool {
    let attempt = context.state.active().and_then(|run| attempt(run, step));
    attempt.is_some() && context.live.apply.enabled_for == attempt
}

/// Enables the subscription once in this attempt of the step. What disables it later is judged, not undone at once.
///
/// # Errors
/// The servers'.
pub async fn enable_once(context: &mut Context<'_>, target: &Session, name: &str, step: Step) -> Result<(), Failure> {
    if was_enabled(context, step) {
        return Ok(());
    }
    let before = subscription::state(target, name).await?;
    remember(context, before.and_then(|state| state.apply_errors)).await?;
    let source = context.world.source("enable").await?;
    let enabled_at = slot::observe(&source, name).await?.and_then(|slot| slot.confirmed_flush_lsn);
    subscription::enable(target, name).await?;
    let attempt = attempt(context.run()?, step);
    context.live.apply = Apply::just_enabled(attempt, enabled_at);
    Ok(())
}

/// True once something was confirmed since the step enabled the subscription, or nothing is left to be: a worker that
/// only lives for a moment, until it meets the same error again, does not follow.
pub fn confirms(context: &Context<'_>, slot: &SlotState) -> bool {
    slot.lag_bytes == Some(0) || slot.confirmed_flush_lsn > context.live.apply.enabled_at
}

/// Keeps the server's count of errors in the journal, where it changed.
async fn remember(context: &mut Context<'_>, errors: Option<ErrorCount>) -> Result<(), Failure> {
    let Some(errors) = errors else { return Ok(()) };
    if noted(context.run()?).as_ref() != Some(&errors) {
        context.note(Step::Follow, ERRORS, json!(errors)).await?;
    }
    Ok(())
}

fn noted(run: &Run) -> Option<ErrorCount> {
    serde_json::from_value(run.note(Step::Follow, ERRORS)?.clone()).ok()
}

/// Looks at the subscription as it was just read, and revives it where that may help.
///
/// # Errors
/// The servers'.
pub async fn look(
    context: &mut Context<'_>,
    run: &Run,
    target: &Session,
    name: &str,
    seen: &SubscriptionState,
    slot: &SlotState,
) -> Result<Health, Failure> {
    let step = wanted_by(run);
    let judged = match run.status(step) {
        Status::Done => !rests_on_purpose(run),
        Status::Doing => was_enabled(context, step),
        _ => false,
    };
    if !judged {
        context.live.apply.absent_since = None;
        context.live.apply.seen_resting = false;
        return Ok(Health::Good);
    }
    if seen.enabled {
        return enabled(context, target, name, seen, slot).await;
    }
    disabled(context, run, target, name, seen, slot).await
}

/// In the documented order no apply worker may run beside the change of the schema, nor after it until late rows are
/// known to fit.
fn rests_on_purpose(run: &Run) -> bool {
    run.order == Order::Documented && !run.rehearsing && run.status(Step::Migrate) != Status::Pending
}

async fn enabled(
    context: &mut Context<'_>,
    target: &Session,
    name: &str,
    seen: &SubscriptionState,
    slot: &SlotState,
) -> Result<Health, Failure> {
    // The count is read after the state: only the last look's is known to be older than this enabled state.
    let earlier = std::mem::replace(&mut context.live.apply.counted, seen.apply_errors.clone());
    remember(context, earlier).await?;
    let apply = &mut context.live.apply;
    apply.seen_resting = false;
    if apply.last.is_none_or(|last| last.elapsed() > HEALTHY) {
        apply.times = 0;
    }
    let found = match apply.watch_worker(seen.worker_pid, slot.confirmed_flush_lsn) {
        Some(found) => found,
        None => return Ok(Health::Good),
    };
    let said = server_log::apply_error(target).await;
    context.live.apply = Apply::default();
    Ok(Health::Stopped(format!("subscription {name} is enabled on {}, but {found}: {said}", target.address)))
}

async fn disabled(
    context: &mut Context<'_>,
    run: &Run,
    target: &Session,
    name: &str,
    seen: &SubscriptionState,
    slot: &SlotState,
) -> Result<Health, Failure> {
    // The worker counts its error as it ends, which is after it disabled the subscription.
    if seen.worker_pid.is_some() || !std::mem::replace(&mut context.live.apply.seen_resting, true) {
        return Ok(Health::Unknown);
    }
    if !seen.apply_errors.as_ref().is_some_and(|errors| errors.grew_from(noted(run).as_ref())) {
        context.live.apply = Apply::default();
        return Ok(Health::Stopped(format!(
            "subscription {name} was disabled by hand on {}, no error came before; the same action again enables it",
            target.address
        )));
    }
    if slot.confirmed_flush_lsn > context.live.apply.revived_at {
        // It went on since: the same change did not stop it twice.
        context.live.apply.times = 0;
    }
    if context.live.apply.times >= REVIVALS {
        let said = server_log::apply_error(target).await;
        context.live.apply = Apply::default();
        return Ok(Health::Stopped(format!(
            "subscription {name} was disabled on {} by an apply error again and again: {said}",
            target.address
        )));
    }
    log::warn!("subscription {name} was disabled by an error, which a lost connection is too; enabling it again");
    remember(context, seen.apply_errors.clone()).await?;
    subscription::enable(target, name).await?;
    let apply = &mut context.live.apply;
    apply.seen_resting = false;
    apply.times += 1;
    apply.revived_at = slot.confirmed_flush_lsn;
    apply.last = Some(Instant::now());
    Ok(Health::Unknown)
}
