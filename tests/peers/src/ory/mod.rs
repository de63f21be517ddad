//! What servers of Kratos and of Hydra have in common: a release is found by its version, migrates a database, serves
//! on two ports, and ends.

mod ports;

pub use ports::Ports;

use crate::folder::Folder;
use crate::places::{built, copy_program, run};
use crate::wait::wait_for;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt::Debug;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// An application: what tells Kratos and Hydra apart where a server is run.
pub trait Application: Debug + Clone + Send + Sync + Sized + 'static {
    /// Its program, as in `kratos-v1.0.0`.
    const PROGRAM: &'static str;
    /// Its name in sentences.
    const NAME: &'static str;
    /// What tests ask a server.
    type Client;
    /// What a server is told besides its ports and its database.
    type Settings: Debug + Clone + Default + PartialEq + Send + Sync;

    /// A client of the server at these base URLs.
    fn client(public: &str, admin: &str) -> Self::Client;

    /// Whether the server says that it is ready.
    fn ready(client: &Self::Client) -> anyhow::Result<()>;

    /// The configuration file of a server.
    fn configuration(ports: &Ports<Self>, settings: &Self::Settings) -> Value;

    /// What else its command line holds.
    fn arguments(_settings: &Self::Settings) -> &'static [&'static str] {
        &[]
    }
}

/// One release's program.
#[derive(Debug, Clone)]
pub struct Release<A> {
    version: String,
    program: PathBuf,
    of: PhantomData<A>,
}

impl<A: Application> Release<A> {
    /// Finds the program of a release such as `1.0.0`: in `target/peers`, where setup builds some, or in the folder
    /// that the environment names in `ORY_BIN`.
    pub fn find(version: &str) -> anyhow::Result<Self> {
        let name = Self::file(version);
        let folders = [Some(built()), std::env::var_os("ORY_BIN").map(PathBuf::from)];
        let program = folders.iter().flatten().map(|folder| folder.join(&name)).find(|path| path.is_file());
        let program = program.with_context(|| {
            format!("cannot find {name} in {} or ORY_BIN; run tests/peers/setup", built().display())
        })?;
        Ok(Self { version: version.to_owned(), program, of: PhantomData })
    }

    /// What the program of a release is called.
    pub fn file(version: &str) -> String {
        format!("{}-v{version}", A::PROGRAM)
    }

    /// The same program under another version, which must be as long: a release that nobody has heard of. What its
    /// server calls itself stands in the program once, ended by a zero byte, as the linker wrote it.
    pub fn under_another_name(&self, version: &str) -> anyhow::Result<Self> {
        let [own, other] = [self.version(), version].map(|version| format!("v{version}\0").into_bytes());
        anyhow::ensure!(own.len() == other.len(), "{version} is not as long as {}", self.version);
        let mut program = fs::read(&self.program)?;
        let at = program.windows(own.len()).position(|bytes| bytes == own).context("the program tells no version")?;
        program[at..at + other.len()].copy_from_slice(&other);
        let folder = built().join("renamed");
        fs::create_dir_all(&folder)?;
        let place = folder.join(Self::file(version));
        let beside = folder.join(format!(".{}-{:?}", std::process::id(), std::thread::current().id()));
        let written = beside.with_extension("written");
        fs::write(&written, program)?;
        copy_program(&written, &beside)?;
        fs::remove_file(&written)?;
        fs::set_permissions(&beside, fs::metadata(&self.program)?.permissions())?;
        fs::rename(&beside, &place)?;
        Ok(Self { version: version.to_owned(), program: place, of: PhantomData })
    }

    /// The version as given to [`Release::find`], without a `v`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs `migrate sql -e --yes` to its end; returns what it printed.
    pub fn migrate(&self, dsn: &str) -> anyhow::Result<String> {
        run(&mut self.migration(dsn))
    }

    /// The command of [`Release::migrate`], for callers that watch, time out or kill it.
    pub fn migration(&self, dsn: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["migrate", "sql", "-e", "--yes"]).env("DSN", dsn).env("SQA_OPT_OUT", "true");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a server with the usual settings on ports of its own and waits until it is ready.
    pub fn serve(&self, dsn: &str) -> anyhow::Result<Server<A>> {
        self.serve_with(dsn, &A::Settings::default())
    }

    /// The same with other settings.
    pub fn serve_with(&self, dsn: &str, settings: &A::Settings) -> anyhow::Result<Server<A>> {
        let server = self.start_with(dsn, &Arc::new(Ports::reserve()?), settings)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts a server with the usual settings on these ports and does not wait.
    pub fn start(&self, dsn: &str, ports: &Arc<Ports<A>>) -> anyhow::Result<Server<A>> {
        self.start_with(dsn, ports, &A::Settings::default())
    }

    /// The same with other settings.
    pub fn start_with(&self, dsn: &str, ports: &Arc<Ports<A>>, settings: &A::Settings) -> anyhow::Result<Server<A>> {
        let folder = Folder::create()?;
        let configuration = folder.path().join(format!("{}.json", A::PROGRAM));
        fs::write(&configuration, serde_json::to_vec_pretty(&A::configuration(ports, settings))?)?;
        let log = File::create(folder.path().join("log"))?;
        let process = Command::new(&self.program)
            // --dev: cheap hashes count, and cookies need no https.
            .args(["serve", "all", "--dev", "-c"])
            .arg(&configuration)
            .args(A::arguments(settings))
            .env("DSN", dsn)
            .env("SQA_OPT_OUT", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Server { release: self.clone(), process: Some(process), ports: Arc::clone(ports), folder })
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server<A> {
    release: Release<A>,
    process: Option<Child>,
    ports: Arc<Ports<A>>,
    folder: Folder,
}

impl<A: Application> Server<A> {
    pub fn release(&self) -> &Release<A> {
        &self.release
    }

    pub fn ports(&self) -> &Arc<Ports<A>> {
        &self.ports
    }

    pub fn client(&self) -> A::Client {
        self.ports.client()
    }

    /// Waits until the admin API says that the server is ready. Fails at once when the server has ended.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let client = self.client();
        wait_for(&format!("{} to be ready", A::NAME), Duration::from_secs(60), || match A::ready(&client) {
            Ok(()) => Ok(Ok(())),
            Err(_) if !self.is_running() => Ok(Err(anyhow::anyhow!("{} ended", A::NAME))),
            Err(error) => Err(format!("{error:#}")),
        })
        .and_then(|ready| ready)
        .with_context(|| format!("the log of {} {} ends:\n{}", A::NAME, self.release.version, self.log_tail(10)))
    }

    /// Whether the process is there and not a zombie.
    pub fn is_running(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", process.id())) else { return false };
        !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    /// Stops the server as a service manager does: SIGTERM, SIGKILL after 10 seconds.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(process.id())?).context("the server has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let ended = wait_for(&format!("{} to end", A::NAME), Duration::from_secs(10), || match process.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        if ended.is_err() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl<A> Drop for Server<A> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
