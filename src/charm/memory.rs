//! What must be known even without the journal: which side the consumers were pointed at, and whether the
//! migration is finalized. Kept in the peers' application databag, which lives as long as the application and is
//! written by Juju together with the consumers' databags.

use super::relations::{self, Side};
use crate::juju::{HookToolError, HookTools, RelationWrite};
use std::collections::BTreeMap;

const ENDPOINT: &str = "migration-peers";
const CONSUMERS_USE: &str = "consumers-use";
const FINALIZED: &str = "finalized";
const JOURNAL: &str = "journal";

/// What the leader remembers. Others know nothing: they neither write nor decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    relation_id: Option<String>,
    /// Consumers were given the target's facts: only a rollback that brings users' writes back leads them away.
    pub flipped: bool,
    /// The run that was finalized.
    pub finalized: Option<String>,
    /// An upgrade in place was begun: the journal is on the source's cluster.
    pub in_place: bool,
}

impl Memory {
    /// Reads it; on the leader only.
    ///
    /// # Errors
    /// When a hook tool fails.
    pub fn read(tools: &HookTools, application: &str) -> Result<Self, HookToolError> {
        let Some(relation_id) = tools.relation_ids(ENDPOINT)?.into_iter().next() else { return Ok(Self::default()) };
        let bag = relations::unless_gone(tools.application_bag(&relation_id, application))?.unwrap_or_default();
        Ok(Self {
            relation_id: Some(relation_id),
            flipped: bag.get(CONSUMERS_USE).is_some_and(|side| side == Side::Target.name()),
            finalized: bag.get(FINALIZED).filter(|run| !run.is_empty()).cloned(),
            in_place: bag.get(JOURNAL).is_some_and(|side| side == Side::Source.name()),
        })
    }

    /// Remembers what is new.
    ///
    /// # Errors
    /// When the hook tool fails.
    pub fn keep(&self, tools: &HookTools, flipped: bool, finalized: Option<&str>) -> Result<(), HookToolError> {
        let Some(relation_id) = self.relation_id.clone() else { return Ok(()) };
        let mut values = BTreeMap::new();
        if flipped != self.flipped {
            let side = if flipped { Side::Target } else { Side::Source };
            values.insert(CONSUMERS_USE.to_owned(), side.name().to_owned());
        }
        if let (Some(run), None) = (finalized, &self.finalized) {
            values.insert(FINALIZED.to_owned(), run.to_owned());
        }
        if values.is_empty() {
            return Ok(());
        }
        relations::write_all(tools, &[RelationWrite { relation_id, values }])
    }

    /// Remembers which cluster the journal is on.
    ///
    /// # Errors
    /// When the hook tool fails.
    pub fn keep_place(&self, tools: &HookTools, in_place: bool) -> Result<(), HookToolError> {
        let Some(relation_id) = self.relation_id.clone().filter(|_| in_place != self.in_place) else { return Ok(()) };
        let side = if in_place { Side::Source } else { Side::Target };
        let values = BTreeMap::from([(JOURNAL.to_owned(), side.name().to_owned())]);
        relations::write_all(tools, &[RelationWrite { relation_id, values }])
    }
}
