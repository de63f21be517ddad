//! The worker is killed at every record of a whole migration, of a rollback and of the road back, as they come: no list
//! of places is kept here. Killed before a record it did what leads to it and never wrote it; killed after it, nothing
//! of what follows. Each record's place is met once; the next worker comes by it and goes on.

use super::restarts::{mixed, restart};
use super::rig::{LONG, Rig};
use coordinator::migration::journal::Request;
use coordinator::migration::runbook::{REHEARSAL, runbook};
use coordinator::migration::{Goal, Order, OrderChoice, Phase, Settings, State, Step};
use coordinator::worker::control::FROZEN;
use peers::wait_for;
use peers::writers::Writers;
use std::cell::Cell;
use std::time::SystemTime;

/// What happens to the worker at each place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    /// It stops, with its sessions open, until a hook finds it frozen.
    Frozen,
    /// It stands still while a cluster restarts, the other one at the next place and in another mode; with all modes and
    /// sides moved on by so many places.
    Restarts(usize),
}

struct Walk {
    rig: Rig,
    /// `record-before` or `record-after`, with the kind of record where it is not every one.
    side: &'static str,
    fate: Fate,
    settings: Settings,
    /// Every place that was met.
    met: Vec<String>,
    migrated: bool,
    writers: Option<Writers>,
    /// Whether the writers are on the target.
    beyond: Cell<bool>,
}

/// What may come next while a request is worked on.
enum Event {
    Met(String),
    Asked,
    Settled(Box<State>),
}

impl Walk {
    fn new(side: &'static str, fate: Fate, order: OrderChoice) -> Self {
        let rig = Rig::new(14, 16, 150).unwrap();
        let settings = Settings { order, outage_limit: 3600, ..Settings::default() };
        let oracle_file = rig.folder().join("oracle");
        let wanted = peers::writers::Settings { connections: 4, rate: 40.0, oracle_file };
        let writers = Some(Writers::start(&rig.source_uri(), &wanted, "all").unwrap());
        Self { rig, side, fate, settings, met: Vec::new(), migrated: false, writers, beyond: Cell::new(false) }
    }

    /// Users are on this side from now on.
    fn move_writers(&self, beyond: bool) {
        if let Some(writers) = self.writers.as_ref().filter(|_| self.beyond.replace(beyond) != beyond) {
            writers.move_to(&if beyond { self.rig.target_uri() } else { self.rig.source_uri() });
        }
    }

    /// Waits until writers are heard where they are.
    fn heard(&self) {
        let writers = self.writers.as_ref().unwrap();
        let before = writers.acknowledged();
        let more = || if writers.acknowledged() > before + 20 { Ok(()) } else { Err(writers.acknowledged()) };
        wait_for("writes", LONG, more).unwrap();
    }

    /// Every write that was acknowledged is on this side, once.
    fn nothing_is_lost(&mut self, uri: &str) {
        let record = self.writers.take().unwrap().stop().unwrap();
        assert_eq!(record.unexpected, Vec::<String>::new());
        let verdict = record.oracle.check(uri).unwrap();
        assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
        assert!(verdict.acknowledged > 100, "{verdict:?}");
    }

    /// The next record that was not met yet is the next place.
    fn arm(&self) {
        let what = if self.fate == Fate::Killed { "kill" } else { "stop" };
        let _old = std::fs::remove_file(self.rig.folder().join("failpoint.reached"));
        let text = format!("{}/* {what} {}", self.side, self.met.join(" "));
        std::fs::write(self.rig.folder().join("failpoint.new"), text).unwrap();
        std::fs::rename(self.rig.folder().join("failpoint.new"), self.rig.folder().join("failpoint")).unwrap();
    }

    fn next(&self, goal: Goal) -> Event {
        let look = || {
            if let Ok(place) = std::fs::read_to_string(self.rig.folder().join("failpoint.reached")) {
                return Ok(Event::Met(place));
            }
            let (state, progress) = self.rig.now().map_err(|error| format!("{error:#}"))?;
            if state.active().is_some_and(|run| run.is_done(Step::ReverseHandOver)) {
                self.move_writers(false);
            }
            self.rig.broker(&state).map_err(|error| format!("{error:#}"))?;
            if state.request.is_none() {
                return Ok(Event::Settled(Box::new(state)));
            }
            match &progress.waiting {
                Some(waiting) if waiting.next.contains("run-migration") && !self.migrated => Ok(Event::Asked),
                _ => Err(format!("phase {}, {progress:?}", state.phase())),
            }
        };
        let what = format!("{goal:?} after {:?}", self.met.last());
        wait_for(&what, LONG, look).unwrap_or_else(|error| panic!("{error:#}\n{}", self.rig.worker_log()))
    }

    /// Asks, and sees the worker killed at every record on the way that was not met before.
    fn go(&mut self, goal: Goal) -> Phase {
        let (began, before) = (SystemTime::now(), self.met.len());
        self.arm();
        // A comparison that dies with its worker after the open proves nothing; here another one judges the rows.
        let plain = Request::plain("test", goal);
        let (settings, keep_source_fenced) = (self.settings.clone(), false);
        self.rig.ask(Request { settings, keep_source_fenced, accept_unverified: true, ..plain }).unwrap();
        let state = loop {
            match self.next(goal) {
                Event::Met(place) => self.end_worker(place),
                Event::Asked => {
                    self.rig.run_migration().unwrap();
                    self.migrated = true;
                }
                Event::Settled(state) => break state,
            }
        };
        assert_eq!(state.failure, None, "{goal:?}\n{}", self.rig.worker_log());
        let took = began.elapsed().unwrap_or_default().as_secs_f64();
        eprintln!("{goal:?}: {} places in {took:.1} s", self.met.len() - before);
        state.phase()
    }

    /// The worker at this place is gone and another one goes on, or it goes on itself with a cluster that restarted.
    fn end_worker(&mut self, place: String) {
        if let Fate::Restarts(moved) = self.fate {
            self.rig.stopped_at(&place).unwrap();
            restart(&mut self.rig, &place, mixed(self.met.len() + moved));
            self.met.push(place);
            self.arm();
            return self.rig.go_on().unwrap();
        }
        if self.fate == Fate::Frozen {
            for name in ["worker.beat", "worker.json"] {
                let file = std::fs::OpenOptions::new().append(true).open(self.rig.folder().join(name)).unwrap();
                file.set_modified(SystemTime::now() - 2 * FROZEN).unwrap();
            }
        } else {
            wait_for("the worker to be gone", LONG, || self.rig.worker().map_or(Ok(()), Err)).unwrap();
        }
        if place.ends_with("/done/finalize") {
            // The end opened the source, as it was asked to, and took the target's fence away.
            self.rig.write_source().unwrap();
            self.rig.write_target().unwrap();
        } else {
            self.rig.never_both(&place);
        }
        self.met.push(place);
        self.arm();
        self.rig.hook().unwrap();
    }

    fn flip(&mut self) {
        assert_eq!(self.go(Goal::Flipped), Phase::Flipped);
        self.move_writers(true);
        self.heard();
    }

    fn back(&mut self) {
        assert_eq!(self.go(Goal::RolledBack), Phase::Idle);
        self.rig.write_source().unwrap();
        assert_eq!(self.rig.left_behind().unwrap(), Vec::<String>::new());
        self.rig.assert_equal_schemas();
        self.rig.stop_target().unwrap();
        self.migrated = false;
        self.heard();
    }

    fn ends(self) {
        self.rig.assert_no_secret();
        eprintln!("{} places:\n{}", self.met.len(), self.met.join("\n"));
        let order =
            if self.settings.order == OrderChoice::Documented { Order::Documented } else { Order::MigrateFirst };
        match self.side.split_once('/') {
            None => assert!(self.met.len() > 80, "{:?}", self.met),
            // Every step of the road was begun, or undone but for the last, which is the end.
            Some((_, what)) => {
                let steps = runbook(order, false).iter().filter(|step| what == "started" || **step != Step::Finalize);
                for place in steps.map(|step| format!("{}/{}", self.side, step.name())) {
                    assert!(self.met.contains(&place), "{place} was not met: {:?}", self.met);
                }
            }
        }
    }
}

/// To the flip and back by the road back.
fn there_and_back(mut walk: Walk) {
    walk.flip();
    walk.back();
    walk.nothing_is_lost(&walk.rig.source_uri());
    walk.ends();
}

/// To the drain and back, to the flip and back, and to the end.
fn every_road(side: &'static str, fate: Fate, order: OrderChoice) {
    let mut walk = Walk::new(side, fate, order);
    walk.go(Goal::Following);
    walk.go(Goal::Drained);
    walk.back();
    walk.flip();
    walk.back();
    walk.flip();
    walk.nothing_is_lost(&walk.rig.target_uri());
    wait_for("the last writes to come back", LONG, || walk.rig.is_equal()).unwrap();
    assert_eq!(walk.go(Goal::Finalized), Phase::Finalized);
    assert_eq!(walk.rig.left_behind().unwrap(), Vec::<String>::new());
    walk.ends();
}

/// A rehearsal, and what it was for.
fn rehearsed(side: &'static str, order: OrderChoice) {
    let mut walk = Walk::new(side, Fate::Killed, order);
    assert_eq!(walk.go(Goal::Rehearsed), Phase::Following);
    walk.rig.assert_equal_schemas();
    walk.rig.write_target().unwrap_err();
    let measured = walk.rig.now().unwrap().0.rehearsed.unwrap();
    assert!(measured.rows_verified.unwrap() > 500, "{measured:?}");
    for (step, what) in REHEARSAL.iter().flat_map(|step| [(step, "started"), (step, "done")]) {
        let place = format!("{side}/{what}/{}", step.name());
        assert!(walk.met.contains(&place), "{place} was not met: {:?}", walk.met);
    }
    walk.rig.stop_target().unwrap();
    walk.migrated = false;
    walk.flip();
    walk.nothing_is_lost(&walk.rig.target_uri());
    walk.rig.assert_no_secret();
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_before_every_record_of_a_rehearsal() {
    rehearsed("record-before", OrderChoice::Auto);
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_after_every_record_of_a_rehearsal_in_the_documented_order() {
    rehearsed("record-after", OrderChoice::Documented);
}

#[test]
fn killed_before_every_record_to_the_flip_and_back() {
    there_and_back(Walk::new("record-before", Fate::Killed, OrderChoice::Auto));
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_before_every_record() {
    every_road("record-before", Fate::Killed, OrderChoice::Auto);
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_after_every_record() {
    every_road("record-after", Fate::Killed, OrderChoice::Auto);
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_before_every_record_of_the_documented_order() {
    every_road("record-before", Fate::Killed, OrderChoice::Documented);
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_after_every_record_of_the_documented_order() {
    every_road("record-after", Fate::Killed, OrderChoice::Documented);
}

#[test]
#[ignore = "slow: make test-all"]
fn frozen_before_every_record() {
    every_road("record-before", Fate::Frozen, OrderChoice::Auto);
}

#[test]
#[ignore = "slow: make test-all"]
fn frozen_after_every_record_of_the_documented_order() {
    every_road("record-after", Fate::Frozen, OrderChoice::Documented);
}

/// A cluster restarts whenever a step, or a step's undo, begins: on every road, on either side, in every mode.
#[test]
#[ignore = "slow: make test-all"]
fn restarted_in_every_step_and_every_undo() {
    for moved in 0..6 {
        for side in ["record-after/started", "record-after/undo-started"] {
            every_road(side, Fate::Restarts(moved), OrderChoice::Auto);
        }
    }
}

#[test]
#[ignore = "slow: make test-all"]
fn restarted_in_every_step_and_every_undo_of_the_documented_order() {
    for side in ["record-after/started", "record-after/undo-started"] {
        every_road(side, Fate::Restarts(1), OrderChoice::Documented);
    }
}
