//! The schema migration as the charms run it: a process with a time limit.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::ory::{Application, Release};

/// Runs `migrate sql -e --yes`; after `limit` the process is killed.
pub fn run<A: Application>(release: &Release<A>, dsn: &str, limit: Duration) -> Result<()> {
    let mut command = release.migration(dsn);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", A::PROGRAM))?;
    let stderr = child.stderr.take().with_context(|| format!("{} has no standard error", A::PROGRAM))?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut stderr = stderr;
        stderr.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let ended = peers::wait_for("the migration to end", limit, || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("it runs".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let said = reader.join().map_err(|_| anyhow::anyhow!("cannot read what {} said", A::PROGRAM))??;
    let status = ended?;
    // The last lines name the statement and the cause.
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("\n");
    anyhow::ensure!(status.success(), "the migration ended with {status}: {tail}");
    Ok(())
}
