//! A target of a release that nobody here knows: the server of a known one under another name, over a schema with one
//! migration more. It may be reached in the documented order only.

use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};
use peers::cluster::Cluster;
use peers::kratos::Release;
use peers::seed::{check_people, people};
use std::sync::Arc;

/// As long as the name that it takes the place of.
const UNKNOWN: &str = "9.9.9";

fn rig() -> Rig {
    let cluster = |major| Cluster::start(major).map(Arc::new).unwrap();
    let unknown = Release::find("1.3.1").unwrap().under_another_name(UNKNOWN).unwrap();
    let programs = (Program::kratos("1.0.0").unwrap(), Program::Kratos(unknown, peers::kratos::Settings::default()));
    Rig::of(programs, cluster(14), cluster(16), 300).unwrap()
}

/// The operator runs its migration, and its server starts.
fn migrate(rig: &mut Rig, settings: &Settings) {
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    assert!(rig.asked().starts_with("juju run kratos-new/leader run-migration"));
    rig.on_target("INSERT INTO public.schema_migration (version) VALUES ('20990101000000000000')").unwrap();
    rig.run_migration().unwrap();
    assert_eq!(rig.target_client().version().unwrap(), format!("v{UNKNOWN}"));
}

#[test]
fn is_reached_in_the_documented_order_and_left_again() {
    let mut rig = rig();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    let mut known = people(&rig.source_client(), 2).unwrap();
    rig.reach_with(Goal::Following, &settings);
    rig.reach_with(Goal::Drained, &settings);
    migrate(&mut rig, &settings);
    rig.settled(LONG).unwrap();
    let state = rig.reach_with(Goal::Flipped, &settings);
    assert_eq!(state.phase(), Phase::Flipped);
    assert_eq!(state.active().unwrap().way_back(), Ok(()));
    rig.verified();
    check_people(&rig.target_client(), &known).unwrap();
    known.extend(peers::seed::people_named(&rig.target_client(), "later", 2).unwrap());
    assert_eq!(rig.reach_with(Goal::RolledBack, &settings).phase(), Phase::Idle);
    check_people(&rig.source_client(), &known).unwrap();
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}

/// Nobody could know where a target goes that waits after its refresh; once that shows, users still write on the source.
#[test]
fn ends_the_order_migrate_first_before_anything_is_closed() {
    let mut rig = rig();
    let settings = Settings::default();
    rig.reach_with(Goal::Following, &settings);
    migrate(&mut rig, &settings);
    let said = rig.refused();
    assert!(said.contains("release 9.9.9, and 1.0.0 to 9.9.9 has not been proven for this order"), "{said}");
    assert!(said.contains("order=documented"), "{said}");
    rig.write_source().unwrap();
    rig.roll_back("the target is a release that nobody knows");
}
