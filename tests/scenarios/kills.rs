//! SIGKILL of the worker, of actions and of hooks: whatever runs next goes on from what is true.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::Signal;
use emulator::stage::Stage;
use peers::writers::{Settings, Writers};

/// The worker's process id, from its file.
pub fn worker(stage: &Stage, unit: &str) -> Option<u32> {
    let folder = stage.model.charm_folder(unit).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("worker.json")).ok()?).unwrap();
    let pid = u32::try_from(file["pid"].as_u64()?).unwrap();
    stage.model.charm_processes(unit).unwrap().contains(&pid).then_some(pid)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Kills the worker; the next update-status must bring a new one.
pub fn kill_worker(stage: &Stage) {
    let model = &stage.model;
    let old = worker(stage, "coordinator/0").expect("a worker lives");
    kill(old);
    model.update_status("coordinator/0").unwrap();
    model
        .wait_until("a new worker", rig::SOON, |_| worker(stage, "coordinator/0").is_some_and(|new| new != old))
        .unwrap();
}

/// Starts an action, and cancels it as soon as it runs.
fn cancel(stage: &Stage, action: &str, parameters: &[(&str, &str)]) {
    let model = &stage.model;
    let task = model.enqueue("coordinator/leader", action, parameters).unwrap();
    let runs = |model: &emulator::Model| {
        model
            .running("coordinator/0")
            .unwrap()
            .is_some_and(|running| running.task == Some(task) && running.pid.is_some())
            || model.task(task).is_some_and(|task| task.ended())
    };
    model.wait_until("the action to run", rig::SOON, runs).unwrap();
    // It may have ended meanwhile: then there was nothing to cancel.
    let cancelled = model.cancel_task(task);
    let ended = model.wait_task(task, rig::SOON).unwrap();
    eprintln!("{action} cancelled: {cancelled:?}, {}", ended.status);
}

#[test]
fn killed_everywhere_and_nothing_lost() {
    let stage = rig::stage("kills", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    let file = std::env::temp_dir().join(format!("oracle-kills-{}", std::process::id()));
    let settings = Settings { rate: 60.0, connections: 4, ..Settings::new(&file) };
    let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
    // The copy: its action, then its worker.
    cancel(&stage, "replicate", &[("wait", "120")]);
    kill_worker(&stage);
    cancel(&stage, "replicate", &[("wait", "120")]);
    rig::follow(&stage);
    // Following: the worker, and a hook.
    kill_worker(&stage);
    model.config("coordinator", &[("log-level", "debug")]).unwrap();
    let mut killed = 0;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while killed == 0 && std::time::Instant::now() < until {
        killed += usize::from(model.kill_running("coordinator/0", Signal::KILL).unwrap());
    }
    assert!(killed > 0, "no hook was caught running");
    model
        .wait_until("the killed hook to be tried again", rig::SOON, |model| {
            model.status("coordinator/0").is_ok_and(|(word, message)| word == "active" && message.contains("following"))
        })
        .unwrap();
    expect(model, "run-migration", &[], "waiting");
    kill_worker(&stage);
    rig::migrate_on(&stage);
    // The drain: its action and its worker.
    cancel(&stage, "drain", &[]);
    kill_worker(&stage);
    expect(model, "drain", &[], "done");
    kill_worker(&stage);
    let drained = expect(model, "drain", &[], "done");
    assert_eq!((drained.result("phase"), drained.result("rows-different")), ("drained".into(), "0".into()));
    cancel(&stage, "flip-traffic", &[]);
    kill_worker(&stage);
    expect(model, "flip-traffic", &[], "done");
    writers.move_to(&stage.target_uri());
    rig::consumer_uses(&stage, &stage.kratos_new);
    let before = writers.acknowledged();
    model.wait_until("writes on the target", rig::SOON, |_| writers.acknowledged() > before + 20).unwrap();
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(&stage.target_uri()).unwrap();
    eprintln!("{verdict:?}");
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged > 100);
    std::fs::remove_file(file).unwrap();
    model
        .wait_until("the comparison", rig::SOON, |model| run(model, "show", &[]).result("rows-different") == "0")
        .unwrap();
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    // One hook was killed on purpose.
    rig::close_but_one_hook(&stage, End::Both);
}
