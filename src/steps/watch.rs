//! Looked at in every cycle: is what the journal says still true? A slot that is gone, a lease that
//! ran out and snapshots that died are found here, never assumed away.

use super::context::Context;
use super::prepare::forward;
use super::{apply, guard, migrate, observe, reverse, room, way_back};
use crate::migration::{Class, Failure, Goal, Order, Phase, Record, Run, Side, Status, Step};
use crate::postgres::fence::{self, FenceState};
use crate::postgres::{Error, Session, slot, subscription};
use std::time::{Duration, Instant};

/// How often it is looked.
pub const EVERY: Duration = Duration::from_secs(1);

/// How often the source's writes are counted.
const COUNTED: Duration = Duration::from_secs(15);

/// What was found to be no longer true, as a record for the journal.
///
/// # Errors
/// The servers'; a change of the source's tables that stands in the way of what was asked for.
pub async fn watch(context: &mut Context<'_>) -> Result<Option<Record>, Failure> {
    // In place there is nothing of ours in the database.
    let Some(run) = context.state.active().filter(|run| !run.is_in_place()).cloned() else { return Ok(None) };
    if !matches!(run.phase, Phase::RollingBack | Phase::Reversing) && !run.is_done(Step::HandOver) {
        guard::note_shape(context, &run).await?;
    }
    // Between two steps that hurry there is nothing to find that the steps do not look at themselves.
    if context.live.watched.is_some_and(|at| at.elapsed() < EVERY) {
        return Ok(None);
    }
    context.live.watched = Some(Instant::now());
    let Some(run) = context.state.active().cloned() else { return Ok(None) };
    context.live.open_for = None;
    context.live.altered = None;
    match run.phase {
        Phase::RollingBack | Phase::Finalized => return Ok(None),
        Phase::Reversing => return reversal(context, &run).await,
        Phase::Opened | Phase::Flipped if !way_back::stands(&run) => return Ok(None),
        Phase::Opened | Phase::Flipped => {
            let sessions = sessions(context).await?;
            let found = way_back::watch(context, &run, &sessions.0, &sessions.1).await;
            return keep(context, sessions, found);
        }
        _ if !run.is_done(Step::Prepare) => return Ok(None),
        _ => {}
    }
    if run.status(Step::Fence) != Status::Pending
        && let Some(record) = lease(context, &run).await?
    {
        return Ok(Some(record));
    }
    if run.awaits_comparison() && context.live.comparison.is_none() {
        let reason = "the snapshots ended with the worker that held them".to_owned();
        return Ok(Some(Record::Lost { step: Step::Snapshot, reason }));
    }
    if !matches!(run.status(Step::HandOver), Status::Pending | Status::Lost) {
        return Ok(None);
    }
    let sessions = sessions(context).await?;
    let found = look(context, &run, &sessions.0, &sessions.1).await;
    keep(context, sessions, found)
}

/// The sessions of the last look, or new ones: a new session every second would fill the servers' logs.
async fn sessions(context: &mut Context<'_>) -> Result<(Session, Session), Failure> {
    match context.live.watching.take().filter(|(source, target)| !source.is_closed() && !target.is_closed()) {
        Some(sessions) => Ok(sessions),
        None => Ok(tokio::try_join!(context.world.source("watch"), context.world.target("watch"))?),
    }
}

/// Keeps the sessions of a look that went well; after an error nobody knows what they are in the middle of.
fn keep<T>(context: &mut Context<'_>, sessions: (Session, Session), found: Result<T, Failure>) -> Result<T, Failure> {
    if found.is_ok() {
        context.live.watching = Some(sessions);
    }
    found
}

async fn look(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    target: &Session,
) -> Result<Option<Record>, Failure> {
    if let Some(record) = guard::mend(context, run, source, target).await? {
        return Ok(Some(record));
    }
    if run.status(Step::Follow) == Status::Pending || !run.is_done(Step::Copy) {
        return Ok(None);
    }
    if let Some(record) = migrate::went_on(context, run, target).await? {
        return Ok(Some(record));
    }
    count_writes(context, source).await?;
    let altered = guard::altered(context, run, source).await?;
    match replication(context, run, source, target, altered.as_deref()).await? {
        // Without replication no drain can end: writes are not stopped for nothing.
        Some(Record::Lost { reason, .. }) if lift(context, run).await? => return Ok(Some(Record::Lifted { reason })),
        Some(found) => return Ok(Some(found)),
        None => {}
    }
    match altered {
        Some(found) => alterations(context, run, found).await,
        None => Ok(None),
    }
}

/// Counts now and then what was written on the source, from its own statistics.
async fn count_writes(context: &mut Context<'_>, source: &Session) -> Result<(), Failure> {
    // Nobody writes in an outage, which is no traffic to be found quiet.
    if context.state.phase() != Phase::Following || context.live.counted.is_some_and(|at| at.elapsed() < COUNTED) {
        return Ok(());
    }
    context.live.counted = Some(Instant::now());
    let sql = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables";
    let counted = source.query_one(sql, &[]).await;
    let rows = counted.map_err(Error::doing(format!("count writes on {}", source.address)))?.get(0);
    let mut traffic = context.store.traffic().await?;
    traffic.see(migrate::now_ms(), rows);
    Ok(context.store.keep_traffic(&traffic).await?)
}

/// A change of the source's tables ends an outage that runs and the request under way; following goes on.
async fn alterations(context: &mut Context<'_>, run: &Run, found: String) -> Result<Option<Record>, Failure> {
    if lift(context, run).await? {
        return Ok(Some(Record::Lifted { reason: found }));
    }
    context.live.altered = Some(found.clone());
    match context.state.request.as_ref().map(|request| request.goal) {
        None | Some(Goal::RolledBack | Goal::Refreshed | Goal::Finalized) => Ok(None),
        Some(_) => Err(Failure::new(format!("cannot go on: {found}"), Class::Operator)),
    }
}

/// Lifts a lease that runs; false when there is none.
async fn lift(context: &mut Context<'_>, run: &Run) -> Result<bool, Failure> {
    let begun = matches!(run.status(Step::Fence), Status::Doing | Status::Done | Status::Failed);
    let Some(generation) = context.noted(Step::Fence, "generation").filter(|_| begun) else { return Ok(false) };
    let source = context.world.source("lift").await?;
    let leased = fence::state(&source, &generation).await?.is_some_and(|row| row.state == FenceState::Leased);
    if leased {
        let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
        fence::lift(&source, &generation, context.epoch, lock_timeout).await?;
    }
    // Snapshots of an outage that is over prove nothing about the next one.
    if let Some(task) = context.live.comparison.take() {
        task.abort();
    }
    Ok(leased)
}

/// A worker that sees its lease run out lifts the fence properly and never goes on to open the target.
async fn lease(context: &mut Context<'_>, run: &Run) -> Result<Option<Record>, Failure> {
    let Some(generation) = context.noted(Step::Fence, "generation") else { return Ok(None) };
    let source = context.world.source("lease").await?;
    if !fence::installed(&source).await? {
        return Ok(None);
    }
    let Some(row) = fence::state(&source, &generation).await? else {
        return row_gone(context, run, &source, &generation).await;
    };
    let until = row.remaining_ms.map(|left| migrate::now_ms() + left);
    context.progress.update(|p| p.lease_until = (row.state == FenceState::Leased).then_some(until).flatten());
    let over = row.state == FenceState::Expired || row.lapsed();
    if !run.is_done(Step::Fence) {
        return Ok(None);
    }
    if !over {
        return leaks(context, run, &source, &row).await;
    }
    let leaked = context.noted(Step::HandOver, super::hand_over::LEAKED).filter(|_| row.state == FenceState::Expired);
    let ran_out = || format!("its lease of {} s ran out before the hand-over", context.settings().outage_limit);
    let reason = leaked.unwrap_or_else(ran_out);
    ended(context, run, reason).await.map(Some)
}

/// The outage is over without a hand-over: writes pass on the source, the target goes on following where it can.
async fn ended(context: &mut Context<'_>, run: &Run, reason: String) -> Result<Record, Failure> {
    lift(context, run).await?;
    if context.noted(Step::HandOver, super::hand_over::LEAKED).is_some() {
        context.note(Step::HandOver, super::hand_over::LEAKED, serde_json::Value::Null).await?;
    }
    if run.order == Order::Documented && run.status(Step::Migrate) != Status::Pending && run.keeps.is_none() {
        // The target went on to another schema: `follow` sees to that before the subscription goes on.
        migrate::close_if_ended(context).await?;
        context.note(Step::Follow, super::follow::RESTS, serde_json::json!(true)).await?;
    } else {
        // A hand-over that was begun had stopped it; the target was not opened, and now never is.
        let (source, target) = tokio::try_join!(context.world.source("lease"), context.world.target("lease"))?;
        let name = forward(context)?;
        way_back::disconnect(context, &source, &target).await?;
        if subscription::state(&target, &name).await?.is_some() {
            subscription::enable(&target, &name).await?;
        }
    }
    Ok(Record::Lifted { reason })
}

/// A fence whose row somebody deleted would stay closed for ever: to a trigger no row means closed.
async fn row_gone(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    generation: &str,
) -> Result<Option<Record>, Failure> {
    if !run.is_done(Step::Fence) || !matches!(run.status(Step::HandOver), Status::Pending | Status::Lost) {
        return Ok(None);
    }
    fence::put_back_expired(source, generation, context.epoch).await?;
    ended(context, run, format!("the fence's row {generation} on {} was deleted by hand", source.address))
        .await
        .map(Some)
}

/// Writes pass a table whose trigger was dropped: what was drained and compared then proves nothing.
async fn leaks(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    row: &fence::FenceRow,
) -> Result<Option<Record>, Failure> {
    if row.state != FenceState::Leased {
        return Ok(None);
    }
    let unfenced = fence::unfenced_tables(source, &row.generation).await?;
    let Some(table) = unfenced.first() else { return Ok(None) };
    let reason = format!(
        "the fence does not hold {} tables of {}, first {table} (a trigger dropped by hand?)",
        unfenced.len(),
        source.address
    );
    ended(context, run, reason).await.map(Some)
}

/// On the way back to the source: a lease of the target that ran out before the source opened leaves users there.
async fn reversal(context: &mut Context<'_>, run: &Run) -> Result<Option<Record>, Failure> {
    let status = run.status(Step::ReverseFence);
    if run.is_done(Step::ReverseHandOver) || matches!(status, Status::Pending | Status::Lost) {
        return Ok(None);
    }
    let (source, target) = tokio::try_join!(context.world.source("lease"), context.world.target("lease"))?;
    if status == Status::Doing {
        // Whether the source is near is waited for, and would be for ever.
        let lost = way_back::give_up_if_lost(context, &source, &target).await?;
        return Ok(lost.map(users_stay));
    }
    let Some(generation) = reverse::generation(context) else { return Ok(None) };
    let Some(row) = fence::state(&target, &generation).await? else { return Ok(None) };
    let until = row.remaining_ms.map(|left| migrate::now_ms() + left);
    context.progress.update(|p| p.lease_until = (row.state == FenceState::Leased).then_some(until).flatten());
    let leaks = fence::unfenced_tables(&target, &generation).await?;
    let leak = leaks.first().filter(|_| row.state != FenceState::Permanent);
    let over = row.state == FenceState::Expired || row.lapsed();
    let lost = match over || leak.is_some() || run.is_done(Step::ReverseDrain) {
        true => None,
        false => way_back::give_up_if_lost(context, &source, &target).await?,
    };
    if !over && leak.is_none() && lost.is_none() {
        return Ok(None);
    }
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    fence::lift(&target, &generation, context.epoch, lock_timeout).await?;
    let name = way_back::reverse_name(context)?;
    if lost.is_none() && run.way_back().is_ok() && subscription::state(&source, &name).await?.is_some() {
        subscription::enable(&source, &name).await?;
    }
    let why = match (leak, lost) {
        (Some(table), _) => format!("the fence did not hold table {table} (a trigger dropped by hand?)"),
        (None, Some(lost)) => lost,
        (None, None) => "its fence ended before the source was opened".to_owned(),
    };
    Ok(Some(users_stay(why)))
}

fn users_stay(why: String) -> Record {
    Record::Lifted { reason: format!("{why}, so writes go on on the target") }
}

/// Slot, publication and subscription, by identity; the lag.
async fn replication(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    target: &Session,
    altered: Option<&str>,
) -> Result<Option<Record>, Failure> {
    let name = forward(context)?;
    let lost = |reason: String| Ok(Some(Record::Lost { step: Step::Copy, reason }));
    for (side, session) in [(Side::Source, source), (Side::Target, target)] {
        if let Some(found) = observe::another_cluster(run, side, session).await? {
            return lost(found);
        }
    }
    let Some(seen) = slot::observe(source, &name).await? else {
        return lost(format!("replication slot {name} is gone on {}", source.address));
    };
    if seen.wal_status.as_deref() == Some("lost") {
        return lost(format!("replication slot {name} lost the WAL it needs on {}", source.address));
    }
    // What is only about to follow is not judged; nor is what rests on purpose, unless an operator set the limit: losing
    // the copy then would break into the application's migration or an outage. A rehearsal is worth neither.
    let rests = match run.phase {
        Phase::Fenced | Phase::Drained => true,
        Phase::Migrating if run.rehearsing => false,
        Phase::Migrating => context.settings().max_kept_wal_bytes == 0,
        _ => !run.is_done(Step::Follow),
    };
    if !rests && let Some(found) = room::give_up_if_full(context, source, Some(target), &name, &seen).await? {
        return lost(found);
    }
    let copy = super::follow::copied_at(run).to_string();
    if context.live.slot.was_made_anew(&copy, &seen, &source.database)
        || super::follow::went_on_while_paused(run, &seen)
    {
        return lost(format!(
            "replication slot {name} on {} was made anew by hand, so changes between may be missing",
            source.address
        ));
    }
    let Some(subscription) = subscription::state(target, &name).await? else {
        // On a new copy it is about to be created.
        if !super::follow::was_created(run) {
            return Ok(None);
        }
        return lost(format!("subscription {name} is gone on {}", target.address));
    };
    // A renamed table has another name in the publication too, until that is undone.
    if altered.is_none()
        && let Some(found) = guard::publication_altered(context, source, &name).await?
    {
        return lost(found);
    }
    let wanted = observe::replicated_tables(context)?.len() + 1;
    if usize::try_from(subscription.tables).is_ok_and(|followed| followed < wanted) {
        let found =
            format!("subscription {name} on {} follows {} of {wanted} tables", target.address, subscription.tables);
        return lost(format!("{found}: one was dropped there by hand"));
    }
    let step = apply::wanted_by(run);
    if guard::rests_after_lift(run) {
        let done = run.is_done(Step::Follow);
        let reason = "the outage ended when the target had another schema already, so following rests".to_owned();
        return Ok(done.then_some(Record::Lost { step: Step::Follow, reason }));
    }
    match apply::look(context, run, target, &name, &subscription, &seen).await? {
        apply::Health::Good => {}
        apply::Health::Unknown => return Ok(None),
        apply::Health::Stopped(found) => {
            let reason = altered.map_or(found.clone(), |altered| format!("{found}; {altered}"));
            return Ok(Some(Record::Lost { step, reason }));
        }
    }
    let lag = seen.lag_bytes.and_then(|lag| u64::try_from(lag).ok());
    context.progress.update(|p| p.lag_bytes = lag);
    Ok(None)
}
