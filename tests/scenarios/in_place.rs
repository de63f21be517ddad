//! The upgrade in place: only the source is related, its one Kratos is refreshed and migrated on the database that it has.

use super::hold;
use super::rig::{self, SOON};
use super::story::{charm, expect, run};
use controller_peer::Fault;
use coordinator::steps::through_controller::BackUp;
use emulator::stage::{Stage, StageOptions};
use emulator::{ActionResult, Api, Charm, DeployOptions};
use peers::seed::Person;
use std::sync::Arc;
use std::time::Duration;

const UNIT: &str = "coordinator/0";

/// What is typed where users may have an outage.
const ASKED: [(&str, &str); 2] = [("channel", "0.4/stable"), ("accept-outage", "true")];

/// The same as a command.
const AGAIN: &str = "juju run coordinator/leader upgrade-in-place channel=0.4/stable accept-outage=true";

/// A Kratos with people, and a coordinator that only it is related to.
fn stage(name: &str, update_status_interval: Duration) -> (Stage, Vec<Person>) {
    let stage = Stage::new(StageOptions { update_status_interval, ..rig::options(name) }).unwrap();
    let people = peers::seed::people(&stage.kratos.client(), 3).unwrap();
    let model = &stage.model;
    model.deploy_with(Charm::Folder(charm(name)), "coordinator", &DeployOptions::default()).unwrap();
    for (ours, theirs) in [
        ("source-database", "postgresql-k8s:database"),
        ("source-kratos", "kratos:kratos-info"),
        ("kratos-info", "login-ui:kratos-info"),
    ] {
        model.integrate(&format!("coordinator:{ours}"), theirs).unwrap();
    }
    at_rest(&stage);
    (stage, people)
}

/// One side alone lacks the other, as ever.
pub fn at_rest(stage: &Stage) {
    let sentence = "nothing is related to target-database; run juju integrate coordinator:target-database";
    assert_eq!(rig::status_says(&stage.model, UNIT, sentence).0, "blocked");
}

fn ask(stage: &Stage, outcome: &str) -> ActionResult {
    let accepted = [&ASKED[..], &[("accept-no-backup", "true"), ("wait", "60")]].concat();
    expect(&stage.model, "upgrade-in-place", &accepted, outcome)
}

/// Asked for again until it is over.
fn to_the_end(stage: &Stage) -> ActionResult {
    let accepted = [&ASKED[..], &[("accept-no-backup", "true"), ("wait", "120")]].concat();
    let mut last = run(&stage.model, "upgrade-in-place", &accepted);
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = run(&stage.model, "upgrade-in-place", &accepted);
    }
    last
}

/// A query in the coordinator's own database on the source.
fn journal(stage: &Stage, sql: &str) -> String {
    stage.source.psql(&stage.own_database(), sql).unwrap()
}

fn has_journal(stage: &Stage) -> bool {
    journal(stage, "SELECT to_regclass('identity_migration_journal.entry') IS NOT NULL") == "t"
}

/// What the action back-up leaves in the journal.
fn note_backup(stage: &Stage, ended: &str) {
    // The whole record, as the coordinator itself writes it.
    let ended: serde_json::Value = serde_json::from_str(ended).unwrap();
    let back_up = BackUp { ended: serde_json::from_value(ended).unwrap(), ..BackUp::default() };
    let record = serde_json::json!({"kind": "errand", "name": "back-up/source", "value": back_up});
    let sql = format!(
        "WITH new AS (INSERT INTO identity_migration_journal.entry (record) VALUES ('{record}') RETURNING 1)
         UPDATE identity_migration_journal.singleton SET value = to_jsonb(value::bigint + 1) WHERE name = 'length'"
    );
    journal(stage, &sql);
}

/// The new release serves the people, the model is at rest and nothing of ours is left but the journal.
pub fn upgraded(stage: &Stage, people: &[Person]) {
    rig::status_says(
        &stage.model,
        UNIT,
        "upgraded in place from 1.0.0 to 1.3.1; next: juju run coordinator/leader show",
    );
    assert_eq!(stage.model.status(UNIT).unwrap().0, "active");
    let shown = expect(&stage.model, "show", &[], "done");
    let report = shown.result("report");
    assert!(report.contains("order in-place") && report.contains("[x] gates"), "{report}");
    assert!(!report.contains("[ ]") && !report.contains("target "), "{report}");
    closed(stage, people);
    assert!(stage.kratos.client().ready().is_ok());
}

pub fn closed(stage: &Stage, people: &[Person]) {
    peers::wait_for("the people to be served", SOON, || {
        peers::seed::check_people(&stage.kratos.client(), people).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    assert!(rig::writable(&stage.source, &stage.source_place.database()));
    assert_eq!(peers::left_behind(&stage.source, &[&stage.own_database()]).unwrap(), Vec::<String>::new());
    rig::no_hook_failed(&stage.model);
}

#[test]
fn typed_by_the_operator_with_a_backup_first() {
    let (stage, people) = stage("in-place", Duration::from_secs(2));
    let model = &stage.model;
    let channel = ASKED[0];
    let unaccepted = rig::refused(model, "upgrade-in-place", &[channel], AGAIN);
    assert!(unaccepted.message.contains("users have no service"), "{unaccepted:?}");
    assert!(unaccepted.message.contains("nothing leads back but a restored backup"), "{unaccepted:?}");
    assert!(!has_journal(&stage), "a refusal made a journal");
    at_rest(&stage);
    let back_up = "juju run coordinator/leader back-up side=source";
    let unsaved = rig::refused(model, "upgrade-in-place", &ASKED, back_up);
    assert!(unsaved.message.contains("no backup of its database was made"), "{unsaved:?}");
    assert!(unsaved.message.contains("channel=0.4/stable accept-outage=true accept-no-backup=true"), "{unsaved:?}");
    at_rest(&stage);
    note_backup(&stage, "null");
    let being_made = rig::refused(model, "upgrade-in-place", &ASKED, back_up);
    assert!(being_made.message.contains("still being made"), "{being_made:?}");
    note_backup(&stage, r#"{"failure": "no room", "backup": null}"#);
    assert!(rig::refused(model, "upgrade-in-place", &ASKED, back_up).message.contains("failed (no room)"));
    expect(model, "back-up", &[("side", "source"), ("taken", "true")], "done");
    let asked = expect(model, "upgrade-in-place", &ASKED, "waiting");
    assert_eq!(asked.result("next"), "juju refresh kratos --channel 0.4/stable");
    let (word, _) = rig::status_says(model, UNIT, "next: juju refresh kratos --channel 0.4/stable");
    assert_eq!(word, "blocked");
    for action in ["preflight", "verify", "replicate", "migrate", "run-migration", "finalize"] {
        let instead = "upgrade-in-place accept-outage=true";
        assert!(rig::refused(model, action, &[], instead).message.contains("an upgrade in place is under way"));
    }
    model.refresh("kratos", None, Some("0.4/stable"), None).unwrap();
    let (word, status) = rig::status_says(model, UNIT, "juju run kratos/leader run-migration timeout=");
    assert_eq!(word, "blocked", "{status}");
    let asked = expect(model, "upgrade-in-place", &ASKED, "waiting");
    assert!(asked.result("next").starts_with("juju run kratos/leader run-migration timeout="), "{asked:?}");
    model.run("kratos/leader", "run-migration", &[("timeout", "120")]).unwrap();
    let done = expect(model, "upgrade-in-place", &ASKED, "done");
    assert!(done.result("outage-ms").parse::<u64>().unwrap() > 0, "{done:?}");
    assert_eq!(done.result("phase"), "idle");
    upgraded(&stage, &people);
    let entries = || journal(&stage, "SELECT count(*) FROM identity_migration_journal.entry");
    let before = entries();
    let again = expect(model, "upgrade-in-place", &ASKED, "done");
    assert!(again.message.is_empty() && again.result("message").contains("from 1.0.0 to 1.3.1 already"), "{again:?}");
    assert_eq!(before, entries());
    let wants_two = run(model, "replicate", &[]);
    assert!(wants_two.message.contains("nothing is related to target-database"), "{wants_two:?}");
    let too_late = rig::refused(model, "rollback", &[], "show");
    assert!(too_late.message.contains("no charm leads a schema back; restore the backup"), "{too_late:?}");
    upgraded(&stage, &people);
    // With a second side it is a coordinator like any other.
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    model.integrate("coordinator:target-kratos", "kratos-new:kratos-info").unwrap();
    rig::status_says(model, UNIT, "ready; next: juju run coordinator/leader preflight");
    let instead = "preflight";
    assert!(rig::refused(model, "upgrade-in-place", &ASKED, instead).message.contains("a target is related"));
}

#[test]
fn taken_back_before_the_schema_migration_and_never_after_it() {
    let (stage, people) = stage("in-place-back", Duration::from_secs(2));
    let model = &stage.model;
    let back = "juju refresh kratos --revision <revision before>";
    // Another coordinator moves this database elsewhere.
    let database = stage.source_place.database();
    stage.source.psql(&database, "CREATE PUBLICATION identity_migration_0badcafe").unwrap();
    assert!(ask(&stage, "failed").message.contains("holds traces of a migration to another cluster"));
    rig::status_says(model, UNIT, "end that migration with its coordinator's finalize or rollback first");
    stage.source.psql(&database, "DROP PUBLICATION identity_migration_0badcafe").unwrap();
    ask(&stage, "waiting");
    // Nothing was touched.
    expect(model, "rollback", &[], "done");
    at_rest(&stage);
    ask(&stage, "waiting");
    model.refresh("kratos", None, Some("0.4/stable"), None).unwrap();
    rig::status_says(model, UNIT, "run-migration timeout=");
    // The outage goes on whoever dies.
    hold::kill_worker(&stage);
    rig::status_says(model, UNIT, "run-migration timeout=");
    let asked = expect(model, "rollback", &[], "waiting");
    assert_eq!(asked.result("next"), back);
    rig::status_says(model, UNIT, back);
    model.refresh("kratos", None, Some("0.1/stable"), Some(383)).unwrap();
    expect(model, "rollback", &[], "done");
    at_rest(&stage);
    closed(&stage, &people);
    ask(&stage, "waiting");
    // What is related meanwhile changes nothing for what is under way.
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    model.refresh("kratos", None, Some("0.4/stable"), None).unwrap();
    rig::status_says(model, UNIT, "run-migration timeout=");
    let instead = "upgrade-in-place accept-outage=true";
    assert!(rig::refused(model, "replicate", &[], instead).message.contains("an upgrade in place is under way"));
    // A database that is being made for a relation that goes meanwhile fails its hook.
    model.wait_idle(SOON).unwrap();
    model.remove_relation("coordinator:target-database", "postgresql-new:database").unwrap();
    model.run("kratos/leader", "run-migration", &[("timeout", "120")]).unwrap();
    // The upgrade may be over by now.
    let late = run(model, "rollback", &[]);
    assert!(late.message.contains("no charm leads a schema back"), "{late:?}");
    assert!(late.message.contains("restore the backup"), "{late:?}");
    to_the_end(&stage);
    upgraded(&stage, &people);
}

/// With credentials, on which no hook comes by itself for an hour.
pub fn given(name: &str) -> (Stage, Vec<Person>, Arc<Api>) {
    let (stage, people) = stage(name, Duration::from_secs(3600));
    let api = stage.give_credentials().unwrap();
    (stage, people, api)
}

/// Each step was taken once.
fn each_once(stage: &Stage, api: &Api) {
    let count = |call: &str| api.changes().iter().filter(|change| *change == call).count();
    assert_eq!(count("Application.SetCharm"), 1, "{:?}", api.changes());
    assert_eq!(count("Action.EnqueueOperation"), 1, "{:?}", api.changes());
    let migrations = stage.model.tasks().into_iter().filter(|task| task.action == "run-migration").count();
    assert_eq!(migrations, 1);
    assert_eq!(stage.model.options("kratos").unwrap()["log_level"], "info");
}

#[test]
fn with_credentials_one_action_does_it_with_every_reply_lost() {
    let (stage, people, api) = given("in-place-controller");
    for call in ["Application.SetCharm", "Action.EnqueueOperation", "Application.SetConfigs", "Client.FullStatus"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    let done = to_the_end(&stage);
    assert_eq!(done.result("outcome"), "done", "{done:?}\n{}", stage.model.unit_log(UNIT));
    assert!(done.result("outage-ms").parse::<u64>().unwrap() > 0, "{done:?}");
    each_once(&stage, &api);
    upgraded(&stage, &people);
}

/// Somebody who holds a table that the schema migration alters.
struct Holder<'a>(&'a Stage, std::thread::JoinHandle<()>);

impl<'a> Holder<'a> {
    const SQL: &'static str = "BEGIN; LOCK TABLE public.identities IN ACCESS SHARE MODE; SELECT pg_sleep(601)";

    fn of(stage: &'a Stage) -> Self {
        let (cluster, database) = (Arc::clone(&stage.source), stage.source_place.database());
        // It ends with an error, when it is told to let go.
        let thread = std::thread::spawn(move || drop(cluster.psql(&database, Self::SQL)));
        let holder = Self(stage, thread);
        let held = |_: &emulator::Model| holder.pids("count(*)") == "1";
        stage.model.wait_until("the table to be held", SOON, held).unwrap();
        holder
    }

    fn pids(&self, what: &str) -> String {
        let sql = format!(
            "SELECT {what} FROM pg_stat_activity WHERE query LIKE '%pg_sleep(601)' AND pid <> pg_backend_pid()"
        );
        self.0.source.psql("postgres", &sql).unwrap()
    }

    fn let_go(self) {
        self.pids("pg_terminate_backend(pid)");
        self.1.join().unwrap();
    }
}

#[test]
fn the_task_is_told_while_it_runs_and_when_it_fails_and_is_asked_for_again() {
    let (stage, people, api) = given("in-place-failed");
    let model = &stage.model;
    let holder = Holder::of(&stage);
    let accepted = [&ASKED[..], &[("accept-no-backup", "true"), ("timeout", "15")]].concat();
    let task = model.enqueue("coordinator/leader", "upgrade-in-place", &accepted).unwrap();
    let told = |model: &emulator::Model| {
        let tasks = model.tasks().into_iter().filter(|known| known.id == task);
        tasks
            .flat_map(|known| known.log)
            .any(|(_, line)| line.contains("runs on kratos/0 (task ") && line.contains("; juju show-task "))
    };
    model.wait_until("the task to be told", SOON, told).unwrap();
    let failed = model.wait_task(task, SOON).unwrap();
    assert!(
        failed.message.contains("cannot migrate the schema: run-migration of kratos/0 failed (task "),
        "{failed:?}"
    );
    assert!(failed.message.contains("juju show-task "), "{failed:?}");
    let again = "upgrade-in-place channel=0.4/stable timeout=15 accept-outage=true accept-no-backup=true";
    assert_eq!(failed.result("next"), format!("juju run coordinator/leader {again}"));
    rig::status_says(model, UNIT, again);
    holder.let_go();
    let done = to_the_end(&stage);
    assert!(done.result("message").contains("; juju show-task "), "{done:?}");
    upgraded(&stage, &people);
    assert_eq!(api.changes().iter().filter(|change| *change == "Action.EnqueueOperation").count(), 2);
}

/// Kills the worker at this place; the next hook brings another.
fn kill_at(stage: &Stage, place: &str) {
    hold::arm(stage, UNIT, place, "kill");
    hold::reached(stage, UNIT);
    stage.model.update_status(UNIT).unwrap();
}

#[test]
fn killed_at_every_record_it_goes_on_and_takes_each_step_once() {
    let (stage, people, api) = given("in-place-killed");
    let accepted = [&ASKED[..], &[("accept-no-backup", "true")]].concat();
    // An action that is killed keeps nothing in databags: the journal tells what is under way.
    hold::killed(&stage, UNIT, "record-before/requested/upgrade-in-place", "upgrade-in-place", &accepted);
    at_rest(&stage);
    hold::arm(&stage, UNIT, "record-after/requested/upgrade-in-place", "kill");
    let killed = run(&stage.model, "upgrade-in-place", &accepted);
    assert_eq!(killed.status, "failed", "{killed:?}");
    hold::reached(&stage, UNIT);
    for record in [
        "run-started",
        "started/preflight",
        "done/preflight",
        "started/refresh",
        "noted/refresh/controller-refresh",
        "noted/refresh/controller-refreshed",
        "done/refresh",
        "started/migrate",
        "noted/migrate/controller-run-migration",
        "noted/migrate/controller-task",
        "done/migrate",
        "started/gates",
        "noted/gates/controller-woken",
        "noted/gates/served-at",
        "noted/gates/controller-restored",
        "noted/gates/tables",
        "done/gates",
        "run-ended",
        "settled",
    ] {
        for side in ["before", "after"] {
            kill_at(&stage, &format!("record-{side}/{record}"));
        }
    }
    rig::status_says(&stage.model, UNIT, "upgraded in place");
    each_once(&stage, &api);
    upgraded(&stage, &people);
    let again = to_the_end(&stage);
    assert!(again.result("message").contains("already"), "{again:?}");
    each_once(&stage, &api);
}
