//! What is true behind our back and should not be: found in every cycle, put right where that is safe, said where it
//! is not.

use super::context::Context;
use super::{migrate, prepare};
use crate::migration::{Failure, Order, Run, Status, Step};
use crate::postgres::Session;
use crate::postgres::fence::{self, FenceState};

/// The target is open for the application's schema migration only.
///
/// # Errors
/// The servers'; a table of the target that cannot be locked in time.
pub async fn close_target(context: &mut Context<'_>, run: &Run, target: &Session) -> Result<(), Failure> {
    context.live.open_for = None;
    if run.status(Step::Migrate) == Status::Doing || !fence::installed(target).await? {
        return Ok(());
    }
    if fence::latest(target).await?.first().is_none_or(|row| row.state != FenceState::Open) {
        return Ok(());
    }
    if migrate::is_running(context, target).await? {
        context.live.open_for = Some(
            "the target application's schema migration still runs though the outage is over; the target is closed as \
             soon as it ends"
                .to_owned(),
        );
        return Ok(());
    }
    log::warn!("the target was still open for a schema migration that is not wanted any more; closing it");
    prepare::close_target(context, Step::Migrate).await?;
    Ok(())
}

/// True when a lift in the documented order left the target on another schema: following rests until `follow` has
/// seen that late rows fit.
pub fn rests_after_lift(run: &Run) -> bool {
    run.order == Order::Documented
        && run.status(Step::Migrate) == Status::Lost
        && run.note(Step::Follow, super::follow::RESTS).and_then(serde_json::Value::as_bool) == Some(true)
}
