//! Options that become unusable, and relations that go, in the middle of an outage: nothing hides the lease, nothing
//! stops the worker, and there is a way back.

use super::hold::worker;
use super::rig::{self, End};
use super::story::expect;

#[test]
fn bad_options_and_a_missing_relation_while_writes_are_stopped() {
    let stage = rig::stage("options", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    let works = worker(&stage, "coordinator/0").expect("a worker");
    let bad = [("outage-limit", "5"), ("lock-timeout-ms", "0"), ("log-level", "loud"), ("source-database-name", " x")];
    for (option, value) in bad {
        model.config("coordinator", &[(option, value)]).unwrap();
        let sentence = format!("cannot use the option {option}: ");
        let (word, message) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "blocked");
        assert!(message.contains("writes stopped, at most"), "{message}");
        let shown = expect(model, "show", &[], "done");
        assert!(shown.result("message").starts_with(&sentence) && shown.result("phase") == "drained", "{shown:?}");
        assert_eq!(worker(&stage, "coordinator/0"), Some(works), "the worker was stopped by {option}");
        model.reset_config("coordinator", &[option]).unwrap();
    }
    model.config("coordinator", &bad).unwrap();
    rig::status_says(model, "coordinator/0", "cannot use the option source-database-name");
    let told = rig::refused(model, "drain", &[], "juju config coordinator --reset outage-limit");
    assert!(told.message.contains("option outage-limit: its value is 5; set it to a whole number"), "{told:?}");
    // What needs none of them goes on, also without the relation that told the target's name.
    model.remove_relation("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    let relate = "juju integrate coordinator:target-kratos <new Kratos>:kratos-info";
    let told = rig::refused(model, "flip-traffic", &[], relate);
    assert!(told.message.contains("nothing is related to target-kratos; run juju integrate"), "{told:?}");
    assert_eq!(worker(&stage, "coordinator/0"), Some(works));
    expect(model, "rollback", &[], "done");
    assert_eq!(worker(&stage, "coordinator/0"), Some(works));
    rig::consumer_uses(&stage, &stage.kratos);
    model.integrate("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    model.reset_config("coordinator", &bad.map(|(option, _)| option)).unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    rig::close(&stage, End::Source);
}
