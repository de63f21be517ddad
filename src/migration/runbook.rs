//! The runbooks: the same steps in different orders, as data.

use super::phase::Phase;
use serde::{Deserialize, Serialize};

/// One unit of work; each has a file under `steps/` with do and undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Every check, before anything is touched.
    Preflight,
    /// Fence objects, publication, the closed target.
    Prepare,
    /// The target application gets its new revision.
    Refresh,
    /// The initial copy.
    Copy,
    /// The subscription on the copy's slot.
    Follow,
    /// The subscription stops; the slot keeps the changes.
    Pause,
    /// The target application migrates its schema.
    Migrate,
    /// Fills are installed, the subscription goes on and catches up.
    CatchUp,
    /// The target's server proves that it can take over.
    Gates,
    /// The migrated copy holds what the source holds: a rehearsal's last proof.
    Prove,
    /// A rehearsal ends: the target gets the source's schema back, to be followed anew.
    Reset,
    /// The way back is prepared: what the target publishes, and what the source must let pass.
    WayBack,
    /// Writes on the source stop, under a lease.
    Fence,
    /// The target applies everything, sequences included.
    Drain,
    /// Twin snapshots are taken; the comparison starts.
    Snapshot,
    /// Every row was compared.
    Verify,
    /// The source closes for good, then the target opens.
    HandOver,
    /// Consumers are pointed at the target.
    Flip,
    /// New writes flow back to the source.
    FollowBack,
    /// Everything of ours goes.
    Finalize,
    /// Writes on the target stop, under a lease.
    ReverseFence,
    /// The source applies everything that was written on the target.
    ReverseDrain,
    /// Every row is compared once more.
    ReverseVerify,
    /// The target closes for good, then the source opens.
    ReverseHandOver,
    /// Consumers are pointed at the source.
    ReverseFlip,
}

/// When the schema migration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// After the drain, inside the outage, as the guide has it.
    Documented,
    /// Before the fence, outside the outage.
    MigrateFirst,
    /// On the one database there is, which nothing is copied from: users have an outage.
    InPlace,
}

impl Order {
    /// The name as config and results print it.
    pub fn name(self) -> &'static str {
        match self {
            Order::Documented => "documented",
            Order::MigrateFirst => "migrate-first",
            Order::InPlace => "in-place",
        }
    }
}

/// The guide's order. Verification ends before the schema changes: a rewriting ALTER TABLE
/// looks empty to an older snapshot and would block behind its locks.
const DOCUMENTED: &[Step] = &[
    Step::Preflight,
    Step::Prepare,
    Step::Refresh,
    Step::Copy,
    Step::Follow,
    Step::Fence,
    Step::Drain,
    Step::Snapshot,
    Step::Verify,
    Step::Migrate,
    Step::Gates,
    Step::WayBack,
    Step::HandOver,
    Step::Flip,
    Step::FollowBack,
    Step::Finalize,
];

/// The schema migration before the fence. Where the comparison stands is the one thing that differs.
const fn migrate_first([first, second, third, fourth]: [Step; 4]) -> [Step; 18] {
    [
        Step::Preflight,
        Step::Prepare,
        Step::Refresh,
        Step::Copy,
        Step::Follow,
        Step::Pause,
        Step::Migrate,
        Step::CatchUp,
        Step::Gates,
        Step::WayBack,
        Step::Fence,
        Step::Drain,
        Step::Snapshot,
        first,
        second,
        third,
        fourth,
        Step::Finalize,
    ]
}

/// The comparison runs beside the hand-over.
const MIGRATE_FIRST: &[Step] = &migrate_first([Step::HandOver, Step::Flip, Step::FollowBack, Step::Verify]);

/// The comparison runs inside the outage (`verification=strict`).
const MIGRATE_FIRST_STRICT: &[Step] = &migrate_first([Step::Verify, Step::HandOver, Step::Flip, Step::FollowBack]);

/// The schema migration, tried before it counts, in either order: outside any outage, and taken back at its end. The
/// slot keeps what is written while following is paused; the copy that comes after the reset begins at a new one.
pub const REHEARSAL: &[Step] = &[
    Step::Preflight,
    Step::Prepare,
    Step::Refresh,
    Step::Copy,
    Step::Follow,
    Step::Pause,
    Step::Migrate,
    Step::CatchUp,
    Step::Gates,
    Step::Prove,
    Step::Reset,
];

/// The basic strategy of the guide: no second side, so nothing is prepared, copied or handed over.
const IN_PLACE: &[Step] = &[Step::Preflight, Step::Refresh, Step::Migrate, Step::Gates];

/// The road back after the target has opened, in either order. Nothing of it is undone; what the forward road
/// made is undone after it.
pub const REVERSAL: &[Step] =
    &[Step::ReverseFence, Step::ReverseDrain, Step::ReverseVerify, Step::ReverseHandOver, Step::ReverseFlip];

/// The steps of one order, first to last.
pub fn runbook(order: Order, strict: bool) -> &'static [Step] {
    match (order, strict) {
        (Order::Documented, _) => DOCUMENTED,
        (Order::MigrateFirst, false) => MIGRATE_FIRST,
        (Order::MigrateFirst, true) => MIGRATE_FIRST_STRICT,
        (Order::InPlace, _) => IN_PLACE,
    }
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 25] = [
        Step::Preflight,
        Step::Prepare,
        Step::Refresh,
        Step::Copy,
        Step::Follow,
        Step::Pause,
        Step::Migrate,
        Step::CatchUp,
        Step::Gates,
        Step::Prove,
        Step::Reset,
        Step::WayBack,
        Step::Fence,
        Step::Drain,
        Step::Snapshot,
        Step::Verify,
        Step::HandOver,
        Step::Flip,
        Step::FollowBack,
        Step::Finalize,
        Step::ReverseFence,
        Step::ReverseDrain,
        Step::ReverseVerify,
        Step::ReverseHandOver,
        Step::ReverseFlip,
    ];

    /// The name as journal and runbook print it.
    pub fn name(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::Prepare => "prepare",
            Step::Refresh => "refresh",
            Step::Copy => "copy",
            Step::Follow => "follow",
            Step::Pause => "pause",
            Step::Migrate => "migrate",
            Step::CatchUp => "catch-up",
            Step::Gates => "gates",
            Step::Prove => "prove",
            Step::Reset => "reset",
            Step::WayBack => "way-back",
            Step::Fence => "fence",
            Step::Drain => "drain",
            Step::Snapshot => "snapshot",
            Step::Verify => "verify",
            Step::HandOver => "hand-over",
            Step::Flip => "flip",
            Step::FollowBack => "follow-back",
            Step::Finalize => "finalize",
            Step::ReverseFence => "reverse-fence",
            Step::ReverseDrain => "reverse-drain",
            Step::ReverseVerify => "reverse-verify",
            Step::ReverseHandOver => "reverse-hand-over",
            Step::ReverseFlip => "reverse-flip",
        }
    }

    /// What the step does, as a person would say it: progress lines and errors use the same words.
    pub fn describe(self) -> &'static str {
        match self {
            Step::Preflight => "check both sides",
            Step::Prepare => "publish the source's tables and close the target",
            Step::Refresh => "wait for the target application's new revision",
            Step::Copy => "copy every table in one snapshot and rebuild indexes",
            Step::Follow => "follow the source's changes",
            Step::Pause => "pause following before the schema changes",
            Step::Migrate => "let the target application migrate its schema",
            Step::CatchUp => "catch up with the source after the schema change",
            Step::Gates => "prove that the target's server can take over",
            Step::Prove => "prove that the migrated copy has every row",
            Step::Reset => "give the target the source's schema back",
            Step::WayBack => "prepare the way back from the target to the source",
            Step::Fence => "stop writes on the source",
            Step::Drain => "apply the last change and carry the sequences over",
            Step::Snapshot => "take twin snapshots of both sides",
            Step::Verify => "compare every row",
            Step::HandOver => "close the source for good, then open the target",
            Step::Flip => "point consumers at the target",
            Step::FollowBack => "let new writes flow back to the source",
            Step::Finalize => "remove everything of ours on both sides",
            Step::ReverseFence => "stop writes on the target",
            Step::ReverseDrain => "apply the last change on the source",
            Step::ReverseVerify => "compare every row before users go back",
            Step::ReverseHandOver => "close the target for good, then open the source",
            Step::ReverseFlip => "point consumers at the source",
        }
    }

    /// The same in the words of one order: in place there is neither a source nor a target.
    pub fn describe_in(self, order: Order) -> &'static str {
        match (order, self) {
            (Order::InPlace, Step::Preflight) => "check the application, its database and its backup",
            (Order::InPlace, Step::Refresh) => {
                "wait for the application's new revision; users have no service from here"
            }
            (Order::InPlace, Step::Migrate) => "let the application migrate its schema",
            (Order::InPlace, Step::Gates) => "prove that the new server serves users again",
            (Order::Documented | Order::MigrateFirst | Order::InPlace, _) => self.describe(),
        }
    }

    /// The phase that starting this step enters, if any.
    pub fn enters(self) -> Option<Phase> {
        match self {
            Step::Copy | Step::Reset => Some(Phase::Copying),
            Step::Pause | Step::Migrate => Some(Phase::Migrating),
            Step::ReverseFence => Some(Phase::Reversing),
            _ => None,
        }
    }

    /// The phase that finishing this step reaches, if any. What a rehearsal migrates is taken back again.
    pub fn reaches(self, order: Order, rehearsing: bool) -> Option<Phase> {
        match self {
            Step::Gates if rehearsing => None,
            Step::Prepare => Some(Phase::Prepared),
            Step::Follow => Some(Phase::Following),
            Step::Gates => Some(match order {
                Order::MigrateFirst => Phase::Following,
                Order::Documented => Phase::Drained,
                Order::InPlace => Phase::Idle,
            }),
            Step::Fence => Some(Phase::Fenced),
            Step::Drain => Some(Phase::Drained),
            Step::HandOver => Some(Phase::Opened),
            Step::Flip => Some(Phase::Flipped),
            Step::Finalize => Some(Phase::Finalized),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runbook_walks_the_phase_table() {
        for (order, strict) in [(Order::Documented, false), (Order::MigrateFirst, false), (Order::MigrateFirst, true)] {
            assert_eq!(walked(runbook(order, strict), order, false), Phase::Finalized);
        }
        for order in [Order::Documented, Order::MigrateFirst] {
            assert_eq!(walked(REHEARSAL, order, true), Phase::Copying);
        }
        // Nothing stands afterwards, so another run may begin.
        assert_eq!(walked(runbook(Order::InPlace, false), Order::InPlace, false), Phase::Idle);
    }

    /// The phase at the end of these steps.
    fn walked(book: &[Step], order: Order, rehearsing: bool) -> Phase {
        let mut phase = Phase::Idle;
        for step in book {
            for to in [step.enters(), step.reaches(order, rehearsing)].into_iter().flatten() {
                assert!(phase == to || phase.may_become(to), "{order:?}: {phase} → {to} at {}", step.name());
                phase = to;
            }
        }
        phase
    }

    #[test]
    fn a_rehearsal_never_stops_writes_and_undoes_what_it_does_last() {
        assert!(!REHEARSAL.contains(&Step::Fence) && REHEARSAL.last() == Some(&Step::Reset));
        // Up to where the target follows it is the road that every run takes.
        for order in [Order::Documented, Order::MigrateFirst] {
            let follows = runbook(order, false).iter().position(|step| *step == Step::Follow).unwrap();
            assert_eq!(REHEARSAL[..=follows], runbook(order, false)[..=follows]);
        }
    }

    #[test]
    fn every_step_is_in_some_runbook_once() {
        for step in Step::ALL {
            let times = |book: &[Step]| book.iter().filter(|s| **s == step).count();
            let books = [DOCUMENTED, MIGRATE_FIRST, MIGRATE_FIRST_STRICT, REHEARSAL, REVERSAL].map(times);
            assert!(books.iter().all(|times| *times <= 1) && books.contains(&1), "{}", step.name());
        }
    }

    #[test]
    fn the_documented_order_verifies_before_the_schema_changes() {
        let at = |step| DOCUMENTED.iter().position(|s| *s == step).unwrap();
        assert!(at(Step::Verify) < at(Step::Migrate));
    }
}
