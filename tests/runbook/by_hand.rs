//! What people and servers do behind the worker's back: it is noticed and said, and `replicate` makes it good.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings, Step};
use coordinator::postgres::names::JOURNAL_SCHEMA;
use coordinator::steps::watch;
use peers::cluster::Mode;
use peers::wait_for;
use serde_json::json;

/// The run's name of publication, slot and subscription.
fn name(rig: &Rig) -> String {
    rig.on_target("SELECT subname FROM pg_subscription WHERE subname LIKE 'identity%'").unwrap()
}

fn drop_slot(rig: &Rig) {
    let name = name(rig);
    wait_for("the slot to be dropped", LONG, || {
        rig.on_source(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;
             SELECT pg_drop_replication_slot('{name}')"
        ))
    })
    .unwrap();
}

fn disable(rig: &Rig) {
    rig.on_target(&format!("ALTER SUBSCRIPTION {} DISABLE", name(rig))).unwrap();
}

pub fn drop_subscription(rig: &Rig) {
    let name = name(rig);
    disable(rig);
    rig.on_target(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).unwrap();
    rig.on_target(&format!("DROP SUBSCRIPTION {name}")).unwrap();
}

fn drop_publication(rig: &Rig) {
    rig.on_source(&format!("DROP PUBLICATION {}", name(rig))).unwrap();
}

pub fn make_slot_anew(rig: &Rig) {
    make_slot(rig, "pgoutput");
}

fn make_another_slot(rig: &Rig) {
    make_slot(rig, "test_decoding");
}

fn make_slot(rig: &Rig, plugin: &str) {
    let name = name(rig);
    wait_for("the slot to be made anew", LONG, || {
        rig.on_source(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;
             SELECT pg_drop_replication_slot('{name}'); SELECT pg_create_logical_replication_slot('{name}', '{plugin}')"
        ))
    })
    .unwrap();
}

pub fn unpublish_a_table(rig: &Rig) {
    rig.on_source(&format!("ALTER PUBLICATION {} DROP TABLE public.sessions", name(rig))).unwrap();
}

fn publish_another_table(rig: &Rig) {
    rig.on_source(&format!("ALTER PUBLICATION {} ADD TABLE public.schema_migration", name(rig))).unwrap();
}

fn drop_the_sources_marker(rig: &Rig) {
    rig.on_source("DROP TABLE identity_migration.marker").unwrap();
}

fn drop_the_targets_marker(rig: &Rig) {
    rig.on_target("DROP TABLE identity_migration.marker").unwrap();
}

/// Waits until the worker's watch has begun to look twice, so that what is true now was seen.
pub fn looked_again(rig: &Rig) {
    let before = rig.looks();
    wait_for("the watch to look", LONG, || if rig.looks() >= before + 2 { Ok(()) } else { Err("not yet") }).unwrap();
}

/// Waits until the journal says that something was lost, and says what.
pub fn lost(rig: &Rig) -> String {
    let state =
        rig.until("the loss to be noticed", LONG, |state, _| state.active().is_some_and(|run| !run.follows())).unwrap();
    assert_eq!(state.phase(), Phase::Following);
    state.active().unwrap().lost.clone().unwrap()
}

/// A late write arrives on the target.
pub fn assert_follows(rig: &Rig) {
    rig.on_source("UPDATE public.identities SET metadata_admin = jsonb_build_object('at', clock_timestamp()) WHERE id = (SELECT min(id::text)::uuid FROM public.identities)").unwrap();
    let sql = "SELECT metadata_admin FROM public.identities ORDER BY id::text LIMIT 1";
    let wanted = rig.on_source(sql).unwrap();
    wait_for("the write to arrive", LONG, || match rig.on_target(sql).unwrap() {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .unwrap();
}

#[test]
#[ignore = "slow: make test-all"]
fn while_following_and_while_fenced() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    type Case = (&'static str, fn(&Rig));
    let cases: [Case; 10] = [
        ("disabled by hand", disable),
        ("slot", drop_slot),
        ("replication slot", make_slot_anew),
        ("replication slot", make_another_slot),
        ("subscription", drop_subscription),
        ("publication", drop_publication),
        ("does not publish table public.sessions", unpublish_a_table),
        ("publishes table public.schema_migration too", publish_another_table),
        ("does not publish table identity_migration.marker", drop_the_sources_marker),
        ("follows", drop_the_targets_marker),
    ];
    for (word, by_hand) in cases {
        // What the worker knows of the slot includes this.
        rig.on_source("UPDATE public.identities SET updated_at = updated_at").unwrap();
        assert_follows(&rig);
        looked_again(&rig);
        by_hand(&rig);
        let said = lost(&rig);
        assert!(said.contains(word), "{word}: {said}");
        rig.write_source().unwrap();
        assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following, "{word}");
        assert_follows(&rig);
    }
    for mode in [Mode::Fast, Mode::Immediate] {
        rig.restart_source(mode).unwrap();
        assert_follows(&rig);
        let state = rig.reach(Goal::Following);
        assert!(state.active().unwrap().follows());
    }

    rig.migrate_schema(&Settings::default());
    disable(&rig);
    assert!(lost(&rig).contains("disabled"));
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert_follows(&rig);
    assert!(rig.reach(Goal::Migrated).active().unwrap().is_done(Step::Gates));

    // Fenced and drained: restarts change nothing, the fence holds.
    for mode in [Mode::Fast, Mode::Immediate] {
        assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
        rig.restart_source(mode).unwrap();
        rig.write_source().unwrap_err();
    }
    rig.until("the worker to see the source again", LONG, |_, progress| progress.trouble.is_none()).unwrap();
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);

    // A slot that is dropped then: nobody is kept waiting by a fence that leads nowhere.
    drop_slot(&rig);
    assert!(lost(&rig).contains("slot"));
    rig.write_source().unwrap();
    rig.write_target().unwrap_err();
    // The target's schema is the new one already: nothing but a repair leads on.
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert!(rig.reach(Goal::Migrated).active().unwrap().is_done(Step::Gates));
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}

/// The subscription of a new copy is not there before `follow` creates it, however long the copy takes: that is no loss.
#[test]
fn a_new_copy_that_takes_longer_than_a_look_is_the_last_one() {
    let rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    let slot = json!({"kind": "noted", "step": "copy", "name": "slot"});
    for by_hand in [drop_slot, drop_subscription] {
        by_hand(&rig);
        lost(&rig);
        rig.stall_at(&slot).unwrap();
        rig.want(Goal::Following).unwrap();
        rig.stalled(&slot).unwrap();
        // The copy has to outlast the pause between two looks: this is how long it takes, not a wait for something.
        std::thread::sleep(2 * watch::EVERY);
        rig.release().unwrap();
        assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
        assert_follows(&rig);
    }
    let begun = json!({"kind": "started", "step": "copy"});
    let copies = format!("SELECT count(*) FROM {JOURNAL_SCHEMA}.entry WHERE record @> '{begun}'");
    assert_eq!(rig.on_journal(&copies).unwrap(), "3");
}
