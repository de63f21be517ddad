//! Real Kratos servers.

mod client;

pub use client::{Client, Login};

use crate::folder::Folder;
use crate::places::{built, run};
use crate::ports::Port;
use crate::wait::wait_for;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const IDENTITY_SCHEMA: &str = include_str!("identity.schema.json");

/// One release's program.
#[derive(Debug, Clone)]
pub struct Release {
    version: String,
    program: PathBuf,
}

impl Release {
    /// Finds the program of a release such as `1.0.0`: in `target/peers`, where setup builds 1.0.0 and 1.3.1, or in the
    /// folder that the environment names in `ORY_BIN`.
    pub fn find(version: &str) -> anyhow::Result<Self> {
        let name = format!("kratos-v{version}");
        let folders = [Some(built()), std::env::var_os("ORY_BIN").map(PathBuf::from)];
        let program = folders.iter().flatten().map(|folder| folder.join(&name)).find(|path| path.is_file());
        let program = program.with_context(|| {
            format!("cannot find {name} in {} or ORY_BIN; run tests/peers/setup", built().display())
        })?;
        Ok(Self { version: version.to_owned(), program })
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

    /// Starts a server on ports of its own and waits until it is ready.
    pub fn serve(&self, dsn: &str) -> anyhow::Result<Kratos> {
        let server = self.start(dsn, &Arc::new(Ports::reserve()?))?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts a server on these ports and does not wait.
    pub fn start(&self, dsn: &str, ports: &Arc<Ports>) -> anyhow::Result<Kratos> {
        let folder = Folder::create()?;
        let configuration = folder.path().join("kratos.json");
        fs::write(&configuration, serde_json::to_vec_pretty(&configuration_of(ports))?)?;
        let log = File::create(folder.path().join("log"))?;
        let server = Command::new(&self.program)
            // --dev: a bcrypt cost below 12 counts, and cookies need no https.
            .args(["serve", "all", "--dev", "-c"])
            .arg(&configuration)
            .env("DSN", dsn)
            .env("SQA_OPT_OUT", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Kratos { release: self.clone(), server: Some(server), ports: Arc::clone(ports), folder })
    }
}

/// The two ports of a server; a server that is restarted on the same ports keeps its addresses.
#[derive(Debug)]
pub struct Ports {
    public: Port,
    admin: Port,
}

impl Ports {
    pub fn reserve() -> anyhow::Result<Self> {
        Ok(Self { public: Port::reserve()?, admin: Port::reserve()? })
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public.number())
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin.number())
    }

    /// A client for the server on these ports.
    pub fn client(&self) -> Client {
        Client::new(&self.public_url(), &self.admin_url())
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Kratos {
    release: Release,
    server: Option<Child>,
    ports: Arc<Ports>,
    folder: Folder,
}

impl Kratos {
    pub fn release(&self) -> &Release {
        &self.release
    }

    pub fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    pub fn client(&self) -> Client {
        self.ports.client()
    }

    /// Waits until the admin API says that the server is ready. Fails at once when the server has ended.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let client = self.client();
        wait_for("Kratos to be ready", Duration::from_secs(60), || match client.ready() {
            Ok(()) => Ok(Ok(())),
            Err(_) if !self.is_running() => Ok(Err(anyhow::anyhow!("Kratos ended"))),
            Err(error) => Err(format!("{error:#}")),
        })
        .and_then(|ready| ready)
        .with_context(|| format!("the log of Kratos {} ends:\n{}", self.release.version, self.log_tail(10)))
    }

    /// Whether the process is there and not a zombie.
    pub fn is_running(&self) -> bool {
        let Some(server) = &self.server else { return false };
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", server.id())) else { return false };
        !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    /// Stops the server as a service manager does: SIGTERM, SIGKILL after 10 seconds.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(server.id())?).context("the server has no process id")?;
        kill_process(pid, Signal::TERM)?;
        let ended = wait_for("Kratos to end", Duration::from_secs(10), || match server.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        if ended.is_err() {
            server.kill()?;
            server.wait()?;
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

impl Drop for Kratos {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// One configuration for every server: source and target share the cookie secret and the identity schema, as an
/// operator must have arranged before a migration.
fn configuration_of(ports: &Ports) -> serde_json::Value {
    let (public, admin) = (ports.public_url(), ports.admin_url());
    json!({
        "serve": {
            "public": {"host": "127.0.0.1", "port": ports.public.number(), "base_url": format!("{public}/")},
            "admin": {"host": "127.0.0.1", "port": ports.admin.number(), "base_url": format!("{admin}/")},
        },
        "identity": {
            "default_schema_id": "default",
            "schemas": [{"id": "default", "url": format!("base64://{}", base64(IDENTITY_SCHEMA.as_bytes()))}],
        },
        "selfservice": {"default_browser_return_url": format!("{public}/")},
        "secrets": {"cookie": ["a-cookie-secret-that-both-sides-share"]},
        "courier": {"smtp": {"connection_uri": "smtp://127.0.0.1:1/?disable_starttls=true"}},
        "hashers": {"algorithm": "bcrypt", "bcrypt": {"cost": 4}},
    })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_every_length() {
        let encoded: Vec<String> = ["", "f", "fo", "foo", "foob"].iter().map(|t| super::base64(t.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
