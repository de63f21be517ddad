//! Real PostgreSQL clusters on loopback ports.
//!
//! A cluster is copied from a template that `initdb` made once per version, runs as an unprivileged user, and is
//! stopped and removed when its value is dropped. What a killed test left behind is swept by the next start.

mod template;
mod tls;

use crate::clock::Clock;
use crate::folder::Folder;
use crate::places::{give_away, postgresql_program, run, unprivileged};
use crate::ports::Port;
use crate::psql;
use crate::wait::wait_for;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The superuser of every cluster, named as in Charmed PostgreSQL.
pub const SUPERUSER: &str = "operator";
/// Its password; a plain word that tests can search logs and databags for.
pub const PASSWORD: &str = "operator-password-5b1c";

const START_LIMIT: Duration = Duration::from_secs(60);

/// How a cluster is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ends sessions, writes a checkpoint (SIGINT).
    Fast,
    /// Ends at once, recovers at the next start (SIGQUIT).
    Immediate,
    /// Every process of it is killed, as when its machine goes down (SIGKILL).
    Crash,
}

/// Settings of a cluster to be.
#[derive(Debug)]
pub struct Builder {
    major: u32,
    settings: Vec<(String, String)>,
    tls: bool,
    clock: Option<Arc<Clock>>,
}

impl Builder {
    /// Adds a line to `postgresql.conf`; the last one of a name counts.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offers TLS, with a certificate of a CA of its own for `127.0.0.1` and `localhost`.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Has the server see this clock, also when it is started again.
    pub fn clock(mut self, clock: &Arc<Clock>) -> Self {
        self.clock = Some(Arc::clone(clock));
        self
    }

    pub fn start(self) -> anyhow::Result<Cluster> {
        let folder = Folder::create()?;
        template::copy(self.major, &folder.path().join("data"))?;
        let ca_pem = if self.tls { Some(tls::certificate(folder.path())?) } else { None };
        let (port, server) = (Port::reserve()?, Mutex::new(None));
        let cluster = Cluster { major: self.major, port, server, ca_pem, clock: self.clock, folder };
        cluster.configure(&self.settings)?;
        cluster.start_again()?;
        Ok(cluster)
    }
}

/// A running cluster; dropping it stops the server and removes its data.
#[derive(Debug)]
pub struct Cluster {
    major: u32,
    port: Port,
    server: Mutex<Option<Child>>,
    ca_pem: Option<String>,
    clock: Option<Arc<Clock>>,
    folder: Folder,
}

impl Cluster {
    /// A cluster of this major version with the usual settings.
    pub fn start(major: u32) -> anyhow::Result<Self> {
        Self::builder(major).start()
    }

    /// A cluster that runs elsewhere, seen at this port; it is not ours to start and stop, and it has no log here.
    pub fn elsewhere(major: u32, port: u16) -> anyhow::Result<Self> {
        let folder = Folder::create()?;
        fs::write(folder.path().join("log"), "")?;
        let port = Port::kept_elsewhere(port);
        Ok(Self { major, port, server: Mutex::new(None), ca_pem: None, clock: None, folder })
    }

    pub fn builder(major: u32) -> Builder {
        Builder { major, settings: Vec::new(), tls: false, clock: None }
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Name and password of the superuser.
    pub fn superuser(&self) -> (&'static str, &'static str) {
        (SUPERUSER, PASSWORD)
    }

    /// The CA certificate of a cluster built with [`Builder::tls`].
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// A connection URI for the superuser, without TLS settings.
    pub fn uri(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{PASSWORD}@{}:{}/{database}", self.host(), self.port())
    }

    /// Runs SQL with this version's psql and returns what it prints: rows one a line, columns separated by `|`.
    /// Several statements run one by one; the first error ends it and is returned.
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql_as(SUPERUSER, PASSWORD, database, sql)
    }

    /// The same as another user.
    pub fn psql_as(&self, user: &str, password: &str, database: &str, sql: &str) -> anyhow::Result<String> {
        let server = psql::Server { major: self.major, host: self.host(), port: self.port() };
        psql::run(&server, user, password, database, sql)
    }

    /// Creates a database owned by the superuser.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.psql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).map(drop)
    }

    /// Connects as the superuser, without TLS. The connection ends with the client.
    pub async fn connect(&self, database: &str) -> anyhow::Result<tokio_postgres::Client> {
        connect(&self.uri(database)).await
    }

    /// Stops the server and starts it on the same port and data.
    pub fn restart(&self, mode: Mode) -> anyhow::Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&self, mode: Mode) -> anyhow::Result<()> {
        match mode {
            Mode::Fast => self.end_with(Signal::INT),
            Mode::Immediate => self.end_with(Signal::QUIT),
            Mode::Crash => self.crash(),
        }
    }

    /// The main process first: it would answer the end of another one by a restart of them all.
    fn crash(&self) -> anyhow::Result<()> {
        let Some(main) = self.pid() else { return Ok(()) };
        let others = children(main);
        self.end_with(Signal::KILL)?;
        for pid in others.into_iter().filter_map(Pid::from_raw) {
            // It may have noticed, and ended, by itself.
            let _gone = kill_process(pid, Signal::KILL);
        }
        Ok(())
    }

    /// Kills the server's main process with SIGKILL, as the kernel's out-of-memory killer does; its other processes
    /// notice and end by themselves.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.end_with(Signal::KILL)
    }

    /// Starts the stopped server.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut server = self.server();
        anyhow::ensure!(server.is_none(), "cannot start the server on port {}: it runs", self.port());
        // After SIGKILL the old children may hold the shared memory for a moment; the server then refuses to start.
        *server =
            Some(wait_for("PostgreSQL to start", START_LIMIT, || self.try_start().map_err(|e| format!("{e:#}")))?);
        Ok(())
    }

    /// A dump of these databases goes into a new cluster at the same address: another system identifier, and no slots.
    pub fn restore_anew(&self, databases: &[&str]) -> anyhow::Result<()> {
        let pg_dump = postgresql_program(self.major, "pg_dump")?;
        let dump = |name: &&str| run(Command::new(&pg_dump).arg("--create").arg("--dbname").arg(self.uri(name)));
        let dumps: Vec<String> = databases.iter().map(dump).collect::<anyhow::Result<_>>()?;
        self.stop(Mode::Fast)?;
        let (data, old) = (self.data_path(), self.folder.path().join("data-before"));
        fs::rename(&data, &old)?;
        template::initialise(self.major, &data)?;
        for file in ["postgresql.conf", "pg_hba.conf"] {
            fs::copy(old.join(file), data.join(file))?;
        }
        fs::remove_dir_all(&old)?;
        self.start_again()?;
        dumps.iter().try_for_each(|dump| self.psql("postgres", dump).map(drop))
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The server's log file.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The data directory.
    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Child::id)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn configure(&self, settings: &[(String, String)]) -> anyhow::Result<()> {
        let data = self.data_path();
        // A connection that sends nothing (its client is stopped) holds up even an immediate shutdown until this is over.
        let mut lines = format!("port = {}\nauthentication_timeout = 20s\n", self.port());
        if self.ca_pem.is_some() {
            lines.push_str("ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\n");
        }
        for (name, value) in settings {
            writeln!(lines, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        let mut file = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        file.write_all(lines.as_bytes())?;
        Ok(())
    }

    fn try_start(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        give_away(&self.log_path())?;
        let program = postgresql_program(self.major, "postgres")?;
        // The loadable modules look for libpq where the package was built.
        let libraries = program.with_file_name("../lib");
        let mut command = unprivileged(program);
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        let mut child = command
            .env("LD_LIBRARY_PATH", libraries)
            .arg("-D")
            .arg(self.data_path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start postgres")?;
        let ready = wait_for("the server to accept connections", START_LIMIT, || {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                return Ok(Err(status));
            }
            let mut probe = Command::new(postgresql_program(self.major, "pg_isready").map_err(|e| e.to_string())?);
            run(probe.args(["-q", "-h", self.host(), "-p", &self.port().to_string()]))
                .map(Ok)
                .map_err(|e| e.to_string())
        });
        match ready {
            Ok(Ok(_)) => Ok(child),
            Ok(Err(status)) => anyhow::bail!("postgres ended with {status}; its log ends:\n{}", self.log_tail(15)),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                anyhow::bail!("{error}; its log ends:\n{}", self.log_tail(15))
            }
        }
    }

    fn end_with(&self, signal: Signal) -> anyhow::Result<()> {
        let mut server = self.server();
        let Some(child) = server.as_mut() else { return Ok(()) };
        // The child has not been waited for, so its process id is still its own.
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("the server has no process id")?;
        kill_process(pid, signal).context("cannot signal the server")?;
        let ended = wait_for("the server to end", START_LIMIT, || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        *server = None;
        ended.with_context(|| format!("its log ends:\n{}", self.log_tail(15)))
    }
}

/// The processes that this one started.
fn children(parent: u32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field behind the name, which may hold anything.
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        of == Some(parent)
    })
    .collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Mode::Immediate) {
            eprintln!("a cluster of PostgreSQL {} was killed: {error:#}", self.major);
        }
    }
}

/// Connects without TLS; the connection ends with the client.
pub async fn connect(uri: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(uri, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
