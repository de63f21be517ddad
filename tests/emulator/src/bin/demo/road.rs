//! The two roads from `preflight` to the flip: step by step, or by `migrate` alone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use emulator::ActionResult;
use emulator::stage::{CREDENTIALS, USER};
use peers::writers::Writers;

use super::{Demo, ENOUGH_WRITES, heading};

/// Where the target goes.
const CHANNEL: &str = "0.4/stable";

/// How long `migrate` is run again and again.
const MIGRATES: Duration = Duration::from_secs(1200);

impl Demo {
    /// Every step by a person, who also types what the coordinator asks for. Answers what the flip told.
    pub fn step_by_step(&self, writers: &Writers) -> Result<ActionResult> {
        self.refresh()?;
        writers.mark_phase("copy");
        self.action("replicate", &[("wait", "600")], "done")?;
        writers.mark_phase("follow");
        self.status();
        self.action("verify", &[], "done")?;
        if !self.documented {
            writers.mark_phase("migrate");
            self.run_migration()?;
            writers.mark_phase("follow, migrated");
        }
        self.enough(writers, ENOUGH_WRITES * 3 / 4)?;
        self.show()?;
        writers.mark_phase("cut-over");
        self.cut_over()
    }

    /// A user who may change the model, told to the coordinator by a secret.
    pub fn give_credentials(&self) -> Result<()> {
        let model = self.stage.model.name();
        for line in [
            format!("juju add-user {USER}"),
            format!("juju grant {USER} write {model}"),
            format!("juju change-user-password {USER} --no-prompt < password"),
            format!("juju add-secret {CREDENTIALS} username={USER} password#file=password"),
            format!("juju grant-secret {CREDENTIALS} coordinator"),
        ] {
            self.shell(&line);
        }
        self.stage.give_credentials()?;
        let secret = &self.stage.model.options("coordinator")?["controller-credentials"];
        self.shell(&format!("juju config coordinator controller-credentials={}", secret.as_str().unwrap_or_default()));
        Ok(())
    }

    /// One action, typed again while it is at it. Answers what it told when it had flipped.
    pub fn migrate_alone(&self, writers: &Writers) -> Result<ActionResult> {
        writers.mark_phase("migrate");
        let end = Instant::now() + MIGRATES;
        let migrated = loop {
            let result = self.run("migrate", &[("channel", CHANNEL), ("wait", "300")])?;
            if !["running", "waiting"].contains(&result.result("outcome").as_str()) || Instant::now() >= end {
                break result;
            }
        };
        self.insist(&migrated, "done")?;
        self.show()?;
        self.asked_of_the_controller()?;
        Ok(migrated)
    }

    /// What the coordinator changed through the controller's API: exactly one refresh and one migration.
    fn asked_of_the_controller(&self) -> Result<()> {
        heading("What the coordinator asked of the controller");
        let received = self.stage.serve_api()?.received();
        let changes = received.iter().filter(|call| call.changes_the_model());
        for change in changes.clone() {
            let refusal = change.error.as_ref().map(|error| format!(", refused: {error}")).unwrap_or_default();
            println!("{}{refusal}", change.call);
        }
        println!("and {} calls that only look", received.len() - changes.clone().count());
        for call in ["Application.SetCharm", "Action.EnqueueOperation"] {
            let count = changes.clone().filter(|change| change.call == call && change.error.is_none()).count();
            ensure!(count == 1, "{call} was done {count} times");
        }
        Ok(())
    }

    /// The target application goes to the new release: guided.
    fn refresh(&self) -> Result<()> {
        self.action("refresh", &[("channel", CHANNEL)], "waiting")?;
        self.shell(&format!("juju refresh kratos-new --channel {CHANNEL}"));
        self.stage.model.refresh("kratos-new", None, Some(CHANNEL), None)?;
        self.action("refresh", &[], "done").map(drop)
    }

    /// The target application's own migration: guided.
    fn run_migration(&self) -> Result<()> {
        self.action("run-migration", &[], "waiting")?;
        self.migrate_target()?;
        self.action("run-migration", &[], "done").map(drop)
    }

    fn migrate_target(&self) -> Result<()> {
        self.shell("juju run kratos-new/leader run-migration timeout=600");
        let task = self.stage.model.run("kratos-new/leader", "run-migration", &[("timeout", "600")])?;
        ensure!(task.status == "completed", "run-migration of kratos-new ended {}: {}", task.status, task.message);
        Ok(())
    }

    /// From fence to flip. In the documented order a person migrates the schema in between.
    fn cut_over(&self) -> Result<ActionResult> {
        if !self.documented {
            return self.action("cut-over", &[], "done");
        }
        self.action("cut-over", &[], "waiting")?;
        self.migrate_target()?;
        self.action("cut-over", &[], "done")
    }
}
