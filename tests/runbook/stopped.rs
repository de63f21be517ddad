//! The apply worker stops: after something that passes it is revived, after a conflict or by a person's hand it is
//! said, and the same action goes on once that is mended.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, State};
use peers::cluster::Mode;
use peers::wait_for;
use serde_json::json;

const TABLE: &str = "public.selfservice_errors";

fn insert(id: &str) -> String {
    format!(
        "INSERT INTO {TABLE} (id, errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid)
         SELECT '{id}', errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid FROM {TABLE} LIMIT 1"
    )
}

const CONFLICT: &str = "00000000-0000-4000-8000-00000000c0de";

fn plant_conflict(rig: &Rig) {
    rig.on_target(&format!("SET session_replication_role = replica; {}", insert(CONFLICT))).unwrap();
}

fn mend_conflict(rig: &Rig) {
    let sql = format!("SET session_replication_role = replica; DELETE FROM {TABLE} WHERE id = '{CONFLICT}'");
    rig.on_target(&sql).unwrap();
}

fn name(rig: &Rig) -> String {
    rig.on_target("SELECT subname FROM pg_subscription WHERE subname LIKE 'identity%'").unwrap()
}

fn is_enabled(rig: &Rig) -> bool {
    rig.on_target("SELECT subenabled FROM pg_subscription WHERE subname LIKE 'identity%'").unwrap() == "t"
}

fn lost(rig: &Rig) -> (State, String) {
    let state =
        rig.until("the stop to be said", LONG, |state, _| state.active().is_some_and(|run| !run.follows())).unwrap();
    let said = state.active().unwrap().lost.clone().unwrap();
    (state, said)
}

fn follows(rig: &Rig) {
    rig.on_source("UPDATE public.identities SET metadata_admin = jsonb_build_object('at', clock_timestamp()) WHERE id = (SELECT min(id::text)::uuid FROM public.identities)").unwrap();
    let sql = "SELECT metadata_admin FROM public.identities ORDER BY id::text LIMIT 1";
    let wanted = rig.on_source(sql).unwrap();
    wait_for("the write to arrive", LONG, || match rig.on_target(sql).unwrap() {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{seen}, the subscription is enabled: {}", is_enabled(rig))),
    })
    .unwrap();
}

#[test]
fn what_passes_heals_and_what_does_not_is_said() {
    let mut rig = Rig::with_settings(14, 16, 300, &[("logging_collector", "on")]).unwrap();
    rig.reach(Goal::Following);
    for _ in 0..3 {
        rig.on_source("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active").unwrap();
        follows(&rig);
    }
    rig.restart_source(Mode::Immediate).unwrap();
    follows(&rig);
    rig.restart_target(Mode::Immediate).unwrap();
    follows(&rig);
    assert!(rig.now().unwrap().0.active().unwrap().follows());

    // A conflict.
    plant_conflict(&rig);
    rig.on_source(&insert(CONFLICT)).unwrap();
    let (state, said) = lost(&rig);
    assert!(said.contains("duplicate key value") && said.contains("selfservice_errors"), "{said}");
    assert_eq!(state.phase(), Phase::Following);
    // Asked for again without being mended: it ends with the same words.
    rig.want(Goal::Following).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("duplicate key value") && refused.contains("again"), "{refused}");
    mend_conflict(&rig);
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    follows(&rig);

    // A person's hand, with the worker alive and dead.
    for dead in [false, true] {
        if dead {
            rig.kill_worker().unwrap();
        }
        rig.on_target(&format!("ALTER SUBSCRIPTION {} DISABLE", name(&rig))).unwrap();
        rig.hook().unwrap();
        let (_, said) = lost(&rig);
        assert!(said.contains("disabled by hand"), "{said}");
        assert!(!is_enabled(&rig), "nobody asked for it");
        assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
        follows(&rig);
    }

    // In the middle of a drain: the fence does not outlive it.
    rig.migrate_schema(&Default::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = rig.target_uri();
    let client = runtime.block_on(peers::cluster::connect(&uri)).unwrap();
    let near = json!({"kind": "started", "step": "fence"});
    rig.stall_at(&near).unwrap();
    rig.want(Goal::Drained).unwrap();
    rig.stalled(&near).unwrap();
    runtime.block_on(client.batch_execute(&format!("BEGIN; LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE"))).unwrap();
    let conflict = "00000000-0000-4000-8000-00000000c0df";
    rig.on_source(&insert(conflict)).unwrap();
    rig.release().unwrap();
    rig.until("the fence", LONG, |state, _| state.phase() == Phase::Fenced).unwrap();
    let late = format!("SET session_replication_role = replica; {}", insert(conflict));
    runtime.block_on(client.batch_execute(&format!("{late}; COMMIT"))).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("duplicate key value"), "{refused}");
    rig.write_source().unwrap();
    rig.on_target(&format!("SET session_replication_role = replica; DELETE FROM {TABLE} WHERE id = '{conflict}'"))
        .unwrap();
    rig.reach(Goal::Following);
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}

#[test]
#[ignore = "slow: make test-all"]
fn a_14_that_starts_its_worker_over_and_over_is_noticed() {
    let rig = Rig::new(14, 14, 300).unwrap();
    rig.reach(Goal::Following);
    rig.restart_source(Mode::Immediate).unwrap();
    follows(&rig);
    plant_conflict(&rig);
    rig.on_source(&insert(CONFLICT)).unwrap();
    let (_, said) = lost(&rig);
    assert!(said.contains("apply worker") && said.contains("log"), "{said}");
    rig.want(Goal::Following).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("apply worker"), "{refused}");
    mend_conflict(&rig);
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    follows(&rig);
    rig.assert_equal();
}
