//! The whole runbook on real clusters: the worker, the journal and a person who runs the application's own
//! migration, without Juju. What the emulator adds is tested elsewhere.

mod rig;

use coordinator::migration::{Goal, OrderChoice, Phase, Settings, Step};
use rig::{Rig, SOURCE, TARGET};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

/// Waits until the worker asks for a person, and says what it printed.
fn asked(rig: &Rig) -> String {
    let (_, progress) = {
        rig.until("a person to be asked", LONG, |_, progress| {
            progress.waiting.as_ref().is_some_and(|waiting| !waiting.next.is_empty())
        })
        .unwrap();
        rig.now().unwrap()
    };
    progress.waiting.unwrap().next
}

/// Both databases are equal, and nothing of ours is in either.
fn assert_clean_and_equal(rig: &Rig) {
    let options = peers::compare::Options::kratos();
    let compared = peers::compare::databases(&rig.source.uri(SOURCE), &rig.target.uri(TARGET), &options).unwrap();
    assert_eq!(compared.different(), 0, "{}", compared.report());
    assert!(compared.rows() > 1000, "{} rows compared", compared.rows());
}

#[test]
fn migrate_first_from_14_to_16() {
    let mut rig = Rig::new(14, 16, 500).unwrap();
    let token = peers::seed::session_token(&rig.source, SOURCE, 7).unwrap();
    assert_eq!(rig.old.version(), "1.0.0");
    rig.source_client().whoami(&token).unwrap();
    rig.want(Goal::Following).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Following);
    rig.want(Goal::Migrated).unwrap();
    let next = asked(&rig);
    assert!(next.starts_with("juju run kratos-new/leader run-migration"), "{next}");
    rig.run_migration().unwrap();
    rig.settled(LONG).unwrap();
    rig.want(Goal::Flipped).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Flipped);
    let state = rig
        .until("the comparison", LONG, |state, _| state.active().is_some_and(|run| run.is_done(Step::Verify)))
        .unwrap();
    let run = state.active().unwrap();
    assert_eq!(run.output(Step::Verify, "rows-different").unwrap(), 0, "{run:?}");
    assert!(run.output(Step::Verify, "rows-verified").unwrap().as_u64().unwrap() > 1000);
    eprintln!(
        "fence to drained {} ms, to open {} ms",
        run.output(Step::Drain, "drain-ms").unwrap(),
        run.output(Step::HandOver, "outage-ms").unwrap()
    );
    assert_clean_and_equal(&rig);
    rig.target_client().whoami(&token).unwrap();
    rig.want(Goal::Finalized).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Finalized);
    assert!(rig.worker().is_some(), "the worker waits for the next request");
    let file = std::fs::read_to_string(rig.folder().join("worker.json")).unwrap();
    assert!(!file.contains(rig.source.superuser().1), "{file}");
    rig.stop_target().unwrap();
}

#[test]
fn the_documented_order_from_14_to_16() {
    let mut rig = Rig::new(14, 16, 500).unwrap();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    rig.want_with(Goal::Drained, settings.clone()).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Drained);
    assert_eq!(state.active().unwrap().output(Step::Verify, "rows-different").unwrap(), 0);
    rig.want_with(Goal::Migrated, settings.clone()).unwrap();
    let next = asked(&rig);
    assert!(next.starts_with("juju run kratos-new/leader run-migration"), "{next}");
    rig.run_migration().unwrap();
    rig.settled(LONG).unwrap();
    rig.want_with(Goal::Flipped, settings).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Flipped);
    assert_clean_and_equal(&rig);
}
