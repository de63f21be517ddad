//! Leadership moves in the middle, and the charm is refreshed in the middle: one worker stops, another goes on.

use super::kills::worker;
use super::rig::{self, End};
use super::story::{charm, expect, run};
use emulator::stage::Stage;

/// Moves leadership from one unit to the other and waits until only the new leader's worker lives.
fn move_leader(stage: &Stage, from: &str, to: &str) {
    let model = &stage.model;
    model.set_leader(to).unwrap();
    model.update_status(from).unwrap();
    model
        .wait_until("the workers to change", rig::SOON, |_| {
            worker(stage, from).is_none() && worker(stage, to).is_some()
        })
        .unwrap();
    rig::status_says(model, from, "standing by");
}

#[test]
fn leadership_moves_while_copying_while_following_and_before_the_flip() {
    let stage = rig::stage("leadership", 2);
    let model = &stage.model;
    let first = model.leader("coordinator").unwrap();
    let second = if first == "coordinator/0" { "coordinator/1" } else { "coordinator/0" };
    rig::status_says(model, second, "standing by");
    assert_eq!(worker(&stage, second), None);
    rig::refresh(&stage);
    // A small copy may be over before the action ends.
    let begun = run(model, "replicate", &[]);
    assert!(["running", "done"].contains(&begun.result("outcome").as_str()), "{begun:?}");
    move_leader(&stage, &first, second);
    rig::follow(&stage);
    rig::migrate(&stage);
    move_leader(&stage, second, &first);
    expect(model, "drain", &[], "done");
    move_leader(&stage, &first, second);
    rig::consumer_uses(&stage, &stage.kratos);
    expect(model, "drain", &[], "done");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    move_leader(&stage, second, &first);
    model.wait_idle(rig::SOON).unwrap();
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

#[test]
fn the_charm_is_refreshed_while_following_and_while_drained() {
    let stage = rig::stage("refreshed", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    let refresh_charm = || {
        let old = worker(&stage, "coordinator/0").unwrap();
        model.refresh("coordinator", Some(&charm("refreshed-again")), None, None).unwrap();
        model
            .wait_until("the new charm's worker", rig::SOON, |_| {
                worker(&stage, "coordinator/0").is_some_and(|new| new != old)
            })
            .unwrap();
        assert!(!model.charm_processes("coordinator/0").unwrap().contains(&old), "the old worker lives");
    };
    refresh_charm();
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    refresh_charm();
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}
