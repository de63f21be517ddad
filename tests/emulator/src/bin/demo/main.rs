//! `make demo`: README's story on two real clusters with real Kratos data and live writers, as an operator would see
//! it, and a summary whose every figure is checked.
//!
//! Without credentials an operator types every step; with them (`CONTROLLER=1`) only `migrate` and `finalize`.

mod road;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use emulator::ActionResult;
use emulator::stage::{Stage, StageOptions, charm_folder};
use peers::writers::{Settings, Writers};

/// How many acknowledged writes the story needs.
const ENOUGH_WRITES: u64 = 20_000;

fn main() -> Result<()> {
    let identities = std::env::var("IDENTITIES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let alone = !["", "0"].contains(&std::env::var("CONTROLLER").unwrap_or_default().as_str());
    let play = |documented| Demo::open(documented, alone, identities)?.play();
    match std::env::var("ORDER").unwrap_or_default().as_str() {
        "" | "auto" | "migrate-first" => play(false).map(drop),
        "documented" => play(true).map(drop),
        "both" => {
            let (documented, migrate_first) = (play(true)?, play(false)?);
            heading("Nobody could write, from fence to open, on the same data");
            println!("documented order     {documented:>8} ms, the schema migration inside");
            println!("migrate-first        {migrate_first:>8} ms, the schema migration before it");
            println!("ratio                {:>8.1}", documented as f64 / migrate_first.max(1) as f64);
            Ok(())
        }
        other => bail!("cannot play the order {other:?}; set ORDER to auto, migrate-first, documented or both"),
    }
}

/// The stage, and what has to be remembered until the summary.
struct Demo {
    stage: Stage,
    folder: PathBuf,
    documented: bool,
    /// The coordinator drives Juju itself.
    alone: bool,
    began: Instant,
}

impl Demo {
    fn open(documented: bool, alone: bool, identities: u32) -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from);
        let folder = target.join("demo");
        std::fs::create_dir_all(&folder)?;
        let charm = folder.join("charm");
        charm_folder(&repository, &emulator::find_binary("dispatch")?, &charm)?;
        let began = Instant::now();
        heading("Two real PostgreSQL clusters (14 and 16), two real Kratos 1.0.0, in an emulated Juju model");
        println!("filling the source with {identities} identities, their credentials, addresses and sessions …");
        let stage = Stage::new(StageOptions {
            from: 14,
            to: 16,
            identities,
            charm,
            update_status_interval: Duration::from_secs(3),
            encoding: None,
            juju: None,
        })?;
        Ok(Self { stage, folder, documented, alone, began })
    }

    /// The whole story; answers for how many milliseconds nobody could write.
    fn play(&self) -> Result<i64> {
        let stage = &self.stage;
        let people = peers::seed::people(&stage.kratos.client(), 10).context("cannot make people on the source")?;
        heading("Live writers begin: 8 connections, 200 transactions a second asked for");
        let writers = Writers::start(&stage.source_uri(), &Settings::new(self.folder.join("oracle.txt")), "set-up")?;
        heading("The coordinator is deployed and integrated");
        stage.deploy_coordinator(1)?;
        if self.alone {
            self.give_credentials()?;
        }
        if self.documented {
            self.shell("juju config coordinator order=documented outage-limit=3600");
            stage.model.config("coordinator", &[("order", "documented"), ("outage-limit", "3600")])?;
        }
        self.status();
        let preflight = self.action("preflight", &[], "done")?;
        println!("{}", preflight.result("report"));
        let flipped = if self.alone { self.migrate_alone(&writers)? } else { self.step_by_step(&writers)? };
        let compared = self.compare_apart(&writers)?;
        writers.mark_phase("on the target");
        self.status();
        peers::seed::check_people(&stage.kratos_new.client(), &people)
            .context("somebody cannot use the target as before")?;
        println!("{} people: same identity, old session token and password work on the target", people.len());
        self.enough(&writers, ENOUGH_WRITES)?;
        let record = writers.stop()?;
        let verified = self.verified()?;
        let finalized = self.action("finalize", &[("keep-source-fenced", "false")], "done")?;
        self.status();
        println!("to retire the source:\n{}", finalized.result("next"));
        let compared = compared.join().map_err(|_| anyhow::anyhow!("the comparison panicked"))??;
        self.summary(&flipped, &verified, &record, &compared)
    }

    /// Compares both databases by code of its own, in snapshots taken before anybody wrote to the target; then the
    /// writers follow the consumer.
    fn compare_apart(&self, writers: &Writers) -> Result<std::thread::JoinHandle<Result<peers::compare::Comparison>>> {
        let (source, target) = (self.stage.source_uri(), self.stage.target_uri());
        let (seen, begun) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            peers::compare::databases_while(&source, &target, &peers::compare::Options::kratos(), || {
                // The receiver waits; if it gave up, the comparison goes on all the same.
                let _ = seen.send(());
            })
        });
        begun.recv_timeout(Duration::from_secs(30)).context("the comparison did not begin")?;
        self.stage.model.wait_until("the consumer to follow", Duration::from_secs(30), |_| {
            let wanted = self.stage.kratos_new.ports().admin_url();
            self.stage.consumer.current().is_some_and(|seen| seen.admin_endpoint == wanted)
        })?;
        writers.move_to(&self.stage.target_uri());
        Ok(thread)
    }

    /// Waits until this many writes were acknowledged.
    fn enough(&self, writers: &Writers, count: u64) -> Result<()> {
        println!("writers go on; {} acknowledged so far", writers.acknowledged());
        peers::wait_for(&format!("{count} acknowledged writes"), Duration::from_secs(300), || {
            let now = writers.acknowledged();
            if now >= count { Ok(()) } else { Err(format!("{now} acknowledged")) }
        })
    }

    /// The coordinator's own verification, once it has ended.
    fn verified(&self) -> Result<ActionResult> {
        peers::wait_for("the verification to end", Duration::from_secs(300), || {
            let shown =
                self.stage.model.run("coordinator/leader", "show", &[]).map_err(|error| format!("{error:#}"))?;
            if shown.result("rows-verified").is_empty() { Err(shown.result("report")) } else { Ok(shown) }
        })
    }

    fn show(&self) -> Result<()> {
        let shown = self.action("show", &[], "done")?;
        println!("{}", shown.result("report"));
        Ok(())
    }

    fn status(&self) {
        self.shell("juju status");
        println!("{}", self.stage.model.status_table());
    }

    fn shell(&self, line: &str) {
        println!("\n[{:6.1} s] $ {line}", self.began.elapsed().as_secs_f64());
    }

    /// Runs an action on the coordinator's leader, prints what an operator sees, and insists on the outcome.
    fn action(&self, name: &str, parameters: &[(&str, &str)], outcome: &str) -> Result<ActionResult> {
        let result = self.run(name, parameters)?;
        self.insist(&result, outcome)?;
        Ok(result)
    }

    fn insist(&self, result: &ActionResult, outcome: &str) -> Result<()> {
        let log = || self.stage.model.unit_log("coordinator/0");
        ensure!(result.result("outcome") == outcome, "{} ended {result:?}, not {outcome}\n{}", result.action, log());
        Ok(())
    }

    /// The same whatever its outcome.
    fn run(&self, name: &str, parameters: &[(&str, &str)]) -> Result<ActionResult> {
        let words: String = parameters.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        self.shell(&format!("juju run coordinator/leader {name}{words}"));
        let result = self.stage.model.run("coordinator/leader", name, parameters)?;
        for (_, line) in &result.log {
            println!("  {line}");
        }
        for (key, value) in &result.results {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !text.contains('\n') && !["return-code", "report"].contains(&key.as_str()) {
                println!("  {key}: {text}");
            }
        }
        Ok(result)
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}
