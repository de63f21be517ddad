//! One round: a migration with live writers and faults, to one of its ends, and what is true after it.

use super::checks::Findings;
use super::faults::Injector;
use super::ground::{Ground, SOON, Side};
use super::plan::{Aim, Leg, Plan};
use super::road::{Ended, Road};
use super::summary::Result as Line;
use anyhow::{Context as _, Result, ensure};
use peers::writers::{Habits, Settings, Writers};
use std::path::Path;
use std::time::Instant;

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Flipped,
    RolledBackBefore,
    RolledBackAfter,
}

impl End {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            End::Flipped => "flipped",
            End::RolledBackBefore => "rolled-back-before",
            End::RolledBackAfter => "rolled-back-after",
        }
    }
}

/// Plays a round; what failed is in the answer, with everything that helps to understand it in `failures`.
pub fn play(ground: &Ground, plan: &Plan, failures: &Path) -> Line {
    let began = Instant::now();
    let mut round = Round {
        road: Road::new(ground, plan, Injector { ground }),
        ground,
        plan,
        writers: None,
        findings: Findings::default(),
        seq: String::new(),
    };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round.play()));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a check panicked".to_owned());
        Err(anyhow::anyhow!(text))
    });
    let Round { road, mut findings, .. } = round;
    let end = match &ended {
        Ok(end) => Some(*end),
        Err(error) => {
            findings.words.push(format!("{error:#}"));
            None
        }
    };
    let line = Line::new(plan, ground, end, &road.met, findings, began.elapsed());
    if !line.findings.good()
        && let Err(error) = super::summary::keep_evidence(ground, plan, &road.diary, &line, failures)
    {
        eprintln!("cannot keep what is known of round {}-{}: {error:#}", plan.seed, plan.round);
    }
    line
}

struct Round<'a> {
    ground: &'a Ground,
    plan: &'a Plan,
    road: Road<'a>,
    writers: Option<Writers>,
    findings: Findings,
    /// Where the journal ended before this round.
    seq: String,
}

impl Round<'_> {
    fn play(&mut self) -> Result<End> {
        self.begin()?;
        let turned = self.there()?;
        let opened = self.journalled("done", "hand-over")?;
        let end = match turned {
            // The target may have opened before the operator turned round.
            true if !opened => self.back(Leg::Undo)?,
            true => self.back(Leg::Return)?,
            false => match self.plan.aim {
                Aim::Flipped => self.stay()?,
                _ => self.back(Leg::Return)?,
            },
        };
        for side in [Side::Source, Side::Target] {
            self.ground.proxied(side)?.proxy.pass();
        }
        Ok(end)
    }

    fn begin(&mut self) -> Result<()> {
        let last = "SELECT coalesce(max(seq), 0) FROM identity_migration_journal.entry";
        self.seq = self.ground.journal(last)?;
        // What a rollback leaves running finds its schema old and waits.
        self.ground.stage.kratos_new.kill_servers();
        self.ground.order(if self.plan.documented { "documented" } else { "auto" })?;
        let file = std::env::temp_dir().join(format!("chaos-{}-{}", self.plan.seed, self.plan.round));
        let settings = Settings { rate: 30.0, connections: 5, ..Settings::new(file) };
        let habits = Habits { keyless: true, restless: 2 };
        let places = [self.ground.source_place(), self.ground.target_place()];
        self.writers = Some(Writers::start_among(&places, &settings, habits, "all")?);
        self.road.note(&format!("{:?}", self.plan));
        Ok(())
    }

    fn writers(&self) -> Result<&Writers> {
        self.writers.as_ref().context("no writers")
    }

    /// Walks to the flip, or as far as the plan goes; true when the operator is to turn round.
    fn there(&mut self) -> Result<bool> {
        let (last, until) = match self.plan.aim {
            Aim::BackBefore(last, until) => (Some(last), until),
            _ => (None, None),
        };
        let ground = self.ground;
        let both = [ground.source_place(), ground.target_place()];
        for leg in self.plan.legs() {
            if matches!(leg, Leg::Undo | Leg::Return | Leg::Finalize) {
                break;
            }
            if leg == Leg::Migrate {
                // The target is opened for its own application, which is proved down; nobody else knows of it then.
                self.writers()?.move_among(&both[..1]);
            }
            let ended = self.road.go(leg, until.filter(|_| last == Some(leg)))?;
            match ended {
                Ended::Done => {}
                Ended::RollBack | Ended::Interrupted | Ended::NoWayBack => return Ok(true),
            }
            if leg == Leg::Migrate {
                self.writers()?.move_among(&both);
            }
            if leg == Leg::Drain {
                self.compare_closed()?;
            }
        }
        Ok(last.is_some())
    }

    /// Nobody can write: both sides must be equal, if the outage is not over meanwhile.
    fn compare_closed(&mut self) -> Result<()> {
        let mut findings = Findings::default();
        findings.same_rows(self.ground);
        if !findings.good() && self.closed()? {
            self.findings.different += findings.different;
            self.findings.words.extend(findings.words);
        }
        self.road.note("compared while drained");
        Ok(())
    }

    fn closed(&self) -> Result<bool> {
        let leased =
            "SELECT count(*) FROM identity_migration.fence WHERE state = 'leased' AND until > clock_timestamp()";
        Ok(self.ground.ask(Side::Source, leased)? != "0")
    }

    /// Waits until writers are heard.
    fn heard(&mut self, more: u64) -> Result<()> {
        let writers = self.writers()?;
        let before = writers.acknowledged();
        let heard = |_: &emulator::Model| writers.acknowledged() >= before + more;
        self.ground.model().wait_until("writers to be heard", SOON, heard)?;
        self.road.note("writers were heard");
        Ok(())
    }

    /// Writers stand still while both sides are compared.
    fn compare_flipped(&mut self) -> Result<()> {
        self.heard(10)?;
        self.writers()?.move_among(&[]);
        if self.way_back_is_lost()? {
            self.road.note("there is no way back to compare with");
        } else {
            self.findings.same_rows(self.ground);
            self.road.note("compared while flipped");
        }
        Ok(())
    }

    /// Back to the source.
    fn back(&mut self, leg: Leg) -> Result<End> {
        if leg == Leg::Return {
            self.compare_flipped()?;
            let both = [self.ground.source_place(), self.ground.target_place()];
            self.writers()?.move_among(&both);
        }
        match self.road.go(leg, None)? {
            Ended::Done => {}
            Ended::NoWayBack => return self.stay(),
            other => anyhow::bail!("a rollback ended {other:?}"),
        }
        let opened = self.journalled("done", "hand-over")?;
        let (source, target) = (self.ground.source_place(), self.ground.target_place());
        self.writers()?.move_among(&[source, target]);
        self.heard(5)?;
        let record = self.writers.take().context("no writers")?.stop()?;
        let turns: &[Side] = match opened {
            true => &[Side::Source, Side::Target, Side::Source],
            false => &[Side::Source],
        };
        self.findings.writes(self.ground, &record, Side::Source, turns)?;
        self.findings.nothing_left(self.ground, false)?;
        self.findings.target_is_empty(self.ground)?;
        crate::scenarios::closing::no_password_seen(&self.ground.stage);
        self.ground.clean()?;
        self.findings.source_as_before(self.ground)?;
        std::fs::remove_file(record.oracle.path())?;
        self.road.note("checked");
        Ok(if opened { End::RolledBackAfter } else { End::RolledBackBefore })
    }

    /// On the target for good.
    fn stay(&mut self) -> Result<End> {
        let ground = self.ground;
        crate::scenarios::rig::consumer_uses(&ground.stage, &ground.stage.kratos_new);
        self.writers()?.move_among(&[ground.source_place(), ground.target_place()]);
        self.compare_flipped()?;
        self.writers()?.move_among(&[ground.source_place(), ground.target_place()]);
        self.heard(5)?;
        let record = self.writers.take().context("no writers")?.stop()?;
        self.findings.writes(ground, &record, Side::Target, &[Side::Source, Side::Target])?;
        let ended = self.road.go(Leg::Finalize, None)?;
        ensure!(ended == Ended::Done, "finalize ended {ended:?}");
        self.findings.nothing_left(ground, true)?;
        crate::scenarios::closing::no_password_seen(&ground.stage);
        // Once more, after finalize had its faults.
        let verdict = record.oracle.check(&ground.stage.target_uri())?;
        ensure!((verdict.lost, verdict.duplicated) == (0, 0), "after finalize: {verdict:?}");
        std::fs::remove_file(record.oracle.path())?;
        Ok(End::Flipped)
    }

    /// Whether this round's journal has such a record of such a step.
    fn journalled(&self, kind: &str, step: &str) -> Result<bool> {
        let count = format!(
            "SELECT count(*) FROM identity_migration_journal.entry
             WHERE seq > {} AND record ->> 'kind' = '{kind}' AND record ->> 'step' = '{step}'",
            self.seq
        );
        Ok(self.ground.journal(&count)? != "0")
    }

    /// The last word of this round's journal on the way back is that it is lost.
    fn way_back_is_lost(&self) -> Result<bool> {
        let last = format!(
            "SELECT coalesce(record ->> 'value', '') FROM identity_migration_journal.entry
             WHERE seq > {} AND record ->> 'step' = 'way-back' AND record ->> 'name' = 'lost' ORDER BY seq DESC LIMIT 1",
            self.seq
        );
        Ok(!self.ground.journal(&last)?.is_empty())
    }
}
