//! Letting one thing go wrong, for real.

use super::ground::{Ground, SOON, Side};
use super::plan::{Fault, Kind, Leg};
use crate::scenarios::hold;
use anyhow::{Context as _, Result};
use peers::cluster::Mode;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// Where faults are let in.
pub struct Injector<'a> {
    pub ground: &'a Ground,
}

/// The unit whose process stands still at a place, if one does.
pub type Held<'a> = Option<&'a str>;

impl Injector<'_> {
    /// Lets it go wrong, and the held worker go on. Answers whether there was anything to go wrong.
    pub fn inject(&self, fault: &Fault, held: Held) -> Result<bool> {
        let met = match fault.kind {
            Kind::KillWorker => self.signal_worker(held, Signal::KILL)?,
            // The place itself kills; without one, whatever action runs at this moment.
            Kind::KillAction => self.ground.model().kill_running(&self.ground.units()?.0, Signal::KILL)?,
            Kind::KillHook => self.kill_hook(fault)?,
            Kind::StopWorker | Kind::OutlastLease => self.stop_worker(fault, held)?,
            Kind::CrashSource => self.crash(Side::Source, fault, held)?,
            Kind::CrashTarget => self.crash(Side::Target, fault, held)?,
            Kind::DropSlot => self.drop_slot(fault.leg)?,
            Kind::DisableSubscription => self.disable_subscription(fault.leg)?,
            Kind::CutSource => self.cut(Side::Source)?,
            Kind::CutTarget => self.cut(Side::Target)?,
            Kind::LoseReplySource => self.lose(Side::Source, fault)?,
            Kind::LoseReplyTarget => self.lose(Side::Target, fault)?,
            Kind::LeaderChange => {
                self.ground.model().set_leader(&self.ground.units()?.1)?;
                true
            }
            Kind::Failover => self.fail_over(fault, held)?,
        };
        if let Some(unit) = held {
            self.go_on(unit);
        }
        Ok(met)
    }

    /// Lets a stopped worker go on, if it still lives.
    pub fn go_on(&self, unit: &str) {
        if let Some(pid) = hold::worker(&self.ground.stage, unit) {
            send(pid, Signal::CONT);
        }
    }

    fn worker(&self, held: Held) -> Result<Option<u32>> {
        let unit = match held {
            Some(unit) => unit.to_owned(),
            None => self.ground.units()?.0,
        };
        Ok(hold::worker(&self.ground.stage, &unit))
    }

    fn signal_worker(&self, held: Held, signal: Signal) -> Result<bool> {
        Ok(self.worker(held)?.is_some_and(|pid| send(pid, signal)))
    }

    fn stop_worker(&self, fault: &Fault, held: Held) -> Result<bool> {
        let Some(pid) = self.worker(held)? else { return Ok(false) };
        let stopped = send(pid, Signal::STOP);
        std::thread::sleep(fault.lasts);
        send(pid, Signal::CONT);
        Ok(stopped)
    }

    /// The first hook that comes by is killed.
    fn kill_hook(&self, fault: &Fault) -> Result<bool> {
        let super::plan::Moment::At(place) = fault.moment else { return Ok(false) };
        let (unit, _) = self.ground.units()?;
        hold::arm(&self.ground.stage, &unit, place, "kill");
        self.ground.model().update_status(&unit)?;
        let came =
            peers::wait_for("a hook", Duration::from_secs(10), || match hold::is_reached(&self.ground.stage, &unit) {
                true => Ok(()),
                false => Err(format!("{:?}", self.ground.model().running(&unit))),
            });
        disarm(self.ground, &unit)?;
        Ok(came.is_ok())
    }

    /// SIGQUIT while the worker is where it is; it goes on without that server for a while.
    fn crash(&self, side: Side, fault: &Fault, held: Held) -> Result<bool> {
        let cluster = self.ground.cluster(side);
        cluster.stop(Mode::Immediate)?;
        if let Some(unit) = held {
            self.go_on(unit);
        }
        std::thread::sleep(fault.lasts);
        cluster.start_again()?;
        Ok(true)
    }

    /// A standby takes over: in order, because the primary's machine is lost, or because its server dies there (which
    /// may also start it again in its place).
    fn fail_over(&self, fault: &Fault, held: Held) -> Result<bool> {
        let Some((_, patroni)) = &self.ground.patroni else { return Ok(false) };
        patroni.wait_healthy()?;
        let how = fault.counts[0] % 3;
        let dead = match how {
            1 => Some(patroni.kill_primary()?),
            2 => {
                patroni.crash_primary_postgres()?;
                None
            }
            _ => None,
        };
        if let Some(unit) = held {
            self.go_on(unit);
        }
        match how {
            0 => patroni.switchover()?,
            _ => patroni.wait_for_primary()?,
        };
        if let Some(dead) = dead {
            patroni.restart_member(dead)?;
        }
        Ok(true)
    }

    fn cut(&self, side: Side) -> Result<bool> {
        self.ground.proxied(side)?.proxy.cut();
        Ok(true)
    }

    /// Whether one was lost is known at the end of the leg.
    fn lose(&self, side: Side, fault: &Fault) -> Result<bool> {
        self.ground.proxied(side)?.replies.lose_in_turn(&fault.counts);
        Ok(false)
    }

    /// The slot that is followed: the source's on the way there, the target's on the way back.
    fn drop_slot(&self, leg: Leg) -> Result<bool> {
        let side = if leg == Leg::Return { Side::Target } else { Side::Source };
        let slots = "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'identity\\_migration%'";
        let slots = self.ground.ask(side, slots)?;
        let mut dropped = false;
        for slot in slots.lines().filter(|line| !line.is_empty()) {
            // Its walsender comes back at once: both in one breath, until it was not quick enough.
            let drop = format!(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                 WHERE slot_name = '{slot}' AND active_pid IS NOT NULL;
                 SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'"
            );
            peers::wait_for("the slot to be dropped", SOON, || {
                self.ground.ask(side, &drop).map_err(|error| format!("{error:#}"))
            })?;
            dropped = true;
        }
        Ok(dropped)
    }

    fn disable_subscription(&self, leg: Leg) -> Result<bool> {
        let side = if leg == Leg::Return { Side::Source } else { Side::Target };
        let ours = "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
                    WHERE datname = current_database() AND subenabled AND subname LIKE 'identity\\_migration%'";
        let mut disabled = false;
        for name in self.ground.ask(side, ours)?.lines().filter(|line| !line.is_empty()) {
            // The coordinator may drop it at this very moment.
            disabled |= self.ground.ask(side, &format!("ALTER SUBSCRIPTION {name} DISABLE")).is_ok();
        }
        Ok(disabled)
    }
}

/// Nobody is to stop at a place any more.
pub fn disarm(ground: &Ground, unit: &str) -> Result<()> {
    let folder = ground.model().charm_folder(unit).context("the unit has no folder")?;
    for name in ["failpoint", "failpoint.reached"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// False when the process is gone.
fn send(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, signal).is_ok())
}
