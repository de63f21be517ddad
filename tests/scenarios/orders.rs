//! The documented order, `migrate` with its stops, rollback from each phase, and other pairs of PostgreSQL.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;

/// The whole of the documented order through actions, ended by a flip.
#[test]
fn the_documented_order_with_a_person_in_the_outage() {
    let stage = rig::stage("documented", 1);
    let model = &stage.model;
    model.config("coordinator", &[("order", "documented"), ("outage-limit", "3600")]).unwrap();
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::refused(model, "run-migration", &[], "drain");
    let short = run(model, "cut-over", &[("outage-limit", "60")]);
    assert_eq!((short.result("outcome").as_str(), short.status.as_str()), ("failed", "failed"), "{short:?}");
    assert!(short.message.contains("outage limit is 60 s"), "{short:?}");
    assert!(rig::writable(&stage.source, "iam_kratos"));
    let asked = expect(model, "cut-over", &[], "waiting");
    assert!(asked.result("next").starts_with("juju run kratos-new/leader run-migration timeout="), "{asked:?}");
    assert_eq!(asked.result("rows-different"), "0");
    assert!(!rig::writable(&stage.source, "iam_kratos"));
    rig::status_says(model, "coordinator/0", "writes stopped, at most");
    let text = expect(model, "show", &[], "done").result("report");
    assert!(text.contains("documented") && text.contains("[x] drain"), "{text}");
    eprintln!("{text}");
    let data: serde_json::Value =
        serde_json::from_str(&expect(model, "show", &[("format", "json")], "done").result("report")).unwrap();
    assert_eq!((&data["order"], &data["phase"]), (&"documented".into(), &"migrating".into()), "{data}");
    model.run("kratos-new/leader", "run-migration", &[("timeout", "120")]).unwrap();
    let flipped = expect(model, "cut-over", &[], "done");
    assert_eq!(flipped.result("phase"), "flipped");
    assert!(flipped.result("outage-ms").parse::<u64>().unwrap() > 0);
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(&stage, End::Both);
}

/// Goes back and looks that nothing is left, and that everybody is where they began.
fn roll_back(stage: &Stage) {
    let result = expect(&stage.model, "rollback", &[], "done");
    assert_eq!(result.result("phase"), "idle");
    rig::status_says(&stage.model, "coordinator/0", "ready");
    rig::consumer_uses(stage, &stage.kratos);
    rig::close(stage, End::Source);
}

#[test]
fn rollback_from_every_phase_and_then_the_whole_migration() {
    let stage = rig::stage("rollback", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    roll_back(&stage);
    rig::follow(&stage);
    roll_back(&stage);
    let asked = run(model, "migrate", &[("until", "migrated"), ("wait", "120")]);
    assert_eq!(asked.result("phase"), "migrating", "{asked:?}");
    assert!(asked.result("next").starts_with("juju run kratos-new/leader run-migration"), "{asked:?}");
    roll_back(&stage);
    let all = |until: &'static str| {
        let asked = expect(model, "migrate", &[("until", until), ("wait", "120")], "waiting");
        assert!(asked.result("next").starts_with("juju run kratos-new/leader run-migration"), "{asked:?}");
        model.run("kratos-new/leader", "run-migration", &[("timeout", "120")]).unwrap();
        expect(model, "migrate", &[("until", until), ("wait", "120")], "done")
    };
    assert_eq!(all("drained").result("phase"), "drained");
    assert!(!rig::writable(&stage.source, "iam_kratos"));
    roll_back(&stage);
    // Its server runs on, of the new release and on a schema that is the old one again: it must not be trusted.
    let asked = expect(model, "migrate", &[("wait", "120")], "waiting");
    assert_eq!(
        asked.result("next"),
        "juju ssh --container kratos kratos-new/0 /charm/bin/pebble restart kratos",
        "{asked:?}"
    );
    stage.kratos_new.kill_servers();
    let flipped = all("flipped");
    assert_eq!(flipped.result("phase"), "flipped");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

/// The shortest way through the story.
fn straight_through(name: &str, from: u32, to: u32) {
    let stage = rig::stage_between(name, from, to);
    rig::deploy(&stage, 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    expect(&stage.model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    let seen = || run(&stage.model, "show", &[]).result("rows-different");
    stage.model.wait_until("the comparison", rig::SOON, |_| seen() == "0").unwrap();
    expect(&stage.model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(&stage, End::Both);
}

#[test]
#[ignore = "slow: make test-all"]
fn from_15_to_15() {
    straight_through("15", 15, 15);
}

#[test]
#[ignore = "slow: make test-all"]
fn from_16_to_17() {
    straight_through("16", 16, 17);
}
