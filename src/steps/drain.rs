//! The target applies the last change, provably; sequences are carried over.

use super::context::{Answer, Context, Outcome};
use super::prepare::forward;
use super::{guard, observe};
use crate::migration::{Failure, Side, Step};
use crate::postgres::{Session, fence, marker, sequences};
use serde_json::json;
use std::time::Duration;

/// How long the drain is waited for before everything is looked at again, and a new marker is written.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How long the marker's commit may wait for the source's synchronous standby.
pub(super) const MARKER_WITHIN: Duration = Duration::from_secs(15);

/// Values that sessions may have cached of a sequence without using them.
pub(super) const SEQUENCE_MARGIN: u32 = 100;

/// Commits a marker behind the last write and waits until the target shows it and has flushed
/// everything before it.
///
/// # Errors
/// The servers'; a table that took writes unfenced; a cluster that is not the one we began with.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let source = context.world.source("drain").await?;
    let target = context.world.target("drain").await?;
    let generation = context.noted(Step::Fence, "generation").unwrap_or_default();
    refuse_unfenced(context, &source, &generation).await?;
    if let Some(found) = another_cluster(context, &source, &target).await? {
        // The watch sees it too, lets writes pass again and asks for a repair.
        return Err(Failure::retry("drain", found));
    }
    if let Some(found) = guard::altered(context, &context.run()?.clone(), &source).await? {
        return Err(Failure::retry("drain", found));
    }
    context.progress.say("applying the last changes on the target");
    let name = forward(context)?;
    let point = marker::drain_point(&source, MARKER_WITHIN).await?;
    marker::wait_drained(&source, &target, &name, &point, DRAIN_WITHIN).await?;
    let carried = sequences::set(&target, &point.sequences, SEQUENCE_MARGIN).await?;
    let drained_at = super::migrate::now_ms();
    let from = context.run()?.note(Step::Fence, "fenced-from").and_then(|v| v.as_i64()).unwrap_or(drained_at);
    Ok(Outcome::Done(json!({
        "drain-ms": drained_at - from,
        "drained-at": drained_at,
        "sequences": carried.set,
    })))
}

/// A table that somebody created, or whose trigger somebody dropped, would make the proof void.
///
/// # Errors
/// The finding.
pub async fn refuse_unfenced(context: &Context<'_>, source: &Session, generation: &str) -> Result<(), Failure> {
    let unfenced = fence::unfenced_tables(source, generation).await?;
    match unfenced.first() {
        None => Ok(()),
        Some(table) => Err(Failure::operator(
            "drain",
            format!("{} tables of the source are not fenced, first {table}", unfenced.len()),
            format!("run {}; see who changes tables of {}", context.command("rollback"), source.database),
        )),
    }
}

/// A failover under our feet means another history: nothing may be concluded from it.
///
/// # Errors
/// The finding.
pub async fn refuse_other_clusters(context: &Context<'_>, source: &Session, target: &Session) -> Result<(), Failure> {
    match another_cluster(context, source, target).await? {
        None => Ok(()),
        Some(found) => {
            Err(Failure::operator("hand over", found, format!("run {}, then start again", context.command("rollback"))))
        }
    }
}

async fn another_cluster(context: &Context<'_>, source: &Session, target: &Session) -> Result<Option<String>, Failure> {
    let run = context.run()?;
    let found = observe::another_cluster(run, Side::Source, source).await?;
    Ok(match found {
        Some(found) => Some(found),
        None => observe::another_cluster(run, Side::Target, target).await?,
    })
}
