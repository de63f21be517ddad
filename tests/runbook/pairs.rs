//! Pairs of releases whose servers cannot be built from a registry: played with those that the folder named by `ORY_BIN`
//! holds (`make pairs`). A pair without its servers fails with their names; it never passes unplayed.

use super::differential::both_orders;
use super::rig::{LONG, Rig};
use super::servers::Program;
use super::way_back::{assert_back, live_on_the_target};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};
use peers::cluster::Cluster;
use peers::seed::hydra::{check_grants, grants_named, renew_grants};
use peers::seed::{check_people, people_named, rare};
use std::sync::Arc;

fn kratos(from: &str, to: &str) -> (Program, Program) {
    (Program::kratos(from).unwrap(), Program::kratos(to).unwrap())
}

fn hydra(from: &str, to: &str) -> (Program, Program) {
    (Program::hydra(from).unwrap(), Program::hydra(to).unwrap())
}

fn settings(order: OrderChoice) -> Settings {
    Settings { order, outage_limit: 3600, ..Settings::default() }
}

fn rig(pair: (Program, Program)) -> Rig {
    let cluster = |major| Cluster::builder(major).setting("log_statement", "all").start().map(Arc::new).unwrap();
    Rig::of(pair, cluster(14), cluster(16), 300).unwrap()
}

/// From wherever a run may begin to a target that took over; `between` is what happens before the schema is migrated
/// and after it, as far as users can write then.
fn flip(rig: &mut Rig, settings: &Settings, mut between: impl FnMut(&Rig)) {
    rig.reach_with(Goal::Following, settings);
    between(rig);
    if settings.order == OrderChoice::Documented {
        rig.reach_with(Goal::Drained, settings);
        rig.migrate_schema(settings);
    } else {
        rig.migrate_schema(settings);
        between(rig);
    }
    let state = rig.reach_with(Goal::Flipped, settings);
    assert_eq!(state.phase(), Phase::Flipped);
    assert_eq!(state.active().unwrap().way_back(), Ok(()));
    rig.verified();
}

/// Users come, change and go on the new release, and are so on the old one; then the whole migration again.
fn kratos_there_and_back(from: &str, to: &str, order: OrderChoice) {
    let (mut rig, settings) = (rig(kratos(from, to)), settings(order));
    let mut people = people_named(&rig.source_client(), "early", 3).unwrap();
    rare(&rig.source, &rig.source_database(), 1).unwrap();
    let mut lot = 1;
    flip(&mut rig, &settings, |rig| {
        lot += 1;
        rare(&rig.source, &rig.source_database(), lot).unwrap();
        people.extend(people_named(&rig.source_client(), &format!("late-{lot}"), 2).unwrap());
    });
    let gone = live_on_the_target(&rig, &mut people, None);
    assert_eq!(rig.reach_with(Goal::RolledBack, &settings).phase(), Phase::Idle);
    assert_back(&mut rig, &people, &gone, None);

    flip(&mut rig, &settings, |_| {});
    check_people(&rig.target_client(), &people).unwrap();
    rig.finalize();
    rig.assert_no_secret();
}

/// The same with what Hydra gives out.
fn hydra_there_and_back(from: &str, to: &str, order: OrderChoice) {
    let (mut rig, settings) = (rig(hydra(from, to)), settings(order));
    let [source, target] = rig.hydra_clients();
    let mut early = grants_named(&source, "early", 2).unwrap();
    let keys = source.key_ids().unwrap();
    let (mut late, mut lot) = (Vec::new(), 0);
    flip(&mut rig, &settings, |_| {
        lot += 1;
        late.extend(grants_named(&source, &format!("late-{lot}"), 2).unwrap());
        renew_grants(&source, &mut early).unwrap();
    });
    assert_eq!(target.key_ids().unwrap(), keys);
    for grants in [&mut early, &mut late] {
        check_grants(&target, grants).unwrap();
        renew_grants(&target, grants).unwrap();
    }
    let mut new = grants_named(&target, "new", 2).unwrap();
    target.delete_client(&late.remove(1).application.id).unwrap();

    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    rig.assert_equal_schemas();
    for grants in [&mut early, &mut late, &mut new] {
        check_grants(&source, grants).unwrap();
        renew_grants(&source, grants).unwrap();
    }
    rig.assert_no_secret();
}

fn kratos_pair(from: &str, to: &str) {
    for order in [OrderChoice::Documented, OrderChoice::Auto] {
        kratos_there_and_back(from, to, order);
    }
    both_orders(kratos(from, to));
}

fn hydra_pair(from: &str, to: &str) {
    for order in [OrderChoice::Documented, OrderChoice::Auto] {
        hydra_there_and_back(from, to, order);
    }
    both_orders(hydra(from, to));
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn kratos_1_0_0_to_25_4_0() {
    kratos_pair("1.0.0", "25.4.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn kratos_1_0_0_to_26_2_0() {
    kratos_pair("1.0.0", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn kratos_1_3_1_to_25_4_0() {
    kratos_pair("1.3.1", "25.4.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn kratos_1_3_1_to_26_2_0() {
    kratos_pair("1.3.1", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn kratos_25_4_0_to_26_2_0() {
    kratos_pair("25.4.0", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_2_2_0_to_2_3_0() {
    hydra_pair("2.2.0", "2.3.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_2_2_0_to_25_4_0() {
    hydra_pair("2.2.0", "25.4.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_2_2_0_to_26_2_0() {
    hydra_pair("2.2.0", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_2_3_0_to_25_4_0() {
    hydra_pair("2.3.0", "25.4.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_2_3_0_to_26_2_0() {
    hydra_pair("2.3.0", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn hydra_25_4_0_to_26_2_0() {
    hydra_pair("25.4.0", "26.2.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn canonicals_hydra_2_3_0_to_25_4_0() {
    hydra_pair("2.3.0-canonical", "25.4.0");
}

#[test]
#[ignore = "needs servers in ORY_BIN: make pairs"]
fn canonicals_hydra_2_3_0_to_26_2_0() {
    hydra_pair("2.3.0-canonical", "26.2.0");
}
