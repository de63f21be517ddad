//! The leader's machine stands still in the middle of something, connections and all: nothing runs there, and nothing
//! ends there. The new leader goes on; when the machine wakes up, its worker finds that it has lost, whatever it was
//! about to do. Both sides are never open at once.

use super::hold::{self, another_worker, worker};
use super::leadership::held_in;
use super::never_both::NeverBoth;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use emulator::stage::Stage;
use emulator::{Model, Verdict};
use rustix::process::Signal;
use std::time::Duration;

/// When the new leader learns that the other one is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Learns {
    /// It has not moved for two minutes.
    Slowly,
    /// The server has found that the connection which holds the worker's lock is dead; the others stand.
    AtOnce,
}

/// The connection that holds the lock of the one worker ends.
fn end_the_lock(stage: &Stage) {
    let lock = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND classid = 1768187246 AND objid = 1953068153";
    assert_ne!(stage.target.psql(&stage.own_database(), lock).unwrap(), "0");
}

/// Frozen at this place while `action` is worked on; the new leader ends it.
fn frozen_at(name: &str, action: &str, place: &str, learns: Learns) {
    let stage = rig::stage(name, 2);
    let model = &stage.model;
    let first = model.leader("coordinator").unwrap();
    let second = if first == "coordinator/0" { "coordinator/1" } else { "coordinator/0" };
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    let never = NeverBoth::watch(&stage);
    match action {
        "flip-traffic" => drop(expect(model, "drain", &[], "done")),
        "rollback" => {
            expect(model, "cut-over", &[], "done");
            rig::consumer_uses(&stage, &stage.kratos_new);
        }
        _ => {}
    }
    held_in(&stage, &first, action, place);
    let zombie = worker(&stage, &first).unwrap();
    let frozen = first.clone();
    let runs = move |candidate: &emulator::Candidate<'_>| match candidate.unit == frozen {
        true => Verdict::Wait,
        false => Verdict::Run,
    };
    stage.controller.set_gate(Some(Box::new(runs)));
    // A hook that began before would find that it does not lead, and end the worker.
    let still = |model: &Model| model.running(&first).unwrap().is_none();
    model.wait_until("the machine to stand still", SOON, still).unwrap();
    model.set_leader(second).unwrap();
    model.update_status(second).unwrap();
    another_worker(&stage, second, zombie);
    if learns == Learns::AtOnce {
        end_the_lock(&stage);
    }
    let goes_on = |model: &Model| run(model, action, &[("wait", "5")]).result("outcome") == "done";
    model.wait_until("the new leader to end it", Duration::from_secs(240), goes_on).unwrap();
    if action == "drain" {
        expect(model, "flip-traffic", &[], "done");
    }
    if action == "rollback" {
        // Nobody is served by the target any more.
        never.end();
        wakes_up_to_nothing(&stage, &first, zombie);
        rig::consumer_uses(&stage, &stage.kratos);
        return rig::close(&stage, End::Source);
    }
    wakes_up_to_nothing(&stage, &first, zombie);
    never.end();
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

/// The machine goes on: its worker changes nothing any more.
fn wakes_up_to_nothing(stage: &Stage, first: &str, zombie: u32) {
    let model = &stage.model;
    let before = rig::picture(stage);
    hold::signal(zombie, Signal::CONT);
    // It has found that its sessions are gone when it asks for the lock again.
    let log = model.charm_folder(first).unwrap().join("worker.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let lost = |_: &Model| read().contains("another worker acts; waiting for its end");
    model.wait_until("the zombie to lose", SOON, lost).unwrap_or_else(|error| panic!("{error:#}\n{}", read()));
    rig::assert_same("a worker that woke up", &before, &rig::picture(stage));
    stage.controller.set_gate(None);
    model.wait_until("the zombie's end", SOON, |_| worker(stage, first).is_none()).unwrap();
}

#[test]
fn about_to_open_the_target() {
    let place = "record-after/noted/hand-over/opening-target";
    frozen_at("zombie-opening", "flip-traffic", place, Learns::AtOnce);
}

macro_rules! slow {
    ($($name:ident: $action:literal, $place:literal, $learns:ident;)*) => {$(
        #[test]
        #[ignore = "slow: make test-all"]
        fn $name() {
            frozen_at(concat!("zombie-", stringify!($name)), $action, $place, Learns::$learns);
        }
    )*};
}

slow! {
    before_the_fence: "drain", "record-after/noted/fence/generation", Slowly;
    closing_the_source: "flip-traffic", "fence-commit", Slowly;
    with_the_source_closed: "flip-traffic", "record-after/noted/hand-over/source-closed", Slowly;
    opening_the_target: "flip-traffic", "record-after/noted/hand-over/opening-target", Slowly;
    closing_the_source_with_sessions_left: "flip-traffic", "fence-commit", AtOnce;
    with_the_source_closed_and_sessions_left: "flip-traffic", "record-after/noted/hand-over/source-closed", AtOnce;
    on_the_road_back: "rollback", "record-after/started/reverse-hand-over", Slowly;
    on_the_road_back_with_sessions_left: "rollback", "record-after/noted/reverse-hand-over/opening-source", AtOnce;
}
