//! Every action twice in each phase along the story: the second answers the same and changes nothing.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;

/// Runs these actions, all of which were done already, and looks at both databases before and after.
fn again(stage: &Stage, actions: &[(&str, &[(&str, &str)])], phase: &str) {
    let before = rig::databases(stage);
    for (action, parameters) in actions {
        let result = expect(&stage.model, action, parameters, "done");
        assert_eq!(result.result("phase"), phase, "{action}");
        rig::assert_same(action, &before, &rig::databases(stage));
    }
    storm(stage);
    rig::assert_same("a storm of hooks", &before, &rig::databases(stage));
}

/// Hooks that come twice, and update-status again and again.
fn storm(stage: &Stage) {
    let model = &stage.model;
    for round in 0..5 {
        model.update_status("coordinator/0").unwrap();
        let limit = if round % 2 == 0 { "1000000" } else { "2000000" };
        model.config("coordinator", &[("max-lag-bytes", limit)]).unwrap();
        model.wait_until("hooks", rig::SOON, |model| model.running("coordinator/0").unwrap().is_none()).unwrap();
    }
    model.reset_config("coordinator", &["max-lag-bytes"]).unwrap();
    rig::no_hook_failed(model);
}

#[test]
fn every_action_twice_in_each_phase() {
    let stage = rig::stage("repeats", 1);
    let model = &stage.model;
    again(&stage, &[("preflight", &[]), ("show", &[]), ("rollback", &[])], "idle");
    rig::refresh(&stage);
    again(&stage, &[("refresh", &[]), ("refresh", &[("channel", "0.4/stable")]), ("preflight", &[])], "idle");
    rig::follow(&stage);
    again(
        &stage,
        &[("replicate", &[]), ("verify", &[]), ("preflight", &[]), ("refresh", &[]), ("show", &[("format", "json")])],
        "following",
    );
    expect(model, "migrate", &[("until", "following")], "done");
    let first = expect(model, "run-migration", &[], "waiting");
    let before = rig::databases(&stage);
    let second = expect(model, "run-migration", &[], "waiting");
    assert_eq!((first.result("next"), first.result("phase")), (second.result("next"), second.result("phase")));
    rig::assert_same("run-migration", &before, &rig::databases(&stage));
    rig::migrate_on(&stage);
    again(
        &stage,
        &[
            ("run-migration", &[]),
            ("replicate", &[]),
            ("refresh", &[]),
            ("verify", &[]),
            ("preflight", &[]),
            ("migrate", &[("until", "migrated")]),
        ],
        "following",
    );
    expect(model, "drain", &[], "done");
    again(&stage, &[("drain", &[]), ("run-migration", &[]), ("migrate", &[("until", "drained")])], "drained");
    expect(model, "cut-over", &[], "done");
    again(&stage, &[("flip-traffic", &[]), ("cut-over", &[]), ("migrate", &[]), ("show", &[])], "flipped");
    // The comparison runs beside the hand-over.
    let ended = |result: &emulator::ActionResult| result.result("rows-different") == "0";
    model.wait_until("the comparison", rig::SOON, |model| ended(&run(model, "show", &[]))).unwrap();
    let first = expect(model, "finalize", &[], "done");
    assert!(!first.result("remove-source-fence").is_empty(), "{first:?}");
    again(&stage, &[("finalize", &[]), ("finalize", &[]), ("show", &[])], "finalized");
    rig::close(&stage, End::Target);
    assert_eq!(run(model, "finalize", &[]).result("next"), first.result("next"));
}
