//! `engine=native`: PostgreSQL copies by itself, and whatever is cut off goes on or leaves nothing.

use super::copy_kills::{arm, go_on, hold, killed, make_big, prove, reached, write};
use super::rig::{LONG, Rig};
use coordinator::migration::{Engine, Goal, Phase, Settings, Step};
use peers::cluster::Mode;
use peers::wait_for;

fn native() -> Settings {
    Settings { engine: Engine::Native, ..Settings::default() }
}

/// Waits until a table is being copied.
fn copying(rig: &Rig) {
    let sql = "SELECT count(*) FROM pg_stat_progress_copy c JOIN pg_stat_subscription s ON s.pid = c.pid";
    wait_for("PostgreSQL to copy a table", LONG, || match rig.on_target(sql) {
        Ok(count) if count != "0" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
}

#[test]
#[ignore = "slow: make test-all"]
fn killed_everywhere_and_restarted_it_goes_on() {
    let rig = Rig::new(14, 16, 300).unwrap();
    make_big(&rig);
    let writers = write(&rig);
    let places = [
        "record-after/noted/copy/engine",
        "copy-truncated",
        "record-after/noted/copy/native",
        "copy-slot",
        "copy-native-enabled",
        "copy-foreign-keys",
        "copy-analyze",
        "record-before/done/copy",
    ];
    arm(&rig, places[0], "kill");
    rig.want_with(Goal::Following, native()).unwrap();
    for (index, place) in places.iter().enumerate() {
        killed(&rig, place);
        if let Some(next) = places.get(index + 1) {
            arm(&rig, next, "kill");
        }
        rig.hook().unwrap();
    }
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Following);
    let run = state.active().unwrap();
    assert_eq!(run.output(Step::Copy, "engine").unwrap(), "native");
    assert!(run.output(Step::Copy, "bytes-copied").unwrap().as_u64().unwrap() > 70 << 20);
    prove(rig, writers);
}

/// Begins to copy, with the target's trigger `held` firing for PostgreSQL's own workers from where preflight does not
/// see it any more.
fn begin_held(rig: &Rig) {
    rig.on_target("ALTER TABLE public.courier_messages ENABLE TRIGGER held").unwrap();
    arm(rig, "copy-truncated", "stop");
    rig.want_with(Goal::Following, native()).unwrap();
    reached(rig, "copy-truncated");
    rig.on_target("ALTER TABLE public.courier_messages ENABLE ALWAYS TRIGGER held").unwrap();
    go_on(rig);
    copying(rig);
}

#[test]
fn cut_off_in_the_middle_of_a_table_it_goes_on_or_leaves_nothing() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    make_big(&rig);
    let writers = write(&rig);
    // A rollback in the middle: the synchronisation's worker ends, its slot on the source goes.
    rig.on_target(
        "CREATE FUNCTION public.held() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END';
         CREATE TRIGGER held BEFORE INSERT ON public.courier_messages FOR EACH ROW EXECUTE FUNCTION public.held()",
    )
    .unwrap();
    let holder = hold(&rig);
    begin_held(&rig);
    rig.roll_back("in the middle of PostgreSQL's copy");
    let slots = rig.on_source("SELECT string_agg(slot_name, ' ') FROM pg_replication_slots").unwrap();
    assert_eq!(slots, "");

    // Killed in the middle, the source restarted, the worker of the synchronisation ended: PostgreSQL goes on.
    begin_held(&rig);
    let subscription = "SELECT oid FROM pg_subscription WHERE subname LIKE 'identity%'";
    let before = rig.on_target(subscription).unwrap();
    rig.kill_worker().unwrap();
    rig.hook().unwrap();
    rig.restart_source(Mode::Immediate).unwrap();
    copying(&rig);
    // A look that began before may not know who copies.
    for _ in 0..2 {
        let before = rig.now().unwrap().1.at;
        rig.until("the new worker to look", LONG, |_, progress| {
            progress.at > before && progress.text.starts_with("PostgreSQL copied")
        })
        .unwrap();
    }
    rig.on_target("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_progress_copy").unwrap();
    rig.until("the failure to be said", LONG, |_, progress| {
        progress.trouble.as_ref().is_some_and(|trouble| trouble.contains("synchronisation failed"))
    })
    .unwrap();
    rig.restart_target(Mode::Fast).unwrap();
    holder.join().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    assert_eq!(rig.on_target(subscription).unwrap(), before, "it went on and did not begin anew");
    // Asked for again, with whatever engine, nothing is copied again.
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert_eq!(rig.on_target(subscription).unwrap(), before);
    rig.on_target("DROP TRIGGER held ON public.courier_messages; DROP FUNCTION public.held()").unwrap();
    prove(rig, writers);
}

#[test]
fn what_postgresql_cannot_copy_is_said_and_can_be_mended() {
    let rig = Rig::new(14, 16, 300).unwrap();
    let writers = write(&rig);
    rig.on_source(
        "UPDATE public.courier_messages SET send_count = 77 WHERE id = (SELECT min(id::text)::uuid FROM public.courier_messages)",
    )
    .unwrap();
    rig.on_target("ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'").unwrap();
    rig.on_target("SELECT pg_reload_conf()").unwrap();
    // From where preflight does not see it any more.
    arm(&rig, "copy-truncated", "stop");
    rig.want_with(Goal::Following, native()).unwrap();
    reached(&rig, "copy-truncated");
    rig.on_target("ALTER TABLE public.courier_messages ADD CONSTRAINT low CHECK (send_count < 70)").unwrap();
    go_on(&rig);
    let refused = rig.refused();
    assert!(refused.contains("public.courier_messages") && refused.contains("log of"), "{refused}");
    rig.on_target("ALTER TABLE public.courier_messages DROP CONSTRAINT low").unwrap();
    // The run keeps its engine.
    let state = rig.reach(Goal::Following);
    assert_eq!(state.active().unwrap().output(Step::Copy, "engine").unwrap(), "native");
    prove(rig, writers);
}
