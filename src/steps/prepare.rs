//! Fence objects on both sides, the publication, the closed target.

use super::context::{Answer, Context, Outcome};
use super::observe;
use super::through_controller;
use crate::migration::{Failure, Step};
use crate::postgres::names::{PREFIX, TableName};
use crate::postgres::publication::PublishedTable;
use crate::postgres::{fence, inspect, leftovers, publication};
use serde_json::json;
use std::time::Duration;

/// How long the target's tables are waited for, all in all.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

/// Installs, publishes, closes. Every part is made only where it is missing.
///
/// # Errors
/// The servers'; a table of somebody else's that cannot be locked.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let source = context.world.source("prepare").await?;
    let target = context.world.target("prepare").await?;
    let tables: Vec<TableName> =
        observe::application_tables(context.app(), &source).await?.into_iter().map(|t| t.name).collect();
    if tables.is_empty() {
        return Err(Failure::operator(
            "prepare",
            format!("database {} on {} has no table", source.database, source.address),
            "relate the coordinator to the source application's own database cluster",
        ));
    }
    context.note(Step::Prepare, "tables", json!(tables)).await?;
    let identity = json!({
        "source": observe::identity_value(&inspect::cluster_identity(&source).await?),
        "target": observe::identity_value(&inspect::cluster_identity(&target).await?),
    });
    context.note(Step::Prepare, "identity", identity).await?;
    context.progress.say("installing the fence's objects on both sides");
    for session in [&source, &target] {
        fence::install(session).await?;
        fence::claim(session, &context.run()?.id).await?;
        fence::bump_epoch(session, context.epoch, Duration::from_secs(5)).await?;
    }
    publish(context, &tables).await?;
    close_target(context, Step::Prepare).await?;
    Ok(Outcome::Done(json!({"tables": tables.len()})))
}

/// Creates the publication where it is missing. It must stand before the slot: decoding looks at the past.
///
/// # Errors
/// The server's; a publication of that name with other tables.
pub async fn publish(context: &Context<'_>, tables: &[TableName]) -> Result<(), Failure> {
    let source = context.world.source("publish").await?;
    let (name, wanted) = (forward(context)?, published(tables));
    if publication::tables_of(&source, &name).await?.is_some_and(|there| there != wanted) {
        // Somebody changed it by hand; what follows begins after this.
        publication::drop_publication(&source, &name).await?;
    }
    publication::create(&source, &name, &wanted).await?;
    Ok(())
}

/// What the forward direction publishes: the tables and the marker, by name.
pub fn published(tables: &[TableName]) -> Vec<PublishedTable> {
    let mut published: Vec<PublishedTable> =
        tables.iter().cloned().chain([TableName::new(PREFIX, "marker")]).map(PublishedTable::whole).collect();
    published.sort();
    published
}

/// Closes the target with a new generation, unless this step's own generation closed it already.
///
/// # Errors
/// The server's; a table that cannot be locked in time.
pub async fn close_target(context: &mut Context<'_>, step: Step) -> Result<String, Failure> {
    let target = context.world.target("close").await?;
    let tables = fence::user_tables(&target).await?;
    let generation = observe::new_generation(&target, &context.run()?.id.clone()).await?;
    context.note(step, "target-generation", json!(generation)).await?;
    let close = fence::Close {
        generation: &generation,
        tables: &tables,
        epoch: context.epoch,
        lock_timeout: Duration::from_millis(context.settings().lock_timeout_ms),
        give_up: CLOSE_WITHIN,
    };
    fence::close_target(&target, &close).await?;
    Ok(generation)
}

/// Drops the publication and every object of ours on both sides; proves that nothing is left.
///
/// # Errors
/// The servers'; a finding when something stays.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    // An option of the target application that was touched on the way, too.
    if let Some(answer) = through_controller::restore(context).await? {
        return answer;
    }
    let source = context.world.source("undo").await?;
    let target = context.world.target("undo").await?;
    publication::drop_publication(&source, &forward(context)?).await?;
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    let ours = context.run()?.id.clone();
    for session in [&source, &target] {
        // Where another coordinator was first, everything that stands is its own.
        if fence::owning_run(session).await?.is_some_and(|run| run != ours) {
            continue;
        }
        fence::remove(session, lock_timeout, CLOSE_WITHIN).await?;
        leftovers::sweep(session, &leftovers::list(session).await?).await?;
        let left = leftovers::list(session).await?;
        if !left.is_empty() {
            let names: Vec<String> = left.iter().map(|l| l.to_string()).collect();
            return Err(Failure::operator(
                "undo the preparation",
                format!("still in database {} on {}: {}", session.database, session.address, names.join(", ")),
                "drop these by hand and run rollback again",
            ));
        }
    }
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// The name of publication, slot and subscription of the forward direction.
///
/// # Errors
/// A defect: no run, or a run id that is none.
pub fn forward(context: &Context<'_>) -> Result<String, Failure> {
    let id = &context.run()?.id;
    crate::postgres::names::RunId::parse(id).map(|run| run.forward()).ok_or_else(|| {
        Failure::operator("name the publication", format!("run id {id} is none of ours"), "run rollback")
    })
}
