//! Only the database moves: the target keeps the source's release. Kratos, and Hydra.

use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, Order, OrderChoice, Phase, Settings};
use peers::cluster::Cluster;
use std::sync::Arc;

/// Source and target of these versions, with a target whose server runs at the source's release.
fn rig(program: Program, from: u32, to: u32) -> Rig {
    let cluster = |major| Cluster::builder(major).setting("log_statement", "all").start().map(Arc::new).unwrap();
    let mut rig = Rig::of((program.clone(), program), cluster(from), cluster(to), 500).unwrap();
    rig.start_target().unwrap();
    rig
}

fn keeping(goal: Goal) -> Request {
    Request { keep_release: true, with_refresh: true, ..Request::plain("refresh", goal) }
}

/// Up to the end of the schema migration that there is none of: the server has to be restarted, because it knows the
/// network that it had when it started.
fn serves(rig: &mut Rig, settings: &Settings) {
    let app = rig.world().app.name;
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    let next = rig.asked();
    let restart = format!("juju ssh --container {app} {app}-new/0 /charm/bin/pebble restart {app}");
    assert_eq!(next, restart);
    rig.stop_target().unwrap();
    rig.start_target().unwrap();
    rig.settled(LONG).unwrap();
}

/// Both sides have the same rows; the target takes writes and the source none.
fn flipped(rig: &Rig) {
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    rig.write_source().unwrap_err();
    rig.write_target().unwrap();
}

#[test]
fn kratos_moves_from_14_to_16_outside_the_outage() {
    let mut rig = rig(Program::kratos("1.3.1").unwrap(), 14, 16);
    let people = peers::seed::people(&rig.source_client(), 2).unwrap();
    // Who says nothing is asked for a refresh, and told of the other way.
    rig.want(Goal::Refreshed).unwrap();
    let told =
        rig.until("the refresh", LONG, |_, progress| progress.waiting.is_some()).and_then(|_| rig.now()).unwrap();
    assert!(told.1.waiting.unwrap().reason.contains("run rollback, then refresh keep-release=true"));
    rig.want(Goal::RolledBack).unwrap();
    rig.settled(LONG).unwrap();

    rig.ask(keeping(Goal::Refreshed)).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.active().unwrap().order, Order::MigrateFirst);
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    serves(&mut rig, &Settings::default());
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    flipped(&rig);
    peers::seed::check_people(&rig.target_client(), &people).unwrap();

    // And back, with what was written meanwhile.
    let new = peers::seed::people_named(&rig.target_client(), "new", 3).unwrap();
    rig.want(Goal::RolledBack).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    peers::seed::check_people(&rig.source_client(), &new).unwrap();
    rig.assert_no_secret();
}

#[test]
fn in_the_documented_order_it_needs_nothing_but_the_gates() {
    let mut rig = rig(Program::kratos("1.0.0").unwrap(), 15, 17);
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.ask(Request { settings: settings.clone(), ..keeping(Goal::Refreshed) }).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().active().unwrap().order, Order::Documented);
    // Nothing is migrated inside the outage, so the lease may be as short as it is by default.
    let settings = Settings { outage_limit: Settings::default().outage_limit, ..settings };
    assert_eq!(rig.reach_with(Goal::Drained, &settings).phase(), Phase::Drained);
    serves(&mut rig, &settings);
    flipped(&rig);
    rig.finalize();
}

#[test]
fn a_target_of_another_release_keeps_nothing() {
    let mut rig = Rig::new(14, 16, 100).unwrap();
    rig.run_migration().unwrap();
    rig.ask(keeping(Goal::Refreshed)).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("the schema of 1.0.0, the target's has the schema of 1.3.1"), "{refused}");
    assert!(rig.now().unwrap().0.active().is_none(), "a run began");
}

/// Whoever refreshes the target after it was to keep its release is told so, before anything stops.
#[test]
#[ignore = "slow: make test-all"]
fn a_target_that_is_refreshed_after_all_is_found() {
    let mut rig = rig(Program::kratos("1.0.0").unwrap(), 16, 17);
    rig.ask(keeping(Goal::Refreshed)).unwrap();
    rig.settled(LONG).unwrap();
    rig.reach(Goal::Following);
    rig.new = Program::kratos("1.3.1").unwrap();
    rig.stop_target().unwrap();
    rig.want(Goal::Migrated).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("is down") && refused.contains("rollback"), "{refused}");
    rig.write_source().unwrap();
    rig.write_target().unwrap_err();
    rig.want(Goal::RolledBack).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}
