//! SQL through the psql program, which shares no code with the charm.

use crate::places::postgresql_program;
use anyhow::Context;
use std::io::Write;
use std::process::{Command, Stdio};

/// Where to connect, and whose psql to use.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    pub major: u32,
    pub host: &'a str,
    pub port: u16,
}

/// Runs SQL and returns what it prints: rows one a line, columns separated by `|`. Several statements run one by one;
/// the first error ends it and is returned.
pub fn run(server: &Server, user: &str, password: &str, database: &str, sql: &str) -> anyhow::Result<String> {
    let mut child = Command::new(postgresql_program(server.major, "psql")?)
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", server.host, "-U", user])
        .args(["-p", &server.port.to_string(), "-d", database, "-f", "-"])
        .env("PGPASSWORD", password)
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGCONNECT_TIMEOUT", "10")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start psql")?;
    // psql reads the whole input before a large answer can fill its pipe only for small input, so write beside.
    let mut input = child.stdin.take().context("psql has no standard input")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(sql.as_bytes()));
        child.wait_with_output()
    })?;
    anyhow::ensure!(
        output.status.success(),
        "psql on {database} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
}
