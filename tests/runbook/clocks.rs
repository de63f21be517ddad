//! The servers' wall clocks jump. A lease is kept by the source's clock alone, and nothing else depends on what any clock
//! shows. (The worker's own clock is for figures; what a hook reads of it is tested beside `worker::control`.)

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::clock::Clock;
use peers::cluster::Cluster;
use peers::writers::{self, Writers};
use std::sync::Arc;

const HOUR: i64 = 3600;

fn clock() -> Arc<Clock> {
    Arc::new(Clock::new().unwrap())
}

/// How far a server's clock is ahead of this machine's, in seconds.
fn ahead(cluster: &Cluster) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let there = cluster.psql("postgres", "SELECT extract(epoch FROM clock_timestamp())::bigint").unwrap();
    there.trim().parse::<i64>().unwrap() - i64::try_from(now).unwrap()
}

#[test]
fn nothing_is_lost_and_never_are_both_sides_open() {
    let [source, target] = [clock(), clock()];
    let start = |major, clock| Cluster::builder(major).clock(clock).start().map(Arc::new).unwrap();
    let mut rig = Rig::between(start(15, &source), start(16, &target), 300).unwrap();
    let oracle_file = rig.folder().join("oracle");
    let wanted = writers::Settings { connections: 4, rate: 40.0, oracle_file };
    let writers = Writers::start(&rig.source_uri(), &wanted, "all").unwrap();

    rig.reach(Goal::Following);
    source.jump(HOUR).unwrap();
    target.jump(-HOUR).unwrap();
    assert!((HOUR - 2..HOUR + 2).contains(&ahead(&rig.source)), "the source's clock did not jump");
    rig.migrate_schema(&Settings::default());

    // Ahead in the outage: the lease is over, as it would be if the time had gone by.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    source.jump(2 * HOUR).unwrap();
    rig.until("the lift", LONG, |state, _| state.phase() == Phase::Following).unwrap();
    let said = rig.now().unwrap().0.active().unwrap().lifted.clone().unwrap();
    assert!(said.contains("ran out"), "{said}");
    rig.write_source().unwrap();
    rig.write_target().unwrap_err();

    // Back in the outage: it is only longer.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    for clock in [&source, &target] {
        clock.jump(-2 * HOUR).unwrap();
    }
    rig.write_source().unwrap_err();
    rig.write_target().unwrap_err();
    let state = rig.reach(Goal::Flipped);
    assert_eq!(state.phase(), Phase::Flipped);
    writers.move_to(&rig.target_uri());
    rig.verified();
    rig.write_source().unwrap_err();

    // Back to the source, with other clocks again.
    for (clock, hours) in [(&source, -3), (&target, 5)] {
        clock.jump(hours * HOUR).unwrap();
    }
    rig.want(Goal::RolledBack).unwrap();
    rig.until("the source to open", LONG, |state, _| {
        state.phase() != Phase::Reversing && state.phase() != Phase::Flipped
    })
    .unwrap();
    writers.move_to(&rig.source_uri());
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    let record = writers.stop().unwrap();
    let verdict = record.oracle.check(&rig.source_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged > 100, "{verdict:?}");
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}
