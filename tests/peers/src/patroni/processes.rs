//! Processes of ours that are nobody's children any more: PostgreSQL under Patroni, its sessions, helpers.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::Duration;

/// Kills these and all that descend from them with SIGKILL, as when a machine is lost, and waits until they are gone.
pub fn kill_all(roots: &[Pid]) -> anyhow::Result<()> {
    for root in roots {
        // Stopped, it starts nothing new. It may be gone already, here and below.
        let _gone = kill_process(*root, Signal::STOP);
    }
    let doomed = with_descendants(roots);
    for pid in &doomed {
        let _gone = kill_process(*pid, Signal::KILL);
    }
    crate::wait_for("killed processes to be gone", Duration::from_secs(10), || {
        let left: Vec<_> = doomed.iter().filter(|pid| is_running(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
}

/// Whether the process is there and more than a zombie.
pub fn is_running(pid: Pid) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn with_descendants(roots: &[Pid]) -> Vec<Pid> {
    let all: Vec<(Pid, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter_map(|pid| Some((pid, state_and_parent(pid)?.1)))
        .collect();
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|pid| pid.as_raw_nonzero().get()) {
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn state_and_parent(pid: Pid) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The second field may contain spaces and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
