//! Consumers that take their address from Kratos itself are found, moved to the coordinator, and back.

use super::closing::Played;
use super::controller::hold_unit;
use super::hold;
use super::models::type_in;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{BlockKind, Fault};
use emulator::neighbours::Consumer;
use emulator::stage::Stage;
use emulator::{ActionResult, Charm, Model};

const CONSUMER: &str = "login-ui:kratos-info";
const ITSELF: &str = "kratos:kratos-info";
const OURS: &str = "coordinator:kratos-info";

/// A stage as it is before anybody is adopted.
fn unadopted(name: &str) -> Played {
    let stage = rig::stage(name, 1);
    unadopt(&stage);
    stage
}

/// The consumer takes its address from Kratos itself, as before.
pub fn unadopt(stage: &Stage) {
    stage.model.remove_relation(OURS, CONSUMER).unwrap();
    stage.model.wait_idle(SOON).unwrap();
    stage.model.integrate(ITSELF, CONSUMER).unwrap();
    stage.model.wait_idle(SOON).unwrap();
}

/// `adopt`, asked for again until this is its outcome: the coordinator's own hooks come between.
fn adopt(model: &Model, parameters: &[(&str, &str)], outcome: &str) -> ActionResult {
    let mut last = run(model, "adopt", parameters);
    for _ in 0..20 {
        if last.result("outcome") == outcome {
            return last;
        }
        model.wait_idle(SOON).unwrap();
        last = run(model, "adopt", parameters);
    }
    panic!("adopt is not {outcome}: {last:?}\n{}", model.unit_log("coordinator/0"));
}

pub fn done(model: &Model, parameters: &[(&str, &str)], says: &str) {
    let tasks = |model: &Model| model.tasks().iter().filter(|task| task.action == "adopt").count();
    let before = tasks(model);
    let adopted = adopt(model, parameters, "done");
    // What an earlier one began may have come to its end before it was asked for again.
    let again = tasks(model) > before + 1;
    let message = adopted.result("message");
    let stands = message.ends_with("from here already") || message.starts_with("no consumer");
    assert!(message.contains(says) || again && stands, "{adopted:?}");
}

#[test]
fn consumers_are_found_and_moved_there_and_back() {
    let stage = unadopted("adopt");
    let model = &stage.model;
    let typed = expect(model, "adopt", &[], "failed");
    assert!(typed.message.contains("controller-credentials are not set"), "{typed:?}");
    assert!(typed.message.contains("juju integrate <consumer>:kratos-info coordinator:kratos-info"), "{typed:?}");
    // Somebody in another model takes it, too.
    let portals = stage.controller.add_model("portals").unwrap();
    let portal = Consumer::new();
    let seen = portal.view();
    portals.deploy(Charm::Native(Box::new(portal)), "portal").unwrap();
    portals.consume(&model.offer("kratos", &["kratos-info"], None).unwrap(), None).unwrap();
    portals.integrate("portal:kratos-info", ITSELF).unwrap();
    model.wait_idle(SOON).unwrap();
    let api = stage.give_credentials().unwrap();
    let report = expect(model, "preflight", &[], "done").result("report");
    let remove = "juju remove-relation login-ui:kratos-info kratos:kratos-info";
    let make = "juju integrate login-ui:kratos-info coordinator:kratos-info";
    assert!(report.contains("a flip would not reach login-ui:kratos-info and 1 from other models"), "{report}");
    assert!(report.contains(&format!("{remove} and then {make}")), "{report}");
    let there = "juju offer coordinator:kratos-info, and in their model juju consume iam.coordinator, juju remove-relation \
                 <consumer>:kratos-info <kratos there> and then juju integrate <consumer>:kratos-info coordinator";
    assert!(report.contains(there), "{report}");
    // Each request's answer is lost once.
    for call in ["Application.DestroyRelation", "Application.AddRelation", "Client.FullStatus"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    done(model, &[], "login-ui:kratos-info take their address from here now");
    done(model, &[], "every consumer in this model takes its address from here already");
    assert_eq!(api.times_done("Application.AddRelation"), 1, "{:?}", api.changes());
    assert!(stage.consumer.current().is_some());
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("a flip would not reach 1 from other models: related to kratos itself"), "{report}");
    type_in(&stage, "juju offer coordinator:kratos-info");
    for typed in [
        "juju consume -m portals iam.coordinator",
        "juju remove-relation -m portals portal:kratos-info kratos",
        "juju integrate -m portals portal:kratos-info coordinator",
    ] {
        type_in(&stage, typed);
        model.wait_idle(SOON).unwrap();
    }
    let uses = stage.kratos.ports().admin_url();
    let told = |_: &Model| seen.current().is_some_and(|found| found.admin_endpoint == uses);
    model.wait_until("the consumer of the other model to be told", SOON, told).unwrap();
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("nobody in this model takes the address of kratos from itself"), "{report}");
    done(model, &[("undo", "true")], "from the identity application itself again");
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("a flip would not reach login-ui:kratos-info"), "{report}");
    // Killed before and after it noted what it is about to do, the next worker goes on.
    for place in ["record-before", "record-after"] {
        hold::arm(&stage, "coordinator/0", &format!("{place}/errand/adoption"), "kill");
        model.enqueue("coordinator/leader", "adopt", &[]).unwrap();
        hold::reached(&stage, "coordinator/0");
        model.update_status("coordinator/0").unwrap();
    }
    done(model, &[], "");
    rig::consumer_uses(&stage, &stage.kratos);
    rig::close(&stage, End::Source);
}

#[test]
fn a_relation_that_is_refused_leads_back_and_one_that_stays_is_waited_for() {
    let stage = unadopted("adopt-refused");
    let model = &stage.model;
    let api = stage.give_credentials().unwrap();
    // What would stop it half way is found before anything goes.
    api.set_block(BlockKind::BlockRemove, Some("nothing goes today"));
    let blocked = adopt(model, &[], "failed");
    assert!(blocked.message.contains("nothing goes today"), "{blocked:?}");
    assert_eq!(api.changes(), Vec::<String>::new());
    api.set_block(BlockKind::BlockRemove, None);
    // The consumer's hooks do not come, so the relation stays.
    hold_unit(&stage, "login-ui/0", "hooks/");
    let waits = expect(model, "adopt", &[], "running");
    assert!(
        waits.result("message").contains("the relation of login-ui:kratos-info with kratos:kratos-info goes"),
        "{waits:?}"
    );
    assert_eq!(api.times_done("Application.DestroyRelation"), 1);
    // Meanwhile somebody else takes the only place that the consumer has.
    hold::arm(&stage, "coordinator/0", "record-before/errand/adoption", "stop");
    stage.controller.set_gate(None);
    model.update_status("login-ui/0").unwrap();
    hold::held(&stage, "coordinator/0");
    model.integrate("kratos-new:kratos-info", CONSUMER).unwrap();
    hold::thaw(&stage, "coordinator/0");
    let refused = adopt(model, &[], "waiting");
    assert!(refused.result("message").contains("is between two relations"), "{refused:?}");
    assert!(refused.result("message").contains("maximum relation limit of 1"), "{refused:?}");
    assert_eq!(refused.result("next"), format!("juju integrate {CONSUMER} {ITSELF}"));
    // Nothing else begins meanwhile.
    expect(model, "replicate", &[], "refused");
    expect(model, "rollback", &[], "refused");
    model.remove_relation("kratos-new:kratos-info", CONSUMER).unwrap();
    model.wait_idle(SOON).unwrap();
    let back = adopt(model, &[], "failed");
    assert!(back.message.contains("so login-ui:kratos-info is related to kratos:kratos-info again"), "{back:?}");
    done(model, &[], "login-ui:kratos-info take their address from here now");
    rig::consumer_uses(&stage, &stage.kratos);
    rig::close(&stage, End::Source);
}

#[test]
fn a_coordinator_without_relations_is_told_which_ones_it_needs() {
    let stage = unadopted("adopt-proposed");
    let model = &stage.model;
    stage.give_credentials().unwrap();
    for (endpoint, other) in
        [("source-database", "postgresql-k8s:database"), ("target-kratos", "kratos-new:kratos-info")]
    {
        model.remove_relation(&format!("coordinator:{endpoint}"), other).unwrap();
    }
    model.wait_idle(SOON).unwrap();
    let told = expect(model, "preflight", &[], "refused").result("next");
    let lines = [
        "juju integrate coordinator:source-database postgresql-k8s:database",
        "juju integrate coordinator:target-kratos kratos-new:kratos-info",
        "juju remove-relation login-ui:kratos-info kratos:kratos-info",
        "juju integrate login-ui:kratos-info coordinator:kratos-info",
    ];
    assert_eq!(told, lines.join("\n"));
    model.integrate("coordinator:source-database", "postgresql-k8s:database").unwrap();
    model.integrate("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    model.wait_idle(SOON).unwrap();
    done(model, &[], "");
    rig::close(&stage, End::Source);
}

#[test]
fn turned_round_in_the_middle_the_others_stay_where_they_were() {
    let stage = unadopted("adopt-turned");
    let model = &stage.model;
    model.deploy(Charm::Native(Box::new(Consumer::new())), "portal").unwrap();
    model.integrate(ITSELF, "portal:kratos-info").unwrap();
    model.wait_idle(SOON).unwrap();
    let api = stage.give_credentials().unwrap();
    // The first one's hooks do not come, so it is between two relations.
    hold_unit(&stage, "login-ui/0", "hooks/");
    let goes = adopt(model, &[], "running");
    assert!(goes.result("message").contains("the relation of login-ui:kratos-info"), "{goes:?}");
    run(model, "adopt", &[("undo", "true"), ("wait", "1")]);
    stage.controller.set_gate(None);
    model.update_status("login-ui/0").unwrap();
    done(
        model,
        &[("undo", "true")],
        "login-ui:kratos-info take their address from the identity application itself again",
    );
    // The other one was left alone.
    assert_eq!(api.times_done("Application.DestroyRelation"), 2, "{:?}", api.changes());
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("a flip would not reach login-ui:kratos-info, portal:kratos-info"), "{report}");
    rig::close(&stage, End::Source);
}
