//! The source closes for good, then the target opens. Each line is journalled before and after; who
//! may write is decided by the fence rows, never by the journal.

use super::context::{Answer, Context, Outcome};
use super::drain::{refuse_other_clusters, refuse_unfenced};
use super::{follow, messages, observe, prepare, way_back};
use crate::migration::{Failure, Step};
use crate::postgres::fence::{self, FenceState, OpenOnlyIf, Opening, Permanent};
use crate::postgres::{Error, Server, Session};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::types::PgLsn;

/// The note of what let writes pass while the source closed for good.
pub const LEAKED: &str = "leaked";

/// How long every standby of the source may take to flush the permanent fence.
pub(super) const STANDBYS_WITHIN: Duration = Duration::from_secs(10);

/// How long the commit that closes the source may wait for a synchronous standby.
const COMMITS_WITHIN: Duration = Duration::from_secs(5);

/// The hand-over, line by line; goes on where an earlier attempt ended.
///
/// # Errors
/// A lease that ran out; a standby that would reopen; the servers'.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let generation = context.noted(Step::Fence, "generation").unwrap_or_default();
    // Nobody can write meanwhile: each side is asked in one session.
    let (source, target) = tokio::try_join!(context.world.source("hand over"), context.world.target("hand over"))?;
    let target_generation = target_generation(context, &target).await?;
    if is_open(&target, &target_generation).await? {
        return done(context).await;
    }
    if let Some(found) = context.run()?.steps.get(&Step::Verify).and_then(|verify| verify.failure.clone()) {
        return Err(found);
    }
    // 1. Nothing unfenced on either side, and both clusters are those that we began with.
    take_back_if_it_leaked(context, &source, &generation).await?;
    refuse_unfenced(context, &source, &generation).await?;
    let open_tables = observe::unfenced_target(&target).await?;
    if let Some(table) = open_tables.first() {
        return Err(Failure::operator(
            "open the target",
            format!("{} tables there are not closed, first {table}", open_tables.len()),
            format!("run {}", context.command("rollback")),
        ));
    }
    refuse_other_clusters(context, &source, &target).await?;
    // 2. The forward direction stops.
    context.progress.say("stopping replication");
    follow::stop_between(context, &source, &target).await?;
    // 3. From here on the target keeps what will be written there for the source.
    // It is a new subscription, whose errors are counted from the beginning.
    context.live.way_back = super::judge::Revivals::default();
    let reverse_slot = way_back::connect(context, &source, &target).await?;
    let first = messages::opening(context, &target).await?;
    // 4. The source closes for good, if its lease still runs.
    context.note(Step::HandOver, "closing-source", json!(generation)).await?;
    context.progress.say("closing the source for good");
    let closing = Closing {
        server: &context.world.source,
        database: &context.world.source_database,
        session: &source,
        generation: &generation,
        again: "cut-over",
    };
    let position = close_for_good(context, &closing).await?;
    context.note(Step::HandOver, "source-closed", json!(super::migrate::now_ms())).await?;
    // 5. A standby without that commit would reopen at the deadline.
    fence::wait_flushed_by_standbys(&source, position, STANDBYS_WITHIN).await?;
    take_back_if_it_leaked(context, &source, &generation).await?;
    // 6. The target opens.
    context.note(Step::HandOver, "opening-target", json!(target_generation)).await?;
    context.progress.say("opening the target");
    let only_if = OpenOnlyIf { reverse_slot, first, ..OpenOnlyIf::default() };
    match fence::open_target(&target, &target_generation, context.epoch, &only_if).await? {
        Opening::Open => done(context).await,
        Opening::Refused(found) => Err(Failure::retry("open the target", found)),
    }
}

/// The side that closes for good.
pub(super) struct Closing<'a> {
    pub(super) server: &'a Server,
    pub(super) database: &'a str,
    pub(super) session: &'a Session,
    pub(super) generation: &'a str,
    /// The action to run when the lease was over before.
    pub(super) again: &'a str,
}

/// Closes a side for good; answers a place in the WAL that lies behind that commit.
///
/// # Errors
/// A lease that ran out; an outcome that nobody knows yet; the server's.
pub(super) async fn close_for_good(context: &Context<'_>, closing: &Closing<'_>) -> Result<PgLsn, Failure> {
    let Closing { server, database, session, generation, again } = closing;
    let address = &session.address;
    let row = fence::state(session, generation).await?;
    if row.is_some_and(|row| row.state == FenceState::Permanent) {
        // Where that commit lies is not known any more, but it lies before the end of the WAL.
        let row = session
            .query_one("SELECT pg_current_wal_flush_lsn()", &[])
            .await
            .map_err(Error::doing(format!("see where the WAL of {address} ends")))?;
        return Ok(row.get(0));
    }
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    match fence::make_permanent(server, database, generation, context.epoch, lock_timeout, COMMITS_WITHIN).await? {
        Permanent::Committed(position) => Ok(position),
        Permanent::Lost(_) => Err(Failure::operator(
            "hand over",
            format!("the fence's lease ran out before {address} was closed for good"),
            format!("run {} again when you are ready", context.command(&context.request.again(again))),
        )),
        Permanent::Locked(by) => {
            Err(Failure::retry(format!("close {address} for good"), format!("its fence row is held by {by}")))
        }
        Permanent::Unknown(why) => Err(Failure::retry(format!("close {address} for good"), why)),
    }
}

/// A trigger went while the source closed for good: what was drained proves nothing, so the source opens again. The
/// watch tells it.
async fn take_back_if_it_leaked(context: &mut Context<'_>, source: &Session, generation: &str) -> Result<(), Failure> {
    let closed = fence::state(source, generation).await?.is_some_and(|row| row.state == FenceState::Permanent);
    let leaks = fence::unfenced_tables(source, generation).await?;
    let Some(table) = leaks.first().filter(|_| closed) else { return Ok(()) };
    let address = &source.address;
    let found = format!("the fence did not hold table {table} of {address} to the end (a trigger dropped by hand?)");
    prepare::close_target(context, Step::HandOver).await?;
    context.note(Step::HandOver, LEAKED, json!(found)).await?;
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    fence::reopen(source, generation, context.epoch, lock_timeout).await?;
    Err(Failure::retry("hand over", found))
}

async fn done(context: &mut Context<'_>) -> Answer {
    let opened_at = super::migrate::now_ms();
    let from = context.run()?.note(Step::Fence, "fenced-from").and_then(|v| v.as_i64()).unwrap_or(opened_at);
    let abandoned = context.run()?.note(Step::HandOver, messages::ABANDONED).cloned();
    context.progress.update(|p| p.lease_until = None);
    Ok(Outcome::Done(json!({
        "opened-at": opened_at,
        "outage-ms": opened_at - from,
        "messages-abandoned": abandoned,
    })))
}

async fn target_generation(context: &Context<'_>, target: &Session) -> Result<String, Failure> {
    fence::latest(target).await?.into_iter().next().map(|row| row.generation).ok_or_else(|| {
        Failure::operator("open the target", "it was never closed", format!("run {}", context.command("rollback")))
    })
}

async fn is_open(target: &Session, generation: &str) -> Result<bool, Failure> {
    Ok(fence::state(target, generation).await?.is_some_and(|row| row.state == FenceState::Open))
}

/// True when the target already takes writes: then there is no way back by undoing.
///
/// # Errors
/// The server's.
pub async fn has_opened(context: &Context<'_>) -> Result<bool, Failure> {
    let target = context.world.target("hand over").await?;
    let generation = target_generation(context, &target).await?;
    is_open(&target, &generation).await
}

/// Before the open: the target is proven closed by a new generation before the source may reopen.
///
/// # Errors
/// The servers'; a target that already took writes.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    if has_opened(context).await? {
        return Err(Failure::operator(
            "roll back",
            "the target already takes writes",
            format!("run {} to go on", context.command("flip-traffic")),
        ));
    }
    prepare::close_target(context, Step::HandOver).await?;
    Ok(Outcome::Done(serde_json::Value::Null))
}
