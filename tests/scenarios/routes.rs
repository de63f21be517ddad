//! The source's place at its ingress goes to the target with a flip, where the operator wants it, and comes back.

use super::closing::Played;
use super::controller::{each_once, given, given_by, migrate, modest, until};
use super::hold;
use super::models::type_in;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{BlockKind, Fault};
use emulator::neighbours::{KratosView, RouteView};
use emulator::stage::USER;
use emulator::{ActionResult, Model};

/// Where identity providers send users back to.
const CALLBACK: &str = "PathPrefix(`/self-service/methods/oidc/callback`)";

/// Waits until an ingress leads there to this server alone.
fn leads_to(stage: &Played, ingress: &RouteView, kratos: &KratosView) {
    let wanted = [kratos.ports().public_url()];
    let waited = stage.model.wait_until("the ingress' server", SOON, |_| ingress.servers(CALLBACK) == wanted);
    waited.unwrap_or_else(|error| panic!("{error:#}: {:?} instead of {wanted:?}", ingress.servers(CALLBACK)));
}

fn at_target(stage: &Played) {
    leads_to(stage, &stage.source_place.ingress, &stage.kratos_new);
    leads_to(stage, &stage.target_place.ingress, &stage.kratos);
}

fn at_source(stage: &Played) {
    leads_to(stage, &stage.source_place.ingress, &stage.kratos);
    leads_to(stage, &stage.target_place.ingress, &stage.kratos_new);
}

fn wanted(stage: &Played) {
    stage.model.config("coordinator", &[("move-routes", "true")]).unwrap();
    stage.model.wait_idle(SOON).unwrap();
}

fn flipped(stage: &Played) {
    let migrated = migrate(stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", stage.model.unit_log("coordinator/0"));
}

fn returned(stage: &Played) {
    let mut last = run(&stage.model, "rollback", &[("wait", "120")]);
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = run(&stage.model, "rollback", &[("wait", "120")]);
    }
    assert_eq!(last.result("outcome"), "done", "{last:?}\n{}", stage.model.unit_log("coordinator/0"));
}

#[test]
fn the_place_at_the_ingress_goes_with_a_flip_and_comes_back() {
    let (stage, api) = given("routes");
    let model = &stage.model;
    at_source(&stage);
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("a flip leaves kratos at its ingress"), "{report}");
    assert!(report.contains("juju integrate kratos-new:public-route traefik:traefik-route"), "{report}");
    wanted(&stage);
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("a flip gives kratos-new the place of kratos at its ingress"), "{report}");
    flipped(&stage);
    at_target(&stage);
    each_once(&stage, &api);
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
    returned(&stage);
    at_source(&stage);
    // Two there and two back.
    assert_eq!((api.times_done("Application.DestroyRelation"), api.times_done("Application.AddRelation")), (4, 4));
    modest(&api);
    rig::close(&stage, End::Source);
}

/// The worker that does this is killed there; the next hook brings another.
fn killed(stage: &Played, place: &str, action: &str, parameters: &[(&str, &str)]) {
    hold::arm(stage, "coordinator/0", place, "kill");
    stage.model.enqueue("coordinator/leader", action, parameters).unwrap();
    hold::reached(stage, "coordinator/0");
    stage.model.update_status("coordinator/0").unwrap();
}

#[test]
fn the_same_on_juju_3_6_with_replies_lost_and_the_worker_killed() {
    let (stage, api) = given_by("routes-3", Some("3.6.12"));
    wanted(&stage);
    for call in ["Application.DestroyRelation", "Application.AddRelation", "Client.FullStatus"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    for place in ["record-before/noted/flip/routes", "record-after/noted/flip/routes"] {
        killed(&stage, place, "migrate", &[("channel", "0.4/stable")]);
    }
    flipped(&stage);
    at_target(&stage);
    for place in ["record-before/noted/reverse-flip/routes", "record-after/noted/reverse-flip/routes"] {
        killed(&stage, place, "rollback", &[]);
    }
    returned(&stage);
    at_source(&stage);
    assert_eq!((api.times_done("Application.DestroyRelation"), api.times_done("Application.AddRelation")), (4, 4));
    modest(&api);
    rig::close(&stage, End::Source);
}

/// `cut-over`, asked for again until this is its outcome and its message says this.
fn cut_over(stage: &Played, outcome: &str, says: &str) -> ActionResult {
    until(stage, "cut-over", &[("wait", "5")], outcome, says)
}

#[test]
fn what_holds_it_up_is_told_before_writes_stop_and_what_a_person_typed_is_seen() {
    let (stage, api) = given("routes-blocked");
    let model = &stage.model;
    wanted(&stage);
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "migrated"), ("wait", "120")], "done");
    api.set_block(BlockKind::BlockRemove, Some("nothing goes today"));
    let waits = cut_over(&stage, "waiting", "before writes stop: routes cannot be moved after the flip");
    assert!(waits.result("message").contains("nothing goes today"), "{waits:?}");
    assert!(waits.result("next").starts_with("juju config coordinator move-routes=false\njuju run"), "{waits:?}");
    assert!(rig::writable(&stage.source, &stage.source_place.database()));
    api.set_block(BlockKind::BlockRemove, None);
    // And what comes up between: users are with the target, but for those who come through the ingress.
    hold::arm(&stage, "coordinator/0", "record-before/noted/flip/gates-passed", "stop");
    model.enqueue("coordinator/leader", "cut-over", &[]).unwrap();
    hold::held(&stage, "coordinator/0");
    api.change_user(USER, |user| user.disabled = true);
    hold::thaw(&stage, "coordinator/0");
    let waits = cut_over(&stage, "waiting", "routes to the target wait: ");
    rig::consumer_uses(&stage, &stage.kratos_new);
    at_source(&stage);
    let (_, by_hand) =
        waits.result("message").split_once("; by hand: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for command in by_hand.split(" and then ") {
        type_in(&stage, command);
        model.wait_idle(SOON).unwrap();
    }
    api.change_user(USER, |user| user.disabled = false);
    cut_over(&stage, "done", "");
    at_target(&stage);
    assert_eq!(api.times_done("Application.AddRelation"), 0, "{:?}", api.changes());
    rig::close(&stage, End::Target);
}

#[test]
fn without_credentials_the_commands_are_told_after_the_flip_and_after_the_way_back() {
    let stage = rig::stage("routes-guided", 1);
    let model = &stage.model;
    wanted(&stage);
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("move-routes is set, but relations are only seen with controller-credentials"), "{report}");
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    let told = expect(model, "cut-over", &[], "done");
    assert!(told.result("message").contains("then type what routes-by-hand has"), "{told:?}");
    let typed = [
        "juju remove-relation kratos-new:public-route <ingress of kratos-new>",
        "juju integrate kratos-new:public-route <ingress of kratos>",
        "juju remove-relation kratos:public-route <ingress of kratos>",
        "juju integrate kratos:public-route <ingress of kratos-new>",
    ];
    assert_eq!(told.result("routes-by-hand"), typed.join("\n"));
    let back = expect(model, "rollback", &[("wait", "120")], "done");
    assert!(back.result("routes-by-hand").starts_with("juju remove-relation kratos:public-route"), "{back:?}");
    rig::close(&stage, End::Source);
}

#[test]
fn the_source_has_its_place_again_whatever_state_the_target_is_in() {
    let (stage, api) = given("routes-back");
    let model = &stage.model;
    wanted(&stage);
    flipped(&stage);
    at_target(&stage);
    // The target may not read its database's secret any more, and its hooks fail.
    model.withhold_grants("postgresql-new", "kratos-new").unwrap();
    model.update_status("kratos-new/0").unwrap();
    let rests = run(model, "rollback", &[("wait", "60")]);
    // Users are at the source again; the target keeps its place beside it until somebody looks at it.
    let both = |_: &Model| stage.source_place.ingress.servers(CALLBACK).contains(&stage.kratos.ports().public_url());
    model.wait_until("the source's place", SOON, both).unwrap_or_else(|error| panic!("{error:#}\n{rests:?}"));
    rig::status_says(model, "coordinator/0", "while kratos-new/0 is in error");
    model.release_grants("postgresql-new", "kratos-new").unwrap();
    model.resolved("kratos-new/0", true).unwrap();
    returned(&stage);
    at_source(&stage);
    modest(&api);
    rig::close_but_one_hook(&stage, End::Source);
}
