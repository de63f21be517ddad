//! A charm that the operator attached as a file, with an image of their own registry: uploaded and refreshed to through the
//! controller, where Charmhub is out of reach.

use super::closing::Played;
use super::controller::{each_once, given, given_by, modest};
use super::hold;
use super::models::type_in;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{Charm, Fault, PUT_CHARM, PUT_RESOURCE};
use emulator::neighbours::KratosApp;
use emulator::stage::USER;
use emulator::{ActionResult, Api};

const IMAGE: &str = "registry.internal:5000/identity/kratos:1.3.1";

/// Attaches a file as an operator does.
fn attach(stage: &Played, content: &[u8]) {
    let file = std::env::temp_dir().join(format!("attached-{}-{}.charm", std::process::id(), stage.model.name()));
    std::fs::write(&file, content).unwrap();
    type_in(stage, &format!("juju attach-resource coordinator target-charm={}", file.display()));
    std::fs::remove_file(file).unwrap();
    stage.model.wait_idle(SOON).unwrap();
}

fn packed() -> Vec<u8> {
    KratosApp::packed().unwrap()
}

/// A stage with credentials whose target has a local charm; another one is attached.
fn attached(name: &str, juju: Option<&'static str>) -> (Played, std::sync::Arc<Api>) {
    let (stage, api) = given_by(name, juju);
    stage.model.upload("kratos-new", 383).unwrap();
    stage.model.wait_idle(SOON).unwrap();
    attach(&stage, &packed());
    (stage, api)
}

/// Migrates to the flip with the charm that was attached.
fn arrive(stage: &Played) -> ActionResult {
    let ask = || run(&stage.model, "migrate", &[("local", "true"), ("image", IMAGE), ("wait", "120")]);
    let mut last = ask();
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = ask();
    }
    assert_eq!(last.result("phase"), "flipped", "{last:?}\n{}", stage.model.unit_log("coordinator/0"));
    rig::consumer_uses(stage, &stage.kratos_new);
    last
}

/// The charm that the target has, and where its image is.
fn target_has(api: &Api) -> (String, Option<String>) {
    use controller_peer::model::Model as _;
    let target = api.model().applications().remove("kratos-new").unwrap();
    (target.charm_url, target.resources[0].registry_path())
}

#[test]
fn it_is_uploaded_with_its_image_and_leads_to_the_target_and_rollback_back() {
    let (stage, api) = attached("local-charm", None);
    arrive(&stage);
    each_once(&stage, &api);
    assert_eq!((api.times_done(PUT_CHARM), api.times_done(PUT_RESOURCE)), (1, 1));
    assert_eq!(target_has(&api), ("local:kratos-384".to_owned(), Some(IMAGE.to_owned())));
    rig::close(&stage, End::Target);
    expect(&stage.model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn on_3_6_with_every_reply_lost_each_step_is_taken_once() {
    let (stage, api) = attached("local-charm-3", Some("3.6.12"));
    for call in [PUT_CHARM, "Charms.List", "Resources.AddPendingResources", PUT_RESOURCE, "Application.SetCharm"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    arrive(&stage);
    each_once(&stage, &api);
    assert_eq!(api.times_done(PUT_CHARM), 1);
    assert_eq!(target_has(&api), ("local:kratos-384".to_owned(), Some(IMAGE.to_owned())));
    rig::close(&stage, End::Target);
}

#[test]
fn cut_off_before_each_request_it_is_sent_again() {
    let (stage, api) = attached("local-charm-before", None);
    for call in [PUT_CHARM, "Charms.List", "Resources.AddPendingResources", PUT_RESOURCE, "Application.SetCharm"] {
        api.plan_fault(call, Fault::CutBefore);
    }
    arrive(&stage);
    each_once(&stage, &api);
    assert_eq!((api.times_done(PUT_CHARM), api.times_done(PUT_RESOURCE)), (1, 1));
    rig::close(&stage, End::Target);
}

#[test]
fn killed_at_each_record_the_next_worker_goes_on() {
    let (stage, api) = given("local-charm-killed");
    attach(&stage, &packed());
    let given = [("local", "true"), ("image", IMAGE), ("wait", "60")];
    for place in ["record-before", "record-after"] {
        for note in ["controller-refresh", "controller-refreshed"] {
            hold::arm(&stage, "coordinator/0", &format!("{place}=noted/refresh/{note}"), "kill");
            run(&stage.model, "refresh", &given);
        }
    }
    // From a charm of Charmhub to one that was attached: the first that anybody uploaded.
    expect(&stage.model, "refresh", &given, "done");
    assert_eq!((api.times_done(PUT_CHARM), api.times_done("Application.SetCharm")), (1, 1));
    assert_eq!(target_has(&api), ("local:kratos-0".to_owned(), Some(IMAGE.to_owned())));
    modest(&api);
    expect(&stage.model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn what_is_no_charm_for_the_target_is_refused_before_anything_is_sent() {
    let (stage, api) = given("local-charm-refused");
    let model = &stage.model;
    let given = [("local", "true"), ("image", IMAGE), ("wait", "20")];
    let attach_and_ask = "juju attach-resource coordinator target-charm=<charm file>\n\
                          juju run coordinator/leader refresh local=true image=registry.internal:5000/identity/kratos:1.3.1 \
                          wait=20";
    let refused = |says: &str| {
        let refused = rig::refused(model, "refresh", &given, attach_and_ask);
        assert!(refused.message.contains(says), "{refused:?}");
    };
    refused("no charm is attached as target-charm (could not download resource: ");
    let other = Charm::pack(&[("metadata.yaml", "{name: traefik-k8s, summary: s, description: d}")]).unwrap();
    let metadata = "{name: kratos, summary: s, description: d, provides: {kratos-info: kratos_info}}";
    for (content, says) in [
        (Vec::new(), "it is empty, as the placeholder is"),
        (b"no zip at all".to_vec(), "it is no packed charm ("),
        (other, "it is the charm traefik-k8s, and kratos is wanted"),
        (Charm::pack(&[("metadata.yaml", metadata)]).unwrap(), "has no endpoint for a PostgreSQL database"),
    ] {
        attach(&stage, &content);
        refused(says);
    }
    assert_eq!(api.changes(), Vec::<String>::new());

    // Another file than the one that was asked for, by the time that it can be sent.
    attach(&stage, &packed());
    api.set_access(USER, controller_peer::Access::Read);
    let asked = expect(model, "refresh", &given, "waiting");
    let says = "user coordinator may only read this model; run juju grant coordinator write <model>";
    assert!(asked.result("message").contains(says), "{asked:?}");
    let typed = format!("juju refresh kratos-new --path=<charm file> --resource oci-image={IMAGE}");
    assert_eq!(asked.result("next"), typed);
    assert_eq!(api.changes(), Vec::<String>::new());
    expect(model, "rollback", &[], "done");
    modest(&api);
    rig::close(&stage, End::Source);
}

#[test]
fn an_image_that_the_target_has_already_and_a_file_that_was_replaced_are_told() {
    let (stage, api) = attached("local-charm-told", None);
    let model = &stage.model;
    // A file that goes while the worker waits for the controller, as with a pod that is replaced, is got again by a hook.
    let given = [("local", "true"), ("image", IMAGE), ("wait", "6")];
    api.set_block(controller_peer::BlockKind::BlockChange, Some("freeze until Monday"));
    let asked = expect(model, "refresh", &given, "waiting");
    assert!(asked.result("message").contains("freeze until Monday"), "{asked:?}");
    let kept = std::fs::canonicalize(model.charm_folder("coordinator/0").unwrap().join("target-charm")).unwrap();
    std::fs::write(&kept, b"another one").unwrap();
    api.set_block(controller_peer::BlockKind::BlockChange, None);
    let told = run(model, "refresh", &[("wait", "30")]);
    assert_eq!(told.result("outcome"), "failed", "{told:?}");
    let says = "what is attached as target-charm now is not what was asked for: it is no packed charm (";
    assert!(told.message.contains(says), "{told:?}");
    assert_eq!(api.changes(), Vec::<String>::new());
    // Asked for with its parameters the file comes anew.
    let refreshed = expect(model, "refresh", &[("local", "true"), ("image", IMAGE), ("wait", "60")], "done");
    assert_eq!(refreshed.result("outcome"), "done");
    assert_eq!(api.times_done("Application.SetCharm"), 1);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
