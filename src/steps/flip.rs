//! Consumers are pointed at the target. The databag is written by a hook or an action, because only
//! they have hook tools; here the gates are passed once more and the write is waited for.

use super::context::{Answer, Context, Outcome, wait};
use super::{observe, through_controller};
use crate::apps::Health;
use crate::migration::Step;
use crate::migration::journal::Side;
use serde_json::json;
use std::time::Duration;

/// The note that lets hooks and actions write the target's facts.
pub const GATES_PASSED: &str = "gates-passed";

/// Passes the gates, then waits until a hook or an action gave the consumers the target's facts.
///
/// # Errors
/// The journal's.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    if context.run()?.brokered == Some(Side::Target) {
        return flipped(context, Side::Target).await;
    }
    if context.run()?.note(Step::Flip, GATES_PASSED).is_none() {
        match observe::target_health(context).await {
            Health::Ready { version } => context.note(Step::Flip, GATES_PASSED, json!(version)).await?,
            other => return wait(format!("the target's server is not ready yet: {other}"), ""),
        }
    }
    context.progress.say("pointing consumers at the target");
    Ok(Outcome::Again(Duration::from_millis(100)))
}

/// Consumers were told; users who come through an ingress follow.
pub(super) async fn flipped(context: &mut Context<'_>, to: Side) -> Answer {
    Ok(match through_controller::take_routes(context, to).await? {
        Outcome::Done(mut output) => {
            output["flipped-at"] = json!(super::migrate::now_ms());
            Outcome::Done(output)
        }
        unfinished => unfinished,
    })
}
