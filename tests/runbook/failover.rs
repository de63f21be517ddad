//! Patroni makes another member the primary: by itself when the primary dies, or because it was asked to. The slot dies
//! with the old one, and so may the last commits. It is found and said, writers are never kept waiting for a drain that
//! cannot end, `replicate` makes it good, and nothing that was acknowledged is lost.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings, State, Step};
use peers::cluster::Cluster;
use peers::patroni::{Options, PatroniCluster, Synchronous};
use peers::wait_for;
use peers::writers::Writers;
use std::sync::Arc;

/// Enough for three failovers in one outage on a busy machine.
fn settings() -> Settings {
    Settings { outage_limit: 600, ..Settings::default() }
}

fn writers(rig: &Rig) -> Writers {
    let wanted = peers::writers::Settings { connections: 3, rate: 40.0, oracle_file: rig.folder().join("oracle") };
    Writers::start(&rig.source_uri(), &wanted, "all").unwrap()
}

/// Writers are heard, wherever they are.
pub fn heard(writers: &Writers) {
    let before = writers.acknowledged();
    wait_for("writers to be heard", LONG, || match writers.acknowledged() {
        now if now > before + 50 => Ok(()),
        now => Err(now),
    })
    .unwrap();
}

/// The loss is found by itself, before anybody asks for anything.
fn found(rig: &Rig, words: &str) -> State {
    let state = rig.until("the loss to be found", LONG, |state, _| {
        state.active().is_some_and(|run| {
            let lost = run.lost.iter().chain(&run.lifted).any(|reason| reason.contains(words));
            lost && !run.is_done(Step::Copy)
        })
    });
    state.unwrap()
}

/// Everything that was acknowledged is at the writers' place, once.
fn nothing_is_lost(writers: Writers, uri: &str) {
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(uri).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged > 100, "{verdict:?}");
}

/// Users go back to the source with everything that was acknowledged.
pub fn users_return(rig: &Rig, writers: Writers, settings: &Settings) {
    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    let opened = rig.until("the source to open", LONG, |state, _| {
        state.active().is_some_and(|run| run.is_done(Step::ReverseHandOver))
    });
    opened.unwrap();
    writers.move_to(&rig.source_uri());
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    heard(&writers);
    nothing_is_lost(writers, &rig.source_uri());
}

/// A worker whose journal went away with a server comes back by itself; a hook sees to it that one lives.
fn hook(rig: &mut Rig) {
    wait_for("the journal", LONG, || rig.reopen_journal().map_err(|error| format!("{error:#}"))).unwrap();
    rig.hook().unwrap();
}

const FAILED_OVER: &str = "(a failover?), so what was committed last may be missing there";

#[test]
fn the_source_switches_over_while_following_and_fails_over_in_the_outage() {
    let patroni = PatroniCluster::start(Options::new(14)).unwrap();
    let target = Arc::new(Cluster::start(16).unwrap());
    let mut rig = Rig::between(Arc::new(patroni.as_cluster().unwrap()), target, 300).unwrap();
    let writers = writers(&rig);
    rig.reach_with(Goal::Following, &settings());
    patroni.switchover().unwrap();
    let state = found(&rig, FAILED_OVER);
    assert_eq!(state.phase(), Phase::Following);
    heard(&writers);
    rig.reach_with(Goal::Following, &settings());
    rig.migrate_schema(&settings());
    // A member that has not come back from the switchover yet would elect nobody.
    patroni.wait_healthy().unwrap();
    rig.reach_with(Goal::Drained, &settings());
    rig.write_source().unwrap_err();
    // The fence goes over to the new primary with everything else; the drain proves nothing about it any more.
    let dead = patroni.kill_primary().unwrap();
    patroni.wait_for_primary().unwrap();
    let state = found(&rig, FAILED_OVER);
    assert_eq!(state.phase(), Phase::Following);
    heard(&writers);
    patroni.restart_member(dead).unwrap();
    patroni.wait_healthy().unwrap();
    rig.reach_with(Goal::Following, &settings());
    rig.reach_with(Goal::Drained, &settings());
    assert_eq!(rig.reach_with(Goal::Flipped, &settings()).phase(), Phase::Flipped);
    rig.write_source().unwrap_err();
    writers.move_to(&rig.target_uri());
    heard(&writers);
    // Synchronous standbys lose nothing, but nobody can tell from here whether they were.
    patroni.switchover().unwrap();
    let lost = rig.until("the way back to be lost", LONG, |state, _| {
        state.active().is_some_and(|run| run.way_back().is_err_and(|why| why.contains(FAILED_OVER)))
    });
    lost.unwrap();
    // It stays closed for good on whichever member.
    rig.write_source().unwrap_err();
    rig.want(Goal::RolledBack).unwrap();
    let told = rig.refused();
    assert!(told.contains(FAILED_OVER), "{told}");
    rig.verified();
    // The source is compared and gets what it may lack; then users can return to it.
    let state = rig.reach_with(Goal::Following, &settings());
    assert_eq!(state.active().unwrap().way_back(), Ok(()));
    users_return(&rig, writers, &settings());
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}

#[test]
fn the_target_fails_over_and_loses_what_it_had_confirmed() {
    let options = Options { synchronous: Synchronous::Off, ..Options::new(16) };
    let patroni = PatroniCluster::start(options).unwrap();
    let source = Arc::new(Cluster::start(14).unwrap());
    let mut rig = Rig::between(source, Arc::new(patroni.as_cluster().unwrap()), 300).unwrap();
    let writers = writers(&rig);
    rig.reach_with(Goal::Following, &settings());
    rig.until("the target to be near", LONG, |_, progress| progress.lag_bytes.is_some_and(|lag| lag < 1 << 20))
        .unwrap();
    // What is applied from here on is confirmed to the source, which forgets it, and dies with the primary.
    let sql = "SELECT count(*) FROM sessions";
    patroni.hold_replicas().unwrap();
    let held = rig.on_target(sql).unwrap();
    heard(&writers);
    wait_for("some of it to be applied", LONG, || match rig.on_target(sql).unwrap() {
        now if now != held => Ok(()),
        now => Err(now),
    })
    .unwrap();
    let dead = patroni.kill_primary().unwrap();
    patroni.wait_for_primary().unwrap();
    hook(&mut rig);
    found(&rig, FAILED_OVER);
    heard(&writers);
    patroni.restart_member(dead).unwrap();
    patroni.wait_healthy().unwrap();
    rig.reach_with(Goal::Following, &settings());
    rig.migrate_schema(&settings());
    rig.reach_with(Goal::Flipped, &settings());
    writers.move_to(&rig.target_uri());
    heard(&writers);
    rig.verified();
    // The slot of the way back dies with this primary; users stay where they are.
    patroni.switchover().unwrap();
    hook(&mut rig);
    let lost = rig
        .until("the way back to be lost", LONG, |state, _| state.active().is_some_and(|run| run.way_back().is_err()));
    lost.unwrap();
    rig.write_source().unwrap_err();
    heard(&writers);
    // A Patroni that was not told of our slots may drop one of them after a promotion, before anybody reads it: preflight
    // warns of that, and `replicate` says so. Here the cluster has settled first.
    patroni.wait_healthy().unwrap();
    let state = rig.reach_with(Goal::Following, &settings());
    assert_eq!(state.active().unwrap().way_back(), Ok(()));
    nothing_is_lost(writers, &rig.target_uri());
    wait_for("the source to have everything", LONG, || rig.is_equal()).unwrap();
}
