//! PostgreSQL's own engine through the real binary: under writers, killed in the middle, to the flip; and a rollback
//! that leaves nothing.

use super::hold::kill_worker;
use super::rig::{self, End};
use super::story::{expect, run};
use peers::writers::{Settings, Writers};

const NATIVE: (&str, &str) = ("engine", "native");

#[test]
fn the_native_engine_from_begin_to_end() {
    let stage = rig::stage("native", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    let queue = "UPDATE courier_messages SET status = 1 WHERE id = (SELECT min(id::text)::uuid FROM courier_messages)";
    stage.source.psql("iam_kratos", queue).unwrap();
    let file = std::env::temp_dir().join(format!("oracle-native-{}", std::process::id()));
    let settings = Settings { rate: 60.0, connections: 4, ..Settings::new(&file) };
    let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
    // In the middle: a rollback, then a kill.
    run(model, "replicate", &[NATIVE]);
    expect(model, "rollback", &[], "done");
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(stage.source.psql("iam_kratos", slots).unwrap(), "0");
    assert_eq!(peers::left_behind(&stage.target, &[&stage.own_database()]).unwrap(), Vec::<String>::new());
    run(model, "replicate", &[NATIVE]);
    kill_worker(&stage);
    let done = expect(model, "replicate", &[("wait", "120")], "done");
    assert_eq!(done.result("engine"), "native", "{done:?}");
    assert_eq!(run(model, "show", &[]).result("engine"), "native");
    rig::migrate(&stage);
    let drained = expect(model, "drain", &[], "done");
    assert_eq!((drained.result("phase"), drained.result("rows-different")), ("drained".into(), "0".into()));
    let flipped = expect(model, "flip-traffic", &[("abandon-queued-messages", "true")], "done");
    assert_eq!(flipped.result("messages-abandoned"), "1", "{flipped:?}");
    writers.move_to(&stage.target_uri());
    rig::consumer_uses(&stage, &stage.kratos_new);
    let before = writers.acknowledged();
    model.wait_until("writes on the target", rig::SOON, |_| writers.acknowledged() > before + 20).unwrap();
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(&stage.target_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    std::fs::remove_file(file).unwrap();
    model
        .wait_until("the comparison", rig::SOON, |model| run(model, "show", &[]).result("rows-different") == "0")
        .unwrap();
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(&stage, End::Both);
}
