//! From the first copy to finalize, under live writers, in both orders and on three pairs of PostgreSQL releases.

use super::rig::{LONG, Rig};
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, OrderChoice, Phase, Settings, Step};
use peers::writers::Writers;

struct Case {
    from: u32,
    to: u32,
    order: OrderChoice,
    writers: bool,
    keep_source_fenced: bool,
}

fn settings(order: OrderChoice) -> Settings {
    Settings { order, outage_limit: 3600, ..Settings::default() }
}

/// Asks for the same once more and holds both databases to what they were. Not for use beside writers.
fn again(rig: &Rig, goal: Goal, case: &Case) {
    if case.writers {
        return;
    }
    let before = rig.picture();
    let phase = rig.now().unwrap().0.phase();
    let state = rig.reach_with(goal, &settings(case.order));
    assert_eq!(state.phase(), phase);
    assert!(rig.picture() == before, "asking for {goal:?} twice changed something:\n{before}\nnow:\n{}", rig.picture());
}

fn run(case: &Case) {
    let mut rig = Rig::new(case.from, case.to, 500).unwrap();
    let people = peers::seed::people(&rig.source_client(), 2).unwrap();
    let settings = settings(case.order);
    let oracle = rig.folder().join("oracle");
    let writers = case.writers.then(|| {
        let wanted = peers::writers::Settings { connections: 4, rate: 80.0, oracle_file: oracle };
        Writers::start(&rig.source_uri(), &wanted, "all").unwrap()
    });
    assert_eq!(rig.reach_with(Goal::Following, &settings).phase(), Phase::Following);
    again(&rig, Goal::Following, case);
    if case.order != OrderChoice::Documented {
        assert_eq!(rig.migrate_schema(&settings).phase(), Phase::Following);
        again(&rig, Goal::Migrated, case);
    }
    assert_eq!(rig.reach_with(Goal::Drained, &settings).phase(), Phase::Drained);
    rig.write_source().unwrap_err();
    rig.write_target().unwrap_err();
    again(&rig, Goal::Drained, case);
    if case.order == OrderChoice::Documented {
        assert_eq!(rig.migrate_schema(&settings).phase(), Phase::Drained);
        again(&rig, Goal::Migrated, case);
    }
    let state = rig.reach_with(Goal::Flipped, &settings);
    assert_eq!(state.phase(), Phase::Flipped);
    rig.write_source().unwrap_err();
    rig.write_target().unwrap();
    let state_run = rig.verified().run.unwrap();
    eprintln!(
        "{} → {}, {:?}: fence to drained {} ms",
        case.from,
        case.to,
        case.order,
        state_run.output(Step::Drain, "drain-ms").unwrap()
    );
    again(&rig, Goal::Flipped, case);
    if let Some(writers) = writers {
        writers.move_to(&rig.target_uri());
        let before = writers.acknowledged();
        peers::wait_for("writes on the target", LONG, || match writers.acknowledged() {
            now if now > before + 50 => Ok(()),
            now => Err(now),
        })
        .unwrap();
        let record = writers.stop().unwrap();
        assert_eq!(record.unexpected, Vec::<String>::new());
        let verdict = record.oracle.check(&rig.target_uri()).unwrap();
        assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
        assert!(verdict.acknowledged > 200, "{verdict:?}");
    } else {
        rig.assert_equal();
    }
    peers::seed::check_people(&rig.target_client(), &people).unwrap();
    finalize(&rig, case);
    again(&rig, Goal::Finalized, case);
    rig.assert_no_secret();
}

fn finalize(rig: &Rig, case: &Case) {
    let keep_source_fenced = case.keep_source_fenced;
    rig.ask(Request { keep_source_fenced, ..Request::plain("finalize", Goal::Finalized) }).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Finalized);
    let output = state.run.unwrap();
    let commands = output.output(Step::Finalize, "remove-source-fence").unwrap().as_array().unwrap().clone();
    assert_eq!(commands.is_empty(), !keep_source_fenced);
    if keep_source_fenced {
        rig.write_source().unwrap_err();
        assert!(!rig.left_behind().unwrap().is_empty());
        for command in commands {
            rig.on_source(command.as_str().unwrap()).unwrap();
        }
    }
    rig.write_source().unwrap();
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    rig.write_target().unwrap();
}

#[test]
fn migrate_first_from_14_to_16_under_writers() {
    run(&Case { from: 14, to: 16, order: OrderChoice::Auto, writers: true, keep_source_fenced: false });
}

#[test]
fn the_documented_order_from_14_to_16_under_writers() {
    run(&Case { from: 14, to: 16, order: OrderChoice::Documented, writers: true, keep_source_fenced: true });
}

#[test]
#[ignore = "slow: make test-all"]
fn migrate_first_from_15_to_15_with_every_request_twice() {
    run(&Case { from: 15, to: 15, order: OrderChoice::Auto, writers: false, keep_source_fenced: true });
}

#[test]
fn migrate_first_from_16_to_17_with_every_request_twice() {
    run(&Case { from: 16, to: 17, order: OrderChoice::MigrateFirst, writers: false, keep_source_fenced: false });
}

#[test]
#[ignore = "slow: make test-all"]
fn the_documented_order_from_14_to_16_with_every_request_twice() {
    run(&Case { from: 14, to: 16, order: OrderChoice::Documented, writers: false, keep_source_fenced: false });
}
