//! Holding the worker still: at a named place of `src/failpoint.rs`, or wherever it happens to be.

use super::rig;
use emulator::Model;
use emulator::stage::Stage;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The living worker's process id, from its file.
pub fn worker(stage: &Stage, unit: &str) -> Option<u32> {
    let folder = stage.model.charm_folder(unit).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("worker.json")).ok()?).unwrap();
    let pid = u32::try_from(file["pid"].as_u64()?).unwrap();
    stage.model.charm_processes(unit).unwrap().contains(&pid).then_some(pid)
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Waits for a worker that is not the one named.
pub fn another_worker(stage: &Stage, unit: &str, old: u32) -> u32 {
    let mut new = None;
    let waited = stage.model.wait_until("another worker", rig::SOON, |_| {
        new = worker(stage, unit).filter(|pid| *pid != old);
        new.is_some()
    });
    waited.unwrap();
    new.unwrap()
}

/// Kills the worker; the next update-status must bring a new one.
pub fn kill_worker(stage: &Stage) {
    let old = worker(stage, "coordinator/0").expect("a worker lives");
    signal(old, Signal::KILL);
    stage.model.update_status("coordinator/0").unwrap();
    another_worker(stage, "coordinator/0", old);
}

/// True when the process is stopped by a signal.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// Says what shall happen (`kill` or `stop`) to the first process of the unit's charm that comes by this place.
pub fn arm(stage: &Stage, unit: &str, place: &str, what: &str) {
    arm_in(&stage.model, unit, place, what);
}

/// The same without a stage.
pub fn arm_in(model: &Model, unit: &str, place: &str, what: &str) {
    let folder = model.charm_folder(unit).unwrap();
    // Written beside and renamed: nobody may read half of it.
    std::fs::write(folder.join("failpoint.new"), format!("{place} {what}")).unwrap();
    std::fs::rename(folder.join("failpoint.new"), folder.join("failpoint")).unwrap();
}

fn reached_file(model: &Model, unit: &str) -> PathBuf {
    model.charm_folder(unit).unwrap().join("failpoint.reached")
}

/// Whether the place that was armed was reached.
pub fn is_reached(stage: &Stage, unit: &str) -> bool {
    reached_file(&stage.model, unit).exists()
}

/// Waits until the place that was armed was reached.
pub fn reached(stage: &Stage, unit: &str) {
    reached_in(&stage.model, unit);
}

/// The same without a stage.
pub fn reached_in(model: &Model, unit: &str) {
    let file = reached_file(model, unit);
    model.wait_until("the failpoint to be reached", rig::SOON, |_| file.exists()).unwrap();
    std::fs::remove_file(file).unwrap();
}

/// Waits until the worker stands still at the place that was armed.
pub fn held(stage: &Stage, unit: &str) {
    reached(stage, unit);
    let stopped = |_: &emulator::Model| worker(stage, unit).is_some_and(is_stopped);
    stage.model.wait_until("the worker to stand still", rig::SOON, stopped).unwrap();
}

/// Runs an action that is killed at this place.
pub fn killed(stage: &Stage, unit: &str, place: &str, action: &str, parameters: &[(&str, &str)]) {
    arm(stage, unit, place, "kill");
    let result = super::story::run(&stage.model, action, parameters);
    assert_eq!((result.status.as_str(), result.message.as_str()), ("failed", "terminated"), "{place}: {result:?}");
    reached(stage, unit);
}

/// Stops the worker wherever it is.
pub fn freeze(stage: &Stage, unit: &str) -> u32 {
    let pid = worker(stage, unit).expect("a worker lives");
    signal(pid, Signal::STOP);
    stage.model.wait_until("the worker to stand still", rig::SOON, |_| is_stopped(pid)).unwrap();
    pid
}

/// Lets the worker go on.
pub fn thaw(stage: &Stage, unit: &str) {
    signal(worker(stage, unit).expect("a worker lives"), Signal::CONT);
}

/// Makes a hook believe that the worker moved, or began, this long ago.
pub fn age(stage: &Stage, unit: &str, ago: Duration) {
    let folder = stage.model.charm_folder(unit).unwrap();
    for name in ["worker.beat", "worker.json"] {
        let file = std::fs::OpenOptions::new().append(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }
}
