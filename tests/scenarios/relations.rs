//! Relations that come late, lack something, cannot be meant so, or are made anew in the middle: never a
//! failed hook, always a status that says what to do.

use super::hold::worker;
use super::rig::{self, End};
use super::story::{charm, expect};
use emulator::neighbours::HydraApp;
use emulator::stage::Stage;
use emulator::{Charm, Signal, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DATABASES: [(&str, &str); 2] = [("source-database", "postgresql-k8s"), ("target-database", "postgresql-new")];

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
    // The wrong database on the target: somebody's rows are never emptied away, preflight or not.
    let row = "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
               VALUES (gen_random_uuid(), '{}', now(), false, now(), now())";
    stage.target.psql("iam_kratos-new", row).unwrap();
    let before = rig::databases(&stage);
    let result = super::story::run(model, "replicate", &[("wait", "60")]);
    assert_eq!(result.result("outcome"), "failed", "{result:?}");
    assert!(result.message.contains("rows in database iam_kratos-new"), "{result:?}");
    expect(model, "rollback", &[], "done");
    rig::assert_same("a refused replicate", &before, &rig::databases(&stage));
    rig::close(&stage, End::Source);
}

#[test]
fn database_relations_are_made_anew_while_copying_while_following_and_before_the_flip() {
    let stage = rig::stage("anew", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    // PostgreSQL drops the old relation's role and makes another one.
    let anew = |endpoint: &str, other: &str| {
        let (ours, theirs) = (format!("coordinator:{endpoint}"), format!("{other}:database"));
        model.remove_relation(&ours, &theirs).unwrap();
        let sentence = format!("nothing is related to {endpoint}");
        let (word, _) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "blocked");
        model.wait_idle(rig::SOON).unwrap();
        model.integrate(&ours, &theirs).unwrap();
        let usable =
            |model: &emulator::Model| model.status("coordinator/0").is_ok_and(|(_, text)| !text.starts_with("cannot"));
        model.wait_until("the new relation to be usable", rig::SOON, usable).unwrap();
    };
    let folder = model.charm_folder("coordinator/0").unwrap();
    let (failpoint, reached) = (folder.join("failpoint"), folder.join("failpoint.reached"));
    let stop_at_the_copys_end = || std::fs::write(&failpoint, "record-before/done/copy stop").unwrap();
    stop_at_the_copys_end();
    let begun = super::story::run(model, "replicate", &[]);
    assert_eq!(begun.result("outcome"), "running", "{begun:?}");
    for (place, (endpoint, other)) in DATABASES.into_iter().enumerate() {
        model.wait_until("the copy to be nearly done", rig::SOON, |_| reached.exists()).unwrap();
        std::fs::remove_file(&reached).unwrap();
        if place == 0 {
            stop_at_the_copys_end();
        }
        anew(endpoint, other);
    }
    rig::follow(&stage);
    for (endpoint, other) in DATABASES {
        anew(endpoint, other);
        rig::status_says(model, "coordinator/0", "following");
        expect(model, "verify", &[], "done");
    }
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    for (endpoint, other) in DATABASES {
        anew(endpoint, other);
        rig::status_says(model, "coordinator/0", "drained");
        assert!(!rig::writable(&stage.source, "iam_kratos"));
    }
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    // A consumer that comes after the flip.
    model.remove_relation("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}

/// Relates target-database to the source's PostgreSQL, whose unit joins before we ask and then runs nothing but
/// departed and broken.
fn relate_unanswered(stage: &Stage) {
    let (model, postgresql) = (&stage.model, "postgresql-k8s/0");
    model.wait_idle(rig::SOON).unwrap();
    let joined = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&joined);
    stage.controller.set_gate(Some(Box::new(move |next| {
        let goes = ["hooks/database-relation-departed", "hooks/database-relation-broken"].contains(&next.path);
        let waits = match asks.load(Ordering::SeqCst) {
            false => next.unit == "coordinator/0",
            true => next.unit == "postgresql-k8s/0" && !goes,
        };
        if waits { Verdict::Wait } else { Verdict::Run }
    })));
    let known = model.hooks(postgresql).unwrap().len();
    model.integrate("coordinator:target-database", "postgresql-k8s:database").unwrap();
    let has_joined = |model: &emulator::Model| {
        let ran = model.hooks(postgresql).unwrap().split_off(known);
        let all = ["joined", "changed"].iter().all(|kind| ran.contains(&format!("database-relation-{kind}")));
        all && model.running(postgresql).unwrap().is_none()
    };
    model.wait_until("PostgreSQL to join", rig::SOON, has_joined).unwrap();
    joined.store(true, Ordering::SeqCst);
    stage.controller.wake();
}

#[test]
fn both_databases_on_one_cluster() {
    let stage = rig::empty_stage("one-cluster");
    let model = &stage.model;
    model.deploy(Charm::Folder(charm("one-cluster")), "coordinator").unwrap();
    model.integrate("coordinator:source-kratos", "kratos:kratos-info").unwrap();
    model.integrate("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    model.integrate("coordinator:source-database", "postgresql-k8s:database").unwrap();
    // One application twice, then another one that answers with the same address.
    let twin = emulator::neighbours::CharmedPostgresql::new(Arc::clone(&stage.source));
    model.deploy(Charm::Native(Box::new(twin)), "postgresql-twin").unwrap();
    let address = format!("{}:{}", stage.source.host(), stage.source.port());
    for (other, named) in [("postgresql-k8s", "postgresql-k8s"), ("postgresql-twin", &address)] {
        // The first is asked when it has joined already, and comes to look only when the relation goes again.
        if other == named {
            relate_unanswered(&stage);
        } else {
            model.integrate("coordinator:target-database", &format!("{other}:database")).unwrap();
        }
        let sentence = format!("source-database and target-database both lead to {named}; remove one of the two");
        let (word, _) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "blocked");
        for action in ["preflight", "replicate", "rollback"] {
            let result = super::story::run(model, action, &[]);
            assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("refused", "failed"));
            assert!(result.message.contains(&sentence), "{result:?}");
        }
        if other != named {
            model.wait_idle(rig::SOON).unwrap();
        }
        model.remove_relation("coordinator:target-database", &format!("{other}:database")).unwrap();
        rig::status_says(model, "coordinator/0", "nothing is related to target-database");
        stage.controller.set_gate(None);
        model.wait_idle(rig::SOON).unwrap();
        assert_eq!(model.status(other).unwrap().0, "active", "{:?}", model.status(other));
    }
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    model.integrate("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    expect(model, "preflight", &[], "done");
    rig::close(&stage, End::Source);
}

fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A second coordinator on the same pair is told so, and does no harm, whatever is tried with it.
#[test]
#[ignore = "slow: make test-all"]
fn two_coordinators_on_one_pair() {
    let stage = rig::stage("two", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    model.deploy(Charm::Folder(charm("two")), "second").unwrap();
    let relations = [
        ("second:source-database", "postgresql-k8s:database"),
        ("second:target-database", "postgresql-new:database"),
        ("second:source-kratos", "kratos:kratos-info"),
        ("second:target-kratos", "kratos-new:kratos-info"),
    ];
    for (ours, other) in relations {
        model.integrate(ours, other).unwrap();
    }
    rig::status_says(model, "second/0", "ready");
    let second = |action: &str, parameters: &[(&str, &str)]| {
        let result = model.run("second/leader", action, parameters).unwrap();
        eprintln!("second {action}: {} — {}", result.result("outcome"), result.message);
        result
    };
    let told = |action: &str, parameters: &[(&str, &str)]| {
        let before = rig::picture(&stage);
        let result = second(action, parameters);
        assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("failed", "failed"), "{result:?}");
        assert!(result.message.contains("publication identity_migration_"), "{result:?}");
        assert!(result.message.contains("another coordinator moves these databases"), "{result:?}");
        rig::assert_same(action, &before, &rig::picture(&stage));
    };
    let harmless = |action: &str, parameters: &[(&str, &str)], outcome: &str| {
        let before = rig::picture(&stage);
        let result = second(action, parameters);
        assert_eq!(result.result("outcome"), outcome, "{result:?}");
        rig::assert_same(action, &before, &rig::picture(&stage));
    };
    let restart_second = || {
        let before = rig::picture(&stage);
        let old = worker(&stage, "second/0").unwrap();
        signal(old, Signal::KILL);
        model.update_status("second/0").unwrap();
        let renewed = |_: &emulator::Model| worker(&stage, "second/0").is_some_and(|new| new != old);
        model.wait_until("a new worker of the second", rig::SOON, renewed).unwrap();
        // It acts by now: the last thing that it does on its way there is to take the fence over.
        let acts = |model: &emulator::Model| {
            let log = std::fs::read_to_string(model.charm_folder("second/0").unwrap().join("worker.log")).unwrap();
            log.lines()
                .rfind(|line| line.contains("began, pid") || line.contains("acting as the worker"))
                .is_some_and(|line| line.contains("acting"))
        };
        model.wait_until("the second's worker to act", rig::SOON, acts).unwrap();
        rig::assert_same("a new worker of the second", &before, &rig::picture(&stage));
    };
    // Both begin at once: the second has looked, and found nothing, when the first one goes on.
    let folder = model.charm_folder("second/0").unwrap();
    let reached = folder.join("failpoint.reached");
    std::fs::write(folder.join("failpoint"), "record-after/done/preflight stop").unwrap();
    assert_eq!(second("replicate", &[]).result("outcome"), "running");
    model.wait_until("the second to have looked", rig::SOON, |_| reached.exists()).unwrap();
    rig::follow(&stage);
    let before = rig::picture(&stage);
    signal(worker(&stage, "second/0").unwrap(), Signal::CONT);
    let late = second("replicate", &[("wait", "60")]);
    assert_eq!(late.result("outcome"), "failed", "{late:?}");
    assert!(late.message.contains("of another coordinator moves it; leave it to that one"), "{late:?}");
    rig::assert_same("a late replicate", &before, &rig::picture(&stage));
    restart_second();
    harmless("rollback", &[], "done");
    told("preflight", &[]);
    harmless("refresh", &[], "done");
    restart_second();
    told("replicate", &[("wait", "60")]);
    told("migrate", &[("wait", "60")]);
    restart_second();
    harmless("rollback", &[], "done");
    expect(model, "verify", &[], "done");
    rig::migrate(&stage);
    expect(model, "drain", &[], "done");
    told("replicate", &[("wait", "60")]);
    harmless("rollback", &[], "done");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    told("replicate", &[("wait", "60")]);
    harmless("rollback", &[], "done");
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    model.remove_application("second").unwrap();
    model.wait_until("the second to be gone", rig::SOON, |model| model.units("second").is_empty()).unwrap();
    stage.target.psql("postgres", "DROP DATABASE iam_second").unwrap();
    rig::close(&stage, End::Both);
}

/// A run of Kratos knows nothing of a Hydra that is related meanwhile: no step is led to it.
#[test]
fn another_identity_app_is_related_while_following() {
    let stage = rig::stage("another-app", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    let kept = || {
        let sql = "SELECT value FROM identity_migration_journal.singleton WHERE name = 'applications'";
        stage.target.psql(&stage.own_database(), sql).unwrap()
    };
    let before = kept();
    let hydra = HydraApp::new(339, "0.3/stable", "2.3.0").unwrap();
    model.deploy(Charm::Native(Box::new(hydra)), "hydra").unwrap();
    for endpoint in ["source-hydra", "target-hydra"] {
        model.integrate(&format!("coordinator:{endpoint}"), "hydra:hydra-endpoint-info").unwrap();
        let (word, message) = rig::status_says(model, "coordinator/0", "are both related");
        assert_eq!(word, "blocked");
        assert!(message.contains("deploy this charm once more for the other app"), "{message}");
        let refused = rig::refused(model, "replicate", &[], "");
        assert!(refused.message.contains("are both related"), "{refused:?}");
        assert_eq!(kept(), before);
        model.remove_relation(&format!("coordinator:{endpoint}"), "hydra:hydra-endpoint-info").unwrap();
        rig::status_says(model, "coordinator/0", "following");
        assert_eq!(kept(), before);
    }
    rig::migrate(&stage);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
