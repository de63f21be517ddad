//! A schema migration that ends early exactly where an older release's would end: it goes on when it is run again.

use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::apps::KRATOS;
use coordinator::migration::{Goal, Order, OrderChoice, Phase, Settings, Step};
use peers::cluster::Cluster;
use std::sync::Arc;

const WAY: [&str; 3] = ["1.0.0", "1.3.1", "26.2.0"];

/// The application's migration fails where it would go beyond the release on its way, as when it is killed there.
fn cut_off(rig: &mut Rig) {
    let beyond = &KRATOS.release_of("25.4.0").unwrap().migrations - &KRATOS.release_of(WAY[1]).unwrap().migrations;
    let first = beyond.first().unwrap();
    rig.on_target(&format!(
        "CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cut off'; END $$;
         CREATE TRIGGER cut_off BEFORE INSERT ON schema_migration FOR EACH ROW WHEN (NEW.version = '{first}')
         EXECUTE FUNCTION cut_off()"
    ))
    .unwrap();
    rig.run_migration().unwrap_err();
    rig.on_target("DROP TRIGGER cut_off ON schema_migration; DROP FUNCTION cut_off()").unwrap();
}

fn in_order(choice: OrderChoice) {
    let cluster = |major| Cluster::builder(major).start().map(Arc::new).unwrap();
    let pair = (Program::kratos(WAY[0]).unwrap(), Program::kratos(WAY[2]).unwrap());
    let mut rig = Rig::of(pair, cluster(14), cluster(16), 300).unwrap();
    let settings = Settings { order: choice, outage_limit: 3600, ..Settings::default() };
    rig.reach_with(if choice == OrderChoice::Documented { Goal::Drained } else { Goal::Following }, &settings);
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    rig.asked();
    cut_off(&mut rig);
    let told = rig
        .until("a server that does not come", LONG, |state, progress| {
            state.active().is_some_and(|run| run.output(Step::Migrate, "to").is_some_and(|to| to == WAY[1]))
                && progress.waiting.as_ref().is_some_and(|waiting| waiting.reason.contains("was cut off: run it again"))
        })
        .unwrap();
    assert_eq!(told.active().unwrap().order == Order::Documented, choice == OrderChoice::Documented);

    // The first one more may meet the closed target; what it did tells that it goes on.
    if rig.run_migration().is_err() {
        let next = rig.asked();
        assert!(next.starts_with("juju run kratos-new/leader run-migration"), "{next}");
        rig.run_migration().unwrap();
    }
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.active().unwrap().output(Step::Migrate, "to").unwrap(), WAY[2]);
    let people = peers::seed::people_named(&rig.source_client(), "late", 2).ok();
    assert_eq!(rig.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    rig.verified();
    if let Some(people) = people {
        peers::seed::check_people(&rig.target_client(), &people).unwrap();
    }
    rig.finalize();
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn at_a_release_on_the_way_before_the_fence() {
    in_order(OrderChoice::Auto);
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn at_a_release_on_the_way_inside_the_outage() {
    in_order(OrderChoice::Documented);
}
