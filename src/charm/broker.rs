//! The coordinator stands between the identity app and its consumers, so that the flip is a databag write.
//! Level-triggered: every run compares what consumers were told with what the journal wants. Once they were
//! pointed at the target, that side's facts are all it needs: neither the source nor the journal.

use super::gather::Gathered;
use super::memory::Memory;
use super::relations::{broker_writes, write_all};
use crate::juju::{HookToolError, HookTools};
use crate::migration::journal::Side;
use crate::migration::{Phase, Record, Run, State, Step};
use crate::steps::{flip, reverse};

/// The side whose facts consumers must have; `None` while nobody can know. A journal that is lost or empty does not
/// lead consumers back to the source.
pub fn wanted(memory: &Memory, state: Option<&State>) -> Option<Side> {
    let run = state.and_then(|state| state.run.as_ref());
    // The one thing that leads consumers back: users' writes are on the source again, and it takes new ones.
    if run.is_some_and(|run| run.note(Step::ReverseFlip, reverse::GATES_PASSED).is_some()) {
        return Some(Side::Source);
    }
    // A journal that was lost: the fence's rows told whom users are with.
    if let Some(side) = state.and_then(|state| state.void) {
        return Some(side);
    }
    if memory.flipped {
        return Some(Side::Target);
    }
    Some(match &state?.run {
        Some(run) if matches!(run.phase, Phase::Flipped | Phase::Finalized) => Side::Target,
        Some(run) if run.phase == Phase::Opened && run.note(Step::Flip, flip::GATES_PASSED).is_some() => Side::Target,
        Some(run) if run.phase == Phase::Reversing => run.brokered.unwrap_or(Side::Source),
        _ => Side::Source,
    })
}

/// True when consumers were told another side than this.
pub fn is_news(run: &Run, side: Side) -> bool {
    run.brokered.unwrap_or(Side::Source) != side
}

/// Writes what consumers lack; answers a record when the journal does not know of this side yet.
///
/// # Errors
/// The hook tool's.
pub fn tell(tools: &HookTools, gathered: &Gathered, state: Option<&State>) -> Result<Option<Record>, HookToolError> {
    let Some(side) = wanted(&gathered.memory, state) else { return Ok(None) };
    if let Some(run) = state.and_then(|state| state.run.as_ref()).filter(|run| run.phase == Phase::Finalized) {
        gathered.memory.keep(tools, true, Some(&run.id))?;
    }
    // Which of two wrong relations is meant nobody can say.
    if gathered.relations.mistake.is_some() {
        return Ok(None);
    }
    let access = match side {
        Side::Source => &gathered.relations.source_identity,
        Side::Target => &gathered.relations.target_identity,
    };
    // Without that side's facts, what consumers have is better than nothing.
    let Some(info) = access.ready() else { return Ok(None) };
    write_all(tools, &broker_writes(&gathered.relations.consumers, &info.published))?;
    gathered.memory.keep(tools, side == Side::Target, None)?;
    let consumers = gathered.relations.consumers.len();
    let news = state.and_then(State::active).is_some_and(|run| is_news(run, side));
    Ok(news.then_some(Record::Brokered { side, consumers }))
}
