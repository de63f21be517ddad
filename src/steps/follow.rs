//! The subscription on the copy's slot. PostgreSQL's own worker applies; nothing of ours touches a row.

use super::apply;
use super::context::{Answer, Context, Outcome};
use super::observe::human_bytes;
use super::prepare::forward;
use super::world::World;
use crate::migration::{Failure, Run, State, Status, Step};
use crate::postgres::names::{PREFIX, RunId};
use crate::postgres::slot::SlotState;
use crate::postgres::subscription::SubscriptionSpec;
use crate::postgres::{Password, Server};
use crate::postgres::{Session, slot, subscription};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::types::PgLsn;

/// How soon a subscription that catches up is looked at again.
const LOOKS_AGAIN: Duration = Duration::from_millis(200);

/// How long the apply worker may take to end.
const WORKER_ENDS: Duration = Duration::from_secs(30);

/// The note of the copy that the subscription was created on.
const CREATED: &str = "created-at";

/// What the slot had confirmed when following was paused, in the step's output.
const CONFIRMED: &str = "confirmed";

/// The note that following rests after an outage that ended too late.
pub const RESTS: &str = "rests";

/// Creates the subscription where it is missing, enables it, waits until it is nearly caught up.
///
/// # Errors
/// The servers'.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    if let Some(waiting) = super::migrate::settle(context).await? {
        return waiting;
    }
    let target = context.world.target("follow").await?;
    let name = forward(context)?;
    if subscription::state(&target, &name).await?.is_none() {
        if was_created(context.run()?) {
            // Dropped by hand, and with it how far it was: the watch finds that, and a new copy follows.
            return Ok(Outcome::Again(LOOKS_AGAIN));
        }
        let world = context.world;
        let spec = SubscriptionSpec {
            name: name.clone(),
            slot: name.clone(),
            publication: name.clone(),
            conninfo: conninfo(&world.source, &world.source_database),
            // A source of 14 or 15 cannot filter; nothing else replicates into it while we follow.
            only_local_changes: false,
        };
        subscription::create(&world.target, &world.target_database, &spec).await?;
    }
    if !was_created(context.run()?) {
        let point = copied_at(context.run()?);
        context.note(Step::Follow, CREATED, point).await?;
    }
    if context.run()?.note(Step::Follow, RESTS).is_some_and(|rests| rests == &json!(true)) {
        context.note(Step::Follow, RESTS, json!(false)).await?;
    }
    apply::enable_once(context, &target, &name, Step::Follow).await?;
    caught_up(context, &target, &name).await
}

/// The place in the source's WAL that the copy began at; null for a copy that PostgreSQL's own engine made.
pub fn copied_at(run: &Run) -> Value {
    run.note(Step::Copy, "slot").and_then(|slot| slot.get("consistent-point")).cloned().unwrap_or_default()
}

/// True once the subscription on this very copy was created: if it is not there then, somebody dropped it.
pub fn was_created(run: &Run) -> bool {
    run.note(Step::Follow, CREATED) == Some(&copied_at(run))
}

/// How the target reaches the source.
pub fn conninfo(source: &Server, database: &str) -> Password {
    source.conninfo(database, &format!("{PREFIX} subscription"))
}

/// A relation that was made anew brought another user: the subscription goes on as that one. A worker
/// starts anew with each change of the relations, so it is enough to look once at its begin.
///
/// # Errors
/// The target's.
pub async fn reconnect(world: &World, state: &State) -> Result<(), Failure> {
    let Some(run) = state.active().and_then(|run| RunId::parse(&run.id)) else { return Ok(()) };
    let conninfo = conninfo(&world.source, &world.source_database);
    if subscription::reconnect(&world.target, &world.target_database, &run.forward(), &conninfo).await? {
        log::info!("the subscription goes on with the source's new credentials");
    }
    Ok(())
}

/// Done when the worker applies and the lag is within the limit.
///
/// # Errors
/// The servers'.
pub async fn caught_up(context: &mut Context<'_>, target: &Session, name: &str) -> Answer {
    let source = context.world.source("lag").await?;
    // One that is disabled, and anything that is gone, is judged by the watch.
    let (Some(state), Some(slot)) = (subscription::state(target, name).await?, slot::observe(&source, name).await?)
    else {
        return Ok(Outcome::Again(LOOKS_AGAIN));
    };
    let lag = slot.lag_bytes.and_then(|l| u64::try_from(l).ok()).unwrap_or(0);
    context.progress.update(|p| {
        p.lag_bytes = Some(lag);
        p.text = format!("catching up, {} behind", human_bytes(lag));
    });
    if apply::confirms(context, &slot)
        && slot.active_pid.is_some()
        && state.worker_pid.is_some()
        && lag <= context.settings().max_lag_bytes
    {
        return Ok(Outcome::Done(json!({"lag-bytes": lag})));
    }
    Ok(Outcome::Again(LOOKS_AGAIN))
}

/// Stops the subscription; the slot keeps what comes meanwhile.
///
/// # Errors
/// The servers'.
pub async fn pause(context: &mut Context<'_>) -> Answer {
    stop(context).await?;
    let slot = slot::observe(&context.world.source("pause").await?, &forward(context)?).await?;
    let confirmed = slot.and_then(|slot| slot.confirmed_flush_lsn).map(|confirmed| confirmed.to_string());
    Ok(Outcome::Done(json!({CONFIRMED: confirmed})))
}

/// True when the slot has gone on though nobody reads it while following is paused: a slot that was made anew begins at
/// the end of the WAL, and would skip what was kept. After a crash of the source it may fall back.
pub fn went_on_while_paused(run: &Run, slot: &SlotState) -> bool {
    let rests = run.is_done(Step::Pause) && run.status(Step::CatchUp) == Status::Pending;
    let noted = run.output(Step::Pause, CONFIRMED).and_then(Value::as_str).and_then(|text| text.parse::<PgLsn>().ok());
    match (noted, slot.confirmed_flush_lsn) {
        (Some(before), Some(now)) if rests => now > before,
        _ => false,
    }
}

/// Disables the subscription and waits until its worker is gone and the source's slot is inactive.
///
/// # Errors
/// The servers'; a worker that does not end.
pub async fn stop(context: &Context<'_>) -> Result<(), Failure> {
    stop_between(context, &context.world.source("pause").await?, &context.world.target("pause").await?).await
}

/// The same, in sessions that are open already.
///
/// # Errors
/// As [`stop`].
pub async fn stop_between(context: &Context<'_>, source: &Session, target: &Session) -> Result<(), Failure> {
    let name = forward(context)?;
    if subscription::state(target, &name).await?.is_some() {
        subscription::disable(target, &name, WORKER_ENDS).await?;
    }
    slot::wait_inactive(source, &name, WORKER_ENDS).await?;
    Ok(())
}

/// Drops the subscription; its slot goes with `copy`.
///
/// # Errors
/// The servers'.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    drop_subscription(context).await?;
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// Disables, detaches and drops the subscription; the source is needed only while tables are synchronised.
///
/// # Errors
/// The server's.
pub async fn drop_subscription(context: &Context<'_>) -> Result<(), Failure> {
    let target = context.world.target("undo").await?;
    let name = forward(context)?;
    super::native::drop_with_its_slots(context, &target, &name).await
}
