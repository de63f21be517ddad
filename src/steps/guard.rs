//! What people do to our objects and to the source's tables behind our back: found in every cycle, put back where
//! that is safe, said where it is not.

use super::context::Context;
use super::{messages, migrate, observe, prepare};
use crate::migration::{Failure, Order, Record, Run, Status, Step};
use crate::postgres::fence::{self, FenceState};
use crate::postgres::shape::{self, Shape};
use crate::postgres::{Session, publication};
use serde_json::json;
use std::time::Duration;

/// The note of the source's tables as they were before the copy.
const SHAPE: &str = "source-shape";

/// How long a take-over of the fence's rows may wait.
const OWNER_WITHIN: Duration = Duration::from_secs(5);

/// Our objects in both databases: made again where somebody dropped them, the target closed where it should be.
///
/// # Errors
/// The servers'; a table of the target that cannot be locked in time.
pub async fn mend(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    target: &Session,
) -> Result<Option<Record>, Failure> {
    let fenced = matches!(run.status(Step::Fence), Status::Doing | Status::Done | Status::Failed);
    let mut lifted = None;
    for (side, session) in [("source", source), ("target", target)] {
        let installed = fence::whole(session).await?;
        if installed && fence::owner(session).await?.is_some() {
            continue;
        }
        let what = if installed { "the fence's owner row" } else { "the fence's tables" };
        log::warn!(
            "{what} in database {} on {} were removed by hand; making them again",
            session.database,
            session.address
        );
        fence::install(session).await?;
        fence::bump_epoch(session, context.epoch, OWNER_WITHIN).await?;
        fence::claim(session, &run.id).await?;
        if side == "source" && fenced && !installed {
            let reason = format!("the fence's tables on {} were dropped by hand, so writes passed", session.address);
            lifted = Some(Record::Lifted { reason });
        }
    }
    close_target(context, run, target).await?;
    Ok(lifted)
}

/// The target is open for the application's schema migration only.
async fn close_target(context: &mut Context<'_>, run: &Run, target: &Session) -> Result<(), Failure> {
    let open = fence::latest(target).await?.first().is_some_and(|row| row.state == FenceState::Open);
    context.live.open_for = None;
    match (open, run.status(Step::Migrate)) {
        (_, Status::Doing) => {}
        (true, _) if migrate::is_running(context, target).await? => {
            context.live.open_for = Some(
                "the target application's schema migration still runs though the outage is over; the target is \
                 closed as soon as it ends"
                    .to_owned(),
            );
        }
        (true, _) => {
            log::warn!("the target was still open for a schema migration that is not wanted any more; closing it");
            prepare::close_target(context, Step::Migrate).await?;
            messages::release(context, target).await?;
        }
        (false, _) => {
            let unfenced = observe::unfenced_target(target).await?;
            if let Some(table) = unfenced.first() {
                log::warn!(
                    "{} tables of the target were not closed, first {table} (a trigger dropped by hand?); closing them",
                    unfenced.len()
                );
                prepare::close_target(context, Step::Prepare).await?;
            }
        }
    }
    Ok(())
}

/// Keeps the source's tables as they are until the copy is made; what changes later is found by [`altered`].
///
/// # Errors
/// The server's.
pub async fn note_shape(context: &mut Context<'_>, run: &Run) -> Result<(), Failure> {
    if !run.is_done(Step::Prepare) || run.is_done(Step::Copy) {
        return Ok(());
    }
    let now = json!(shape::read(&context.world.source("shape").await?).await?);
    if run.note(Step::Prepare, SHAPE) != Some(&now) {
        context.note(Step::Prepare, SHAPE, now).await?;
    }
    Ok(())
}

/// What was changed in the source's tables since the copy began, with the cure; `None` when nothing was.
///
/// # Errors
/// The server's.
pub async fn altered(context: &Context<'_>, run: &Run, source: &Session) -> Result<Option<String>, Failure> {
    let noted = run.note(Step::Prepare, SHAPE).and_then(|noted| serde_json::from_value::<Shape>(noted.clone()).ok());
    let Some(before) = noted else { return Ok(None) };
    let now = shape::read(source).await?;
    let mut changes = before.changes(&now);
    let unknown = now.others(&observe::replicated_tables(context)?).into_iter().map(|t| format!("table {t} is new"));
    for change in unknown {
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    let Some(first) = changes.first() else { return Ok(None) };
    let more = match changes.len() {
        1 => String::new(),
        n => format!(" (and {} more changes)", n - 1),
    };
    Ok(Some(format!(
        "the source's tables changed since the copy began, and no such change is replicated: {first}{more}; undo it on \
         {} (late rows that carry a new column need it on the target until they are applied), or run {}, make the same change on the target, and start again",
        source.address,
        context.command("rollback")
    )))
}

/// What is another in the publication than `prepare` made it; `None` when nothing is.
///
/// # Errors
/// The server's.
pub async fn publication_altered(
    context: &Context<'_>,
    source: &Session,
    name: &str,
) -> Result<Option<String>, Failure> {
    let Some(there) = publication::tables_of(source, name).await? else {
        return Ok(Some(format!("publication {name} is gone on {}", source.address)));
    };
    let wanted = prepare::published(&observe::replicated_tables(context)?);
    let missing = wanted.iter().find(|table| !there.contains(table));
    let extra = there.iter().find(|table| !wanted.contains(table));
    Ok(match (missing, extra) {
        (Some(table), _) => Some(format!(
            "publication {name} on {} does not publish table {} any more, so its changes are missed",
            source.address, table.name
        )),
        (None, Some(table)) => Some(format!(
            "publication {name} on {} was changed by hand and publishes table {} too",
            source.address, table.name
        )),
        (None, None) => None,
    })
}

/// True when a lift in the documented order left the target on another schema: following rests until `follow` has
/// seen that late rows fit.
pub fn rests_after_lift(run: &Run) -> bool {
    run.order == Order::Documented
        && run.status(Step::Migrate) == Status::Lost
        && run.note(Step::Follow, super::follow::RESTS).and_then(serde_json::Value::as_bool) == Some(true)
}
