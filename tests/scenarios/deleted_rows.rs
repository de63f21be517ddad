//! Records of the journal are deleted by hand: it is said with a cure that works, writes pass again where they should,
//! and `rollback` removes everything though nobody remembers what was begun. Once the target has opened, nothing leads
//! back.

use super::closing::Played;
use super::hold::{self, another_worker, arm, held, signal, worker};
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use emulator::Model;
use emulator::stage::Stage;
use rustix::process::Signal;

const UNIT: &str = "coordinator/0";

const ALL: &str = "DELETE FROM identity_migration_journal.entry";
const EMPTIED: &str = "TRUNCATE identity_migration_journal.entry RESTART IDENTITY";
const LAST: &str = "DELETE FROM identity_migration_journal.entry
    WHERE seq = (SELECT max(seq) FROM identity_migration_journal.entry)";
const MIDDLE: &str = "DELETE FROM identity_migration_journal.entry
    WHERE seq = (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY seq) FROM identity_migration_journal.entry)";
const WHOLE: &str = "DROP SCHEMA identity_migration_journal CASCADE";

/// Where the worker is meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Copying,
    Following,
    Drained,
    /// The source is closed for good, the target is not open.
    Between,
}
use Place::{Between, Copying, Drained, Following};

/// Whether the worker is killed before the records go; another one begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Lives,
    Dies,
}
use Worker::{Dies, Lives};

/// From nothing begun to the place; there the records go.
fn deleted_at(stage: &Stage, place: Place, rows: &str, fate: Worker) {
    let model = &stage.model;
    let stop = |action: &str, at: &str| {
        arm(stage, UNIT, at, "stop");
        let task = model.enqueue("coordinator/leader", action, &[("wait", "60")]).unwrap();
        held(stage, UNIT);
        Some(task)
    };
    let task = match place {
        Copying => stop("replicate", "record-before/done/copy"),
        Following => {
            rig::follow(stage);
            None
        }
        Drained | Between => {
            rig::follow(stage);
            rig::migrate(stage);
            expect(model, "drain", &[], "done");
            (place == Between).then(|| stop("flip-traffic", "record-after/noted/hand-over/source-closed")).flatten()
        }
    };
    assert_eq!(rig::writable(&stage.source, "iam_kratos"), matches!(place, Copying | Following));
    delete(stage, rows, fate, task.is_some());
    if let Some(task) = task {
        let ended = model.wait_task(task, SOON).unwrap();
        // Without its tables the journal cannot be watched; they are there again at the next hook.
        if rows != WHOLE {
            assert_eq!(ended.result("outcome"), "failed", "{ended:?}");
            assert!(ended.message.starts_with("cannot read the journal: "), "{ended:?}");
            assert_eq!(ended.result("next"), "juju run coordinator/leader rollback", "{ended:?}");
        }
    }
}

/// The records go, from under a worker that lives or before another one begins.
fn delete(stage: &Stage, rows: &str, fate: Worker, stopped: bool) {
    let old = worker(stage, UNIT).unwrap();
    if fate == Dies {
        signal(old, Signal::KILL);
    }
    stage.target.psql(&stage.own_database(), rows).unwrap();
    match fate {
        Dies => drop(another_worker(stage, UNIT, old)),
        Lives if stopped => hold::thaw(stage, UNIT),
        Lives => {}
    }
}

/// The source takes writes by itself; what is said leads to an end where nothing is left.
fn goes_back(stage: &Stage, place: Place, rows: &str) {
    let model = &stage.model;
    let open = |_: &Model| rig::writable(&stage.source, "iam_kratos");
    model.wait_until("the source to take writes", SOON, open).unwrap();
    if rows == WHOLE {
        // The journal is an empty one: what stands in the databases is found by preflight.
        let looked = run(model, "preflight", &[]);
        assert!(looked.message.contains("run rollback here"), "{looked:?}");
    } else {
        let (word, message) = rig::status_says(model, UNIT, "cannot read the journal: database iam_coordinator holds");
        assert_eq!(word, "blocked");
        assert!(message.ends_with("; next: juju run coordinator/leader rollback"), "{message}");
        let action = if place == Copying { "drain" } else { "replicate" };
        let refused = rig::refused(model, action, &[], "rollback");
        assert!(refused.message.contains("records (deleted by hand?)"), "{}", refused.message);
        let shown = expect(model, "show", &[], "done");
        assert_eq!(shown.result("next"), "juju run coordinator/leader rollback", "{shown:?}");
        assert_eq!(shown.result("phase"), "unknown", "{shown:?}");
    }
    let back = expect(model, "rollback", &[("wait", "60")], "done");
    assert_eq!(back.result("phase"), "idle");
    assert!(back.message.is_empty() || back.result("message").contains("nothing of ours is left"), "{back:?}");
    rig::status_says(model, UNIT, "ready");
    rig::consumer_uses(stage, &stage.kratos);
    rig::close(stage, End::Source);
    let again = expect(model, "rollback", &[], "done");
    assert_eq!(again.result("phase"), "idle");
    if matches!(place, Drained | Between) {
        stage.kratos_new.kill_servers();
    }
}

/// The target is as its application made it: the whole migration goes through.
fn goes_through(stage: &Played) {
    rig::follow(stage);
    rig::migrate(stage);
    expect(&stage.model, "cut-over", &[], "done");
    rig::consumer_uses(stage, &stage.kratos_new);
    rig::close(stage, End::Target);
}

fn each(name: &str, cases: &[(Place, &str, Worker)]) {
    let stage = rig::stage(name, 1);
    rig::refresh(&stage);
    for &(place, rows, fate) in cases {
        eprintln!("-- {place:?}, {rows}, the worker {fate:?}");
        deleted_at(&stage, place, rows, fate);
        goes_back(&stage, place, rows);
    }
    goes_through(&stage);
}

#[test]
fn writes_pass_again_and_rollback_removes_everything() {
    each("deleted-rows", &[(Copying, ALL, Lives), (Following, LAST, Dies), (Between, EMPTIED, Lives)]);
}

#[test]
#[ignore = "slow: make test-all"]
fn in_every_place_with_a_worker_that_lives() {
    let rows = [ALL, LAST, MIDDLE, EMPTIED, WHOLE];
    let cases: Vec<_> =
        [Copying, Following, Drained, Between].iter().flat_map(|p| rows.map(|rows| (*p, rows, Lives))).collect();
    each("deleted-alive", &cases);
}

#[test]
#[ignore = "slow: make test-all"]
fn in_every_place_with_a_worker_that_dies() {
    let rows = [ALL, LAST, MIDDLE, EMPTIED, WHOLE];
    let cases: Vec<_> =
        [Copying, Following, Drained, Between].iter().flat_map(|p| rows.map(|rows| (*p, rows, Dies))).collect();
    each("deleted-dead", &cases);
}

/// Nobody is there to find it: the lease ends by itself.
#[test]
#[ignore = "slow: make test-all"]
fn without_a_worker_the_lease_opens_the_source() {
    let stage = rig::stage("deleted-lease", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    expect(model, "drain", &[("outage-limit", "30")], "done");
    model.set_update_status_interval(std::time::Duration::from_secs(3600));
    signal(worker(&stage, UNIT).unwrap(), Signal::KILL);
    stage.target.psql(&stage.own_database(), ALL).unwrap();
    assert!(!rig::writable(&stage.source, "iam_kratos"));
    let open = |_: &Model| rig::writable(&stage.source, "iam_kratos");
    model.wait_until("the lease to run out", SOON, open).unwrap();
    model.set_update_status_interval(std::time::Duration::from_secs(2));
    goes_back(&stage, Drained, ALL);
    goes_through(&stage);
}

/// From nothing begun to the target open, where the records go; consumers were not told yet.
fn deleted_when_open(name: &str, rows: &str, fate: Worker) {
    let stage = rig::stage(name, 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    arm(&stage, UNIT, "record-before/done/hand-over", "stop");
    let task = model.enqueue("coordinator/leader", "cut-over", &[("wait", "60")]).unwrap();
    held(&stage, UNIT);
    delete(&stage, rows, fate, true);
    let ended = model.wait_task(task, SOON).unwrap();
    assert_ne!(ended.result("outcome"), "done", "{ended:?}");
    nothing_leads_back(&stage);
    rig::close(&stage, End::Target);
}

/// Users and consumers are on the target, and stay there.
fn nothing_leads_back(stage: &Stage) {
    let model = &stage.model;
    let (word, message) = rig::status_says(model, UNIT, "iam_coordinator holds no migration any more");
    assert_eq!(word, "blocked");
    assert!(message.ends_with("; next: juju run coordinator/leader show"), "{message}");
    rig::consumer_uses(stage, &stage.kratos_new);
    for action in ["replicate", "rollback", "finalize"] {
        let refused = rig::refused(model, action, &[], "show");
        assert!(refused.message.contains("stay on kratos-new"), "{}", refused.message);
    }
    let open = |_: &Model| rig::writable(&stage.target, &stage.target_place.database());
    let log = || std::fs::read_to_string(model.charm_folder(UNIT).unwrap().join("worker.log")).unwrap_or_default();
    let waited = model.wait_until("the target to take writes", SOON, open);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", log()));
    assert!(!rig::writable(&stage.source, &stage.source_place.database()));
    let shown = expect(model, "show", &[], "done");
    assert!(shown.result("next").ends_with("juju remove-application coordinator"), "{shown:?}");
}

#[test]
#[ignore = "slow: make test-all"]
fn once_the_target_is_open_nothing_leads_back() {
    deleted_when_open("deleted-open", ALL, Dies);
}

#[test]
#[ignore = "slow: make test-all"]
fn once_the_target_is_open_nothing_leads_back_whatever_went_and_whoever_lives() {
    deleted_when_open("deleted-open-last", LAST, Lives);
    deleted_when_open("deleted-open-whole", WHOLE, Dies);
}

/// On the road back, users stay on the side that they can be on.
fn deleted_on_the_road_back(name: &str, at: &str, end: End) {
    let stage = rig::stage(name, 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    arm(&stage, UNIT, at, "stop");
    let task = model.enqueue("coordinator/leader", "rollback", &[("wait", "60")]).unwrap();
    held(&stage, UNIT);
    delete(&stage, ALL, Lives, true);
    model.wait_task(task, SOON).unwrap();
    match end {
        End::Source => {
            rig::consumer_uses(&stage, &stage.kratos);
            assert!(rig::writable(&stage.source, &stage.source_place.database()));
            expect(model, "rollback", &[("wait", "60")], "done");
        }
        _ => nothing_leads_back(&stage),
    }
    rig::close(&stage, end);
}

#[test]
#[ignore = "slow: make test-all"]
fn on_the_road_back_users_are_where_they_can_write() {
    deleted_on_the_road_back("deleted-back-fence", "record-before/done/reverse-fence", End::Target);
    deleted_on_the_road_back(
        "deleted-back-between",
        "record-after/noted/reverse-hand-over/opening-source",
        End::Target,
    );
    deleted_on_the_road_back("deleted-back-open", "record-before/done/reverse-hand-over", End::Source);
}
