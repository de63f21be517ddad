//! The coordinator stands between Kratos and its consumers, so that the flip is a databag write.
//! Level-triggered: every run compares what consumers were told with what the journal wants. Once they were
//! pointed at the target, that side's facts are all it needs: neither the source nor the journal.

use super::gather::Gathered;
use super::memory::Memory;
use super::relations::{broker_writes, write_all};
use crate::juju::{HookToolError, HookTools};
use crate::migration::journal::Side;
use crate::migration::{Phase, Record, State, Step};
use crate::steps::flip::GATES_PASSED;

/// The side whose facts consumers must have; `None` while nobody can know. A journal that is lost or empty does not
/// lead consumers back to the source.
pub fn wanted(memory: &Memory, state: Option<&State>) -> Option<Side> {
    if memory.flipped {
        return Some(Side::Target);
    }
    Some(match &state?.run {
        Some(run) if matches!(run.phase, Phase::Flipped | Phase::Finalized) => Side::Target,
        Some(run) if run.phase == Phase::Opened && run.note(Step::Flip, GATES_PASSED).is_some() => Side::Target,
        _ => Side::Source,
    })
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
        Side::Source => &gathered.relations.source_kratos,
        Side::Target => &gathered.relations.target_kratos,
    };
    // Without that side's facts, what consumers have is better than nothing.
    let Some(info) = access.ready() else { return Ok(None) };
    write_all(tools, &broker_writes(&gathered.relations.consumers, &info.published))?;
    if side == Side::Source {
        return Ok(None);
    }
    gathered.memory.keep(tools, true, None)?;
    let Some(run) = state.and_then(State::active) else { return Ok(None) };
    let consumers = gathered.relations.consumers.len();
    Ok((run.brokered != Some(side)).then_some(Record::Brokered { side, consumers }))
}
