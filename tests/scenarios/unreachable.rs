//! A PostgreSQL that is down, or hangs: every action answers with a sentence and a cure in bounded time, hooks go on,
//! the status says what is waited for; and when the server is back everything goes on by itself.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;
use peers::cluster::{Cluster, Mode};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// How long an action may take to say that a server does not answer.
const BOUND: Duration = Duration::from_secs(15);

/// A server that accepts connections and never answers them, until this is dropped.
struct Hanging(Pid);

impl Hanging {
    fn new(cluster: &Cluster) -> Self {
        let pid = Pid::from_raw(i32::try_from(cluster.pid().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Every one of these actions tells of the server within the bound.
fn all_tell(stage: &Stage, actions: &[&str], outcomes: &[&str], phase: &str) {
    for action in actions {
        let began = Instant::now();
        let result = run(&stage.model, action, &[]);
        let took = began.elapsed();
        assert!(took < BOUND, "{action} took {took:?}: {result:?}");
        assert!(outcomes.contains(&result.result("outcome").as_str()), "{action}: {result:?}");
        assert_eq!(result.result("phase"), phase, "{action}: {result:?}");
        let message = result.result("message");
        assert!(message.starts_with("cannot ") && message.contains("; "), "{action}: {message}");
        assert!(message.contains("see that this PostgreSQL runs and can be reached"), "{action}: {message}");
        assert!(!result.result("next").is_empty(), "{action}: {result:?}");
    }
}

fn waits(stage: &Stage) {
    stage.model.update_status("coordinator/0").unwrap();
    let said = "see that this PostgreSQL runs and can be reached";
    let (word, _) = rig::status_says(&stage.model, "coordinator/0", said);
    assert_eq!(word, "waiting");
}

/// Closes a scenario in which hooks of PostgreSQL's own charm failed, as they do while their server is away.
fn close(stage: &Stage) {
    let log = stage.model.log_tail(usize::MAX);
    let ours = |line: &&str| line.contains("unit-coordinator-") && line.contains("hook \"") && line.contains("failed");
    assert_eq!(log.lines().filter(ours).collect::<Vec<_>>(), Vec::<&str>::new());
    rig::close_but_one_hook(stage, End::Source);
}

#[test]
fn the_target_with_the_journal_is_down_or_hangs() {
    let stage = rig::stage("target-away", 1);
    let all = ["preflight", "replicate", "migrate", "drain", "rollback", "finalize"];
    stage.target.stop(Mode::Fast).unwrap();
    all_tell(&stage, &all, &["failed"], "unknown");
    all_tell(&stage, &["show"], &["done"], "unknown");
    waits(&stage);
    stage.target.start_again().unwrap();
    rig::status_says(&stage.model, "coordinator/0", "ready");
    let hanging = Hanging::new(&stage.target);
    all_tell(&stage, &["replicate", "rollback"], &["failed"], "unknown");
    all_tell(&stage, &["show"], &["done"], "unknown");
    waits(&stage);
    drop(hanging);
    rig::status_says(&stage.model, "coordinator/0", "ready");
    // Nothing was asked for meanwhile.
    expect(&stage.model, "show", &[], "done");
    close(&stage);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_source_is_down_or_hangs() {
    let stage = rig::stage("source-away", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    stage.source.stop(Mode::Fast).unwrap();
    let down = run(model, "preflight", &[]);
    assert_eq!(down.result("outcome"), "failed", "{down:?}");
    assert!(down.message.contains("cannot connect to database iam_kratos on 127.0.0.1"), "{down:?}");
    assert!(down.message.contains("check that the server of source-database runs at 127.0.0.1"), "{down:?}");
    // What is asked for goes on by itself when the source is there again.
    all_tell(&stage, &["replicate"], &["waiting"], "idle");
    waits(&stage);
    stage.source.start_again().unwrap();
    rig::follow(&stage);
    rig::migrate(&stage);
    let hanging = Hanging::new(&stage.source);
    all_tell(&stage, &["drain"], &["waiting"], "following");
    waits(&stage);
    let began = Instant::now();
    assert_eq!(run(model, "preflight", &[]).result("outcome"), "failed");
    assert_eq!(run(model, "verify", &[]).result("outcome"), "failed");
    expect(model, "show", &[], "done");
    assert!(began.elapsed() < 3 * BOUND);
    drop(hanging);
    // The request stands, and goes on by itself.
    expect(model, "drain", &[], "done");
    expect(model, "rollback", &[], "done");
    close(&stage);
}
