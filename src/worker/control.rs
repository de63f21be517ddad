//! How a hook starts, replaces and stops the worker of its unit.
//!
//! The worker is known by a file in the charm directory: pid, the process's start time (so that a
//! reused pid is not mistaken for it), the binary it was started from and a salted digest of what it
//! was told. No secret is in that file.

use crate::failpoint;
use crate::steps::{Credentials, World};
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// What a hook tells its worker, through the worker's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    /// Both sides.
    pub world: World,
    /// How to come into the model, where the operator lets us change it.
    #[serde(default)]
    pub controller: Credentials,
    /// The unit, to wake it through `juju-exec`.
    pub unit: String,
    /// The charm directory.
    pub charm_dir: PathBuf,
    /// Level of the worker's own log.
    pub log_level: String,
    /// The database relations that the credentials came through.
    #[serde(default)]
    pub relations: Vec<String>,
}

/// The worker's file.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerFile {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: ticks after boot.
    pub start_time: u64,
    /// Which binary.
    pub binary: String,
    /// Salt of the digest.
    pub salt: u64,
    /// Digest of what the worker was told of both sides.
    pub told: u64,
    /// Digest of what it was told of the controller. Files of older charms have none.
    #[serde(default)]
    pub told_of_controller: u64,
    /// The database relations that it was told of.
    #[serde(default)]
    pub relations: Vec<String>,
}

/// A worker that shows no sign of life for this long is frozen (stopped, or on a connection that is dead without
/// knowing it): another takes its place. It moves at least twice a second otherwise, also in the longest step.
pub const FROZEN: Duration = Duration::from_secs(120);

/// The argument that makes `dispatch` the worker.
pub const WORKER_ARGUMENT: &str = "worker";

fn file_path(charm_dir: &Path) -> PathBuf {
    charm_dir.join("worker.json")
}

/// The worker's log.
pub fn log_path(charm_dir: &Path) -> PathBuf {
    charm_dir.join("worker.log")
}

/// Which binary a path is, now: a charm refresh unlinks the file and makes a new one.
fn binary_identity(path: &Path) -> std::io::Result<String> {
    let meta = std::fs::metadata(path)?;
    Ok(format!("{}:{}:{}:{}", meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec()))
}

/// The log's level is never digested: it is not worth beginning a copy again.
fn digest(told: &impl Serialize, salt: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    serde_json::to_string(told).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// When the process began, in ticks after boot; `None` when there is no such process (a zombie is none).
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    // Field 3 was the state; field 22 is the 19th after it.
    fields.nth(18)?.parse().ok()
}

fn read_file(charm_dir: &Path) -> Option<WorkerFile> {
    serde_json::from_slice(&std::fs::read(file_path(charm_dir)).ok()?).ok()
}

/// The pid of this unit's worker, when it lives.
pub fn living(charm_dir: &Path) -> Option<i32> {
    let file = read_file(charm_dir)?;
    (start_time(file.pid) == Some(file.start_time)).then_some(file.pid)
}

/// True when a worker of this unit had the credentials of this relation once.
pub fn was_told_of(charm_dir: &Path, relation_id: &str) -> bool {
    read_file(charm_dir).is_some_and(|file| file.relations.iter().any(|known| known == relation_id))
}

/// Touched by the worker as long as it moves.
fn beat_path(charm_dir: &Path) -> PathBuf {
    charm_dir.join("worker.beat")
}

/// The worker's sign of life.
pub fn beat(charm_dir: &Path) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(beat_path(charm_dir));
    if let Err(error) = file.and_then(|file| file.set_modified(SystemTime::now())) {
        log::debug!("no sign of life was left: {error}");
    }
}

/// How long ago the worker was started or showed a sign of life. What lies in the future was left before the clock was
/// set back and tells nothing: a worker that moves has left another one since.
fn silence(charm_dir: &Path) -> Duration {
    let ago = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
    [file_path(charm_dir), beat_path(charm_dir)].into_iter().filter_map(ago).min().unwrap_or(FROZEN)
}

/// True while the worker's file names this process. A file that is gone or names another means that no hook would
/// find us any more, so that we must end.
pub fn is_named(charm_dir: &Path) -> bool {
    read_file(charm_dir).is_some_and(|file| u32::try_from(file.pid) == Ok(std::process::id()))
}

/// Makes sure that a worker of this very binary runs with these very facts. Other credentials for the controller are no
/// reason to take a worker away that is `busy` with what would have to begin again.
///
/// # Errors
/// When the process cannot be started or its file not be written.
pub fn ensure(handover: &Handover, busy: bool) -> anyhow::Result<()> {
    let charm_dir = &handover.charm_dir;
    let dispatch = charm_dir.join("dispatch");
    let binary = binary_identity(&dispatch)?;
    if let (Some(file), Some(_)) = (read_file(charm_dir), living(charm_dir))
        && file.binary == binary
        && file.told == digest(&handover.world, file.salt)
        && (busy || file.told_of_controller == digest(&handover.controller, file.salt))
    {
        let silence = silence(charm_dir);
        if silence < FROZEN {
            return Ok(());
        }
        log::warn!("the worker, process {}, has not moved for {} s; starting another", file.pid, silence.as_secs());
    }
    stop(charm_dir)?;
    // The hook's own environment is gone when the hook ends; JUJU_CONTEXT_ID would make juju-exec refuse.
    let mut child = Command::new(&dispatch)
        .arg(WORKER_ARGUMENT)
        .env_remove("JUJU_CONTEXT_ID")
        .env_remove("JUJU_DISPATCH_PATH")
        .current_dir(charm_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(child.id())?;
    let salt: u64 = rand::random();
    let file = WorkerFile {
        pid,
        start_time: start_time(pid).unwrap_or_default(),
        binary,
        salt,
        told: digest(&handover.world, salt),
        told_of_controller: digest(&handover.controller, salt),
        relations: handover.relations.clone(),
    };
    write_file(charm_dir, &file)?;
    let mut pipe = child.stdin.take().ok_or_else(|| anyhow::anyhow!("the worker has no standard input"))?;
    pipe.write_all(serde_json::to_string(handover)?.as_bytes())?;
    drop(pipe);
    failpoint::reach(failpoint::WORKER_STARTED);
    Ok(())
}

fn write_file(charm_dir: &Path, file: &WorkerFile) -> anyhow::Result<()> {
    let path = file_path(charm_dir);
    let beside = path.with_extension("new");
    let mut out = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    out.write_all(serde_json::to_string(file)?.as_bytes())?;
    std::fs::rename(beside, path)?;
    Ok(())
}

/// Ends this unit's worker, if one lives, and waits until it is gone. Everything it did is in the
/// databases, so it is simply killed.
///
/// # Errors
/// When the process does not go.
pub fn stop(charm_dir: &Path) -> anyhow::Result<()> {
    let Some(pid) = living(charm_dir) else { return Ok(()) };
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // Already gone is as good.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while living(charm_dir).is_some() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "cannot stop the worker: process {pid} does not end; end it by hand"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, last touched so many seconds ago; less than none is in the future.
    fn folder(name: &str, worker: i64, beat: Option<i64>) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("control-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let touch = |path: PathBuf, ago: i64| {
            let by = Duration::from_secs(ago.unsigned_abs());
            let at = if ago < 0 { SystemTime::now() + by } else { SystemTime::now() - by };
            std::fs::File::create(path).unwrap().set_modified(at).unwrap();
        };
        touch(file_path(&folder), worker);
        beat.into_iter().for_each(|ago| touch(beat_path(&folder), ago));
        folder
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_frozen_worker() {
        let hour = 3600;
        for (name, worker, beat, frozen) in [
            ("moves", hour, Some(0), false),
            ("new", 0, Some(hour), false),
            ("frozen", hour, Some(hour), true),
            ("set-back-moves", -hour, Some(0), false),
            ("set-back-frozen", -2 * hour, Some(-hour), true),
            ("set-back-new", -hour, None, true),
        ] {
            let folder = folder(name, worker, beat);
            assert_eq!(silence(&folder) >= FROZEN, frozen, "{name}: {:?}", silence(&folder));
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
