//! A rehearsal through actions: what it prints, and who uses what it measured.

use super::rig::{self, End};
use super::story::{expect, run};
use peers::writers::{Settings, Writers};

#[test]
#[ignore = "slow: make test-all"]
fn what_was_measured_is_told_and_used() {
    let stage = rig::stage("rehearse", 1);
    let model = &stage.model;
    let file = std::env::temp_dir().join(format!("oracle-rehearse-{}", std::process::id()));
    let settings = Settings { rate: 40.0, connections: 2, ..Settings::new(&file) };
    let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
    // From nothing begun to the target's own migration, with what a person has to do on the way.
    let asked = expect(model, "rehearse", &[("channel", "0.4/stable"), ("wait", "120")], "waiting");
    assert_eq!(asked.result("next"), "juju refresh kratos-new --channel 0.4/stable", "{asked:?}");
    model.refresh("kratos-new", None, Some("0.4/stable"), None).unwrap();
    let asked = expect(model, "rehearse", &[("wait", "120")], "waiting");
    assert!(asked.result("next").starts_with("juju run kratos-new/leader run-migration timeout="), "{asked:?}");
    assert_eq!(asked.result("phase"), "migrating");
    rig::refused(model, "cut-over", &[], "rehearse");
    rig::status_says(model, "coordinator/0", "has to migrate its schema");
    assert!(rig::writable(&stage.source, "iam_kratos"));
    model.run("kratos-new/leader", "run-migration", &[("timeout", "120")]).unwrap();
    let done = expect(model, "rehearse", &[("wait", "300")], "done");
    let took = done.result("migration-seconds");
    assert!(took.parse::<f64>().unwrap() > 0.1, "{done:?}");
    assert_eq!((done.result("phase").as_str(), done.result("rows-different").as_str()), ("following", "0"), "{done:?}");
    assert!(done.result("rows-verified").parse::<u64>().unwrap() > 1000, "{done:?}");
    assert!(done.message.is_empty() && done.result("message").contains(&format!("took {took} s")), "{done:?}");
    assert_eq!(done.result("next"), "juju run coordinator/leader run-migration");
    // It has been rehearsed: asked once more, the same is told and nothing done.
    assert_eq!(expect(model, "rehearse", &[("wait", "60")], "done").result("migration-seconds"), took);
    expect(model, "verify", &[], "done");
    assert_eq!(writers.stop().unwrap().unexpected, Vec::<String>::new());
    std::fs::remove_file(file).unwrap();

    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains(&format!("120 s are ample for {took} s in the rehearsal")), "{report}");
    let report = run(model, "show", &[]).result("report");
    assert!(report.contains("rehearsed: the schema migration from 1.0.0 to 1.3.1 took"), "{report}");
    // Its server runs on, of the new release and on a schema that is the old one again: it must not be trusted.
    let asked = expect(model, "run-migration", &[], "waiting");
    assert_eq!(
        asked.result("next"),
        "juju ssh --container kratos kratos-new/0 /charm/bin/pebble restart kratos",
        "{asked:?}"
    );
    stage.kratos_new.kill_servers();
    let asked = expect(model, "run-migration", &[("wait", "60")], "waiting");
    assert!(asked.result("message").contains(&format!("in the rehearsal that took {took} s")), "{asked:?}");
    assert!(asked.result("next").contains("run-migration timeout=120 "), "{asked:?}");
    rig::migrate_on(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::refused(model, "rehearse", &[], "finalize");
    rig::close(&stage, End::Target);
}

#[test]
#[ignore = "slow: make test-all"]
fn in_the_documented_order_it_tells_what_an_outage_that_long_would_meet() {
    let stage = rig::stage("rehearse-documented", 1);
    let model = &stage.model;
    model.config("coordinator", &[("order", "documented"), ("outage-limit", "3600")]).unwrap();
    rig::refresh(&stage);
    rig::follow(&stage);
    expect(model, "rehearse", &[("wait", "60")], "waiting");
    model.run("kratos-new/leader", "run-migration", &[("timeout", "120")]).unwrap();
    let done = expect(model, "rehearse", &[("wait", "300")], "done");
    let outage = done.result("outage-seconds");
    assert!(outage.parse::<f64>().unwrap() > 0.1, "{done:?}");
    let told = format!("in the order documented the outage holds all of that, {outage} s");
    assert!(done.result("message").contains(&told), "{done:?}");
    assert_eq!(done.result("next"), "juju run coordinator/leader cut-over");
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
