//! Mending a way back that was lost after the flip: a failover of either side, a slot that was dropped or fell behind.
//! Users stay on the target, the source stays closed for good. Everything of the old way back is dropped, the source is
//! compared with the target in a new slot's snapshot, the rows that differ are copied there, and from the slot's
//! beginning new writes flow back again. Killed in the middle, it begins anew.

use super::context::{Answer, Context};
use super::judge::Mended;
use super::repair::{self, Ends};
use super::{observe, verify, way_back};
use crate::failpoint;
use crate::migration::{Class, Failure, Step};
use crate::postgres::copy::{self, CopyPart};
use crate::postgres::fence::{self, FenceState};
use crate::postgres::inspect::{self, Table};
use crate::postgres::names::TableName;
use crate::postgres::{Error, Session, replication, subscription};
use serde_json::{Value, json};
use std::time::Instant;

/// Note of the rows that the source needed last, for the action's answer.
pub const MENDED: &str = "mended";

/// Makes the way back anew, once in an attempt of the step; a slot is not left to keep WAL where that needs a person.
///
/// # Errors
/// A source that is not closed for good, or may have what the target lacks; the servers'.
pub async fn once(context: &mut Context<'_>) -> Result<(), Failure> {
    let attempt = context.run()?.steps.get(&Step::FollowBack).and_then(|step| step.started);
    if context.live.mended.as_ref().is_some_and(|mended| mended.attempt == attempt) {
        return Ok(());
    }
    context.live.mended = None;
    if let Err(failure) = perform(context).await {
        if failure.class == Class::Operator {
            let source = context.world.source("way back").await?;
            let target = context.world.target("way back").await?;
            way_back::disconnect(context, &source, &target).await?;
        }
        return Err(failure);
    }
    context.live.mended = Some(Mended::in_attempt(attempt));
    Ok(())
}

/// The new way back does not work: nothing of it is left to keep WAL.
///
/// # Errors
/// Always: the reason, or the servers'.
pub async fn give_up(context: &mut Context<'_>, source: &Session, target: &Session, reason: String) -> Answer {
    context.live.mended = None;
    way_back::disconnect(context, source, target).await?;
    let cure = format!("mend that, then run {}", context.command("replicate"));
    Err(Failure::operator("mend the way back", reason, cure))
}

/// Brings the source in line with the target again, and leaves a subscription there that only has to be enabled.
async fn perform(context: &mut Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    context.progress.say("making the way back anew");
    let source = context.world.source("mend the way back").await?;
    let target = context.world.target("mend the way back").await?;
    refuse_different(context)?;
    refuse_open(context, &source).await?;
    way_back::disconnect(context, &source, &target).await?;
    way_back::publish(context, &target).await?;
    let reversal = way_back::relax(context, &source).await?;
    let tables: Vec<TableName> = reversal.published.iter().map(|table| table.name.clone()).collect();
    let name = way_back::reverse_name(context)?;
    let world = context.world;
    context.progress.say("waiting for the slot and its snapshot");
    let (server, database) = (&world.target, world.target_database.as_str());
    let slot = replication::create_slot_with_snapshot(server, database, &name, super::copy::SLOT_WITHIN).await?;
    failpoint::reach(failpoint::MEND_SLOT);
    let holder = copy::hold_snapshot(server, database, &slot.snapshot, &tables).await?;
    drop(slot);
    let ends = Ends::backward(context);
    let there = inspect::tables(&source).await?;
    // What the target's own migrations put there is no user's row.
    let users: Vec<TableName> =
        tables.into_iter().filter(|table| !context.app().is_seeded_table(&table.name)).collect();
    crate::postgres::repair::settle(&source, &users).await?;
    let here = inspect::tables(&target).await?;
    let comparisons = verify::table_comparisons(context.app(), &there, &users);
    refuse_narrower(context, &here, &there, &users)?;
    let found = repair::compared(context, &ends, &holder, comparisons, None, "").await?;
    failpoint::reach(failpoint::REPAIR_FOUND);
    let mut mended = json!({});
    // Without a limit it always goes on to the end.
    if let Some(found) = found {
        let parts = parts(&here, &there, &users)?;
        let (bytes, written) = repair::rewritten(context, &ends, &holder, &parts, &found).await?;
        mended = json!({"bytes-copied": bytes, "rows-copied": written.copied, "rows-deleted": written.deleted});
    }
    let clusters = json!({"source": identity(&source).await?, "target": identity(&target).await?});
    context.note(Step::WayBack, observe::CLUSTERS, clusters).await?;
    subscription::create(&world.source, &world.source_database, &way_back::subscription_spec(context, &name)).await?;
    failpoint::reach(failpoint::MEND_SUBSCRIPTION);
    mended["seconds"] = json!(began.elapsed().as_secs_f64());
    log::info!("the way back was made anew: {mended}");
    context.note(Step::WayBack, MENDED, mended).await
}

async fn identity(session: &Session) -> Result<Value, Error> {
    Ok(observe::identity_value(&inspect::cluster_identity(session).await?))
}

/// Rows that were found missing or different on the target are right on the source, which must keep them.
fn refuse_different(context: &Context<'_>) -> Result<(), Failure> {
    match context.run()?.differing() {
        None => Ok(()),
        Some(found) => Err(Failure::operator(
            "mend the way back",
            format!("{found}, and the source alone has these rows as they were"),
            "bring them to the target by hand, then run finalize accept-unverified=true",
        )),
    }
}

/// A column that the target lacks could not be written in the rows that are copied.
fn refuse_narrower(
    context: &Context<'_>,
    target: &[Table],
    source: &[Table],
    wanted: &[TableName],
) -> Result<(), Failure> {
    let found = source.iter().filter(|table| wanted.contains(&table.name)).find_map(|old| {
        let new = target.iter().find(|table| table.name == old.name)?;
        let lacking = old.columns.iter().find(|column| new.columns.iter().all(|other| other.name != column.name))?;
        Some((old, lacking))
    });
    match found {
        None => Ok(()),
        Some((table, column)) => Err(Failure::operator(
            "mend the way back",
            format!("column {} of table {} is not on the target any more", column.name, table.name),
            format!("stay on the target: run {}", context.command("finalize")),
        )),
    }
}

/// Rows that users write there would be taken away again.
async fn refuse_open(context: &Context<'_>, source: &Session) -> Result<(), Failure> {
    let row = if fence::installed(source).await? { fence::latest(source).await?.into_iter().next() } else { None };
    if let Some(row) = row.filter(|row| row.state == FenceState::Permanent)
        && fence::unfenced_tables(source, &row.generation).await?.is_empty()
    {
        return Ok(());
    }
    Err(Failure::operator(
        "mend the way back",
        format!("the source at {} is not closed for good, so that its own writes would be lost", source.address),
        format!("stay on the target: run {}", context.command("finalize")),
    ))
}

/// How the target's rows are read: only what the source's tables have a column for.
fn parts(target: &[Table], source: &[Table], wanted: &[TableName]) -> Result<Vec<CopyPart>, Error> {
    let shared = target.iter().filter(|table| wanted.contains(&table.name)).cloned().map(|mut table| {
        let old = source.iter().find(|old| old.name == table.name);
        table.columns.retain(|ours| old.is_some_and(|old| old.columns.iter().any(|column| column.name == ours.name)));
        table
    });
    copy::plan_copy(&shared.collect::<Vec<_>>(), source, 1)
}
