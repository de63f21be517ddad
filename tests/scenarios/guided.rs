//! With credentials, where the controller cannot be asked for a step: it is typed by a person, and that is said in the
//! action's answer and in `juju status`.

use super::closing::Played;
use super::controller::{arrives, given, modest};
use super::models::{related_to, type_in};
use super::retire::type_all;
use super::rig::{self, End};
use super::story::expect;
use emulator::Api;
use emulator::stage::Models;
use std::sync::Arc;

#[test]
fn a_local_charm_is_refreshed_from_charmhub_by_hand() {
    let (stage, api) = given("local");
    let model = &stage.model;
    model.upload("kratos-new", 383).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    let asked = expect(model, "refresh", &[("channel", "0.4/stable"), ("wait", "60")], "waiting");
    let says = "kratos-new has a local charm, local:kratos-383, whose next file is not known here: attach it with juju \
                attach-resource coordinator target-charm=<charm file>";
    assert!(asked.result("message").contains(says), "{asked:?}");
    let typed = "juju refresh kratos-new --switch ch:kratos --channel 0.4/stable";
    assert_eq!(asked.result("next"), typed);
    model.update_status("coordinator/0").unwrap();
    let (_, shown) = rig::status_says(model, "coordinator/0", "has a local charm");
    assert!(shown.contains(typed), "{shown}");
    // Plain refresh, as for a charm of Charmhub, is refused by Juju itself.
    let refused = model.refresh("kratos-new", None, Some("0.4/stable"), None).unwrap_err();
    assert!(refused.to_string().contains("requires either --path or --switch"), "{refused:#}");
    type_in(&stage, typed);
    expect(model, "refresh", &[("channel", "0.4/stable"), ("wait", "60")], "done");
    assert_eq!(api.times_done("Application.SetCharm"), 0);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn a_local_charm_that_a_person_refreshes_is_migrated_through_the_controller() {
    let (stage, api) = given("local-file");
    let model = &stage.model;
    model.upload("kratos-new", 383).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    let asked = expect(model, "migrate", &[("wait", "60")], "waiting");
    assert_eq!(asked.result("next"), "juju refresh kratos-new --path=<charm file> --resource oci-image=<image>");
    model.upload("kratos-new", 500).unwrap();
    arrives(&stage, &api, (0, 1));
}

/// A target that this model calls by no name of its own, or by the one that it was consumed under.
fn target_in_another_model(name: &str, kratos_offers: bool) -> (Played, Arc<Api>) {
    let models = Models { source: "iam", coordinator: "iam", target: "iam-new", kratos_offers };
    let stage = rig::stage_across(name, models, 14, 16);
    let model = &stage.model;
    stage.place_coordinator(1).unwrap();
    rig::status_says(model, "coordinator/0", "set the option target-application");
    model.config("coordinator", &[("target-application", "kratos")]).unwrap();
    let api = stage.give_credentials().unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    (stage, api)
}

#[test]
fn a_target_in_another_model_is_refreshed_and_migrated_by_hand() {
    let (stage, api) = target_in_another_model("another-model", true);
    let model = &stage.model;
    let says = "the coordinator may not change the model iam-new, in which kratos is";
    for (action, parameters, begins) in [
        (
            "refresh",
            [("channel", "0.4/stable"), ("wait", "60")].as_slice(),
            "juju refresh -m iam-new kratos --channel ",
        ),
        ("run-migration", &[("wait", "120")], "juju run -m iam-new kratos/leader run-migration timeout="),
    ] {
        let asked = expect(model, action, parameters, "waiting");
        let next = asked.result("next");
        assert!(asked.result("message").contains(says) && next.starts_with(begins), "{asked:?}");
        model.update_status("coordinator/0").unwrap();
        let (_, shown) = rig::status_says(model, "coordinator/0", says);
        assert!(shown.contains(&next), "{shown}");
        type_in(&stage, &next);
        if action == "refresh" {
            rig::follow(&stage);
        }
    }
    expect(model, "run-migration", &[("wait", "120")], "done");
    expect(model, "cut-over", &[("wait", "120")], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    assert_eq!(api.changes(), Vec::<String>::new());
    rig::close(&stage, End::Target);
}

#[test]
#[ignore = "slow: make test-all"]
fn consumers_here_reach_a_target_in_another_model_once_it_is_consumed_here() {
    let (stage, api) = target_in_another_model("another-model-back", false);
    let model = &stage.model;
    for (action, parameters) in [("refresh", [("channel", "0.4/stable")].as_slice()), ("run-migration", &[])] {
        type_in(&stage, &expect(model, action, parameters, "waiting").result("next"));
        expect(model, action, parameters, "done");
        if action == "refresh" {
            rig::follow(&stage);
        }
    }
    expect(model, "cut-over", &[("wait", "120")], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    let asked = expect(model, "adopt", &[("undo", "true")], "waiting");
    let says = "kratos of the model iam-new is not consumed here, so nobody here can be related to it";
    assert!(asked.result("message").contains(says), "{asked:?}");
    assert_eq!(api.changes(), Vec::<String>::new());
    let next = asked.result("next");
    let lines: Vec<&str> = next.lines().collect();
    assert_eq!(lines, ["juju offer iam-new.kratos:kratos-info", "juju consume iam-new.kratos kratos-target"]);
    lines.iter().for_each(|line| type_in(&stage, line));
    super::adopt::done(model, &[("undo", "true")], "take their address from the identity application itself again");
    assert_eq!(related_to(&api, "login-ui:kratos-info"), ["kratos-target:kratos-info"]);
    rig::consumer_uses(&stage, &stage.kratos_new);
    // From there it comes to the coordinator again, and when that goes it needs the name once more.
    super::adopt::done(model, &[], "login-ui:kratos-info take their address from here now");
    assert_eq!(related_to(&api, "login-ui:kratos-info"), ["coordinator:kratos-info"]);
    modest(&api);
    rig::close(&stage, End::Target);
    let source = expect(model, "finalize", &[("keep-source-fenced", "false")], "done").result("next");
    rig::close(&stage, End::Both);
    type_all(&stage, &source);
    let last = expect(model, "show", &[], "done").result("remove-coordinator");
    let typed = [
        lines[0],
        lines[1],
        "juju remove-relation coordinator:kratos-info login-ui",
        "juju integrate kratos-target:kratos-info login-ui",
        "juju remove-application coordinator",
    ];
    assert_eq!(last.lines().collect::<Vec<_>>(), typed);
    type_all(&stage, &last);
}
