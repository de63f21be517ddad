//! A rollback from every place before the target opens, then the whole migration again.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};
use serde_json::{Value, json};

fn kill_at(rig: &Rig, goal: Goal, settings: &Settings, pattern: &Value) {
    rig.stall_at(pattern).unwrap();
    rig.want_with(goal, settings.clone()).unwrap();
    rig.kill_at(pattern).unwrap();
}

fn both_orders(rig: &mut Rig, settings: &Settings) {
    for pattern in [
        json!({"kind": "started", "step": "prepare"}),
        json!({"kind": "done", "step": "prepare"}),
        json!({"kind": "started", "step": "copy"}),
        json!({"kind": "done", "step": "copy"}),
        json!({"kind": "done", "step": "follow"}),
    ] {
        kill_at(rig, Goal::Following, settings, &pattern);
        rig.roll_back(&pattern.to_string());
    }
    assert_eq!(rig.reach_with(Goal::Following, settings).phase(), Phase::Following);
    rig.roll_back("following");
}

fn hand_over(rig: &mut Rig, settings: &Settings, to_drained: impl Fn(&mut Rig)) {
    for pattern in [
        json!({"kind": "noted", "step": "hand-over", "name": "closing-source"}),
        json!({"kind": "noted", "step": "hand-over", "name": "source-closed"}),
        json!({"kind": "noted", "step": "hand-over", "name": "opening-target"}),
    ] {
        to_drained(rig);
        kill_at(rig, Goal::Flipped, settings, &pattern);
        rig.write_source().unwrap_err();
        rig.write_target().unwrap_err();
        rig.roll_back(&pattern.to_string());
    }
}

#[test]
#[ignore = "slow: make test-all"]
fn migrate_first() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings = Settings::default();
    both_orders(&mut rig, &settings);
    rollback_is_not_kept_waiting_by_a_copy(&mut rig);
    rig.reach(Goal::Following);
    rig.want(Goal::Migrated).unwrap();
    rig.asked();
    rig.write_target().unwrap();
    rig.roll_back("migrating, before the application's migration");
    for pattern in [json!({"kind": "done", "step": "migrate"}), json!({"kind": "done", "step": "catch-up"})] {
        rig.reach(Goal::Following);
        rig.stall_at(&pattern).unwrap();
        rig.want(Goal::Migrated).unwrap();
        rig.asked();
        rig.run_migration().unwrap();
        rig.kill_at(&pattern).unwrap();
        rig.roll_back(&pattern.to_string());
    }
    let migrated = |rig: &mut Rig| {
        rig.reach(Goal::Following);
        rig.migrate_schema(&Settings::default());
    };
    migrated(&mut rig);
    rig.roll_back("following, migrated");
    for pattern in [
        json!({"kind": "done", "step": "fence"}),
        json!({"kind": "started", "step": "drain"}),
        json!({"kind": "done", "step": "drain"}),
    ] {
        migrated(&mut rig);
        kill_at(&rig, Goal::Drained, &settings, &pattern);
        rig.write_source().unwrap_err();
        rig.roll_back(&pattern.to_string());
    }
    migrated(&mut rig);
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    rig.roll_back("drained");
    hand_over(&mut rig, &settings, migrated);
    migrated(&mut rig);
    finish(&mut rig, &settings);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_documented_order() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    let drained = |rig: &mut Rig| {
        let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
        assert_eq!(rig.reach_with(Goal::Drained, &settings).phase(), Phase::Drained);
    };
    for pattern in [json!({"kind": "done", "step": "fence"}), json!({"kind": "done", "step": "verify"})] {
        kill_at(&rig, Goal::Drained, &settings, &pattern);
        rig.roll_back(&pattern.to_string());
    }
    drained(&mut rig);
    rig.roll_back("drained");
    drained(&mut rig);
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    rig.asked();
    rig.roll_back("migrating, before the application's migration");
    drained(&mut rig);
    rig.migrate_schema(&settings);
    rig.roll_back("drained, migrated");
    hand_over(&mut rig, &settings, |rig| {
        let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
        rig.reach_with(Goal::Drained, &settings);
        rig.migrate_schema(&settings);
    });
    drained(&mut rig);
    rig.migrate_schema(&settings);
    finish(&mut rig, &settings);
}

/// A transaction with an id keeps the slot, and so the copy, waiting for minutes.
fn rollback_is_not_kept_waiting_by_a_copy(rig: &mut Rig) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = rig.source_uri();
    let client = runtime.block_on(peers::cluster::connect(&uri)).unwrap();
    runtime.block_on(client.batch_execute("BEGIN; SELECT pg_current_xact_id()")).unwrap();
    rig.want(Goal::Following).unwrap();
    rig.until("the slot to be waited for", LONG, |_, progress| progress.text.contains("slot")).unwrap();
    rig.roll_back("copying, asked for while it waits");
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
}

fn finish(rig: &mut Rig, settings: &Settings) {
    assert_eq!(rig.reach_with(Goal::Flipped, settings).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
}
