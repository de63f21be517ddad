//! The worker is killed at every place of a whole migration under live writers, and goes on by itself each time.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings, Step};
use peers::wait_for;
use peers::writers::Writers;
use serde_json::json;

#[test]
fn killed_everywhere_it_goes_on_and_loses_nothing() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let wanted = peers::writers::Settings { connections: 4, rate: 60.0, oracle_file: rig.folder().join("oracle") };
    let writers = Writers::start(&rig.source_uri(), &wanted, "all").unwrap();
    let before_migration = [
        json!({"kind": "run-started"}),
        json!({"kind": "noted", "step": "prepare", "name": "target-generation"}),
        json!({"kind": "done", "step": "prepare"}),
        json!({"kind": "noted", "step": "copy", "name": "definitions"}),
        json!({"kind": "noted", "step": "copy", "name": "slot"}),
        json!({"kind": "done", "step": "copy"}),
        json!({"kind": "done", "step": "follow"}),
        json!({"kind": "done", "step": "pause"}),
        json!({"kind": "noted", "step": "migrate", "name": "opened-at"}),
    ];
    let after_migration = [
        json!({"kind": "noted", "step": "migrate", "name": "target-generation"}),
        json!({"kind": "done", "step": "migrate"}),
        json!({"kind": "done", "step": "catch-up"}),
        json!({"kind": "noted", "step": "fence", "name": "generation"}),
        json!({"kind": "done", "step": "fence"}),
        json!({"kind": "done", "step": "drain"}),
        json!({"kind": "done", "step": "snapshot"}),
        json!({"kind": "noted", "step": "hand-over", "name": "closing-source"}),
        json!({"kind": "noted", "step": "hand-over", "name": "source-closed"}),
        json!({"kind": "noted", "step": "hand-over", "name": "opening-target"}),
        json!({"kind": "done", "step": "hand-over"}),
    ];
    rig.stall_at(&before_migration[0]).unwrap();
    rig.want(Goal::Flipped).unwrap();
    for (index, pattern) in before_migration.iter().enumerate() {
        rig.kill_at(pattern).unwrap();
        if let Some(next) = before_migration.get(index + 1) {
            rig.stall_at(next).unwrap();
        }
        rig.hook().unwrap();
    }
    rig.asked();
    rig.stall_at(&after_migration[0]).unwrap();
    rig.run_migration().unwrap();
    for (index, pattern) in after_migration.iter().enumerate() {
        rig.kill_at(pattern).unwrap();
        if let Some(next) = after_migration.get(index + 1) {
            rig.stall_at(next).unwrap();
        }
        rig.hook().unwrap();
    }
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Flipped);
    writers.move_to(&rig.target_uri());
    let before = writers.acknowledged();
    wait_for("writes on the target", LONG, || match writers.acknowledged() {
        now if now > before + 20 => Ok(()),
        now => Err(now),
    })
    .unwrap();
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(&rig.target_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    // The comparison may have died with a worker after the open: then it says so, and finalize asks for a person.
    let state = rig
        .until("the comparison's end", LONG, |state, _| state.active().is_some_and(|run| run.is_done(Step::Verify)))
        .unwrap();
    let complete = state.active().unwrap().output(Step::Verify, "complete").unwrap() == &json!(true);
    let done = json!({"kind": "done", "step": "finalize"});
    rig.stall_at(&done).unwrap();
    rig.want(Goal::Finalized).unwrap();
    if !complete {
        let refused = rig.refused();
        assert!(refused.contains("accept-unverified"), "{refused}");
        let mut request = coordinator::migration::Request::plain("finalize", Goal::Finalized);
        request.accept_unverified = true;
        request.settings = Settings::default();
        rig.ask(request).unwrap();
    }
    rig.kill_at(&done).unwrap();
    rig.hook().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Finalized);
}

#[test]
fn a_refreshed_charm_takes_over_in_the_copy_and_while_following() {
    let rig = Rig::new(14, 16, 300).unwrap();
    let copied = json!({"kind": "done", "step": "copy"});
    rig.stall_at(&copied).unwrap();
    rig.want(Goal::Following).unwrap();
    rig.stalled(&copied).unwrap();
    let replaced = |rig: &Rig| {
        let old = rig.worker().unwrap();
        rig.hook().unwrap();
        assert_eq!(rig.worker(), Some(old), "a hook of the same charm leaves the worker alone");
        rig.refresh_charm().unwrap();
        rig.hook().unwrap();
        let new = rig.worker().unwrap();
        assert_ne!(old, new);
        let stat = std::fs::read_to_string(format!("/proc/{old}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "the old worker lives: {stat}");
    };
    replaced(&rig);
    rig.release().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    replaced(&rig);
    rig.write_source().unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    let lag = rig.until("the figures of the new worker", LONG, |_, progress| progress.lag_bytes == Some(0));
    lag.unwrap();
}
