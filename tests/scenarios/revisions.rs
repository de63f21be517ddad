//! `revision=`: the target's charm by its number, through the controller. Juju gives a charm the images of its channel's
//! newest, whatever the revision, so the number alone may bring no other release.

use super::closing::Played;
use super::controller::{each_once, given, given_by, modest};
use super::rig::{self, End};
use super::story::{expect, run};
use emulator::Api;
use std::sync::Arc;

#[test]
fn a_revision_of_its_channel_leads_to_the_target() {
    leads_to_the_target(given("revision"));
}

#[test]
#[ignore = "slow: make test-all"]
fn on_3_6_a_revision_of_its_channel_leads_to_the_target() {
    leads_to_the_target(given_by("revision-3", Some("3.6.12")));
}

fn leads_to_the_target((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    // The channel that it follows has no other image than the one that it runs.
    let kept = run(model, "refresh", &[("revision", "500"), ("wait", "60")]);
    assert_eq!(kept.result("outcome"), "failed", "{kept:?}");
    let says = "with ch:amd64/kratos-500 of 0.1/stable kratos-new would keep its image";
    assert!(kept.message.contains(says) && kept.message.contains("the channel= whose newest"), "{kept:?}");
    assert_eq!((api.times_done("Application.SetCharm"), api.times_done("Resources.AddPendingResources")), (0, 0));

    let chosen = [("channel", "0.4/stable"), ("revision", "500"), ("wait", "120")];
    let mut migrated = run(model, "migrate", &chosen);
    for _ in 0..4 {
        if migrated.result("outcome") != "running" {
            break;
        }
        migrated = run(model, "migrate", &chosen);
    }
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    each_once(&stage, &api);
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

#[test]
fn a_revision_that_does_not_exist_changes_nothing() {
    changes_nothing(given("revision-wrong"));
}

#[test]
fn on_3_6_a_revision_that_does_not_exist_changes_nothing() {
    changes_nothing(given_by("revision-wrong-3", Some("3.6.12")));
}

fn changes_nothing((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    let unknown = run(model, "refresh", &[("channel", "0.4/stable"), ("revision", "777"), ("wait", "20")]);
    assert_eq!(unknown.result("outcome"), "waiting", "{unknown:?}");
    assert!(unknown.result("message").contains("777"), "{unknown:?}");
    assert_eq!(api.changes(), Vec::<String>::new());
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
