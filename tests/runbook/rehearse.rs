//! The schema migration is tried on the following target, with the real servers and under writers, and taken back: what
//! comes after it is as if nothing had been tried.

use super::copy_kills::write;
use super::repair::plant;
use super::rig::{LONG, Rig};
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, OrderChoice, Phase, Rehearsed, Settings, State, Step, plan};
use peers::wait_for;
use peers::writers::Writers;

/// What `rehearse` asks for.
pub fn request(settings: &Settings) -> Request {
    Request { with_refresh: true, settings: settings.clone(), ..Request::plain("rehearse", Goal::Rehearsed) }
}

fn documented() -> Settings {
    Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() }
}

/// The server of the new release still runs on the schema of the old one, and is not trusted before it was restarted.
fn restarted(rig: &mut Rig) {
    let next = rig.asked();
    assert!(next.ends_with("/charm/bin/pebble restart kratos"), "{next}");
    rig.stop_target().unwrap();
    rig.until("the migration to be asked for", LONG, |_, progress| {
        progress.waiting.as_ref().is_some_and(|waiting| waiting.next.contains("run-migration timeout="))
    })
    .unwrap();
}

/// A rehearsal up to its end, from where the migration is asked for.
fn rehearsed(rig: &mut Rig) -> State {
    rig.run_migration().unwrap();
    let state = rig.settled(LONG * 2).unwrap();
    as_before(rig, &state);
    state
}

/// The target follows, closed, with the source's schema, and nothing of the rehearsal stands.
fn as_before(rig: &Rig, state: &State) {
    let run = state.active().unwrap();
    assert_eq!((state.phase(), run.rehearsing, run.follows()), (Phase::Following, false, true), "{run:?}");
    assert!([Step::Pause, Step::Migrate, Step::CatchUp, Step::Gates].iter().all(|step| !run.is_done(*step)), "{run:?}");
    rig.assert_equal_schemas();
    rig.write_target().unwrap_err();
    rig.write_source().unwrap();
    assert_eq!(rig.on_target("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%fill%'").unwrap(), "0");
    assert_eq!(rig.on_source("SELECT count(*) FROM pg_replication_slots").unwrap(), "1");
}

/// What was measured is a figure of this very rehearsal.
fn measured(state: &State) -> &Rehearsed {
    let found = state.rehearsed.as_ref().unwrap();
    assert_eq!((found.from.as_str(), found.to.as_str()), ("1.0.0", "1.3.1"));
    let (took, serves) = (found.migration_seconds.unwrap(), found.serving_seconds.unwrap());
    assert!(took > 0.1 && took < serves && serves < 120.0, "{found:?}");
    assert!(found.rows_verified.unwrap() > 1000, "{found:?}");
    found
}

/// Everything that was acknowledged is on the target, once, and users never met a fence before the real one.
fn flipped(rig: &Rig, writers: Writers, settings: &Settings) {
    assert_eq!(rig.reach_with(Goal::Flipped, settings).phase(), Phase::Flipped);
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
    assert!(verdict.acknowledged > 100, "{verdict:?}");
    rig.verified();
}

#[test]
fn under_writers_and_then_for_good() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let people = peers::seed::people(&rig.source_client(), 2).unwrap();
    let writers = write(&rig);
    rig.ask(request(&Settings::default())).unwrap();
    let next = rig.asked();
    assert!(next.starts_with("juju run kratos-new/leader run-migration timeout="), "{next}");
    let state = rig.now().unwrap().0;
    assert_eq!((state.phase(), plan::usual_next(&state)), (Phase::Migrating, "rehearse"));
    let state = rehearsed(&mut rig);
    let first = measured(&state).clone();
    assert_eq!(plan::usual_next(&state), "run-migration");
    // The same once more has been done; the rows that were kept needed no new copy, or were dearer to compare.
    rig.ask(request(&Settings::default())).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().rehearsed.unwrap(), first);
    assert!(rig.worker_log().contains("comparing both sides takes about"), "{}", rig.worker_log());

    rig.want(Goal::Migrated).unwrap();
    restarted(&mut rig);
    let told = rig.now().unwrap().1.waiting.unwrap().reason;
    assert!(told.contains(&format!("in the rehearsal that took {:.1} s", first.migration_seconds.unwrap())), "{told}");
    rig.run_migration().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    flipped(&rig, writers, &Settings::default());
    peers::seed::check_people(&rig.target_client(), &people).unwrap();
    rig.assert_no_secret();
}

#[test]
#[ignore = "slow: make test-all"]
fn twice_in_the_documented_order_and_then_for_good() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let writers = write(&rig);
    let settings = documented();
    rig.ask(request(&settings)).unwrap();
    rig.asked();
    let first = measured(&rehearsed(&mut rig)).clone();
    rig.ask(Request { rehearse_again: true, ..request(&settings) }).unwrap();
    restarted(&mut rig);
    let state = rehearsed(&mut rig);
    assert!(measured(&state).seq > first.seq, "{:?}", state.rehearsed);
    // What was measured goes beyond the run.
    rig.roll_back("after two rehearsals");
    assert_eq!(rig.reach_with(Goal::Drained, &settings).rehearsed, state.rehearsed);
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    rig.asked();
    assert!(rig.now().unwrap().1.waiting.unwrap().reason.contains("in the rehearsal that took"));
    rig.run_migration().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Drained);
    flipped(&rig, writers, &settings);
}

/// In the order documented the same, from every place that a worker may die at.
#[test]
#[ignore = "slow: make test-all"]
fn rolled_back_from_every_place() {
    let mut rig = Rig::new(14, 16, 150).unwrap();
    for settings in [Settings::default(), documented()] {
        rig.ask(request(&settings)).unwrap();
        rig.asked();
        rig.roll_back("asked for the migration");
        for place in [
            "record-after/rehearsal-started",
            "record-after/done/pause",
            "record-after/done/migrate",
            "record-before/done/catch-up",
            "record-after/done/gates",
            "record-after/started/prove",
            "record-after/started/reset",
            "record-before/done/reset",
            "record-after/done/reset",
            "record-after/started/copy",
        ] {
            // The first copy is not the one that is meant.
            rig.reach_with(Goal::Following, &settings);
            rig.stop_at(place).unwrap();
            rig.ask(request(&settings)).unwrap();
            if !["record-after/rehearsal-started", "record-after/done/pause"].contains(&place) {
                rig.asked();
                rig.run_migration().unwrap();
            }
            rig.stopped_at(place).unwrap();
            rig.write_source().unwrap();
            rig.kill_worker().unwrap();
            rig.roll_back(place);
        }
    }
    rig.ask(request(&documented())).unwrap();
    rig.asked();
    measured(&rehearsed(&mut rig));
}

#[test]
#[ignore = "slow: make test-all"]
fn what_differs_is_told_and_a_new_copy_leads_on() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.ask(request(&Settings::default())).unwrap();
    rig.asked();
    rig.stop_at("record-before/started/prove").unwrap();
    rig.run_migration().unwrap();
    rig.stopped_at("record-before/started/prove").unwrap();
    plant(|sql| rig.on_target(sql));
    rig.go_on().unwrap();
    let told = rig.refused();
    assert!(told.starts_with("cannot trust the migration: ") && told.contains("sessions: 3 changed"), "{told}");
    let state = rig.now().unwrap().0;
    assert_eq!((plan::usual_next(&state), state.rehearsed.is_none()), ("rehearse", true));
    // Compared again it is the same; the reset with its copy mends it, and no figure is kept of it.
    rig.ask(request(&Settings::default())).unwrap();
    assert!(rig.refused().starts_with("cannot trust the migration: "));
    let state = rig.reach(Goal::Following);
    as_before(&rig, &state);
    assert!(state.rehearsed.is_none());
    rig.assert_equal();
}

#[test]
#[ignore = "slow: make test-all"]
fn a_slot_that_keeps_too_much_ends_it() {
    let settings = Settings { max_kept_wal_bytes: 64 << 20, ..Settings::default() };
    let rig = Rig::new(14, 16, 300).unwrap();
    rig.ask(request(&settings)).unwrap();
    rig.asked();
    super::room::write_much(|sql| rig.on_source(sql));
    let told = rig.refused();
    assert!(told.starts_with("cannot end the rehearsal: ") && told.contains("max-kept-wal-bytes"), "{told}");
    assert_eq!(plan::usual_next(&rig.now().unwrap().0), "replicate");
    let state = rig.reach_with(Goal::Following, &settings);
    as_before(&rig, &state);
    rig.assert_equal();
}
