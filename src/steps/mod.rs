//! The hands: one file per step, with do and undo together. Every step observes before it acts, so
//! it may be begun again at any point.

pub mod apply;
pub mod back_up;
pub mod begin;
pub mod catch_up;
pub mod context;
pub mod copy;
pub mod drain;
pub mod fence;
pub mod finalize;
pub mod flip;
pub mod follow;
pub mod gates;
pub mod guard;
pub mod hand_over;
pub mod identity_documents;
pub mod in_place;
pub mod judge;
pub mod local_charm;
pub mod mend;
mod messages;
pub mod migrate;
pub mod native;
pub mod observe;
pub mod preflight;
pub mod prepare;
pub mod refresh;
pub mod rehearse;
pub mod repair;
pub mod reverse;
pub mod room;
pub mod store;
pub mod sweep;
pub mod through_controller;
pub mod verify;
pub mod watch;
pub mod way_back;
pub mod world;

pub use begin::begin;
pub use context::{Answer, Context, Live, Outcome, ProgressSink};
pub use fence::{highest_epoch, take_over};
pub use store::Store;
pub use through_controller::Credentials;
pub use watch::watch;
pub use world::{Application, Applications, World, end_other_workers, with_side};

use crate::migration::{Record, Step};

/// Does one step; answers where it is.
///
/// # Errors
/// The step's failure, with what it asks for.
pub async fn perform(step: Step, context: &mut Context<'_>) -> Answer {
    // That asks for a backup of its own accord, whatever the option says.
    if context.run()?.is_in_place() {
        return in_place::perform(step, context).await;
    }
    match step {
        Step::Preflight => begin::check(context).await,
        Step::Prepare => prepare::perform(context).await,
        Step::Refresh => refresh::perform(context).await,
        Step::Copy => copy::perform(context).await,
        Step::Follow => follow::perform(context).await,
        Step::Pause => follow::pause(context).await,
        Step::Migrate => migrate::perform(context).await,
        Step::CatchUp => catch_up::perform(context).await,
        Step::Gates => gates::perform(context).await,
        Step::Prove => rehearse::prove(context).await,
        Step::Reset => rehearse::reset(context).await,
        Step::WayBack => way_back::perform(context).await,
        Step::Fence => fence::perform(context).await,
        Step::Drain => drain::perform(context).await,
        Step::Snapshot => verify::snapshot(context).await,
        Step::Verify => verify::perform(context).await,
        Step::HandOver => hand_over::perform(context).await,
        Step::Flip => flip::perform(context).await,
        Step::FollowBack => way_back::follow(context).await,
        Step::Finalize => finalize::perform(context).await,
        Step::ReverseFence => reverse::stop_writes(context).await,
        Step::ReverseDrain => reverse::drain(context).await,
        Step::ReverseVerify => reverse::compare(context).await,
        Step::ReverseHandOver => reverse::hand_over(context).await,
        Step::ReverseFlip => reverse::flip(context).await,
    }
}

/// Undoes one step. A step that leaves nothing behind says so here.
///
/// # Errors
/// The undo's failure.
pub async fn undo(step: Step, context: &mut Context<'_>) -> Answer {
    // What could not be left as it is was proven before the way back began.
    if context.run()?.is_in_place() {
        return Ok(Outcome::Done(serde_json::Value::Null));
    }
    match step {
        Step::Prepare => prepare::undo(context).await,
        Step::Copy => copy::undo(context).await,
        Step::Follow => follow::undo(context).await,
        Step::Migrate => migrate::undo(context).await,
        Step::CatchUp => catch_up::undo(context).await,
        Step::WayBack => way_back::undo(context).await,
        Step::Fence => fence::undo(context).await,
        Step::Snapshot => verify::undo(context).await,
        Step::HandOver => hand_over::undo(context).await,
        // Preflight and the gates only look, and so does a rehearsal's proof; its reset is an undo itself. A refreshed
        // application stays refreshed: its revision is the operator's. A paused subscription goes with `follow`, carried
        // sequences with `copy`, the comparison with `snapshot`, what flows back with `way-back`. After the hand-over
        // nothing is undone that users see: they went back before.
        Step::Preflight
        | Step::Refresh
        | Step::Pause
        | Step::Gates
        | Step::Prove
        | Step::Reset
        | Step::Drain
        | Step::Verify
        | Step::Flip
        | Step::FollowBack
        | Step::Finalize
        | Step::ReverseFence
        | Step::ReverseDrain
        | Step::ReverseVerify
        | Step::ReverseHandOver
        | Step::ReverseFlip => Ok(Outcome::Done(serde_json::Value::Null)),
    }
}

/// A record in the words of the worker's log.
pub fn explain(record: &Record) -> String {
    match record {
        Record::Requested(request) => format!("{} was asked for", request.action),
        Record::Settled { failure: None, .. } => "the request is reached".into(),
        Record::Settled { failure: Some(failure), .. } => failure.to_string(),
        Record::RunStarted { run, order, reason, .. } => format!("run {run} begins, order {}: {reason}", order.name()),
        Record::Started { step } => format!("begin to {}", step.describe()),
        Record::Done { step, .. } => format!("done: {}", step.describe()),
        Record::Failed { failure, .. } => failure.to_string(),
        Record::Noted { step, name, .. } => format!("{}: noted {name}", step.name()),
        Record::Lost { step, reason } => format!("step {} must be done again: {reason}", step.name()),
        Record::Lifted { reason } => format!("the fence was lifted: {reason}"),
        Record::RehearsalStarted => "the schema migration is going to be tried".into(),
        Record::RollbackStarted => "everything is going to be undone".into(),
        Record::UndoStarted { step } => format!("begin to undo: {}", step.describe()),
        Record::Undone { step } => format!("undone: {}", step.describe()),
        Record::RunEnded => "the run ended".into(),
        Record::Errand { name, .. } => format!("noted {name}"),
        Record::Void { reason, side } => {
            format!("{reason}: what was recorded before counts no more, the {side:?} takes writes")
        }
        Record::Brokered { side, consumers } => format!("{consumers} consumer relations were given the {side:?}"),
    }
}
