//! Relations that come late, lack something, cannot be meant so, or are made anew in the middle: never a
//! failed hook, always a status that says what to do.

use super::rig::{self, End};
use super::story::{charm, expect};
use emulator::Charm;

#[test]
fn relations_that_lack_something_or_cannot_be_meant() {
    let stage = rig::empty_stage("relations");
    let model = &stage.model;
    model.deploy(Charm::Folder(charm("relations")), "coordinator").unwrap();
    // The consumer is there before everything else.
    model.integrate("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.integrate("coordinator:source-database", "postgresql-k8s:database").unwrap();
    rig::status_says(model, "coordinator/0", "nothing is related to target-database");
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    model.integrate("coordinator:source-kratos", "kratos:kratos-info").unwrap();
    model.integrate("coordinator:target-kratos", "kratos:kratos-info").unwrap();
    let (word, _) = rig::status_says(model, "coordinator/0", "source-kratos and target-kratos both lead to kratos");
    assert_eq!(word, "blocked");
    model.remove_relation("coordinator:target-kratos", "kratos:kratos-info").unwrap();
    // A Kratos without a public URL publishes nothing.
    model.remove_relation("kratos-new:public-route", "traefik-new:traefik-route").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    let (word, message) = rig::status_says(model, "coordinator/0", "kratos-new does not publish its endpoints");
    assert!(word == "blocked" && message.contains("public-route"), "{message}");
    model.integrate("kratos-new:public-route", "traefik-new:traefik-route").unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    rig::consumer_uses(&stage, &stage.kratos);
    // A relation that is made anew brings a new user.
    for (ours, other) in [
        ("coordinator:source-database", "postgresql-k8s:database"),
        ("coordinator:target-database", "postgresql-new:database"),
        ("coordinator:target-kratos", "kratos-new:kratos-info"),
        ("coordinator:kratos-info", "login-ui:kratos-info"),
    ] {
        model.remove_relation(ours, other).unwrap();
        model.wait_idle(rig::SOON).unwrap();
        model.integrate(ours, other).unwrap();
        rig::status_says(model, "coordinator/0", "ready");
    }
    expect(model, "preflight", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn database_relations_are_made_anew_while_the_target_follows() {
    let stage = rig::stage("anew", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    model.remove_relation("coordinator:source-database", "postgresql-k8s:database").unwrap();
    let (word, _) = rig::status_says(model, "coordinator/0", "nothing is related to source-database");
    assert_eq!(word, "blocked");
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:source-database", "postgresql-k8s:database").unwrap();
    rig::status_says(model, "coordinator/0", "following");
    expect(model, "verify", &[], "done");
    model.remove_relation("coordinator:target-database", "postgresql-new:database").unwrap();
    rig::status_says(model, "coordinator/0", "nothing is related to target-database");
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    rig::status_says(model, "coordinator/0", "following");
    expect(model, "verify", &[], "done");
    rig::migrate(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    // A consumer that comes after the flip.
    model.remove_relation("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}
