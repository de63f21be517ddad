//! Secrets that come late, are taken away, come back or change: never a failed hook, always a status that says what
//! to do, and the migration goes on by itself.

use super::hold::worker;
use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;

const OWNERS: [&str; 2] = ["postgresql-k8s", "postgresql-new"];

/// No action but `show` works without the credentials; each says so.
fn every_action_says(stage: &Stage, sentence: &str, cure: Option<&str>) {
    for action in ["preflight", "replicate", "verify", "rollback"] {
        let result = run(&stage.model, action, &[]);
        assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("refused", "failed"), "{result:?}");
        assert!(result.message.contains(sentence), "{result:?}");
        let again = format!("juju run coordinator/leader {action}");
        assert_eq!(result.result("next"), cure.unwrap_or(&again), "{result:?}");
    }
    // What is known is shown all the same.
    let shown = expect(&stage.model, "show", &[], "done");
    assert!(shown.result("message").contains(sentence), "{shown:?}");
    assert_eq!(shown.result("next"), cure.unwrap_or("juju run coordinator/leader show"), "{shown:?}");
    if shown.result("phase") == "unknown" {
        let said = "so the phase is unknown; consumers were last given the source's address";
        assert!(shown.result("report").contains(said), "{shown:?}");
    }
}

#[test]
fn secrets_are_granted_late() {
    let stage = rig::empty_stage("late");
    let model = &stage.model;
    OWNERS.iter().for_each(|owner| model.withhold_grants(owner, "coordinator").unwrap());
    stage.place_coordinator(1).unwrap();
    for (owner, endpoint) in OWNERS.into_iter().zip(["source-database", "target-database"]) {
        let sentence = format!("cannot use {endpoint}: the secret of {owner} is not granted to us yet");
        let (word, message) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "waiting");
        assert!(message.contains("wait; if it stays, have a new one made: juju remove-relation"), "{message}");
        every_action_says(&stage, &sentence, None);
        model.release_grants(owner, "coordinator").unwrap();
    }
    rig::status_says(model, "coordinator/0", "ready");
    expect(model, "preflight", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn secrets_are_revoked_granted_again_and_rotated_while_following() {
    let stage = rig::stage("revoked", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    for (owner, endpoint) in OWNERS.into_iter().zip(["source-database", "target-database"]) {
        let follower = worker(&stage, "coordinator/0").unwrap();
        model.withhold_grants(owner, "coordinator").unwrap();
        let sentence = format!("cannot use {endpoint}: the secret of {owner} was revoked, we may not read it any more");
        let (word, message) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "blocked");
        let cure = format!(
            "let {owner} grant it again, or have a new one made: juju remove-relation coordinator:{endpoint} {owner}"
        );
        assert!(message.contains(&cure), "{message}");
        let relation = format!("coordinator:{endpoint} {owner}");
        let cure = format!("juju remove-relation {relation}\njuju integrate {relation}");
        every_action_says(&stage, &sentence, Some(&cure));
        // What was begun with the credentials goes on.
        assert_eq!(worker(&stage, "coordinator/0"), Some(follower));
        model.release_grants(owner, "coordinator").unwrap();
        rig::status_says(model, "coordinator/0", "following");
        assert_eq!(worker(&stage, "coordinator/0"), Some(follower));
        expect(model, "verify", &[], "done");
    }
    for (endpoint, cluster) in [("source-database", &stage.source), ("target-database", &stage.target)] {
        let old = worker(&stage, "coordinator/0").unwrap();
        let password = format!("renewed-for-{endpoint}");
        let owner = if endpoint == "source-database" { OWNERS[0] } else { OWNERS[1] };
        let uri = coordinators_secret(&stage, owner);
        let role = model.execute("coordinator/leader", &format!("secret-get {uri} username"), None).unwrap();
        let role = role.stdout.trim().to_owned();
        cluster.psql("postgres", &format!("ALTER ROLE {role} PASSWORD '{password}'")).unwrap();
        model.rotate_charm_secret(&uri, &[("password", &password)]).unwrap();
        model
            .wait_until("a worker with the new password", rig::SOON, |_| {
                worker(&stage, "coordinator/0").is_some_and(|new| new != old)
            })
            .unwrap();
        if endpoint == "source-database" {
            subscription_goes_on_with(&stage, &password);
        }
        rig::status_says(model, "coordinator/0", "following");
        expect(model, "verify", &[], "done");
    }
    rig::migrate(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

/// The secret that an application gave the coordinator; Kratos has one of its own.
fn coordinators_secret(stage: &Stage, owner: &str) -> String {
    let bags = stage.model.databag("database", owner);
    let ours = bags.iter().find(|bag| bag.get("database") == Some(&stage.own_database())).unwrap();
    ours["secret-user"].clone()
}

/// The subscription knows the new password, and follows with it after its connection broke.
fn subscription_goes_on_with(stage: &Stage, password: &str) {
    let database = stage.target_place.database();
    let knows = format!("SELECT count(*) FROM pg_subscription WHERE position('{password}' IN subconninfo) > 0");
    let known = |_: &emulator::Model| stage.target.psql(&database, &knows).unwrap() == "1";
    stage.model.wait_until("the subscription to know the new password", rig::SOON, known).unwrap();
    let streams = "SELECT active_pid FROM pg_replication_slots WHERE active";
    let mut before = String::new();
    let active = |seen: &mut String| {
        *seen = stage.source.psql("postgres", streams).unwrap();
        !seen.is_empty()
    };
    stage.model.wait_until("the slot to be read", rig::SOON, |_| active(&mut before)).unwrap();
    stage.source.psql("postgres", &format!("SELECT pg_terminate_backend({before})")).unwrap();
    let mut after = String::new();
    stage
        .model
        .wait_until("the slot to be read by another connection", rig::SOON, |_| active(&mut after) && after != before)
        .unwrap();
}
