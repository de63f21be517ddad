//! Hooks that come twice, late, or after one that failed: they change nothing that was done. Actions that are run
//! twice are in `matrix`.

use super::hold::worker;
use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;
use std::os::unix::fs::PermissionsExt;

const UNIT: &str = "coordinator/0";

/// update-status and config-changed again and again, as Juju doubles them.
fn storm(stage: &Stage) {
    let model = &stage.model;
    let before = rig::picture(stage);
    for limit in ["1000000", "2000000", "1000000"] {
        model.update_status(UNIT).unwrap();
        model.config("coordinator", &[("max-lag-bytes", limit)]).unwrap();
        model.wait_until("hooks", rig::SOON, |model| model.running(UNIT).unwrap().is_none()).unwrap();
    }
    model.reset_config("coordinator", &["max-lag-bytes"]).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::assert_same("a storm of hooks", &before, &rig::picture(stage));
}

/// A hook of an event that is over, or that Juju would send later, in the unit's own context.
fn out_of_order(stage: &Stage) {
    let before = rig::picture(stage);
    for event in [
        "start",
        "install",
        "leader-elected",
        "leader-settings-changed",
        "upgrade-charm",
        "config-changed",
        "identity-migration-wake",
        "collect-metrics",
        "pre-series-upgrade",
    ] {
        for _ in 0..2 {
            let command = format!("JUJU_DISPATCH_PATH=hooks/{event} JUJU_HOOK_NAME={event} ./dispatch");
            let ended = stage.model.execute(UNIT, &command, None).unwrap();
            assert_eq!(ended.code, 0, "{event}: {}", ended.stderr);
        }
    }
    rig::assert_same("a hook out of order", &before, &rig::picture(stage));
}

/// Hooks fail because a hook tool does; an action is run meanwhile; then the hook is tried again.
fn while_a_hook_fails(stage: &Stage) {
    let model = &stage.model;
    let before = rig::databases(stage);
    let folder = model.charm_folder(UNIT).unwrap();
    let dispatch = folder.join("dispatch");
    let mode = |mode| std::fs::set_permissions(&dispatch, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    model.config("coordinator", &[("max-lag-bytes", "3000000")]).unwrap();
    model.wait_until("a failed hook", rig::SOON, |model| model.status(UNIT).is_ok_and(|s| s.0 == "error")).unwrap();
    let failed = model.run("coordinator/leader", "show", &[]).unwrap();
    assert_eq!(failed.status, "failed", "{failed:?}");
    mode(0o755);
    // Actions run before the hook is tried again.
    let shown = expect(model, "show", &[], "done");
    let data = expect(model, "preflight", &[], "done");
    assert_eq!(shown.result("phase"), data.result("phase"));
    model
        .wait_until("the hook's next try", rig::SOON, |model| model.status(UNIT).is_ok_and(|s| s.0 == "active"))
        .unwrap();
    model.reset_config("coordinator", &["max-lag-bytes"]).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::assert_same("a hook that failed", &before, &rig::databases(stage));
}

#[test]
fn hooks_twice_out_of_order_and_after_a_failure() {
    let stage = rig::stage("repeats", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    storm(&stage);
    rig::follow(&stage);
    let old = worker(&stage, UNIT).unwrap();
    storm(&stage);
    out_of_order(&stage);
    assert_eq!(worker(&stage, UNIT), Some(old), "one worker for all of them");
    while_a_hook_fails(&stage);
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    storm(&stage);
    out_of_order(&stage);
    let told = rig::refused(model, "migrate", &[("until", "following")], "flip-traffic");
    assert!(told.message.contains("drained"), "{told:?}");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    let compared = |model: &emulator::Model| run(model, "show", &[]).result("rows-different") == "0";
    model.wait_until("the comparison", rig::SOON, compared).unwrap();
    storm(&stage);
    let first = expect(model, "finalize", &[], "done");
    assert!(!first.result("remove-source-fence").is_empty(), "{first:?}");
    storm(&stage);
    out_of_order(&stage);
    // The commands that retire the source are told again.
    assert_eq!(run(model, "finalize", &[]).result("next"), first.result("next"));
    rig::consumer_uses(&stage, &stage.kratos_new);
    // One hook failed on purpose.
    rig::close_but_one_hook(&stage, End::Target);
}
