//! One member: a Patroni process and the PostgreSQL that it starts.

use super::api::Api;
use super::config::Ports;
use super::processes::{is_running, kill_all};
use crate::folder::{end_servers, servers_in};
use crate::places::{give_away, unprivileged, unprivileged_folder};
use crate::ports::Port;
use crate::wait::wait_for;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The system's Python: `setup` brings Patroni for this one, and the servers' user may run it.
const PYTHON: &str = "/usr/bin/python3";

/// How long PostgreSQL may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A program of Patroni's: a folder with its configuration, and the process while it runs.
#[derive(Debug)]
pub struct Process {
    folder: PathBuf,
    program: Program,
    child: Mutex<Option<Child>>,
}

/// What all processes of a cluster are started with.
#[derive(Debug, Clone)]
pub struct Program {
    /// `patroni` or `voter`.
    pub what: &'static str,
    pub launcher: PathBuf,
    /// The folder with Patroni's modules.
    pub modules: PathBuf,
    /// The libraries of PostgreSQL, whose loadable modules look for them where the package was built.
    pub libraries: PathBuf,
}

impl Process {
    /// Writes the configuration and does not start yet.
    pub fn create(folder: PathBuf, program: Program, configuration: &Value) -> anyhow::Result<Self> {
        unprivileged_folder(&folder)?;
        fs::write(folder.join("patroni.yml"), serde_json::to_vec_pretty(configuration)?)?;
        File::create(folder.join("log"))?;
        give_away(&folder.join("log"))?;
        Ok(Self { folder, program, child: Mutex::new(None) })
    }

    pub fn start(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        anyhow::ensure!(child.is_none(), "cannot start {}: it runs", self.folder.display());
        let log = File::options().append(true).open(self.folder.join("log"))?;
        *child = Some(self.command().stdout(log.try_clone()?).stderr(log).spawn().context("cannot start Patroni")?);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = unprivileged(PYTHON);
        command
            .arg(&self.program.launcher)
            .arg(self.program.what)
            .arg(self.folder.join("patroni.yml"))
            .env("PYTHONPATH", &self.program.modules)
            .env("LD_LIBRARY_PATH", &self.program.libraries)
            .env("HOME", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// Why the process does not run; nothing when it does.
    pub fn ended(&self) -> Option<String> {
        match self.child().as_mut().map(Child::try_wait) {
            None => Some("was ended".to_owned()),
            Some(Ok(None)) => None,
            Some(Ok(Some(status))) => Some(format!("ended with {status}")),
            Some(Err(error)) => Some(error.to_string()),
        }
    }

    /// The last lines of its log; PostgreSQL's are among them.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The whole log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            // Patroni first, since it would start PostgreSQL again; with it whatever it runs to make a replica.
            let killed = pid_of(&child).and_then(|pid| kill_all(&[pid]));
            if let Err(error) = killed {
                eprintln!("cannot end Patroni in {}: {error:#}", self.folder.display());
            }
            let _reaped = child.wait();
        }
        end_servers(&self.folder);
    }
}

/// A member of a cluster.
#[derive(Debug)]
pub struct Member {
    name: String,
    process: Process,
    api: Api,
    ports: Ports,
    _reserved: [Port; 3],
}

impl Member {
    pub fn new(name: String, process: Process, ports: Ports, reserved: [Port; 3]) -> Self {
        Self { name, process, api: Api::new(ports.api), ports, _reserved: reserved }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    /// PostgreSQL's port.
    pub fn port(&self) -> u16 {
        self.ports.postgres
    }

    /// Stops Patroni, which stops PostgreSQL and, as the leader, gives the lock away.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut child = self.process.child();
        let Some(patroni) = child.as_mut() else { return Ok(()) };
        kill_process(pid_of(patroni)?, Signal::TERM).context("cannot signal Patroni")?;
        wait_for("Patroni to end", STOP_LIMIT, || match patroni.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        *child = None;
        Ok(())
    }

    /// Kills Patroni, PostgreSQL and all its sessions at once.
    pub fn kill(&self) -> anyhow::Result<()> {
        let mut child = self.process.child();
        let mut roots: Vec<Pid> = self.postmaster().into_iter().collect();
        if let Some(patroni) = child.as_ref() {
            roots.push(pid_of(patroni)?);
        }
        kill_all(&roots)?;
        if let Some(mut patroni) = child.take() {
            patroni.wait()?;
        }
        Ok(())
    }

    /// Ends PostgreSQL without a checkpoint (SIGQUIT) and leaves Patroni alone.
    pub fn crash_postgres(&self) -> anyhow::Result<()> {
        let postmaster = self.postmaster().with_context(|| format!("PostgreSQL of {} does not run", self.name))?;
        kill_process(postmaster, Signal::QUIT).context("cannot signal PostgreSQL")?;
        wait_for("PostgreSQL to end", STOP_LIMIT, || if is_running(postmaster) { Err("it runs") } else { Ok(()) })
    }

    /// The process id of PostgreSQL, while it runs.
    pub fn postmaster(&self) -> Option<Pid> {
        let data = self.data();
        let first = fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()?;
        // The file of a killed server stays, and its number may be somebody else's by now.
        Pid::from_raw(first).filter(|pid| servers_in(&data).contains(pid))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.process.folder.join("data")
    }
}

fn pid_of(child: &Child) -> anyhow::Result<Pid> {
    // The child has not been waited for, so its process id is still its own.
    Pid::from_raw(i32::try_from(child.id())?).context("the process has no id")
}
