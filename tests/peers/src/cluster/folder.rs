//! The folder of one cluster: copied from a template, removed with its cluster or by a later sweep.

use super::{PASSWORD, SUPERUSER};
use crate::places::{give_away, peers_root, postgresql_program, run, unprivileged, unprivileged_folder};
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Changes whenever the template's making does, so that old templates are not taken.
const TEMPLATE: &str = "2";

/// Small machines run several clusters at once; loopback TCP only, so that a deep folder is no trouble for sockets.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_connections = 200
max_wal_senders = 20
max_replication_slots = 20
max_worker_processes = 24
max_logical_replication_workers = 12
max_prepared_transactions = 10
shared_buffers = 128MB
max_wal_size = 2GB
password_encryption = scram-sha-256
timezone = UTC
log_timezone = UTC
lc_messages = C
log_line_prefix = '%m [%p] %q%u@%d %a '
";

const ACCESS: &str = "\
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// `clusters/<pid>-<start of that process>-<counter>`, with `data`, `log` and TLS files in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn from_template(major: u32) -> anyhow::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let template = template(major)?;
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let start = start_of(pid).context("cannot read this process's start in /proc")?;
        let folder = Self(clusters()?.join(format!("{pid}-{start}-{counter}")));
        unprivileged_folder(&folder.0)?;
        run(unprivileged("cp").arg("-a").arg("--reflink=auto").arg(&template).arg(folder.0.join("data")))?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn clusters() -> anyhow::Result<PathBuf> {
    let folder = peers_root().join("clusters");
    unprivileged_folder(&folder)?;
    Ok(folder)
}

/// The template of a version, made by whoever comes first.
fn template(major: u32) -> anyhow::Result<PathBuf> {
    let initdb = postgresql_program(major, "initdb")?;
    let version = fs::read_link(peers_root().join(format!("postgresql/{major}")))?;
    let templates = peers_root().join("templates");
    unprivileged_folder(&templates)?;
    let template = templates.join(format!("{}-{TEMPLATE}", version.display()));
    let lock = File::create(templates.join(format!(".{major}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if template.is_dir() {
        return Ok(template);
    }
    let building = templates.join(format!(".{major}.building"));
    if building.exists() {
        fs::remove_dir_all(&building)?;
    }
    let password = templates.join(format!(".{major}.password"));
    fs::write(&password, PASSWORD)?;
    give_away(&password)?;
    run(unprivileged(initdb)
        .current_dir(&templates)
        .arg("-D")
        .arg(&building)
        .args(["-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--data-checksums", "--no-sync"])
        .arg(format!("--pwfile={}", password.display())))?;
    fs::remove_file(&password)?;
    let configuration = building.join("postgresql.conf");
    let shipped = fs::read_to_string(&configuration)?;
    fs::write(&configuration, shipped + SETTINGS)?;
    fs::write(building.join("pg_hba.conf"), ACCESS)?;
    fs::rename(&building, &template)?;
    Ok(template)
}

/// Removes, once per process, what processes that are gone left behind.
pub fn sweep() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let Ok(folders) = fs::read_dir(peers_root().join("clusters")) else { return };
        for folder in folders.flatten().map(|entry| entry.path()) {
            if owner_is_gone(&folder) {
                end_server(&folder);
                let _ = fs::remove_dir_all(&folder);
            }
        }
    });
}

fn owner_is_gone(folder: &Path) -> bool {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return false };
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next()) else { return false };
    u32::try_from(pid).is_ok_and(|pid| start_of(pid) != Some(start))
}

/// Kills the server whose data directory is in `folder`, if it runs.
fn end_server(folder: &Path) {
    let data = folder.join("data");
    let Some(pid) = fs::read_to_string(data.join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()))
    else {
        return;
    };
    // The process id may belong to somebody else by now: only a process started on this very folder is ours.
    let ours = || {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').any(|argument| Path::new(argument) == data))
    };
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if ours() {
        let _ = kill_process(process, Signal::QUIT);
        let _ = crate::wait_for("a left-over server to end", std::time::Duration::from_secs(10), || {
            if ours() { Err("it runs") } else { Ok(()) }
        });
    }
}

/// When a process started, in clock ticks since boot: with its id, a name that is never used twice.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may contain spaces and brackets; the start is the 22nd, the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
