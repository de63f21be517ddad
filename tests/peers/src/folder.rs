//! Folders that one server lives in: removed with it, or by a later sweep when its test was killed.

use crate::places::{peers_root, unprivileged_folder};
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// `running/<pid>-<start of that process>-<counter>`: the name says whose it is. Every server is started with a path
/// in its folder among its arguments, which is how a sweep knows it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn create() -> anyhow::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let start = start_of(pid).context("cannot read this process's start in /proc")?;
        let running = peers_root().join("running");
        unprivileged_folder(&running)?;
        let folder = Self(running.join(format!("{pid}-{start}-{counter}")));
        unprivileged_folder(&folder.0)?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // `PEERS_KEEP=1` leaves logs and data for a person to look at; the next run sweeps them.
        if std::env::var_os("PEERS_KEEP").is_some() {
            eprintln!("kept {}", self.0.display());
        } else if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Removes, once per process, what processes that are gone left behind.
fn sweep() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let Ok(folders) = fs::read_dir(peers_root().join("running")) else { return };
        for folder in folders.flatten().map(|entry| entry.path()).filter(|folder| owner_is_gone(folder)) {
            end_servers(&folder);
            let _ = fs::remove_dir_all(&folder);
        }
    });
}

fn owner_is_gone(folder: &Path) -> bool {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return false };
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next()) else { return false };
    u32::try_from(pid).is_ok_and(|pid| start_of(pid) != Some(start))
}

/// Ends every server that [`servers_in`] finds, at once.
pub fn end_servers(folder: &Path) {
    for pid in servers_in(folder) {
        let _ = kill_process(pid, Signal::QUIT);
    }
    let ended = crate::wait_for("left-over servers to end", Duration::from_secs(10), || {
        let left = servers_in(folder);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    if ended.is_err() {
        for pid in servers_in(folder) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The processes with a path in `folder` among their arguments.
pub fn servers_in(folder: &Path) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').any(|argument| Path::new(argument).starts_with(folder)))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// When a process started, in clock ticks since boot: with its id, a name that is never used twice.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may contain spaces and brackets; the start is the 22nd, the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
