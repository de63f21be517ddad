//! Differences planted on the target are found, each once, and stop what they must stop.

use super::rig::{LONG, Rig};
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, OrderChoice, Phase, Settings, Step, Verification};
use serde_json::json;

/// One changed, one missing and one extra row, past every fence.
fn plant(rig: &Rig) {
    rig.on_target(
        "SET session_replication_role = replica;
         UPDATE public.sessions SET active = NOT active WHERE id = (SELECT id FROM public.sessions ORDER BY id LIMIT 1);
         DELETE FROM public.session_devices WHERE id = (SELECT id FROM public.session_devices ORDER BY id LIMIT 1);
         INSERT INTO public.selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid)
         SELECT gen_random_uuid(), errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid
         FROM public.selfservice_errors LIMIT 1",
    )
    .unwrap();
}

/// The three rows as the source has them.
fn mend(rig: &Rig) {
    let row = "SELECT row_to_json(t) FROM public.session_devices t ORDER BY id LIMIT 1";
    let row = rig.on_source(row).unwrap().replace('\'', "''");
    let errors = rig.on_source("SELECT quote_literal(array_agg(id)::text) FROM public.selfservice_errors").unwrap();
    rig.on_target(&format!(
        "SET session_replication_role = replica;
         UPDATE public.sessions SET active = NOT active WHERE id = (SELECT id FROM public.sessions ORDER BY id LIMIT 1);
         INSERT INTO public.session_devices SELECT * FROM json_populate_record(NULL::public.session_devices, '{row}');
         DELETE FROM public.selfservice_errors WHERE id <> ALL ({errors})",
    ))
    .unwrap();
}

fn assert_found(said: &str) {
    for words in [
        "3 rows differ",
        "sessions: 1 changed, 0 missing, 0 extra",
        "session_devices: 0 changed, 1 missing, 0 extra",
        "selfservice_errors: 0 changed, 0 missing, 1 extra",
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
}

/// Drained and compared, but never opened; rolled back afterwards.
fn refused_before_the_open(rig: &mut Rig, settings: &Settings) {
    plant(rig);
    rig.want_with(Goal::Drained, settings.clone()).unwrap();
    rig.until("the comparison", LONG, |state, _| {
        let run = state.active();
        run.and_then(|run| run.steps.get(&Step::Verify)).is_some_and(|verify| verify.failure.is_some())
    })
    .unwrap();
    for goal in [Goal::Drained, Goal::Flipped] {
        rig.want_with(goal, settings.clone()).unwrap();
        let state = rig.until("an end", LONG, |state, _| state.request.is_none()).unwrap();
        assert_eq!(state.phase(), Phase::Drained);
        let said = state.failure.unwrap().sentence;
        assert_found(&said);
        assert!(said.contains("rollback") && said.contains("drain"), "{said}");
    }
    mend(rig);
    assert_eq!(rig.reach_with(Goal::Drained, settings).phase(), Phase::Drained);
    rig.verified();
    rig.write_source().unwrap_err();
    rig.write_target().unwrap_err();
    rig.roll_back("rows differ");
}

#[test]
#[ignore = "slow: make test-all"]
fn in_both_orders() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let documented = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.reach_with(Goal::Following, &documented);
    refused_before_the_open(&mut rig, &documented);

    let strict = Settings { verification: Verification::Strict, ..Settings::default() };
    rig.reach_with(Goal::Following, &strict);
    rig.migrate_schema(&strict);
    refused_before_the_open(&mut rig, &strict);

    // Twin, found in time because nobody hurries.
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    refused_before_the_open(&mut rig, &Settings::default());

    // Twin, found after the open: a lock holds the comparison up.
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    plant(&rig);
    // With a way back the lock would hold up its slot too.
    rig.on_target("ALTER TABLE public.selfservice_errors REPLICA IDENTITY NOTHING").unwrap();
    rig.want(Goal::Flipped).unwrap();
    assert!(rig.refused().contains("selfservice_errors has no replica identity"), "{}", rig.refused());
    let drained = json!({"kind": "done", "step": "drain"});
    rig.stall_at(&drained).unwrap();
    rig.ask(Request { accept_no_way_back: true, ..Request::plain("test", Goal::Flipped) }).unwrap();
    rig.stalled(&drained).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = rig.target_uri();
    let client = runtime.block_on(peers::cluster::connect(&uri)).unwrap();
    let lock = "BEGIN; LOCK TABLE public.continuity_containers IN ACCESS EXCLUSIVE MODE";
    runtime.block_on(client.batch_execute(lock)).unwrap();
    rig.release().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Flipped);
    // Nothing flows in any direction: no WAL is kept for it.
    assert_eq!(rig.on_source("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    rig.until("the comparison", LONG, |state, _| state.active().is_some_and(|run| run.is_done(Step::Verify))).unwrap();
    rig.want(Goal::Finalized).unwrap();
    assert_found(&rig.refused());
    rig.want(Goal::RolledBack).unwrap();
    assert!(rig.refused().contains("it was given up before the start"), "{}", rig.refused());
    assert_eq!(rig.now().unwrap().0.phase(), Phase::Flipped);
}
