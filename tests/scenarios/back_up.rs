//! Backups through the PostgreSQL charm, alone and as gates of the runbook.

use super::closing::Played;
use super::controller::hold_unit;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::Fault;
use emulator::neighbours::S3Integrator;
use emulator::{ActionResult, Charm, Model};
use serde_json::json;

/// Gives both clusters a bucket.
pub fn give_bucket(stage: &Played) {
    let model = &stage.model;
    for (name, postgresql) in [("s3", "postgresql-k8s"), ("s3-new", "postgresql-new")] {
        model.deploy(Charm::Native(Box::new(S3Integrator)), name).unwrap();
        model.integrate(&format!("{postgresql}:s3-parameters"), &format!("{name}:s3-credentials")).unwrap();
    }
    model.wait_idle(SOON).unwrap();
}

/// The units that made a backup, in the order in which they were asked.
fn made(model: &Model) -> Vec<String> {
    let tasks = model.tasks().into_iter().filter(|task| task.action == "create-backup" && task.status == "completed");
    tasks.map(|task| task.unit).collect()
}

/// Asks again while the outcome is `running`.
fn until_it_rests(model: &Model, action: &str, parameters: &[(&str, &str)]) -> ActionResult {
    let mut last = run(model, action, parameters);
    for _ in 0..6 {
        if last.result("outcome") != "running" {
            break;
        }
        last = run(model, action, parameters);
    }
    last
}

#[test]
fn a_backup_is_made_once_and_counts_when_it_is_listed() {
    let stage = rig::stage("back-up", 1);
    let model = &stage.model;
    // Without credentials it is typed, and a person's word is taken.
    let typed = expect(model, "back-up", &[], "waiting");
    assert!(typed.result("message").contains("no controller-credentials"), "{typed:?}");
    assert!(typed.result("next").starts_with("juju run postgresql-k8s/<unit"), "{typed:?}");
    assert!(typed.result("next").ends_with("juju run coordinator/leader back-up side=source taken=true"), "{typed:?}");
    expect(model, "back-up", &[("taken", "true")], "done");
    let api = stage.give_credentials().unwrap();
    // What the charm refuses is passed on in its own words.
    let refused = expect(model, "back-up", &[], "failed");
    assert!(refused.message.contains("Relation with s3-integrator charm missing"), "{refused:?}");
    assert!(!refused.message.ends_with(".; mend that"), "{refused:?}");
    give_bucket(&stage);
    let unfounded = expect(model, "back-up", &[("type", "incremental")], "failed");
    assert!(unfounded.message.contains("No previous full backup to reference"), "{unfounded:?}");
    // An answer that is lost on the way makes no second one, and neither does an action that is killed.
    for call in ["Action.EnqueueOperation", "Action.Actions"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    let done = expect(model, "back-up", &[], "done");
    assert!(done.result("message").starts_with("postgresql-k8s/0 made a full backup of the source, 20"), "{done:?}");
    assert_eq!(made(model), ["postgresql-k8s/0"]);
    hold_unit(&stage, "postgresql-new/0", "actions/create-backup");
    let task = model.enqueue("coordinator/leader", "back-up", &[("side", "target")]).unwrap();
    let asked = |model: &Model| model.tasks().iter().any(|task| task.unit == "postgresql-new/0" && !task.ended());
    model.wait_until("the backup to be asked for", SOON, asked).unwrap();
    model.cancel_task(task).unwrap();
    let waits = expect(model, "back-up", &[("side", "target"), ("wait", "2")], "running");
    assert!(waits.result("message").contains("create-backup waits for its turn on postgresql-new/0"), "{waits:?}");
    stage.controller.set_gate(None);
    model.update_status("postgresql-new/0").unwrap();
    let found = expect(model, "back-up", &[("side", "target")], "done");
    assert!(!found.result("backup").is_empty(), "{found:?}");
    assert_eq!(made(model), ["postgresql-k8s/0", "postgresql-new/0"]);
    let shown = expect(model, "show", &[], "done");
    assert!(shown.result("report").contains(&found.result("backup")), "{shown:?}");
    // The task of a list that the controller has forgotten is asked for once more.
    hold_unit(&stage, "postgresql-new/0", "actions/list-backups");
    let lists = |model: &Model| model.tasks().iter().filter(|task| task.action == "list-backups").count();
    let before = lists(model);
    let task = model.enqueue("coordinator/leader", "back-up", &[("side", "target")]).unwrap();
    model.wait_until("the list to be asked for", SOON, |model| lists(model) > before).unwrap();
    let forgotten = json!({"results": [{"error": {"message": "action \"99\" not found", "code": "not found"}}]});
    api.plan_reply("Action.Actions", json!({"response": forgotten}));
    let again = model.wait_until("another list to be asked for", SOON, |model| lists(model) > before + 1);
    again.unwrap_or_else(|error| {
        panic!("{error:#}: {:?}\n{:?}", model.tasks(), api.received().iter().rev().take(8).collect::<Vec<_>>())
    });
    stage.controller.set_gate(None);
    model.update_status("postgresql-new/0").unwrap();
    model
        .wait_until("the backup to be over", SOON, |model| {
            model.tasks().iter().any(|seen| seen.id == task && seen.ended())
        })
        .unwrap();
    let known = expect(model, "show", &[], "done").result("report");
    assert!(!known.contains("does not show it"), "{known}");
    rig::close(&stage, End::Source);
}

#[test]
fn with_every_gate_a_run_makes_its_backups_by_itself() {
    let stage = rig::stage("back-up-gates", 1);
    let model = &stage.model;
    stage.give_credentials().unwrap();
    model.config("coordinator", &[("backup-gates", "all")]).unwrap();
    let parameters = [("channel", "0.4/stable"), ("wait", "120")];
    let refused = until_it_rests(model, "migrate", &parameters);
    assert_eq!(refused.result("outcome"), "failed", "{refused:?}");
    assert!(refused.message.contains("s3-integrator charm missing"), "{refused:?}");
    give_bucket(&stage);
    let migrated = until_it_rests(model, "migrate", &parameters);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    // The source before the begin, the migrated target, the drained source.
    assert_eq!(made(model), ["postgresql-k8s/0", "postgresql-new/0", "postgresql-k8s/0"]);
    rig::close(&stage, End::Target);
}

#[test]
fn without_credentials_a_gate_waits_for_a_persons_word() {
    let stage = rig::stage("back-up-typed", 1);
    let model = &stage.model;
    model.config("coordinator", &[("backup-gates", "start")]).unwrap();
    let waits = expect(model, "replicate", &[("wait", "120")], "waiting");
    assert!(waits.result("message").contains("a backup of the source is wanted"), "{waits:?}");
    let word = waits.result("next").lines().last().unwrap().to_owned();
    assert_eq!(word, "juju run coordinator/leader back-up side=source taken=true");
    let (status, said) = rig::status_says(model, "coordinator/0", "a backup of the source is wanted");
    assert_eq!(status, "blocked", "{said}");
    assert!(said.ends_with("; next: juju run coordinator/leader show"), "{said}");
    assert_eq!(expect(model, "show", &[], "done").result("next"), waits.result("next"));
    expect(model, "back-up", &[("side", "source"), ("taken", "true")], "done");
    rig::follow(&stage);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
