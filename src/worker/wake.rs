//! Waking the charm: a hook of our own name, run through `juju-exec`, because databags and status
//! need hook tools.

use crate::juju::JujuExec;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The invented hook's name; Juju does not check it.
const WAKE_HOOK: &str = "identity_migration_wake";

/// Runs at most one `juju-exec` at a time: it queues behind whatever the unit is doing.
pub struct Waker {
    exec: JujuExec,
    running: Option<JoinHandle<()>>,
    wanted: bool,
    last: Option<Instant>,
}

impl Waker {
    /// For this unit.
    pub fn new(unit: String, charm_dir: PathBuf) -> Self {
        Self { exec: JujuExec::new(unit, charm_dir), running: None, wanted: false, last: None }
    }

    /// Asks for a hook; the next [`Waker::turn`] starts it.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Time since a hook was started last.
    pub fn idle(&self) -> Duration {
        self.last.map_or(Duration::MAX, |last| last.elapsed())
    }

    /// Starts a wanted hook unless one is still waiting for its turn. Never blocks.
    pub fn turn(&mut self) {
        if !self.wanted || self.running.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.wanted = false;
        self.last = Some(Instant::now());
        let exec = self.exec.clone();
        self.running = Some(tokio::spawn(async move {
            if let Err(error) = exec.run(WAKE_HOOK).await {
                // Not our failure: the next hook of any kind does the same.
                log::info!("the charm was not woken: {error}");
            }
        }));
    }
}
