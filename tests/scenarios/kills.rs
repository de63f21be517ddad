//! SIGKILL of the worker, of actions and of hooks, at chosen places: whatever runs next goes on from what is true.

use super::hold::{self, another_worker, arm, held, killed, reached, signal, worker};
use super::rig::{self, End};
use super::story::{expect, run};
use emulator::stage::Stage;
use emulator::{Model, Verdict};
use peers::writers::{Settings, Writers};
use rustix::process::Signal;
use std::time::Duration;

const UNIT: &str = "coordinator/0";

/// Kills the action before it wrote its request: nothing happened.
fn killed_before(stage: &Stage, action: &str) {
    let before = rig::picture(stage);
    killed(stage, UNIT, &format!("record-before/requested/{action}"), action, &[]);
    rig::assert_same(&format!("{action}, killed before its request,"), &before, &rig::picture(stage));
}

/// Kills the action right after: the worker goes on all the same, and nobody has to ask again.
fn killed_after(stage: &Stage, action: &str, parameters: &[(&str, &str)]) {
    killed(stage, UNIT, &format!("record-after/requested/{action}"), action, parameters);
    let begun = "SELECT coalesce(max(seq) FILTER (WHERE record ->> 'kind' = 'requested'), 0),
        coalesce(max(seq) FILTER (WHERE record ->> 'kind' = 'settled'), 0),
        (SELECT coalesce(value ->> 'waiting', '') FROM identity_migration_journal.singleton WHERE name = 'progress')
        FROM identity_migration_journal.entry";
    let mut last = String::new();
    let ended = |_: &Model| {
        last = stage.target.psql(&stage.own_database(), begun).unwrap();
        let mut fields = last.splitn(3, '|');
        let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
        let (asked, settled) = (number(), number());
        // It is at its end, or a person is waited for.
        settled > asked || fields.next().is_some_and(|waiting| waiting.contains("juju "))
    };
    let waited = stage.model.wait_until(&format!("{action} to go on by itself"), Duration::from_secs(240), ended);
    waited.unwrap_or_else(|error| panic!("{error:#}\nlast: {last}"));
}

#[test]
fn actions_and_hooks_killed_around_what_they_write() {
    let stage = rig::stage("killed-actions", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    killed_before(&stage, "replicate");
    killed_after(&stage, "replicate", &[]);
    rig::follow(&stage);
    hooks_killed(&stage);
    killed_before(&stage, "rollback");
    killed_after(&stage, "rollback", &[]);
    assert_eq!(expect(model, "rollback", &[], "done").result("phase"), "idle");
    rig::follow(&stage);
    killed_before(&stage, "run-migration");
    killed_after(&stage, "run-migration", &[]);
    rig::migrate(&stage);
    killed_before(&stage, "drain");
    killed_after(&stage, "drain", &[]);
    assert_eq!(expect(model, "drain", &[], "done").result("phase"), "drained");
    killed_before(&stage, "cut-over");
    killed_before(&stage, "flip-traffic");
    flip_with_lost_databags(&stage);
    killed_after(&stage, "flip-traffic", &[]);
    killed_after(&stage, "cut-over", &[]);
    expect(model, "flip-traffic", &[], "done");
    let compared = |model: &Model| run(model, "show", &[]).result("rows-different") == "0";
    model.wait_until("the comparison", rig::SOON, compared).unwrap();
    killed_before(&stage, "finalize");
    killed_after(&stage, "finalize", &[("keep-source-fenced", "false")]);
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    // Hooks were killed on purpose.
    rig::close_but_one_hook(&stage, End::Both);
}

/// Juju drops what a killed hook or action wrote into databags, whatever the journal says of it.
fn flip_with_lost_databags(stage: &Stage) {
    let told = || stage.model.databag("kratos-info", "coordinator");
    let before = told();
    // Only the action may come by, until the second place is armed.
    let actions_only = |candidate: &emulator::Candidate<'_>| match candidate.unit == UNIT {
        true if !candidate.path.starts_with("actions/") => Verdict::Wait,
        _ => Verdict::Run,
    };
    stage.controller.set_gate(Some(Box::new(actions_only)));
    killed(stage, UNIT, "record-before/brokered", "flip-traffic", &[]);
    assert_eq!(before, told());
    killed(stage, UNIT, "record-after/brokered", "flip-traffic", &[]);
    assert_eq!(before, told());
    stage.controller.set_gate(None);
    // No action any more: the next hook gives consumers what the journal says they have.
    rig::consumer_uses(stage, &stage.kratos_new);
    // The request is settled by then: one that is asked for again is written again.
    rig::status_says(&stage.model, UNIT, "flipped: consumers use");
}

/// Hooks killed at their begin, before the status and after they started a worker.
fn hooks_killed(stage: &Stage) {
    let model = &stage.model;
    // A worker that takes over writes its epoch; nothing else may change.
    let databases = || {
        // A table's rows are several lines, of which the first names it.
        let mut ours = false;
        let mut others = Vec::new();
        for line in rig::databases(stage).lines() {
            if !line.starts_with([' ', '<']) && !line.is_empty() {
                ours = ["fence|", "owner|"].iter().any(|t| line.starts_with(&format!("rows|identity_migration.{t}")));
            }
            if !ours {
                others.push(line.to_owned());
            }
        }
        others.join("\n")
    };
    for place in ["hook-begin", "hook-status", "worker-started"] {
        let before = databases();
        arm(stage, UNIT, place, "kill");
        if place == "worker-started" {
            signal(worker(stage, UNIT).unwrap(), Signal::KILL);
        }
        model.update_status(UNIT).unwrap();
        reached(stage, UNIT);
        let (word, _) = rig::status_says(model, UNIT, "following");
        assert_eq!(word, "active", "{place}");
        assert!(worker(stage, UNIT).is_some(), "{place}");
        rig::assert_same(place, &before, &databases());
    }
}

/// Kills the worker at one place after the other while an action watches; nothing but the action looks after it.
fn worker_killed_at(stage: &Stage, places: &[&str], action: &str, parameters: &[(&str, &str)]) {
    let model = &stage.model;
    arm(stage, UNIT, places[0], "stop");
    let task = model.enqueue("coordinator/leader", action, parameters).unwrap();
    for (index, place) in places.iter().enumerate() {
        held(stage, UNIT);
        let old = worker(stage, UNIT).unwrap();
        if let Some(next) = places.get(index + 1) {
            arm(stage, UNIT, next, "stop");
        }
        signal(old, Signal::KILL);
        eprintln!("killed at {place}: {old}, now {}", another_worker(stage, UNIT, old));
    }
    let ended = model.wait_task(task, Duration::from_secs(120)).unwrap();
    assert_eq!(ended.result("outcome"), "done", "{action}: {ended:?}");
}

#[test]
fn the_worker_killed_in_copy_follow_drain_and_hand_over_loses_nothing() {
    let stage = rig::stage("kills", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    let file = std::env::temp_dir().join(format!("oracle-kills-{}", std::process::id()));
    let settings = Settings { rate: 60.0, connections: 4, ..Settings::new(&file) };
    let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
    let places = ["record-after/noted/copy/slot", "record-before/done/copy", "record-before/done/follow"];
    worker_killed_at(&stage, &places, "replicate", &[("wait", "120")]);
    // At rest it is a hook that brings another.
    let old = worker(&stage, UNIT).unwrap();
    signal(old, Signal::KILL);
    another_worker(&stage, UNIT, old);
    rig::migrate(&stage);
    let places = ["record-after/noted/fence/generation", "record-before/done/fence", "record-before/done/drain"];
    worker_killed_at(&stage, &places, "drain", &[]);
    let drained = expect(model, "drain", &[], "done");
    assert_eq!((drained.result("phase"), drained.result("rows-different")), ("drained".into(), "0".into()));
    let places = ["record-after/noted/hand-over/source-closed", "record-before/done/hand-over"];
    worker_killed_at(&stage, &places, "flip-traffic", &[]);
    writers.move_to(&stage.target_uri());
    rig::consumer_uses(&stage, &stage.kratos_new);
    let before = writers.acknowledged();
    model.wait_until("writes on the target", rig::SOON, |_| writers.acknowledged() > before + 20).unwrap();
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(&stage.target_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged > 100);
    std::fs::remove_file(file).unwrap();
    rig::close(&stage, End::Target);
}

#[test]
fn a_worker_that_is_frozen_or_unknown_is_replaced() {
    let stage = rig::stage("frozen", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    let gone = |pid: u32| {
        let gone = |model: &Model| !model.charm_processes(UNIT).unwrap().contains(&pid);
        model.wait_until("the old worker's end", rig::SOON, gone).unwrap();
    };
    // Frozen: nobody waits for two minutes here, the signs of life are made older instead.
    let frozen = hold::freeze(&stage, UNIT);
    hold::age(&stage, UNIT, Duration::from_secs(180));
    another_worker(&stage, UNIT, frozen);
    gone(frozen);
    // Its file is gone, and it is not: nobody could stop it any more, so it ends by itself.
    let folder = model.charm_folder(UNIT).unwrap();
    let unknown = worker(&stage, UNIT).unwrap();
    std::fs::remove_file(folder.join("worker.json")).unwrap();
    another_worker(&stage, UNIT, unknown);
    gone(unknown);
    // The pod was rescheduled: neither the process nor its files are there.
    let lost = worker(&stage, UNIT).unwrap();
    signal(lost, Signal::KILL);
    for name in ["worker.json", "worker.beat", "worker.log"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    another_worker(&stage, UNIT, lost);
    rig::migrate(&stage);
    // Frozen with writes stopped, while an action watches.
    arm(&stage, UNIT, "record-before/done/drain", "stop");
    let task = model.enqueue("coordinator/leader", "drain", &[]).unwrap();
    held(&stage, UNIT);
    let frozen = worker(&stage, UNIT).unwrap();
    assert!(!rig::writable(&stage.source, "iam_kratos"));
    hold::age(&stage, UNIT, Duration::from_secs(180));
    gone(frozen);
    let drained = model.wait_task(task, Duration::from_secs(120)).unwrap();
    assert_eq!((drained.result("outcome"), drained.result("phase")), ("done".into(), "drained".into()), "{drained:?}");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
}
