//! The recorded scenario: what the operator did and in which order the units
//! ran.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use emulator::{Charm, Controller, Model, Options, Verdict};
use serde_json::json;

use super::compare::Recording;

/// For anything that takes a moment.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// One thing that must begin next.
#[derive(Debug)]
enum Step {
    Event { unit: String, path: String, remote_unit: String },
    Operator(&'static str),
}

/// What the operator did, before which recorded event.
fn script(recording: &Recording) -> Vec<Step> {
    let operator = BTreeMap::from([
        (10, vec!["add the second unit and integrate the database"]),
        (22, vec!["integrate kratos"]),
        (31, vec!["configure"]),
        (36, vec!["configure a secret that is not granted"]),
        (41, vec!["grant the secret and configure"]),
        (45, vec!["update the secret"]),
        (47, vec!["probe"]),
        (48, vec!["probe end=fail"]),
        (49, vec!["probe end=exit3"]),
        (50, vec!["probe end=kill"]),
        (51, vec!["rejected parameters", "probe end=fail again"]),
        (54, vec!["refresh"]),
        (58, vec!["revoke the secret and configure"]),
        (62, vec!["long"]),
        (63, vec!["configure while long runs"]),
        (66, vec!["separate kratos"]),
        (69, vec!["remove the second unit"]),
        (74, vec!["separate the database"]),
        (76, vec!["remove the application"]),
    ]);
    let mut steps = Vec::new();
    for (number, event) in recording.events.iter().enumerate() {
        for step in operator.get(&number).into_iter().flatten() {
            steps.push(Step::Operator(step));
            if *step == "rejected parameters" {
                for _ in 0..2 {
                    let (unit, path) = ("coordinator/0".to_owned(), "actions/probe".to_owned());
                    steps.push(Step::Event { unit, path, remote_unit: String::new() });
                }
            }
        }
        steps.push(Step::Event {
            unit: event.unit.clone(),
            path: event.event.clone(),
            remote_unit: event.environment.get("JUJU_REMOTE_UNIT").cloned().unwrap_or_default(),
        });
    }
    steps
}

/// The recorded order, which the gate enforces where Juju's own is arbitrary.
struct Order {
    steps: Vec<Step>,
    next: usize,
}

impl Order {
    fn judge(&mut self, candidate: &emulator::Candidate<'_>) -> Verdict {
        let of_unit = self.steps[self.next..].iter().find_map(|step| match step {
            Step::Event { unit, path, .. } if unit == candidate.unit => Some(path.as_str()),
            _ => None,
        });
        if let Some(Step::Event { unit, path, remote_unit }) = self.steps.get(self.next)
            && (unit.as_str(), path.as_str(), remote_unit.as_str())
                == (candidate.unit, candidate.path, candidate.remote_unit)
        {
            if candidate.busy {
                return Verdict::Wait;
            }
            self.next += 1;
            return Verdict::Run;
        }
        // The second of two config-changed hooks, where the recording has one.
        if candidate.repeats && of_unit != Some("hooks/config-changed") { Verdict::Drop } else { Verdict::Wait }
    }
}

pub struct Replay {
    controller: Controller,
    pub model: Model,
    order: Arc<Mutex<Order>>,
    charm: PathBuf,
    pub output: PathBuf,
    pub tasks: Vec<u64>,
    secret: String,
}

impl Replay {
    pub fn start(recording: &Recording, source: &Path, folder: &Path) -> Result<Self> {
        let output = folder.join("played");
        let charm = folder.join("charm");
        std::fs::create_dir_all(&output)?;
        write_charm(&charm, source, &output)?;
        let retry = Duration::from_millis(20);
        let controller = Controller::start(Options { retry_first: retry, retry_cap: retry, ..Options::default() })?;
        let order = Arc::new(Mutex::new(Order { steps: script(recording), next: 0 }));
        let shared = order.clone();
        controller.set_gate(Some(Box::new(move |candidate| shared.lock().expect("not poisoned").judge(candidate))));
        let model = controller.add_model("apps")?;
        Ok(Replay { controller, model, order, charm, output, tasks: Vec::new(), secret: String::new() })
    }

    pub fn play(&mut self) -> Result<()> {
        self.model.deploy(Charm::Folder(self.charm.clone()), "pg")?;
        self.model.deploy(Charm::Folder(self.charm.clone()), "coordinator")?;
        loop {
            let order = self.order.clone();
            let position = || order.lock().expect("not poisoned").next;
            let operator = || match order.lock().expect("not poisoned") {
                order if order.next == order.steps.len() => Some("end"),
                order => match order.steps[order.next] {
                    Step::Operator(step) => Some(step),
                    Step::Event { .. } => None,
                },
            };
            let waiting = || {
                let order = order.lock().expect("not poisoned");
                format!("step {}: {:?}", order.next, order.steps.get(order.next))
            };
            self.model
                .wait_until("an operator's step is due", DEADLINE, |model| {
                    let while_running = operator() == Some("configure while long runs");
                    operator().is_some() && (while_running || all_idle(model))
                })
                .with_context(waiting)?;
            match operator() {
                Some("end") | None => return Ok(()),
                Some(step) => {
                    self.act(step).with_context(|| format!("{step} ({})", position()))?;
                    order.lock().expect("not poisoned").next += 1;
                    self.controller.wake();
                }
            }
        }
    }

    fn act(&mut self, step: &str) -> Result<()> {
        let model = &self.model;
        let mut probe = |parameters: &[(&str, &str)]| -> Result<()> {
            self.tasks.push(model.enqueue("coordinator/0", "probe", parameters)?);
            Ok(())
        };
        match step {
            "add the second unit and integrate the database" => {
                model.add_units("coordinator", 1)?;
                model.integrate("coordinator:source-database", "pg:database").map(drop)
            }
            "integrate kratos" => model.integrate("coordinator:source-kratos", "pg:kratos-info").map(drop),
            "configure" => model.config("coordinator", &[("outage-limit", "600"), ("loud", "true")]),
            "configure a secret that is not granted" => {
                self.secret = model.add_secret("credentials", &[("username", "migrator"), ("password", "s3cretpw")])?;
                self.learn_secret()?;
                model.config("coordinator", &[("controller-credentials", &self.secret)])
            }
            "grant the secret and configure" => {
                model.grant_secret("credentials", "coordinator")?;
                model.config("coordinator", &[("order", "documented")])
            }
            "update the secret" => {
                model.update_secret("credentials", &[("username", "migrator"), ("password", "rotated")])
            }
            "probe" => probe(&[("wait", "7"), ("channel", "1.0/stable")]),
            "probe end=fail" | "probe end=fail again" => probe(&[("end", "fail")]),
            "probe end=exit3" => probe(&[("end", "exit3")]),
            "probe end=kill" => probe(&[("end", "kill")]),
            "rejected parameters" => {
                probe(&[("wait", "-1")])?;
                probe(&[("bogus", "1")])
            }
            "refresh" => model.refresh("coordinator", Some(&self.charm), None, None),
            "revoke the secret and configure" => {
                model.revoke_secret("credentials", "coordinator")?;
                model.config("coordinator", &[("ratio", "0.7")])
            }
            "long" => {
                self.tasks.push(model.enqueue("coordinator/0", "long", &[("seconds", "6")])?);
                Ok(())
            }
            "configure while long runs" => {
                model.config("coordinator", &[("ratio", "0.8")])?;
                Ok(std::fs::write(self.output.join("long-may-end"), "")?)
            }
            "separate kratos" => model.remove_relation("coordinator:source-kratos", "pg:kratos-info"),
            "remove the second unit" => model.remove_unit("coordinator/1"),
            "separate the database" => model.remove_relation("coordinator:source-database", "pg:database"),
            "remove the application" => model.remove_application("coordinator"),
            other => anyhow::bail!("unknown step {other}"),
        }
    }

    /// The recorded user secret's id stands for ours.
    fn learn_secret(&self) -> Result<()> {
        let path = self.output.join("secrets.json");
        let mut known: BTreeMap<String, String> = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        known.insert("u7e2tbhvodb25l9iqt1g".into(), self.secret.trim_start_matches("secret:").to_owned());
        Ok(std::fs::write(path, serde_json::to_string(&known)?)?)
    }
}

fn all_idle(model: &Model) -> bool {
    let units = ["pg", "coordinator"].iter().flat_map(|application| model.units(application));
    units.into_iter().all(|unit| model.running(&unit).is_ok_and(|running| running.is_none()))
}

fn write_charm(folder: &Path, source: &Path, output: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in ["metadata.yaml", "actions.yaml", "config.yaml"] {
        std::fs::copy(source.join("recording-charm").join(name), folder.join(name))?;
    }
    peers::places::copy_program(&emulator::find_binary("replay-charm")?, &folder.join("dispatch"))?;
    let settings = json!({ "recording": source.join("hooks.json"), "output": output });
    std::fs::write(folder.join("replay.json"), settings.to_string())?;
    std::fs::write(output.join("password"), "s3cret=with=equals\n<&>")?;
    std::fs::write(output.join("secrets.json"), "{}")?;
    Ok(())
}
