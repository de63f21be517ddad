//! A charm that the operator attached as a file, with an image of their own registry: uploaded and refreshed to through the
//! controller, where Charmhub is out of reach.

use super::closing::Played;
use super::controller::{each_once, given, given_by, modest, until};
use super::hold;
use super::in_place;
use super::models::type_in;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{Access, BlockKind, Charm, Fault, PUT_CHARM, PUT_RESOURCE};
use emulator::neighbours::KratosApp;
use emulator::stage::{Stage, USER};
use emulator::{ActionResult, Api, Candidate, Verdict};
use std::sync::Arc;

const IMAGE: &str = "registry.internal:5000/identity/kratos:1.3.1";

/// Attaches a file as an operator does.
fn attach(stage: &Stage, content: &[u8]) {
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
fn attached(name: &str, juju: Option<&'static str>) -> (Played, Arc<Api>) {
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

/// Every request that a refresh to a charm of one's own is made of, and the look at what was uploaded.
const CUT: [&str; 5] =
    [PUT_CHARM, "Charms.List", "Resources.AddPendingResources", PUT_RESOURCE, "Application.SetCharm"];

fn cut_off(name: &str, juju: Option<&'static str>, fault: Fault) -> (Played, Arc<Api>) {
    let (stage, api) = attached(name, juju);
    for call in CUT {
        api.plan_fault(call, fault);
    }
    arrive(&stage);
    each_once(&stage, &api);
    assert_eq!(api.times_done(PUT_CHARM), 1);
    assert_eq!(target_has(&api), ("local:kratos-384".to_owned(), Some(IMAGE.to_owned())));
    rig::close(&stage, End::Target);
    (stage, api)
}

#[test]
fn on_3_6_with_every_reply_lost_each_step_is_taken_once() {
    // What is announced there is seen with the charm only, so the image is given once more.
    let (_stage, api) = cut_off("local-charm-3", Some("3.6.12"), Fault::CutAfter);
    assert_eq!(api.times_done(PUT_RESOURCE), 2);
}

#[test]
fn on_4_0_with_every_reply_lost_each_step_is_taken_once() {
    let (_stage, api) = cut_off("local-charm-4", None, Fault::CutAfter);
    assert_eq!(api.times_done(PUT_RESOURCE), 1);
}

#[test]
fn cut_off_before_each_request_it_is_sent_again() {
    let (_stage, api) = cut_off("local-charm-before", None, Fault::CutBefore);
    assert_eq!(api.times_done(PUT_RESOURCE), 1);
}

#[test]
fn killed_at_each_record_the_next_worker_goes_on() {
    let (stage, api) = given("local-charm-killed");
    let model = &stage.model;
    attach(&stage, &packed());
    model.enqueue("coordinator/leader", "refresh", &[("local", "true"), ("image", IMAGE)]).unwrap();
    // Asked for and uploaded are one note, written twice.
    for note in ["controller-refresh", "controller-refresh", "controller-refreshed"] {
        for place in ["record-before", "record-after"] {
            hold::arm(&stage, "coordinator/0", &format!("{place}/noted/refresh/{note}"), "kill");
            hold::reached(&stage, "coordinator/0");
            model.update_status("coordinator/0").unwrap();
        }
    }
    refresh(&stage, "done", "");
    assert_eq!((api.times_done(PUT_CHARM), api.times_done("Application.SetCharm")), (1, 1));
    // From a charm of Charmhub to the first that anybody uploaded.
    assert_eq!(target_has(&api), ("local:kratos-0".to_owned(), Some(IMAGE.to_owned())));
    modest(&api);
    expect(model, "rollback", &[], "done");
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

    // Who may only look, changes nothing.
    attach(&stage, &packed());
    api.set_access(USER, Access::Read);
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

/// `refresh` of what was asked for, asked for again until its outcome is this one and its message says this.
fn refresh(stage: &Played, outcome: &str, says: &str) -> ActionResult {
    until(stage, "refresh", &[("wait", "5")], outcome, says)
}

#[test]
fn a_file_that_went_is_got_again_and_one_that_was_replaced_is_told() {
    let (stage, api) = attached("local-charm-gone", None);
    let model = &stage.model;
    let given = [("local", "true"), ("image", IMAGE), ("wait", "6")];
    let link = model.charm_folder("coordinator/0").unwrap().join("target-charm");
    api.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
    let asked = expect(model, "refresh", &given, "waiting");
    assert!(asked.result("message").contains("freeze until Monday"), "{asked:?}");
    std::fs::write(std::fs::canonicalize(&link).unwrap(), b"another one").unwrap();
    api.set_block(BlockKind::BlockChange, None);
    let says = "what is attached as target-charm now is not what was asked for: it is no packed charm (";
    let told = refresh(&stage, "failed", says);
    assert!(told.message.contains("run the action with local=true and image= again"), "{told:?}");
    assert_eq!(api.changes(), Vec::<String>::new());
    // With its parameters it is asked for anew. A pod that is replaced has no file then; its next hook gets it.
    api.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
    expect(model, "refresh", &given, "waiting");
    std::fs::remove_file(std::fs::canonicalize(&link).unwrap()).unwrap();
    api.set_block(BlockKind::BlockChange, None);
    model.update_status("coordinator/0").unwrap();
    refresh(&stage, "done", "");
    assert_eq!((api.times_done(PUT_CHARM), api.times_done("Application.SetCharm")), (1, 1));
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn an_image_that_the_target_has_already_is_told_and_nothing_is_sent() {
    let (stage, api) = attached("local-charm-image", None);
    let model = &stage.model;
    // The source's own release, by another name: the target serves it again.
    let same = [("local", "true"), ("image", "registry.internal:5000/identity/kratos:1.0.0"), ("wait", "20")];
    let asked = expect(model, "refresh", &same, "running");
    assert!(asked.result("message").contains("its server is still the old one"), "{asked:?}");
    expect(model, "rollback", &[], "done");
    let before = api.changes();
    let told = expect(model, "refresh", &same, "failed");
    let says = "kratos-new has the image registry.internal:5000/identity/kratos:1.0.0 already";
    assert!(told.message.contains(says), "{told:?}");
    assert_eq!(api.changes(), before);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn without_credentials_the_command_is_printed_and_its_end_is_seen() {
    let stage = rig::stage("local-charm-typed", 1);
    let model = &stage.model;
    attach(&stage, &packed());
    let asked = expect(model, "refresh", &[("local", "true"), ("image", IMAGE)], "waiting");
    let typed = format!("juju refresh kratos-new --path=<charm file> --resource oci-image={IMAGE}");
    assert_eq!(asked.result("next"), typed);
    rig::status_says(model, "coordinator/0", &typed);
    model.upload("kratos-new", 500).unwrap();
    expect(model, "refresh", &[("wait", "60")], "done");
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn in_place_it_is_taken_back_to_the_charm_before_and_gone_to_again() {
    let (stage, people, api) = in_place::given("local-charm-in-place");
    let model = &stage.model;
    model.upload("kratos", 383).unwrap();
    model.wait_idle(SOON).unwrap();
    attach(&stage, &packed());
    let asked =
        [("local", "true"), ("image", IMAGE), ("accept-outage", "true"), ("accept-no-backup", "true"), ("wait", "5")];
    // No unit follows until it is taken back.
    let held = |next: &Candidate<'_>| next.unit == "kratos/0" && next.path.starts_with("hooks/");
    stage.controller.set_gate(Some(Box::new(move |next| if held(next) { Verdict::Wait } else { Verdict::Run })));
    let says = "kratos is being refreshed to local:kratos-384";
    let mut running = run(model, "upgrade-in-place", &asked);
    for _ in 0..4 {
        if running.result("message").contains(says) {
            break;
        }
        running = run(model, "upgrade-in-place", &asked);
    }
    assert!(running.result("message").contains(says), "{running:?}");
    let again = format!("upgrade-in-place local=true image={IMAGE} accept-outage=true accept-no-backup=true");
    assert_eq!(running.result("next"), format!("juju run coordinator/leader {again}"));
    let back = expect(model, "rollback", &[("wait", "20")], "waiting");
    let command = "juju refresh kratos --path=<charm file before> --resource oci-image=<image before>";
    assert_eq!(back.result("next"), command);
    // The file before is another revision when it comes back.
    model.upload_as("kratos", 383, 385).unwrap();
    stage.controller.set_gate(None);
    peers::wait_for("the server before", SOON, || stage.kratos.client().ready().map_err(|error| format!("{error:#}")))
        .unwrap();
    expect(model, "rollback", &[("wait", "60")], "done");
    in_place::at_rest(&stage);
    in_place::closed(&stage, &people);

    let mut last = run(model, "upgrade-in-place", &[&asked[..4], &[("wait", "120")]].concat());
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = run(model, "upgrade-in-place", &[&asked[..4], &[("wait", "120")]].concat());
    }
    assert_eq!(last.result("outcome"), "done", "{last:?}");
    in_place::upgraded(&stage, &people);
    assert_eq!((api.times_done(PUT_CHARM), api.times_done("Application.SetCharm")), (2, 2));
    // Once more with the same file and image it is done already.
    let done = expect(model, "upgrade-in-place", &asked, "done");
    assert!(done.result("message").contains("already"), "{done:?}");
    assert_eq!(api.times_done(PUT_CHARM), 2);
}
