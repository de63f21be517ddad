//! The schema migration as the charm runs it: a process with a time limit.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::kratos::Release;

/// The limit of the migration that a fresh database gets by itself.
pub const AUTOMATIC_LIMIT: Duration = Duration::from_secs(120);

/// Runs `migrate sql -e --yes`; after `limit` the process is killed.
pub fn run(release: &Release, dsn: &str, limit: Duration) -> Result<()> {
    let mut command = release.migration(dsn);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start kratos")?;
    let stderr = child.stderr.take().context("kratos has no standard error")?;
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
    let said = reader.join().map_err(|_| anyhow::anyhow!("cannot read what kratos said"))??;
    let status = ended?;
    // The last lines name the statement and the cause.
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(5)..].join("\n");
    anyhow::ensure!(status.success(), "the migration ended with {status}: {tail}");
    Ok(())
}
