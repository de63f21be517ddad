//! What is in the way at present: whether it heals by itself, or ends a request.

use crate::juju::logging;
use crate::migration::{Class, Failure, Goal, Record, Run, State, Step, plan};
use crate::postgres::UNREACHABLE_CURE;
use std::time::SystemTime;

/// The last passing failure, so that a long one is told once and waited for longer.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) times: u32,
    /// When it began.
    pub(super) since: Option<SystemTime>,
}

/// The way back was lost on the road back: users stay where they are until it is made anew.
pub(super) fn mend_first(record: &Record, state: &State) -> Option<Failure> {
    let Record::Lifted { reason } = record else { return None };
    let cure = "run replicate, which makes the way back anew, then rollback";
    let failure = || Failure::operator("go back to the source", reason, cure).cured_by("replicate");
    state.active().is_some_and(Run::may_mend).then(failure)
}

/// A rehearsal was asked for in the moment in which something else began: what the action itself would say by now.
pub(super) fn no_rehearsal(state: &State) -> Failure {
    match plan::admit("rehearse", Goal::Rehearsed, state) {
        Err(refusal) => Failure::new(refusal.sentence, Class::Operator).cured_by(refusal.instead),
        // The plan and the refusals would contradict each other.
        Ok(()) => {
            Failure::operator("rehearse", format!("the migration is {}", state.phase()), "run show").cured_by("show")
        }
    }
}

/// A server that does not answer, and since when: so that who is called at night knows how long already.
pub(super) fn since(sentence: &str, began: SystemTime) -> String {
    match sentence.contains(UNREACHABLE_CURE) {
        true => format!("{sentence}; so since {}", logging::utc(began)),
        false => sentence.to_owned(),
    }
}

/// What the watch found may mean that a person must ask again: writes are never stopped twice for one request, a
/// subscription that stopped is never enabled again unasked, and nothing is rehearsed twice.
pub(super) fn stops_the_request(record: &Record, rehearsing: bool) -> Option<Failure> {
    match record {
        Record::Lost { step: Step::Copy, reason } if rehearsing => {
            let cure = "run replicate, which gives the target the source's schema back and has it follow again";
            Some(Failure::operator("end the rehearsal", reason, cure).cured_by("replicate"))
        }
        Record::Lifted { reason } => {
            Some(Failure::operator("keep writes stopped", reason, "run show, then the action again"))
        }
        Record::Lost { step: step @ (Step::Follow | Step::CatchUp), reason } => {
            Some(Failure::operator(step.describe(), reason, "mend that and run the action again"))
        }
        _ => None,
    }
}
