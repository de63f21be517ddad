//! What a round will be: everything random about it, drawn from its seed and number, so that it can be played again
//! alone. Only the writers and the machine's own pace are not in it.

use super::places;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// A part of the operator's road: one action, run until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    Follow,
    Migrate,
    Drain,
    Flip,
    /// `rollback` before the flip.
    Undo,
    /// `rollback` after it.
    Return,
    Finalize,
}

impl Leg {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Leg::Follow => "follow",
            Leg::Migrate => "migrate",
            Leg::Drain => "drain",
            Leg::Flip => "flip",
            Leg::Undo => "undo",
            Leg::Return => "way-back",
            Leg::Finalize => "finalize",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    KillWorker,
    KillAction,
    KillHook,
    /// SIGSTOP, and SIGCONT after a while.
    StopWorker,
    /// The same for longer than the lease.
    OutlastLease,
    /// SIGQUIT; the server is started again after a while.
    CrashSource,
    CrashTarget,
    DropSlot,
    DisableSubscription,
    CutSource,
    CutTarget,
    LoseReplySource,
    LoseReplyTarget,
    LeaderChange,
    /// The standby of one cluster takes over: in rounds whose stage has one.
    Failover,
}

impl Kind {
    /// Every kind, as results name it.
    pub const ALL: [(Kind, &'static str); 15] = [
        (Kind::KillWorker, "kill-worker"),
        (Kind::KillAction, "kill-action"),
        (Kind::KillHook, "kill-hook"),
        (Kind::StopWorker, "stop-worker"),
        (Kind::OutlastLease, "outlast-lease"),
        (Kind::CrashSource, "crash-source"),
        (Kind::CrashTarget, "crash-target"),
        (Kind::DropSlot, "drop-slot"),
        (Kind::DisableSubscription, "disable-subscription"),
        (Kind::CutSource, "cut-source"),
        (Kind::CutTarget, "cut-target"),
        (Kind::LoseReplySource, "lose-reply-source"),
        (Kind::LoseReplyTarget, "lose-reply-target"),
        (Kind::LeaderChange, "leader-change"),
        (Kind::Failover, "failover"),
    ];

    /// The name in results.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// How often it is drawn where it fits; 0 where it does not.
    fn weight(self, leg: Leg) -> u32 {
        match (self, leg) {
            // Drawn by themselves.
            (Kind::Failover | Kind::OutlastLease, _) => 0,
            (Kind::DropSlot, Leg::Undo | Leg::Finalize) => 0,
            // What flows back is made in the flip; dropping it there means that there is no way back.
            (Kind::DropSlot | Kind::DisableSubscription, Leg::Flip | Leg::Return) => 1,
            (Kind::DisableSubscription, Leg::Finalize) => 0,
            (Kind::KillWorker, _) => 6,
            (Kind::LoseReplySource | Kind::LoseReplyTarget | Kind::KillAction, _) => 3,
            _ => 2,
        }
    }
}

/// When it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When the worker (or, for a killed action, the action) comes by this place.
    At(&'static str),
    /// So long after the action was asked for.
    After(Duration),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub leg: Leg,
    pub kind: Kind,
    pub moment: Moment,
    /// How long a server is down or a process stands still.
    pub lasts: Duration,
    /// How many replies pass before each that is lost; how often a connection is cut.
    pub counts: [u64; 3],
}

/// Where the operator means to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Finalized on the target.
    Flipped,
    /// Back on the source before the flip: after this leg, or so long after it was begun.
    BackBefore(Leg, Option<Duration>),
    /// Back on the source after it.
    BackAfter,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub round: u64,
    /// The schema migration after the drain, inside the outage.
    pub documented: bool,
    pub aim: Aim,
    /// `cut-over` instead of `drain` and `flip-traffic`.
    pub at_once: bool,
    /// PostgreSQL's own initial copy.
    pub native: bool,
    pub verification: &'static str,
    /// Seconds; 0 leaves the configured limit.
    pub outage_limit: u64,
    /// In the order in which they are to come.
    pub faults: Vec<Fault>,
}

/// The generator of a round: every round has a stream of its own.
fn generator(seed: u64, round: u64) -> StdRng {
    // Far from one another also for neighbouring seeds and rounds.
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// A time in milliseconds from this range.
fn within(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}

impl Plan {
    /// The plan of this round.
    pub fn draw(seed: u64, round: u64) -> Self {
        let rng = &mut generator(seed, round);
        let documented = rng.random_ratio(1, 8);
        let aim = aim(rng, documented);
        let at_once = rng.random_ratio(1, 3) && !documented && !matches!(aim, Aim::BackBefore(Leg::Drain, _));
        let mut plan = Plan {
            seed,
            round,
            documented,
            aim,
            at_once,
            native: rng.random_ratio(1, 10),
            verification: ["twin", "twin", "strict", "counts"].choose(rng).copied().unwrap_or("twin"),
            outage_limit: 0,
            faults: Vec::new(),
        };
        let legs = plan.legs();
        for _ in 0..rng.random_range(1..=4) {
            let Some(leg) = legs.choose(rng) else { break };
            plan.add(rng, *leg);
        }
        if rng.random_ratio(1, 60) {
            plan.outlast(rng);
        }
        if Self::fails_over(round) {
            plan.fail_over(rng);
        }
        plan.faults.sort_by_key(|fault| (fault.leg, order(fault, plan.native)));
        plan
    }

    /// The legs from the beginning to the end, as they are meant to be.
    pub fn legs(&self) -> Vec<Leg> {
        let mut legs = match (self.documented, self.at_once) {
            (true, _) => vec![Leg::Follow, Leg::Drain, Leg::Migrate, Leg::Flip],
            (false, true) => vec![Leg::Follow, Leg::Migrate, Leg::Flip],
            (false, false) => vec![Leg::Follow, Leg::Migrate, Leg::Drain, Leg::Flip],
        };
        match self.aim {
            Aim::Flipped => legs.push(Leg::Finalize),
            Aim::BackAfter => legs.push(Leg::Return),
            Aim::BackBefore(last, _) => {
                let end = legs.iter().position(|leg| *leg == last).map_or(legs.len(), |at| at + 1);
                legs.truncate(end);
                legs.push(Leg::Undo);
            }
        }
        legs
    }

    fn add(&mut self, rng: &mut StdRng, leg: Leg) {
        let kinds: Vec<(Kind, u32)> = Kind::ALL.iter().map(|(kind, _)| (*kind, kind.weight(leg))).collect();
        let Ok((kind, _)) = kinds.choose_weighted(rng, |(_, weight)| *weight) else { return };
        let places = match kind {
            Kind::KillAction => places::of_action(leg),
            Kind::KillHook => places::of_hooks(),
            _ => places::of_worker(leg, self.native),
        };
        let moment = match places.choose(rng) {
            // A hook is killed where it comes by; everything else now and then at no place that has a name.
            Some(place) if *kind == Kind::KillHook || rng.random_ratio(2, 3) => Moment::At(place),
            _ => Moment::After(within(rng, 0, 2_000)),
        };
        // A process can stand still at one place at a time only.
        if self.faults.iter().any(|fault| fault.leg == leg && fault.moment == moment) {
            return;
        }
        let lasts = within(rng, 0, 1_500);
        let counts = [rng.random_range(0..6), rng.random_range(0..12), rng.random_range(0..20)];
        self.faults.push(Fault { leg, kind: *kind, moment, lasts, counts });
    }

    /// Whether a round of this number is played where one side has a standby.
    pub fn fails_over(round: u64) -> bool {
        round.is_multiple_of(16)
    }

    /// The standby takes over. What starts and stops that side's servers is not ours, so nothing else crashes them.
    fn fail_over(&mut self, rng: &mut StdRng) {
        self.faults.retain(|fault| !matches!(fault.kind, Kind::CrashSource | Kind::CrashTarget | Kind::OutlastLease));
        self.outage_limit = 0;
        let weight = |leg: &Leg| match leg {
            Leg::Follow | Leg::Migrate | Leg::Drain => 4,
            Leg::Undo => 2,
            // The way back ends with it.
            Leg::Flip | Leg::Return | Leg::Finalize => 1,
        };
        let legs = self.legs();
        let Ok(leg) = legs.choose_weighted(rng, weight) else { return };
        let moment = match places::of_worker(*leg, self.native).choose(rng) {
            Some(place) if rng.random_ratio(2, 3) => Moment::At(place),
            _ => Moment::After(within(rng, 0, 2_000)),
        };
        self.faults.retain(|fault| fault.leg != *leg || fault.moment != moment);
        let counts = [rng.random_range(0..3), 0, 0];
        self.faults.push(Fault { leg: *leg, kind: Kind::Failover, moment, lasts: Duration::ZERO, counts });
    }

    /// The worker stands still in the outage until the lease is over.
    fn outlast(&mut self, rng: &mut StdRng) {
        let leg = if self.at_once { Leg::Flip } else { Leg::Drain };
        if self.documented || !self.legs().contains(&leg) {
            return;
        }
        let places = ["record-after/done/fence", "record-after/started/drain", "record-before/done/drain"];
        let place = places.choose(rng).copied().unwrap_or(places[0]);
        self.outage_limit = 30;
        self.faults.retain(|fault| fault.leg != leg);
        let (moment, lasts) = (Moment::At(place), within(rng, 30_000, 33_000));
        self.faults.push(Fault { leg, kind: Kind::OutlastLease, moment, lasts, counts: [0; 3] });
    }
}

fn aim(rng: &mut StdRng, documented: bool) -> Aim {
    match rng.random_range(0..100) {
        0..15 => Aim::Flipped,
        15..60 => Aim::BackAfter,
        _ => {
            let legs = match documented {
                true => [Leg::Follow, Leg::Drain, Leg::Drain, Leg::Migrate, Leg::Flip],
                false => [Leg::Follow, Leg::Migrate, Leg::Drain, Leg::Drain, Leg::Flip],
            };
            let leg = legs.choose(rng).copied().unwrap_or(Leg::Drain);
            // The flip is not to be ended: it is broken into, or it was the way back from after it.
            let early = leg == Leg::Flip || rng.random_ratio(1, 2);
            let longest = if leg == Leg::Follow { 1_500 } else { 700 };
            Aim::BackBefore(leg, early.then(|| within(rng, 0, longest)))
        }
    }
}

/// Where a fault comes within its leg: places in the order in which they are met.
fn order(fault: &Fault, native: bool) -> usize {
    match fault.moment {
        Moment::After(_) => 0,
        Moment::At(place) => {
            let (action, worker) = (places::of_action(fault.leg), places::of_worker(fault.leg, native));
            action.iter().chain(worker.iter()).position(|known| *known == place).map_or(0, |at| at + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_round_is_the_same_whenever_it_is_drawn() {
        for round in 0..100 {
            assert_eq!(Plan::draw(7, round), Plan::draw(7, round));
        }
        assert_ne!(Plan::draw(7, 1).faults, Plan::draw(8, 1).faults);
    }

    #[test]
    fn a_thousand_rounds_have_every_kind_in_every_leg_it_fits() {
        let plans: Vec<Plan> = (1..=1000).map(|round| Plan::draw(1, round)).collect();
        let drawn: BTreeSet<(Kind, Leg)> =
            plans.iter().flat_map(|plan| plan.faults.iter().map(|fault| (fault.kind, fault.leg))).collect();
        let legs = [Leg::Follow, Leg::Migrate, Leg::Drain, Leg::Flip, Leg::Undo, Leg::Return, Leg::Finalize];
        for (kind, name) in Kind::ALL {
            for leg in legs.iter().filter(|leg| kind.weight(**leg) > 0) {
                assert!(drawn.contains(&(kind, *leg)), "{name} is never drawn in {}", leg.name());
            }
        }
        assert!(drawn.iter().any(|(kind, _)| *kind == Kind::OutlastLease));
        let fails_over = |plan: &&Plan| plan.faults.iter().any(|fault| fault.kind == Kind::Failover);
        assert!(plans.iter().filter(fails_over).count() > 50);
        let aims = |of: fn(&Aim) -> bool| plans.iter().filter(|plan| of(&plan.aim)).count();
        assert!((100..250).contains(&aims(|aim| *aim == Aim::Flipped)));
        assert!((350..550).contains(&aims(|aim| *aim == Aim::BackAfter)));
    }

    #[test]
    fn faults_come_in_legs_that_are_walked_and_in_their_order() {
        for round in 1..=1000 {
            let plan = Plan::draw(3, round);
            let legs = plan.legs();
            assert!(plan.faults.iter().all(|fault| legs.contains(&fault.leg)), "{plan:?}");
            assert!(plan.faults.len() <= 5 && !legs.is_empty());
        }
    }
}
