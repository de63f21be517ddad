//! What people and servers do behind the worker's back: it is noticed and said, and `replicate` makes it good.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings, Step};
use peers::cluster::Mode;
use peers::wait_for;

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

fn drop_subscription(rig: &Rig) {
    let name = name(rig);
    disable(rig);
    rig.on_target(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).unwrap();
    rig.on_target(&format!("DROP SUBSCRIPTION {name}")).unwrap();
}

fn drop_publication(rig: &Rig) {
    rig.on_source(&format!("DROP PUBLICATION {}", name(rig))).unwrap();
}

/// Waits until the journal says that something was lost, and says what.
fn lost(rig: &Rig) -> String {
    let state =
        rig.until("the loss to be noticed", LONG, |state, _| state.active().is_some_and(|run| !run.follows())).unwrap();
    assert_eq!(state.phase(), Phase::Following);
    state.active().unwrap().lost.clone().unwrap()
}

/// A late write arrives on the target.
fn assert_follows(rig: &Rig) {
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
fn while_following_and_while_fenced() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    type Case = (&'static str, fn(&Rig));
    let cases: [Case; 4] = [
        ("disabled", disable),
        ("slot", drop_slot),
        ("subscription", drop_subscription),
        ("publication", drop_publication),
    ];
    for (word, by_hand) in cases {
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
    // The target's schema is the new one already, so a new copy needs a new run.
    rig.want(Goal::Following).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("schema") && refused.contains("rollback"), "{refused}");
    rig.roll_back("after the slot was lost");
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}
