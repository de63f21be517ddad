//! Everything of ours goes, on both sides. The way back closes.

use super::context::{Answer, Context, Outcome};
use super::prepare::forward;
use super::through_controller;
use super::{catch_up, follow, way_back};
use crate::migration::{Failure, Step};
use crate::postgres::{fence, leftovers, publication, slot};
use serde_json::json;
use std::time::Duration;

/// How long removals may wait for locks, all in all.
const REMOVE_WITHIN: Duration = Duration::from_secs(60);

/// Removes subscription, slot, publication, fills, fences; proves that nothing is left.
///
/// # Errors
/// A comparison that found differences or could not be finished; the servers'.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    refuse_unverified(context)?;
    // In the documented order it was left as it was touched: the restart is no part of the outage.
    if let Some(answer) = through_controller::restore(context).await? {
        return answer;
    }
    let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
    let name = forward(context)?;
    let source = context.world.source("finalize").await?;
    let target = context.world.target("finalize").await?;
    context.progress.say("removing everything of ours");
    let unrestored = way_back::remove(context).await?;
    follow::drop_subscription(context).await?;
    slot::drop_slot(&source, &name, Duration::from_secs(30)).await?;
    publication::drop_publication(&source, &name).await?;
    catch_up::remove_fills(context).await?;
    fence::remove(&target, lock_timeout, REMOVE_WITHIN).await?;
    leftovers::sweep(&target, &leftovers::list(&target).await?).await?;
    let commands = if context.request.keep_source_fenced {
        fence::reduce_to_minimal(&source, lock_timeout).await?
    } else {
        fence::remove(&source, lock_timeout, REMOVE_WITHIN).await?;
        leftovers::sweep(&source, &leftovers::list(&source).await?).await?;
        Vec::new()
    };
    let mut left = leftovers::list(&target).await?;
    if !context.request.keep_source_fenced {
        left.extend(leftovers::list(&source).await?);
    }
    if !left.is_empty() {
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        return Err(Failure::operator(
            "finalize",
            format!("still there: {}", names.join(", ")),
            "drop these by hand and run finalize again",
        ));
    }
    Ok(Outcome::Done(json!({"remove-source-fence": commands, "unrestored-on-the-source": unrestored})))
}

/// The way back may close only on proof, or with open eyes.
fn refuse_unverified(context: &Context<'_>) -> Result<(), Failure> {
    if context.request.accept_unverified {
        return Ok(());
    }
    let run = context.run()?;
    if run.output(Step::Verify, "complete") != Some(&json!(true)) {
        return Err(Failure::operator(
            "finalize",
            "the comparison of both sides was cut off after the target had opened, so it proves nothing",
            "check the target yourself, then run finalize accept-unverified=true",
        ));
    }
    match run.differing() {
        None => Ok(()),
        Some(found) => Err(Failure::operator(
            "finalize",
            found,
            "look at these rows on both sides, then run finalize accept-unverified=true",
        )),
    }
}
