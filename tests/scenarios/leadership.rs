//! Leadership moves in the middle, units go, and the charm is refreshed in the middle: one worker stops, another
//! goes on.

use super::hold::{self, arm, held, worker};
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
    // Who asks the old leader is told where to ask.
    for action in ["rollback", "drain", "flip-traffic"] {
        let told = model.run(from, action, &[]).unwrap();
        assert_eq!((told.result("outcome").as_str(), told.status.as_str()), ("refused", "failed"), "{told:?}");
        assert_eq!(told.result("next"), format!("juju run coordinator/leader {action}"));
    }
}

/// Asks for something and holds the leader's worker in the middle of it.
pub fn held_in(stage: &Stage, leader: &str, action: &str, place: &str) {
    arm(stage, leader, place, "stop");
    let asked = run(&stage.model, action, &[("wait", "1")]);
    assert_eq!(asked.result("outcome"), "running", "{asked:?}");
    held(stage, leader);
}

#[test]
fn leadership_moves_in_the_copy_in_a_rollback_while_following_and_before_the_flip() {
    let stage = rig::stage("leadership", 2);
    let model = &stage.model;
    let first = model.leader("coordinator").unwrap();
    let second = if first == "coordinator/0" { "coordinator/1" } else { "coordinator/0" };
    rig::status_says(model, second, "standing by");
    assert_eq!(worker(&stage, second), None);
    rig::refresh(&stage);
    held_in(&stage, &first, "replicate", "record-before/done/copy");
    move_leader(&stage, &first, second);
    rig::follow(&stage);
    held_in(&stage, second, "rollback", "record-after/rollback-started");
    move_leader(&stage, second, &first);
    assert_eq!(expect(model, "rollback", &[], "done").result("phase"), "idle");
    rig::follow(&stage);
    rig::migrate(&stage);
    move_leader(&stage, &first, second);
    expect(model, "drain", &[], "done");
    move_leader(&stage, second, &first);
    rig::consumer_uses(&stage, &stage.kratos);
    expect(model, "drain", &[], "done");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    // Scaled down under the leader's feet.
    let old = worker(&stage, &first).unwrap();
    model.remove_unit(&first).unwrap();
    model.wait_until("the other unit's worker", rig::SOON, |_| worker(&stage, second).is_some()).unwrap();
    let gone = |_: &emulator::Model| !std::path::Path::new(&format!("/proc/{old}")).exists();
    model.wait_until("the removed unit's worker to end", rig::SOON, gone).unwrap();
    assert_eq!(run(model, "flip-traffic", &[]).result("outcome"), "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

#[test]
fn leadership_moves_under_a_watching_action() {
    let stage = rig::stage("watching", 2);
    let model = &stage.model;
    let first = model.leader("coordinator").unwrap();
    let second = if first == "coordinator/0" { "coordinator/1" } else { "coordinator/0" };
    rig::refresh(&stage);
    arm(&stage, &first, "record-before/done/copy", "stop");
    let task = model.enqueue("coordinator/leader", "replicate", &[("wait", "600")]).unwrap();
    held(&stage, &first);
    model.set_leader(second).unwrap();
    let ended = model.wait_task(task, rig::SOON).unwrap();
    assert_eq!(ended.result("outcome"), "failed", "{ended:?}");
    assert_eq!(ended.result("next"), "juju run coordinator/leader replicate", "{ended:?}");
    rig::follow(&stage);
    assert_eq!(worker(&stage, &first), None);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn the_charm_is_refreshed_while_copying_while_following_and_while_drained() {
    let stage = rig::stage("refreshed", 1);
    let model = &stage.model;
    let refresh_charm = || {
        let old = worker(&stage, "coordinator/0").unwrap();
        model.refresh("coordinator", Some(&charm("refreshed-again")), None, None).unwrap();
        hold::another_worker(&stage, "coordinator/0", old);
        assert!(!model.charm_processes("coordinator/0").unwrap().contains(&old), "the old worker lives");
    };
    rig::refresh(&stage);
    held_in(&stage, "coordinator/0", "replicate", "record-before/done/copy");
    refresh_charm();
    rig::follow(&stage);
    refresh_charm();
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    refresh_charm();
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}
