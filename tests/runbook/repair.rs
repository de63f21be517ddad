//! What is lost while following is repaired and not copied anew: under live writers, killed at every place, after the
//! schema migration, after a failover of either side.

use super::copy_kills::{arm, killed, make_big, prove, write};
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Run, Settings, State, Step, plan};
use peers::cluster::{Cluster, Mode};
use peers::wait_for;

/// Drops the slot, and waits until that is said.
pub fn lose_the_slot(rig: &Rig) {
    let name = rig.on_target("SELECT subname FROM pg_subscription WHERE subname LIKE 'identity%'").unwrap();
    wait_for("the slot to be dropped", LONG, || {
        rig.on_source(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;
             SELECT pg_drop_replication_slot('{name}')"
        ))
    })
    .unwrap();
    lost(rig, "replication slot");
}

/// Waits until the journal says in these words that something was lost, and says the whole.
fn lost(rig: &Rig, words: &str) -> String {
    let said = |state: &State| {
        let run = state.active().filter(|run| !run.follows());
        run.and_then(|run| run.lost.clone()).filter(|lost| lost.contains(words))
    };
    let state = rig.until("the loss to be noticed", LONG, |state, _| said(state).is_some()).unwrap();
    assert_eq!(plan::usual_next(&state), "replicate");
    said(&state).unwrap()
}

/// Changed, missing and extra rows on one side.
pub fn plant(on: impl Fn(&str) -> anyhow::Result<String>) {
    on(
        "SET session_replication_role = replica;
         UPDATE public.sessions SET active = NOT active WHERE id IN (SELECT id FROM public.sessions ORDER BY id LIMIT 3);
         DELETE FROM public.session_devices WHERE id IN (SELECT id FROM public.session_devices ORDER BY id LIMIT 3);
         INSERT INTO public.selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid)
         SELECT gen_random_uuid(), errors, seen_at, was_seen, created_at, updated_at, csrf_token, nid
         FROM public.selfservice_errors LIMIT 1",
    )
    .unwrap();
}

fn number(run: &Run, name: &str) -> u64 {
    run.output(Step::Copy, name).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{name}: {run:?}"))
}

/// The copy's output says that it was a repair, and why.
pub fn assert_repaired(run: &Run) {
    assert_eq!(run.output(Step::Copy, "engine").unwrap(), "repair", "{run:?}");
    let choice = run.output(Step::Copy, "choice").unwrap().as_str().unwrap();
    assert!(choice.contains("a new copy about") && choice.contains("repaired"), "{choice}");
    assert!(run.output(Step::Copy, "estimate").unwrap()["copy-seconds"].as_f64().unwrap() > 0.0, "{run:?}");
}

#[test]
fn a_lost_slot_is_repaired_under_writers_and_killed_everywhere() {
    let rig = Rig::new(14, 16, 300).unwrap();
    make_big(&rig);
    let writers = write(&rig);
    let copied = number(rig.reach(Goal::Following).active().unwrap(), "bytes-copied");
    assert!(copied > 50_000_000, "{copied}");
    lose_the_slot(&rig);
    let before = writers.acknowledged();
    wait_for("writes that the target misses", LONG, || match writers.acknowledged() {
        now if now > before + 50 => Ok(()),
        now => Err(now),
    })
    .unwrap();
    plant(|sql| rig.on_target(sql));

    let places = [
        "repair-found",
        "repair-deleted/sessions",
        "repair-proven/sessions",
        "repair-table/sessions",
        "record-before/done/copy",
    ];
    arm(&rig, places[0], "kill");
    rig.want(Goal::Following).unwrap();
    for (index, place) in places.iter().enumerate() {
        killed(&rig, place);
        if let Some(next) = places.get(index + 1) {
            arm(&rig, next, "kill");
        }
        rig.hook().unwrap();
    }
    let state = rig.settled(LONG).unwrap();
    let run = state.active().unwrap();
    assert_eq!(state.phase(), Phase::Following);
    assert_repaired(run);
    // The choice and both figures are shown before it is followed, and the log has them.
    let shown = |text: &str| text.contains("comparing both sides takes about") && text.contains("a new copy about");
    assert!(shown(run.note(Step::Copy, "choice").unwrap()["said"].as_str().unwrap()), "{run:?}");
    assert!(shown(&rig.worker_log()), "{}", rig.worker_log());
    assert!(number(run, "bytes-copied") < copied / 20, "{run:?}");
    prove(rig, writers);
}

#[test]
fn after_the_schema_migration_it_goes_on_to_the_end() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let writers = write(&rig);
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    let seeded = "SELECT count(*) FROM public.identity_credential_types";
    let types = (rig.on_source(seeded).unwrap(), rig.on_target(seeded).unwrap());
    lose_the_slot(&rig);
    plant(|sql| rig.on_target(sql));
    arm(&rig, "repair-deleted/sessions", "kill");
    rig.want(Goal::Following).unwrap();
    killed(&rig, "repair-deleted/sessions");
    rig.hook().unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_repaired(state.active().unwrap());
    assert_eq!(plan::usual_next(&state), "run-migration");
    // Nobody has to do the migration again.
    assert!(rig.reach(Goal::Migrated).active().unwrap().is_done(Step::Gates));
    assert_eq!((rig.on_source(seeded).unwrap(), rig.on_target(seeded).unwrap()), types);

    // Once more while writes are stopped: they pass again, and it goes on from there.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    lose_the_slot(&rig);
    rig.write_source().unwrap();
    for goal in [Goal::Following, Goal::Migrated] {
        assert_eq!(rig.reach(goal).phase(), Phase::Following);
    }
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
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
    rig.verified();
    assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
}

/// The server goes on as a standby of nobody and is promoted: the same data on the next timeline.
fn fail_over(cluster: &Cluster) {
    cluster.stop(Mode::Fast).unwrap();
    std::fs::write(cluster.data_path().join("standby.signal"), "").unwrap();
    cluster.start_again().unwrap();
    assert_eq!(cluster.psql("postgres", "SELECT pg_promote()").unwrap(), "t");
}

#[test]
fn a_failover_of_either_side_is_repaired_and_a_target_that_differs_too_much_is_copied_anew() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    // What an asynchronous standby of the target did not have.
    fail_over(&rig.target);
    rig.reopen_journal().unwrap();
    plant(|sql| rig.on_target(sql));
    let index = "SELECT min(indexname) FROM pg_indexes WHERE tablename = 'sessions' AND indexdef NOT LIKE '%UNIQUE%'";
    rig.on_target(&format!("DROP INDEX public.{}", rig.on_target(index).unwrap())).unwrap();
    let said = lost(&rig, "the target at");
    assert!(said.contains("timeline 2") && said.contains("timeline 1"), "{said}");
    assert_repaired(rig.reach(Goal::Following).active().unwrap());

    fail_over(&rig.source);
    let said = lost(&rig, "the source at");
    assert!(said.contains("timeline 2"), "{said}");
    assert_repaired(rig.reach(Goal::Following).active().unwrap());
    rig.assert_equal();
    rig.assert_equal_schemas();

    // Most rows of the biggest tables are others.
    lose_the_slot(&rig);
    rig.on_target(
        "SET session_replication_role = replica; UPDATE public.identities SET metadata_admin = '1';
         UPDATE public.sessions SET active = NOT active; UPDATE public.courier_messages SET subject = subject || '.';
         UPDATE public.identity_credentials SET updated_at = 'epoch'; DELETE FROM public.session_devices;
         DELETE FROM public.identity_credential_identifiers; DELETE FROM public.identity_recovery_addresses;
         DELETE FROM public.identity_verifiable_addresses",
    )
    .unwrap();
    let state = rig.reach(Goal::Following);
    let run = state.active().unwrap();
    assert_eq!(run.output(Step::Copy, "engine").unwrap(), "snapshot", "{run:?}");
    let choice = run.output(Step::Copy, "choice").unwrap().as_str().unwrap();
    assert!(choice.starts_with("more than half of") && choice.contains("copied anew"), "{choice}");
    rig.assert_equal();
    rig.assert_equal_schemas();

    // Neither side's new timeline stands in the way of the rest.
    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
}
