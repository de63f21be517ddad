//! The lease: writes come back by themselves when it runs out, whoever lives, and the target is not opened then.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};
use serde_json::json;

fn short() -> Settings {
    Settings { outage_limit: 10, ..Settings::default() }
}

/// The time of the lease goes by.
fn expire(rig: &Rig) {
    rig.on_source(
        "SET session_replication_role = replica;
         UPDATE identity_migration.fence SET until = now() - interval '1 s' WHERE state = 'leased'",
    )
    .unwrap();
}

/// After a lease that ran out: the phase, what is said, which side takes writes, and that the target follows.
fn assert_lifted(rig: &Rig) {
    let state = rig
        .until("the lift", LONG, |state, _| {
            state.active().is_some_and(|run| run.lifted.is_some()) && state.phase() == Phase::Following
        })
        .unwrap();
    let said = state.active().unwrap().lifted.clone().unwrap();
    assert!(said.contains("ran out"), "{said}");
    rig.write_source().unwrap();
    rig.write_target().unwrap_err();
}

#[test]
fn migrate_first() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());

    // The worker lives.
    rig.want_with(Goal::Drained, short()).unwrap();
    rig.until("the lift", LONG, |state, _| state.active().is_some_and(|run| run.lifted.is_some())).unwrap();
    assert_lifted(&rig);

    // The worker is dead: the source reopens without it.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    rig.kill_worker().unwrap();
    rig.write_source().unwrap_err();
    expire(&rig);
    rig.write_source().unwrap();
    rig.hook().unwrap();
    assert_lifted(&rig);

    // Killed in the middle of the hand-over; the request still stands and must not open the target.
    let closing = json!({"kind": "noted", "step": "hand-over", "name": "closing-source"});
    rig.stall_at(&closing).unwrap();
    rig.want(Goal::Flipped).unwrap();
    rig.kill_at(&closing).unwrap();
    expire(&rig);
    rig.write_source().unwrap();
    rig.hook().unwrap();
    let said = rig.refused();
    assert!(said.contains("ran out"), "{said}");
    assert_lifted(&rig);

    // The same with a worker that is only slow: it finds the lease gone at the very last moment.
    rig.stall_at(&closing).unwrap();
    rig.want(Goal::Flipped).unwrap();
    rig.stalled(&closing).unwrap();
    expire(&rig);
    rig.write_source().unwrap();
    rig.release().unwrap();
    let said = rig.refused();
    assert!(said.contains("ran out"), "{said}");
    assert_lifted(&rig);

    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}

#[test]
fn the_documented_order_after_its_schema_migration() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.reach_with(Goal::Drained, &settings);
    rig.migrate_schema(&settings);
    // An hour goes by.
    expire(&rig);
    assert_lifted(&rig);
    let state = rig.reach_with(Goal::Following, &settings);
    assert_eq!(state.phase(), Phase::Following);
    rig.on_source(
        "UPDATE public.sessions SET active = false WHERE id = (SELECT min(id::text)::uuid FROM public.sessions)",
    )
    .unwrap();
    // The slot is lost now, when the target has the new schema already: late rows fit, so what differs is repaired.
    super::repair::lose_the_slot(&rig);
    rig.on_source(
        "DELETE FROM public.session_devices WHERE id = (SELECT min(id::text)::uuid FROM public.session_devices)",
    )
    .unwrap();
    let state = rig.reach_with(Goal::Following, &settings);
    super::repair::assert_repaired(state.active().unwrap());
    assert_eq!(rig.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}

/// The application's migration still runs when the lease ends: the target stays open for it and no longer.
#[test]
fn the_documented_order_while_its_schema_migration_runs() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.reach_with(Goal::Drained, &settings);
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    rig.asked();
    rig.write_target().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = rig.target_uri();
    let migration = runtime.block_on(peers::cluster::connect(&uri)).unwrap();
    rig.until("the migration to be seen", LONG, |_, progress| progress.text.contains("is running")).unwrap();
    expire(&rig);
    rig.until("the lift", LONG, |state, _| state.phase() == Phase::Following).unwrap();
    rig.write_source().unwrap();
    rig.until("it to be said", LONG, |_, progress| {
        progress.trouble.as_ref().is_some_and(|trouble| trouble.contains("still runs"))
    })
    .unwrap();
    runtime.block_on(migration.batch_execute("SELECT 1")).unwrap();
    drop(migration);
    peers::wait_for("the target to be closed", LONG, || match rig.write_target() {
        Ok(()) => Err("writes pass"),
        Err(_) => Ok(()),
    })
    .unwrap();
    assert_eq!(rig.reach_with(Goal::Drained, &settings).phase(), Phase::Drained);
    rig.migrate_schema(&settings);
    assert_eq!(rig.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}
