//! The coordinator drives the model itself: refresh and `run-migration` over the controller's API, and what happens where
//! it may not, cannot, or does not get an answer.

use super::closing::Played;
use super::hold;
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{Access, BlockKind, Fault, Mode};
use emulator::stage::{CREDENTIALS, Stage, StageOptions, USER};
use emulator::{ActionResult, Api, Candidate, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// A stage with credentials, on which no hook comes by itself for an hour: what starts a migrated Kratos is the
/// coordinator's touch.
pub fn given(name: &str) -> (Played, Arc<Api>) {
    given_by(name, None)
}

/// The same with a controller of another release than 4.0.
pub fn given_by(name: &str, juju: Option<&'static str>) -> (Played, Arc<Api>) {
    let options = StageOptions { update_status_interval: Duration::from_secs(3600), juju, ..rig::options(name) };
    let stage = Played::new(Stage::new(options).unwrap());
    rig::deploy(&stage, 1);
    let api = stage.give_credentials().unwrap();
    (stage, api)
}

/// Migrates with `migrate` alone, which is asked for again while it is at it.
pub fn migrate(stage: &Played) -> ActionResult {
    let ask = || run(&stage.model, "migrate", &[("channel", "0.4/stable"), ("wait", "120")]);
    let mut last = ask();
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = ask();
    }
    last
}

/// No call needs more than `write`, and the audit log knows who called.
pub fn modest(api: &Api) {
    // Who was not let in is nobody yet.
    for received in api.received().into_iter().filter(|received| !received.user.is_empty()) {
        assert!(received.needs <= Access::Write, "{received:?}");
        assert_eq!(received.cli_args, "identity-migration-coordinator", "{received:?}");
    }
}

/// Each step was taken once, and the option that woke the server has its old value.
pub fn each_once(stage: &Played, api: &Api) {
    let count = |call: &str| api.changes().iter().filter(|change| *change == call).count();
    assert_eq!(count("Application.SetCharm"), 1, "{:?}", api.changes());
    assert_eq!(count("Action.EnqueueOperation"), 1, "{:?}", api.changes());
    let migrations = stage.model.tasks().into_iter().filter(|task| task.action == "run-migration").count();
    assert_eq!(migrations, 1);
    assert_eq!(stage.model.options("kratos-new").unwrap()["log_level"], "info");
    modest(api);
}

/// Migrates to the flip, with so many refreshes and actions asked for by then, and every loose end tied.
pub fn arrives(stage: &Played, api: &Api, asked: (usize, usize)) {
    let migrated = migrate(stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", stage.model.unit_log("coordinator/0"));
    assert_eq!((api.times_done("Application.SetCharm"), api.times_done("Action.EnqueueOperation")), asked);
    assert_eq!(stage.model.options("kratos-new").unwrap()["log_level"], "info");
    modest(api);
    rig::consumer_uses(stage, &stage.kratos_new);
    rig::close(stage, End::Target);
}

#[test]
fn with_credentials_migrate_alone_leads_to_the_target_and_rollback_back() {
    let (stage, api) = given("controller");
    let people = peers::seed::people(&stage.kratos.client(), 3).unwrap();
    let report = expect(&stage.model, "preflight", &[], "done").result("report");
    assert!(report.contains("user coordinator may change the model"), "{report}");
    assert!(report.contains("kratos-new has the options and relations of kratos"), "{report}");
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", stage.model.unit_log("coordinator/0"));
    each_once(&stage, &api);
    rig::consumer_uses(&stage, &stage.kratos_new);
    peers::seed::check_people(&stage.kratos_new.client(), &people).unwrap();
    rig::close(&stage, End::Target);
    expect(&stage.model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn the_same_on_juju_3_6_with_every_reply_lost() {
    let (stage, api) = given_by("controller-3", Some("3.6.12"));
    for call in CUT {
        api.plan_fault(call, Fault::CutAfter);
    }
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", stage.model.unit_log("coordinator/0"));
    each_once(&stage, &api);
    rig::close(&stage, End::Target);
}

/// Every request that changes something, and some that only look.
const CUT: [&str; 9] = [
    "Client.FullStatus",
    "Application.GetCharmURLOrigin",
    "Charms.AddCharm",
    "Resources.AddPendingResources",
    "Application.SetCharm",
    "Application.Leader",
    "Action.EnqueueOperation",
    "Action.Actions",
    "Application.SetConfigs",
];

fn cut_off(name: &str, fault: Fault) {
    let (stage, api) = given(name);
    for call in CUT {
        api.plan_fault(call, fault);
    }
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", stage.model.unit_log("coordinator/0"));
    each_once(&stage, &api);
    rig::close(&stage, End::Target);
}

#[test]
fn cut_off_before_each_request_each_step_is_taken_once() {
    cut_off("controller-before", Fault::CutBefore);
}

#[test]
fn cut_off_after_each_request_each_step_is_taken_once() {
    cut_off("controller-after", Fault::CutAfter);
}

/// An action, asked for again until its outcome is this one and its message says this.
pub fn until(stage: &Played, action: &str, parameters: &[(&str, &str)], outcome: &str, says: &str) -> ActionResult {
    let ask = || run(&stage.model, action, parameters);
    let mut last = ask();
    for _ in 0..20 {
        if last.result("outcome") == outcome && last.result("message").contains(says) {
            return last;
        }
        last = ask();
    }
    panic!("{action} is not {outcome} with {says:?}: {last:?}\n{}", stage.model.unit_log("coordinator/0"));
}

/// `refresh`, until its outcome is this one and its message says this.
pub fn refresh(stage: &Played, outcome: &str, says: &str) -> ActionResult {
    until(stage, "refresh", &[("channel", "0.4/stable"), ("wait", "5")], outcome, says)
}

#[test]
fn whatever_is_wrong_with_the_credentials_is_said_and_the_step_stays_typed() {
    let stage = rig::stage("controller-credentials", 1);
    let model = &stage.model;
    let api = stage.give_credentials().unwrap();
    let good = api.user(USER).expect("the user").password;
    // Revoked, and granted again.
    model.revoke_secret(CREDENTIALS, "coordinator").unwrap();
    let (word, said) = rig::status_says(model, "coordinator/0", "is not granted");
    assert_eq!(word, "blocked");
    let command = said.split("; run ").nth(1).unwrap().to_owned();
    assert!(command.starts_with("juju grant-secret ") && command.ends_with(" coordinator"), "{said}");
    let typed = "juju refresh kratos-new --channel 0.4/stable";
    assert_eq!(refresh(&stage, "waiting", "its secret is not granted").result("next"), typed);
    model.grant_secret(CREDENTIALS, "coordinator").unwrap();
    // Nothing is changed by a user who may only look, is disabled or has another password.
    api.set_access(USER, Access::Read);
    refresh(&stage, "waiting", "user coordinator may only read this model; run juju grant coordinator write <model>");
    api.set_access(USER, Access::Write);
    api.change_user(USER, |user| user.disabled = true);
    refresh(&stage, "waiting", "user name or password are wrong, or the user is disabled");
    api.change_user(USER, |user| user.disabled = false);
    // A secret that lacks something, and another password than the controller's.
    model.update_secret(CREDENTIALS, &[("username", USER)]).unwrap();
    refresh(&stage, "waiting", "its secret has no password; run juju update-secret");
    model.update_secret(CREDENTIALS, &[("username", USER), ("password", "not it")]).unwrap();
    let preflight = expect(model, "preflight", &[], "done");
    assert!(preflight.result("report").contains("user name or password are wrong"), "{preflight:?}");
    // What an administrator switched off is never got around.
    api.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
    model.update_secret(CREDENTIALS, &[("username", USER), ("password", &good)]).unwrap();
    refresh(&stage, "waiting", "freeze until Monday");
    assert_eq!(api.changes(), Vec::<String>::new());
    api.set_block(BlockKind::BlockChange, None);
    // A model on its way to elsewhere is waited for, as a controller that is being upgraded.
    for (mode, says) in [
        (Mode::Migrating, "waiting until the model's migration is over"),
        (Mode::Upgrading(true), "upgrade is over"),
        (Mode::Stopping, "answered with HTTP status 503"),
    ] {
        api.set_mode(mode);
        api.plan_fault("Client.FullStatus", Fault::CutBefore);
        refresh(&stage, "running", says);
        assert_eq!(api.changes(), Vec::<String>::new());
    }
    api.set_mode(Mode::Normal);
    refresh(&stage, "done", "");
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

/// Somebody who holds a table of the target that its schema migration alters.
struct Holder<'a> {
    stage: &'a Played,
    thread: std::thread::JoinHandle<()>,
}

impl<'a> Holder<'a> {
    const SQL: &'static str = "BEGIN; LOCK TABLE public.identities IN ACCESS SHARE MODE; SELECT pg_sleep(601)";

    fn of(stage: &'a Played) -> Self {
        let (cluster, database) = (Arc::clone(&stage.target), stage.target_place.database());
        // It ends with an error, when it is told to let go.
        let thread = std::thread::spawn(move || drop(cluster.psql(&database, Self::SQL)));
        let holder = Self { stage, thread };
        let held = |_: &emulator::Model| holder.pids("count(*)") == "1";
        stage.model.wait_until("the table to be held", SOON, held).unwrap();
        holder
    }

    fn pids(&self, what: &str) -> String {
        let sql = format!(
            "SELECT {what} FROM pg_stat_activity WHERE query LIKE '%pg_sleep(601)' AND pid <> pg_backend_pid()"
        );
        self.stage.target.psql("postgres", &sql).unwrap()
    }

    fn let_go(self) {
        self.pids("pg_terminate_backend(pid)");
        self.thread.join().unwrap();
    }
}

#[test]
fn a_migration_that_fails_is_asked_for_again_when_the_operator_says_so() {
    let (stage, api) = given("controller-failed");
    let model = &stage.model;
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "following"), ("wait", "120")], "done");
    let holder = Holder::of(&stage);
    let failed = expect(model, "run-migration", &[("timeout", "3"), ("wait", "120")], "failed");
    assert!(failed.message.contains("run-migration of kratos-new/0 failed (task "), "{failed:?}");
    assert!(failed.message.contains("juju show-task "), "{failed:?}");
    holder.let_go();
    expect(model, "run-migration", &[("wait", "120")], "done");
    let migrations = api.received().into_iter().filter(|received| received.call == "Action.EnqueueOperation");
    assert_eq!(migrations.count(), 2);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn killed_at_each_request_the_next_worker_goes_on() {
    let (stage, api) = given("controller-killed");
    let model = &stage.model;
    let notes = [
        "noted/refresh/controller-refresh",
        "noted/refresh/controller-refreshed",
        "noted/migrate/controller-run-migration",
        "noted/migrate/controller-task",
        "noted/gates/controller-woken",
        "noted/gates/controller-restored",
    ];
    model.enqueue("coordinator/leader", "migrate", &[("channel", "0.4/stable")]).unwrap();
    for note in notes {
        for place in ["record-before", "record-after"] {
            hold::arm(&stage, "coordinator/0", &format!("{place}/{note}"), "kill");
            hold::reached(&stage, "coordinator/0");
            model.update_status("coordinator/0").unwrap();
        }
    }
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    each_once(&stage, &api);
    rig::close(&stage, End::Target);
}

/// Nothing at all is begun at a unit.
pub fn hold_unit(stage: &Played, unit: &'static str, path: &'static str) {
    let held = move |next: &Candidate<'_>| next.unit == unit && next.path.starts_with(path);
    stage.controller.set_gate(Some(Box::new(move |next| if held(next) { Verdict::Wait } else { Verdict::Run })));
}

#[test]
fn what_stands_still_is_told_and_what_was_taken_away_is_typed() {
    let (stage, api) = given("controller-still");
    let model = &stage.model;
    // A refresh that no unit follows, and one that goes on.
    hold_unit(&stage, "kratos-new/0", "hooks/");
    refresh(&stage, "running", "kratos-new is being refreshed to ch:amd64/kratos-500: kratos-new/0");
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    refresh(&stage, "done", "");
    assert_eq!(api.times_done("Application.SetCharm"), 1);
    rig::follow(&stage);
    // An action that its unit does not begin.
    hold_unit(&stage, "kratos-new/0", "actions/");
    let waits = expect(model, "run-migration", &[("wait", "8")], "running");
    assert!(waits.result("message").contains("run-migration waits for its turn on kratos-new/0 (task "), "{waits:?}");
    // Access is taken away in the middle: what was begun is seen in the database, the rest is typed.
    api.set_access(USER, Access::None);
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    let migrated = |model: &emulator::Model| {
        model.tasks().iter().any(|task| task.action == "run-migration" && task.unit == "kratos-new/0" && task.ended())
    };
    model.wait_until("the migration to end", SOON, migrated).unwrap();
    // No touch wakes the server now: its next hook does.
    model.update_status("kratos-new/0").unwrap();
    expect(model, "run-migration", &[("wait", "120")], "done");
    assert_eq!((api.times_done("Action.EnqueueOperation"), api.times_done("Application.SetConfigs")), (1, 0));
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn after_a_rehearsal_the_server_is_restarted_without_a_person_too() {
    let (stage, api) = given("controller-rehearsed");
    let model = &stage.model;
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "following"), ("wait", "120")], "done");
    expect(model, "rehearse", &[("wait", "120")], "done");
    assert_eq!(model.options("kratos-new").unwrap()["log_level"], "info");
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    assert_eq!(api.times_done("Action.EnqueueOperation"), 2);
    assert_eq!(model.options("kratos-new").unwrap()["log_level"], "info");
    modest(&api);
    rig::close(&stage, End::Target);
}

#[test]
fn credentials_that_are_taken_away_before_the_option_is_set_back_hold_nobody() {
    let (stage, api) = given("controller-reset");
    let model = &stage.model;
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "following"), ("wait", "120")], "done");
    // The schema is migrated and the option touched, but the hook that this brings does not come.
    hold_unit(&stage, "kratos-new/0", "hooks/");
    // No hook of the coordinator's comes while an action of its own runs.
    model.enqueue("coordinator/leader", "run-migration", &[("wait", "1")]).unwrap();
    model.wait_until("the touch", SOON, |_| api.times_done("Application.SetConfigs") == 1).unwrap();
    let told = hold::worker(&stage, "coordinator/0").expect("a worker lives");
    model.reset_config("coordinator", &["controller-credentials"]).unwrap();
    hold::another_worker(&stage, "coordinator/0", told);
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    expect(model, "run-migration", &[("wait", "120")], "done");
    assert_eq!(api.times_done("Application.SetConfigs"), 1);
    let log = model.unit_log("coordinator/0") + &worker_log(&stage);
    assert!(log.contains("run juju config kratos-new log_level=info"), "{log}");
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

pub fn worker_log(stage: &Played) -> String {
    let folder = stage.model.charm_folder("coordinator/0").unwrap();
    std::fs::read_to_string(folder.join("worker.log")).unwrap_or_default()
}
