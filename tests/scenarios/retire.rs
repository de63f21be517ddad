//! After `finalize`: every command that it prints, typed one by one; then the target's address still reaches the
//! consumers, and in the end the coordinator goes without them losing it.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::cli::{Printer, execute};
use emulator::neighbours::Route;
use emulator::stage::Stage;
use emulator::{Charm, NativeCharm};

/// Succeeds once the journal's tables are there.
pub const JOURNAL: &str = "SELECT count(*) FROM identity_migration_journal.singleton";

/// What a command printed.
#[derive(Default)]
struct Printed(String);

impl Printer for Printed {
    fn out(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.push_str(text);
        Ok(())
    }

    fn err(&mut self, text: &str) -> anyhow::Result<()> {
        self.out(text)
    }
}

/// Types commands one by one, as an operator does who lets the model settle in between, and looks after each of
/// them that consumers use the target.
pub fn type_all(stage: &Stage, commands: &str) {
    for command in commands.lines() {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[0], "juju", "{command:?} is no command");
        let (mut current, mut printed) = ("iam".to_owned(), Printed::default());
        let code = execute(&stage.controller, &mut current, &words[1..], &std::env::temp_dir(), &mut printed);
        assert_eq!(code, 0, "{command}: {}", printed.0);
        stage.model.wait_idle(rig::SOON).unwrap();
        eprintln!("$ {command}\n  {}", stage.model.status("coordinator").map_or_else(|e| e.to_string(), |s| s.1));
        rig::consumer_uses(stage, &stage.kratos_new);
    }
}

/// What consumers are told of the login page; it changes with the target's public URL.
fn told(stage: &Stage) -> Vec<String> {
    let bags = stage.model.databag("kratos-info", "coordinator");
    bags.iter().map(|bag| bag.get("login_browser_endpoint").cloned().unwrap_or_default()).collect()
}

/// Gives the target another public URL.
fn move_target(stage: &Stage, from: &str, name: &str, host: &str) {
    let model = &stage.model;
    let route: Box<dyn NativeCharm> = Box::new(Route::new(host));
    model.deploy(Charm::Native(route), name).unwrap();
    model.remove_relation("kratos-new:public-route", &format!("{from}:traefik-route")).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("kratos-new:public-route", &format!("{name}:traefik-route")).unwrap();
    let wanted = format!("https://{host}/self-service/login/browser");
    let waited = model.wait_until("the new address", rig::SOON, |_| told(stage) == [wanted.clone()]);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{:?}", told(stage)));
}

/// Takes the migration to its end on the given options of `finalize`.
fn finalize(stage: &Stage) -> emulator::ActionResult {
    let model = &stage.model;
    rig::refresh(stage);
    rig::follow(stage);
    rig::migrate(stage);
    expect(model, "cut-over", &[], "done");
    let seen = || run(model, "show", &[]).result("rows-different");
    model.wait_until("the comparison", rig::SOON, |_| seen() == "0").unwrap();
    let finalized = expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(stage, End::Both);
    finalized
}

#[test]
fn the_source_goes_then_the_coordinator_and_consumers_never_notice() {
    let stage = rig::stage("retire", 1);
    let model = &stage.model;
    let finalized = finalize(&stage);
    let (word, message) = rig::status_says(model, "coordinator/0", "finalized: consumers use kratos-new");
    assert_eq!((word.as_str(), message.ends_with("; next: juju run coordinator/leader show")), ("active", true));
    let source = "juju remove-relation coordinator:source-kratos kratos\n\
                  juju remove-relation coordinator:source-database postgresql-k8s\n\
                  juju remove-application kratos";
    assert_eq!(finalized.result("next"), source);
    assert_eq!(run(model, "show", &[]).result("next"), source);
    type_all(&stage, source);
    let expected =
        ("active".to_owned(), "finalized: consumers use kratos-new; next: juju run coordinator/leader show".into());
    assert_eq!(rig::status_says(model, "coordinator/0", "finalized: consumers use kratos-new; next"), expected);
    assert_eq!(model.charm_processes("coordinator/0").unwrap(), Vec::<u32>::new(), "a worker with nothing to do");
    move_target(&stage, "traefik-new", "traefik-two", "iam-two.example.com");
    // Who comes late is told too.
    model.remove_relation("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:kratos-info", "login-ui:kratos-info").unwrap();
    model.wait_until("the late consumer", rig::SOON, |_| told(&stage).iter().any(|url| !url.is_empty())).unwrap();
    // Nothing can be begun here any more, whatever is related.
    for action in ["preflight", "replicate", "migrate", "rollback"] {
        rig::refused(model, action, &[], "show");
    }
    // Even without the journal: the target's address goes on, and never the source's.
    model.remove_relation("coordinator:target-database", "postgresql-new:database").unwrap();
    let (word, _) = rig::status_says(model, "coordinator/0", "the journal is gone");
    assert_eq!(word, "active");
    move_target(&stage, "traefik-two", "traefik-three", "iam-three.example.com");
    assert_eq!(run(model, "finalize", &[]).result("phase"), "finalized");
    // Nor does an empty journal in its place begin anything.
    stage.target.psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", stage.own_database())).unwrap();
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    let mut last = String::new();
    let waited = model.wait_until("the journal", rig::SOON, |_| {
        stage.target.psql(&stage.own_database(), JOURNAL).map_err(|error| last = format!("{error:#}")).is_ok()
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{last}\n{:?}", run(model, "show", &[])));
    model.update_status("coordinator/0").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::status_says(model, "coordinator/0", "the journal is gone");
    rig::consumer_uses(&stage, &stage.kratos_new);
    for action in ["replicate", "rollback"] {
        rig::refused(model, action, &[], "show");
    }
    let shown = expect(model, "show", &[], "done");
    let last = "juju remove-relation coordinator:kratos-info login-ui\n\
                juju integrate kratos-new:kratos-info login-ui\n\
                juju remove-application coordinator";
    assert_eq!((shown.result("next"), shown.result("remove-coordinator")), (last.to_owned(), last.to_owned()));
    rig::no_hook_failed(model);
    type_all(&stage, last);
    assert!(model.status("coordinator").is_err(), "the coordinator is still there");
    let (word, _) = model.status("login-ui").unwrap();
    assert_eq!(word, "active");
}
