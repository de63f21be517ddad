//! The operator's road: an action is run until it is done, and what its answer names next is done; meanwhile things go
//! wrong as planned.

use super::faults::{Injector, disarm};
use super::ground::{Ground, SOON, Side};
use super::plan::{Fault, Kind, Leg, Moment, Plan};
use crate::scenarios::hold;
use anyhow::{Result, bail, ensure};
use emulator::ActionResult;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a round may take; one on an idle machine takes about ten seconds, but others may be busy there.
pub const ROUND: Duration = Duration::from_secs(300);

/// How long an action watches.
const WAIT: &str = "60";

/// How often it is looked whether the target is open for its migration.
const LOOK: Duration = Duration::from_millis(250);

/// How a leg ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// The answer names `rollback`.
    RollBack,
    /// There is no way back to the source any more.
    NoWayBack,
    /// The operator turned round before it was done.
    Interrupted,
}

/// Whether the operator had the target's application migrate its schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Migrated {
    No,
    Done,
    /// Done, and named once more by an answer that was perhaps older.
    AskedAgain,
}

/// One round's road.
pub struct Road<'a> {
    pub ground: &'a Ground,
    pub plan: &'a Plan,
    pub injector: Injector<'a>,
    /// What went wrong, and where.
    pub met: Vec<(Kind, Leg)>,
    /// Everything that was asked, with what came of it.
    pub diary: Vec<String>,
    migrated: Migrated,
    began: Instant,
    deadline: Instant,
}

/// The faults of a leg that are still to come.
struct Ahead {
    at: VecDeque<Fault>,
    after: VecDeque<Fault>,
    hooks: VecDeque<Fault>,
    /// The unit at whose charm the first of `at` waits.
    armed: Option<String>,
    /// When the leg's action was first asked for.
    began: Instant,
}

impl<'a> Road<'a> {
    pub fn new(ground: &'a Ground, plan: &'a Plan, injector: Injector<'a>) -> Self {
        let began = Instant::now();
        Self {
            ground,
            plan,
            injector,
            met: Vec::new(),
            diary: Vec::new(),
            migrated: Migrated::No,
            began,
            deadline: began + ROUND,
        }
    }

    pub fn note(&mut self, text: &str) {
        let line = format!("{:6.2} {text}", self.began.elapsed().as_secs_f64());
        if std::env::var_os("CHAOS_TELL").is_some() {
            eprintln!("{}-{} {line}", self.plan.seed, self.plan.round);
        }
        self.diary.push(line);
    }

    fn action(&self, leg: Leg) -> &'static str {
        match leg {
            Leg::Follow => "replicate",
            Leg::Migrate => "run-migration",
            Leg::Drain => "drain",
            Leg::Flip if self.plan.at_once => "cut-over",
            Leg::Flip => "flip-traffic",
            Leg::Undo | Leg::Return => "rollback",
            Leg::Finalize => "finalize",
        }
    }

    fn parameters(&self, leg: Leg) -> Vec<(String, String)> {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        match leg {
            Leg::Follow if self.plan.native => parameters.push(("engine", "native".to_owned())),
            Leg::Drain | Leg::Flip if leg == Leg::Drain || self.plan.at_once => {
                parameters.push(("verification", self.plan.verification.to_owned()));
                if self.plan.outage_limit > 0 {
                    parameters.push(("outage-limit", self.plan.outage_limit.to_string()));
                }
            }
            Leg::Finalize => parameters.push(("keep-source-fenced", "false".to_owned())),
            _ => {}
        }
        parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Runs the leg's action until it is done, or for `until` only.
    pub fn go(&mut self, leg: Leg, until: Option<Duration>) -> Result<Ended> {
        let mut ahead = self.ahead(leg);
        let action = self.action(leg);
        let mut parameters = self.parameters(leg);
        let ended = loop {
            ensure!(Instant::now() < self.deadline, "{action} does not end in time");
            let turns = until.map(|until| ahead.began + until);
            let task = {
                // Hooks run beside the work when the action does not wait for it.
                let wait = if !ahead.hooks.is_empty() || turns.is_some() { "1" } else { WAIT };
                let mut all: Vec<(&str, &str)> = parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                if leg != Leg::Finalize {
                    all.push(("wait", wait));
                }
                self.arm(&mut ahead)?;
                self.ground.model().enqueue("coordinator/leader", action, &all)?
            };
            let answer = self.watch(task, leg, &mut ahead, turns)?;
            let (outcome, next) = (answer.result("outcome"), answer.result("next"));
            self.note(&format!("{action}: {outcome} {} — {} → {next}", answer.status, answer.message_or_result()));
            while let Some(fault) = ahead.hooks.pop_front() {
                self.inject(&fault, None)?;
            }
            if outcome == "done" {
                break Ended::Done;
            }
            if turns.is_some_and(|turns| Instant::now() >= turns) {
                break Ended::Interrupted;
            }
            if let Some(ended) = self.follow(leg, &answer, &mut parameters)? {
                break ended;
            }
        };
        self.leave(leg, ahead)?;
        Ok(ended)
    }

    fn ahead(&self, leg: Leg) -> Ahead {
        let (mut at, mut after, mut hooks) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for fault in self.plan.faults.iter().filter(|fault| fault.leg == leg) {
            match (fault.kind, fault.moment) {
                (Kind::KillHook, _) => hooks.push_back(*fault),
                (_, Moment::At(_)) => at.push_back(*fault),
                (_, Moment::After(_)) => after.push_back(*fault),
            }
        }
        let moment = |fault: &Fault| if let Moment::After(after) = fault.moment { after } else { Duration::ZERO };
        after.make_contiguous().sort_by_key(moment);
        Ahead { at, after, hooks, armed: None, began: Instant::now() }
    }

    /// Has the next place waited at, by whoever leads now.
    fn arm(&mut self, ahead: &mut Ahead) -> Result<()> {
        let leader = self.ground.units()?.0;
        if ahead.armed.as_ref() == Some(&leader) {
            return Ok(());
        }
        if let Some(other) = ahead.armed.take() {
            disarm(self.ground, &other)?;
        }
        let Some(Fault { moment: Moment::At(place), kind, .. }) = ahead.at.front() else { return Ok(()) };
        let what = if *kind == Kind::KillAction { "kill" } else { "stop" };
        hold::arm(&self.ground.stage, &leader, place, what);
        ahead.armed = Some(leader);
        Ok(())
    }

    /// Watches the action to its end, or until the operator turns round; lets things go wrong when their time comes.
    fn watch(&mut self, task: u64, leg: Leg, ahead: &mut Ahead, turns: Option<Instant>) -> Result<ActionResult> {
        let model = self.ground.model().clone();
        let mut migrates = leg == Leg::Migrate && self.migrated == Migrated::No;
        let mut looked = Instant::now();
        loop {
            if let Some(unit) = ahead.armed.clone().filter(|unit| hold::is_reached(&self.ground.stage, unit)) {
                self.reached(&unit, ahead)?;
            }
            let due = |fault: &Fault| matches!(fault.moment, Moment::After(after) if ahead.began.elapsed() >= after);
            if ahead.after.front().is_some_and(due)
                && let Some(fault) = ahead.after.pop_front()
            {
                self.inject(&fault, None)?;
            }
            if migrates && looked.elapsed() > LOOK && self.target_opened(&mut looked) {
                // In a second terminal, as soon as the target is open for it.
                migrates = false;
                self.migrate()?;
            }
            match model.task(task) {
                Some(answer) if answer.ended() => return Ok(answer),
                None => bail!("the action is gone"),
                _ => {}
            }
            if turns.is_some_and(|turns| Instant::now() >= turns) {
                // Whoever turns round ends what they were watching.
                let _ended_meanwhile = model.cancel_task(task);
                return model.wait_task(task, SOON);
            }
            ensure!(Instant::now() < self.deadline, "the action does not end in time: {:?}", model.task(task));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A process came by the place.
    fn reached(&mut self, unit: &str, ahead: &mut Ahead) -> Result<()> {
        let Some(fault) = ahead.at.pop_front() else { return Ok(()) };
        disarm(self.ground, unit)?;
        ahead.armed = None;
        if fault.kind == Kind::KillAction {
            // The place killed it.
            self.note(&format!("killed at {:?}", fault.moment));
            self.met.push((fault.kind, fault.leg));
        } else {
            self.arm(ahead)?;
            self.inject(&fault, Some(unit))?;
        }
        self.arm(ahead)
    }

    fn inject(&mut self, fault: &Fault, held: Option<&str>) -> Result<()> {
        let met = self.injector.inject(fault, held)?;
        let what = if met { "met" } else { "asked for" };
        self.note(&format!("{} in {} at {:?}: {what}", fault.kind.name(), fault.leg.name(), fault.moment));
        if met {
            self.met.push((fault.kind, fault.leg));
        }
        Ok(())
    }

    /// The leg is over: what did not come does not come later.
    fn leave(&mut self, leg: Leg, ahead: Ahead) -> Result<()> {
        if let Some(unit) = &ahead.armed {
            let held = hold::is_reached(&self.ground.stage, unit);
            disarm(self.ground, unit)?;
            if held {
                self.injector.go_on(unit);
            }
        }
        for (kind, side) in [(Kind::LoseReplySource, Side::Source), (Kind::LoseReplyTarget, Side::Target)] {
            if self.ground.proxied(side)?.replies.lose_none() {
                self.met.push((kind, leg));
            }
        }
        Ok(())
    }

    /// The fence of the target is open: for its application's migration, in that leg.
    fn target_opened(&self, looked: &mut Instant) -> bool {
        *looked = Instant::now();
        let newest = "SELECT state FROM identity_migration.fence ORDER BY number DESC LIMIT 1";
        self.ground.ask(Side::Target, newest).is_ok_and(|state| state == "open")
    }

    fn migrate(&mut self) -> Result<()> {
        let place = &self.ground.stage.target_place;
        let unit = format!("{}/leader", place.kratos);
        let ran = place.model.run(&unit, "run-migration", &[("timeout", "120")])?;
        self.note(&format!("{}: run-migration {} {}", place.kratos, ran.status, ran.message));
        if ran.status == "completed" {
            self.migrated = Migrated::Done;
        }
        place.model.update_status(&format!("{}/0", place.kratos))
    }

    /// Does what the answer names next.
    fn follow(
        &mut self,
        leg: Leg,
        answer: &ActionResult,
        parameters: &mut Vec<(String, String)>,
    ) -> Result<Option<Ended>> {
        let place = &self.ground.stage.target_place;
        // What a person is told to undo by hand.
        if let Some((_, rest)) = answer.message_or_result().split_once("run ALTER SUBSCRIPTION ")
            && let Some((name, _)) = rest.split_once(" ENABLE there")
        {
            self.ground.ask(Side::Source, &format!("ALTER SUBSCRIPTION {name} ENABLE"))?;
            self.note("enabled what was disabled by hand");
        }
        for line in answer.result("next").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["juju", "run", "coordinator/leader", action, ref rest @ ..] if action == self.action(leg) => {
                    for (name, value) in rest.iter().filter_map(|word| word.split_once('=')) {
                        parameters.retain(|(known, _)| known != name);
                        parameters.push((name.to_owned(), value.to_owned()));
                    }
                }
                ["juju", "run", "coordinator/leader", "rollback", ..] => return Ok(Some(Ended::RollBack)),
                ["juju", "run", "coordinator/leader", "finalize", ..] if leg == Leg::Return => {
                    return Ok(Some(Ended::NoWayBack));
                }
                ["juju", "run", "coordinator/leader", action, ..] => {
                    let waits = ["replicate", "run-migration", "drain"].contains(&action);
                    let parameters: &[(&str, &str)] = if waits { &[("wait", WAIT)] } else { &[] };
                    let ran = self.ground.model().run("coordinator/leader", action, parameters)?;
                    self.note(&format!("told to run {action}: {} — {}", ran.result("outcome"), ran.result("message")));
                    if ran.result("outcome") == "failed" && ran.result("next").ends_with("/leader rollback") {
                        return Ok(Some(Ended::RollBack));
                    }
                }
                // The answer may be older than what was just done.
                ["juju", "run", _, "run-migration", ..] if self.migrated == Migrated::Done => {
                    self.migrated = Migrated::AskedAgain;
                }
                ["juju", "run", _, "run-migration", ..] => self.migrate()?,
                ["juju", "refresh", ..] => {
                    place.model.refresh(place.kratos, None, Some("0.4/stable"), None)?;
                }
                ["juju", "ssh", ..] => {
                    self.ground.stage.kratos_new.kill_servers();
                    place.model.update_status(&format!("{}/0", place.kratos))?;
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The sentence of an answer.
trait Sentence {
    fn message_or_result(&self) -> String;
}

impl Sentence for ActionResult {
    fn message_or_result(&self) -> String {
        match self.result("message") {
            empty if empty.is_empty() => self.message.clone(),
            message => message,
        }
    }
}
