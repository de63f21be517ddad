//! Where a migration is: one enum, one transition table.
//!
//! ```text
//! idle → prepared → copying → following → fenced → drained → opened → flipped → finalized
//!                      ↑          ↕ migrating ↔ drained (after the drain, in the documented order)
//!                      └──────────── migrating (a rehearsal ends: the target gets its schema back, and its rows)
//! idle → migrating → idle (in place: one application, one database)
//! every phase up to drained → rolling-back → idle
//! opened, flipped → reversing → rolling-back → idle
//! ```
//!
//! From `opened` on nothing is undone at once: the target has taken writes, and an undo would lose them. `reversing`
//! first stops writes there and drains them into the source; only then is the rest undone.

use serde::{Deserialize, Serialize};

/// Where the migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing of ours exists in either database.
    Idle,
    /// Publication, fence objects and the closed target stand.
    Prepared,
    /// The initial copy runs.
    Copying,
    /// The target follows the source.
    Following,
    /// The target's application changes its schema.
    Migrating,
    /// No committed write on the source is possible (within the lease).
    Fenced,
    /// The target has everything that was ever committed on the source.
    Drained,
    /// The target takes writes; the source never will again.
    Opened,
    /// Consumers use the target.
    Flipped,
    /// Everything of ours is gone; the way back is closed.
    Finalized,
    /// Users go back to the source: writes on the target stop and are drained into the source.
    Reversing,
    /// On the way back to `idle`.
    RollingBack,
}

impl Phase {
    /// Every phase, in the order of a migration.
    pub const ALL: [Phase; 12] = [
        Phase::Idle,
        Phase::Prepared,
        Phase::Copying,
        Phase::Following,
        Phase::Migrating,
        Phase::Fenced,
        Phase::Drained,
        Phase::Opened,
        Phase::Flipped,
        Phase::Finalized,
        Phase::Reversing,
        Phase::RollingBack,
    ];

    /// The phases that may come next.
    pub fn next(self) -> &'static [Phase] {
        use Phase::*;
        match self {
            Idle => &[Prepared, Migrating, RollingBack],
            Prepared => &[Copying, RollingBack],
            Copying => &[Following, RollingBack],
            // A lost slot means a repair, or a new copy.
            Following => &[Copying, Migrating, Fenced, RollingBack],
            // After a rehearsal the target is made as it was.
            Migrating => &[Following, Copying, Drained, Idle, RollingBack],
            // A lifted fence (its lease ran out) goes back to following.
            Fenced => &[Drained, Following, RollingBack],
            Drained => &[Migrating, Opened, Following, RollingBack],
            Opened => &[Flipped, Reversing],
            Flipped => &[Finalized, Reversing],
            // A lease of the target that ran out leads back to where it came from.
            Reversing => &[Opened, Flipped, RollingBack],
            Finalized => &[],
            RollingBack => &[Idle],
        }
    }

    /// True when `to` may follow.
    pub fn may_become(self, to: Phase) -> bool {
        self.next().contains(&to)
    }

    /// True while `rollback` undoes; from `opened` and `flipped` it reverses first.
    pub fn may_roll_back(self) -> bool {
        self == Phase::RollingBack || (self.may_become(Phase::RollingBack) && self != Phase::Reversing)
    }

    /// The name as actions and statuses print it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Prepared => "prepared",
            Phase::Copying => "copying",
            Phase::Following => "following",
            Phase::Migrating => "migrating",
            Phase::Fenced => "fenced",
            Phase::Drained => "drained",
            Phase::Opened => "opened",
            Phase::Flipped => "flipped",
            Phase::Finalized => "finalized",
            Phase::Reversing => "reversing",
            Phase::RollingBack => "rolling-back",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_can_be_reached_from_idle() {
        let mut seen = vec![Phase::Idle];
        let mut at = 0;
        while at < seen.len() {
            for &next in seen[at].next() {
                if !seen.contains(&next) {
                    seen.push(next);
                }
            }
            at += 1;
        }
        for phase in Phase::ALL {
            assert!(seen.contains(&phase), "{phase} is never reached");
        }
    }

    #[test]
    fn only_finalized_is_terminal() {
        for phase in Phase::ALL {
            assert_eq!(phase.next().is_empty(), phase == Phase::Finalized, "{phase}");
        }
    }

    #[test]
    fn after_the_open_only_a_reversal_leads_to_an_undo() {
        for phase in [Phase::Opened, Phase::Flipped, Phase::Finalized] {
            assert!(!phase.may_roll_back(), "{phase}");
            let mut seen = vec![phase];
            let mut at = 0;
            while at < seen.len() {
                let next = seen[at].next().iter().filter(|next| **next != Phase::Reversing);
                seen.extend(next.copied().filter(|n| !seen.contains(n)).collect::<Vec<_>>());
                at += 1;
            }
            assert!(!seen.contains(&Phase::RollingBack), "{phase} leads to rolling-back");
        }
    }

    #[test]
    fn names_are_those_of_serde() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
