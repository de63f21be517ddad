//! A cluster restarts at every place of a whole migration under live writers: the worker heals or gives the outage
//! back, nothing is lost or doubled, and at no time both sides are open.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::cluster::Mode;
use peers::wait_for;
use peers::writers::Writers;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Source,
    Target,
}
use Side::{Source, Target};

/// Where the worker stands while the cluster restarts. The first half comes before the application's migration.
const BEFORE: [&str; 4] = ["done/follow", "started/pause", "done/pause", "noted/migrate/opened-at"];
const AFTER: [&str; 12] = [
    "started/catch-up",
    "done/catch-up",
    "started/fence",
    "done/fence",
    "started/drain",
    "done/drain",
    "started/snapshot",
    "done/snapshot",
    "noted/hand-over/closing-source",
    "noted/hand-over/source-closed",
    "noted/hand-over/opening-target",
    "done/hand-over",
];

/// How the places are dealt out over sides and modes.
type Deal = fn(usize) -> (Side, Mode);

pub fn restart(rig: &mut Rig, label: &str, (side, mode): (Side, Mode)) {
    eprintln!("{label}: {side:?} restarts, {mode:?}");
    match side {
        Source => rig.restart_source(mode).unwrap(),
        Target => rig.restart_target(mode).unwrap(),
    }
    rig.never_both(label);
}

/// Stops at each place in turn, restarts, goes on. A request that a lifted fence ended is asked for again.
fn walk(rig: &mut Rig, places: &[&str], from: usize, deal: Deal) {
    for (index, label) in places.iter().enumerate() {
        let failpoint = format!("record-after/{label}");
        rig.stopped_at(&failpoint).unwrap();
        restart(rig, label, deal(from + index));
        if let Some(next) = places.get(index + 1) {
            rig.stop_at(&format!("record-after/{next}")).unwrap();
        }
        rig.go_on().unwrap();
    }
}

fn run(deal: Deal) {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let wanted = peers::writers::Settings { connections: 4, rate: 60.0, oracle_file: rig.folder().join("oracle") };
    let writers = Writers::start(&rig.source_uri(), &wanted, "all").unwrap();
    rig.stop_at(&format!("record-after/{}", BEFORE[0])).unwrap();
    rig.want(Goal::Flipped).unwrap();
    walk(&mut rig, &BEFORE, 0, deal);
    rig.asked();
    rig.stop_at(&format!("record-after/{}", AFTER[0])).unwrap();
    rig.run_migration().unwrap();
    walk(&mut rig, &AFTER, BEFORE.len(), deal);
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
    assert!(verdict.acknowledged > 100, "{verdict:?}");
    rig.write_source().unwrap_err();
    wait_for("the last writes to come back", LONG, || rig.is_equal()).unwrap();
    rig.finalize();
    rig.assert_no_secret();
}

/// Every pair of side and mode comes within six places.
pub fn mixed(place: usize) -> (Side, Mode) {
    let mode = [Mode::Immediate, Mode::Crash, Mode::Fast][place % 3];
    (if place.is_multiple_of(2) { Source } else { Target }, mode)
}

#[test]
fn either_side_at_every_place() {
    run(mixed);
}

#[test]
#[ignore = "slow: make test-all"]
fn every_side_in_every_mode_at_every_place() {
    run(|place| mixed(place + 1));
    run(|place| mixed(place + 2));
    run(|place| mixed(place + 3));
    run(|place| mixed(place + 4));
    run(|place| mixed(place + 5));
}

/// In the documented order the comparison and the application's migration are inside the outage.
#[test]
#[ignore = "slow: make test-all"]
fn in_the_documented_order() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings =
        Settings { order: coordinator::migration::OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.stop_at("record-after/started/fence").unwrap();
    rig.want_with(Goal::Drained, settings.clone()).unwrap();
    let places = ["started/fence", "done/fence", "started/drain", "done/drain", "done/snapshot", "started/verify"];
    walk(&mut rig, &places, 0, mixed);
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Drained);
    rig.migrate_schema(&settings);
    assert_eq!(rig.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    rig.finalize();
    rig.assert_no_secret();
}
