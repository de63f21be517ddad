//! A newcomer with a broken model: nobody told them how this charm works. They read `juju status` and what actions
//! answer, type what is named there as it stands, and nothing else, until the migration is finalized. What they know
//! is their own model: which Kratos is the old one and which the new one, and who stands beside them.

use super::hold::{self, arm};
use super::rig::{self, End};
use super::story::{charm, run};
use emulator::cli::{Printer, execute};
use emulator::stage::Stage;
use emulator::{Charm, Model};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a person who runs this model knows of it, by the words that stand for it.
const OWN_MODEL: [(&str, &str); 6] = [
    ("<PostgreSQL of the old Kratos or Hydra>", "postgresql-k8s"),
    ("<PostgreSQL of the new Kratos or Hydra>", "postgresql-new"),
    ("<old Kratos>", "kratos"),
    ("<new Kratos>", "kratos-new"),
    ("<ingress of kratos-new>", "traefik-new"),
    ("<consumer of Kratos>", "login-ui"),
];

/// How often they read and type before they give up.
const PATIENCE: usize = 60;

/// How long they look at a status that names nothing to do.
const LOOKS: Duration = Duration::from_secs(60);

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

/// One top-level value of what `juju run` prints.
fn printed_value(printed: &str, name: &str) -> Option<String> {
    let mut lines = printed.lines().skip_while(|line| !line.starts_with(&format!("{name}: ")));
    let first = lines.next()?.split_once(": ")?.1;
    Some(match first {
        "|" | "|-" => {
            let block = lines.take_while(|line| line.starts_with("  ") || line.is_empty());
            block.map(str::trim).collect::<Vec<_>>().join("\n")
        }
        text if text.starts_with('"') => serde_json::from_str(text).unwrap(),
        text => text.to_owned(),
    })
}

/// The words of a command line, as a shell takes them apart.
fn words(line: &str) -> Vec<String> {
    let script = format!("juju() {{ printf '%s\\0' \"$@\"; }}\n{line}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "no shell takes this: {line}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

struct Newcomer<'a> {
    stage: &'a Stage,
    /// Everything typed, with what came of it.
    diary: Vec<String>,
}

impl Newcomer<'_> {
    /// Types one line, and returns what was printed.
    fn type_in(&mut self, line: &str) -> String {
        let mut meant = line.to_owned();
        for (words, name) in OWN_MODEL {
            meant = meant.replace(words, name);
        }
        assert!(line.starts_with("juju ") && !meant.contains('<'), "{line:?} cannot be typed\n{}", self.told());
        let (mut current, mut printed) = (self.stage.model.name().to_owned(), Printed::default());
        let folder = std::env::temp_dir();
        let code = execute(&self.stage.controller, &mut current, &words(&meant), &folder, &mut printed);
        // They look until nothing moves any more before they type on.
        let _moves_on = self.stage.model.wait_idle(LOOKS / 6);
        let value = |name| printed_value(&printed.0, name).unwrap_or_default();
        let answer = match value("outcome").as_str() {
            "" => printed.0.trim().to_owned(),
            outcome => format!("{outcome}: {}", value("message")),
        };
        let note = format!("$ {meant}\n  [{code}] {}", answer.replace('\n', "\n  "));
        eprintln!("{note}");
        self.diary.push(note);
        printed.0
    }

    fn told(&self) -> String {
        let last = self.diary.len().saturating_sub(12);
        format!("{}\n{}", self.diary[last..].join("\n"), self.stage.model.status_table())
    }

    /// What `juju status` says of the coordinator's leader.
    fn status(&self) -> String {
        let unit = self.stage.model.leader("coordinator").unwrap_or_else(|| "coordinator/0".to_owned());
        self.stage.model.status(&unit).map(|(_, message)| message).unwrap_or_default()
    }

    /// Looks at the status until it names a command, first of all one that was not typed just now.
    fn named_by_status(&self, before: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let status = self.status();
            let named = status.rsplit_once("next: ").or_else(|| status.rsplit_once("; run "));
            let named = named.filter(|(_, command)| command.starts_with("juju "));
            let named = named.map(|(_, command)| command.lines().map(str::to_owned).collect());
            let stale = status == before && began.elapsed() < LOOKS / 4;
            if let Some(commands) = named.filter(|_| !stale) {
                return commands;
            }
            // A status that names nothing and stays leaves a newcomer with nothing to type.
            let stays =
                began.elapsed() > LOOKS || (!stale && status.starts_with("cannot ") && began.elapsed() > LOOKS / 4);
            assert!(!stays, "the status names nothing to do: {status}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Reads and types to the end.
    fn go(&mut self) {
        let mut next = self.named_by_status("");
        for _ in 0..PATIENCE {
            let before = self.status();
            let mut answer = String::new();
            for line in &next {
                answer = self.type_in(line);
            }
            let value = |name| printed_value(&answer, name).unwrap_or_default();
            if (value("phase").as_str(), value("outcome").as_str()) == ("finalized", "done") {
                return;
            }
            next = match value("next").as_str() {
                "" => self.named_by_status(&before),
                commands => commands.lines().map(str::to_owned).collect(),
            };
        }
        panic!("stuck:\n{}", self.told());
    }
}

/// Plays a newcomer to the end and looks whether it is one.
fn finish(stage: &Stage) {
    Newcomer { stage, diary: Vec::new() }.go();
    rig::consumer_uses(stage, &stage.kratos_new);
    rig::close(stage, End::Target);
}

#[test]
fn nothing_is_related() {
    let stage = rig::empty_stage("newcomer-alone");
    stage.model.deploy(Charm::Folder(charm("newcomer-alone")), "coordinator").unwrap();
    rig::status_says(&stage.model, "coordinator/0", "cannot begin");
    finish(&stage);
}

#[test]
fn tables_that_cannot_be_followed_and_triggers_that_would_fire() {
    let stage = rig::stage("newcomer-tables", 1);
    let source = "ALTER TABLE sessions REPLICA IDENTITY NOTHING;
        CREATE ROLE \"it's me\"; ALTER ROLE \"it's me\" SET session_replication_role = replica";
    stage.source.psql("iam_kratos", source).unwrap();
    let target = "CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER \"audit \"\"all\"\"\" BEFORE INSERT ON identities FOR EACH ROW EXECUTE FUNCTION audited();
        ALTER TABLE identities ENABLE ALWAYS TRIGGER \"audit \"\"all\"\"\"";
    stage.target.psql("iam_kratos-new", target).unwrap();
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn source_and_target_are_swapped() {
    let stage = rig::stage_between("newcomer-swapped", 15, 15);
    stage.model.deploy(Charm::Folder(charm("newcomer-swapped")), "coordinator").unwrap();
    for (endpoint, other) in [
        ("source-kratos", "kratos-new:kratos-info"),
        ("target-kratos", "kratos:kratos-info"),
        ("source-database", "postgresql-new:database"),
        ("target-database", "postgresql-k8s:database"),
        ("kratos-info", "login-ui:kratos-info"),
    ] {
        stage.model.integrate(&format!("coordinator:{endpoint}"), other).unwrap();
    }
    rig::status_says(&stage.model, "coordinator/0", "ready");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_target_has_no_public_address() {
    let stage = rig::empty_stage("newcomer-route");
    let model = &stage.model;
    model.remove_relation("kratos-new:public-route", "traefik-new:traefik-route").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    stage.place_coordinator(1).unwrap();
    rig::status_says(model, "coordinator/0", "kratos-new does not publish its endpoints");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn a_secret_is_revoked() {
    let stage = rig::stage("newcomer-secret", 1);
    stage.model.revoke_grants("postgresql-k8s", "coordinator");
    rig::status_says(&stage.model, "coordinator/0", "was revoked");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn options_that_cannot_be_used() {
    let stage = rig::stage("newcomer-options", 1);
    let bad = [("outage-limit", "5"), ("order", "sideways"), ("source-application", "No Such Name")];
    stage.model.config("coordinator", &bad).unwrap();
    rig::status_says(&stage.model, "coordinator/0", "cannot use the option");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn a_lease_that_is_too_short_for_the_order() {
    let stage = rig::stage("newcomer-lease", 1);
    stage.model.config("coordinator", &[("order", "documented"), ("outage-limit", "60")]).unwrap();
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_worker_is_killed_in_the_copy_and_its_action_cancelled() {
    let stage = rig::stage("newcomer-killed", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    arm(&stage, "coordinator/0", "record-before/done/copy", "kill");
    let task = model.enqueue("coordinator/leader", "replicate", &[("wait", "600")]).unwrap();
    hold::reached(&stage, "coordinator/0");
    model.cancel_task(task).unwrap();
    model.wait_task(task, rig::SOON).unwrap();
    finish(&stage);
}

#[test]
fn what_was_followed_is_dropped_by_hand() {
    let stage = rig::stage("newcomer-dropped", 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    let drop = "SELECT format('DROP SUBSCRIPTION %I', subname) FROM pg_subscription";
    let drop = stage.target.psql("iam_kratos-new", drop).unwrap();
    stage.target.psql("iam_kratos-new", &drop).unwrap();
    finish(&stage);
}

/// Takes the coordinator away as it stands, and deploys another one of that name.
fn deployed_anew(stage: &Stage) {
    let model = &stage.model;
    model.remove_application("coordinator").unwrap();
    let gone = |model: &Model| !model.applications().contains(&"coordinator".to_owned());
    model.wait_until("the coordinator to be gone", rig::SOON, gone).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.deploy(Charm::Folder(charm("newcomer-anew")), "coordinator").unwrap();
    rig::status_says(model, "coordinator/0", "cannot begin");
}

#[test]
#[ignore = "slow: make test-all"]
fn the_coordinator_is_removed_while_following_and_deployed_anew() {
    let stage = rig::stage("newcomer-anew", 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    deployed_anew(&stage);
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn a_rollback_is_left_half_way() {
    let stage = rig::stage("newcomer-rollback", 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    arm(&stage, "coordinator/0", "record-before/undone/follow", "kill");
    run(&stage.model, "rollback", &[("wait", "1")]);
    hold::reached(&stage, "coordinator/0");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_lease_runs_out_in_the_middle_of_the_cut_over() {
    let stage = rig::stage("newcomer-outage", 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    super::story::expect(&stage.model, "drain", &[("outage-limit", "30")], "done");
    assert!(!rig::writable(&stage.source, "iam_kratos"));
    hold::freeze(&stage, "coordinator/0");
    let open = |_: &Model| rig::writable(&stage.source, "iam_kratos");
    stage.model.wait_until("the lease to run out", rig::SOON, open).unwrap();
    hold::thaw(&stage, "coordinator/0");
    finish(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_new_server_still_runs_after_a_rollback() {
    let stage = rig::stage("newcomer-server", 1);
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    super::story::expect(&stage.model, "rollback", &[], "done");
    finish(&stage);
}
