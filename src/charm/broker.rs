//! The coordinator stands between Kratos and its consumers, so that the flip is a databag write.
//! Level-triggered: every run compares what consumers were told with what the journal wants.

use super::gather::Gathered;
use super::relations::{broker_writes, write_all};
use crate::juju::{HookToolError, HookTools};
use crate::migration::journal::Side;
use crate::migration::{Phase, Record, State, Step};
use crate::steps::flip::GATES_PASSED;

/// The side whose facts consumers must have.
pub fn wanted(state: &State) -> Side {
    match &state.run {
        Some(run) if matches!(run.phase, Phase::Flipped | Phase::Finalized) => Side::Target,
        Some(run) if run.phase == Phase::Opened && run.note(Step::Flip, GATES_PASSED).is_some() => Side::Target,
        _ => Side::Source,
    }
}

/// Writes what consumers lack; answers a record when the journal does not know of this side yet.
///
/// # Errors
/// The hook tool's.
pub fn tell(tools: &HookTools, gathered: &Gathered, state: &State) -> Result<Option<Record>, HookToolError> {
    let side = wanted(state);
    let access = match side {
        Side::Source => &gathered.relations.source_kratos,
        Side::Target => &gathered.relations.target_kratos,
    };
    // Without that side's facts, what consumers have is better than nothing.
    let Some(info) = access.ready() else { return Ok(None) };
    write_all(tools, &broker_writes(&gathered.relations.consumers, &info.published))?;
    let known = state.run.as_ref().and_then(|run| run.brokered);
    let begun = state.active().is_some();
    let consumers = gathered.relations.consumers.len();
    Ok((begun && known != Some(side) && side == Side::Target).then_some(Record::Brokered { side, consumers }))
}
