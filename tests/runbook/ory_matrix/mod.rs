//! Every pair of releases that `src/apps/pairs.rs` claims, with real servers and what real users hold: there and back in
//! both orders, and both orders compared (`make ory-matrix`). What a pair showed is kept in `target/ory-matrix`, also when
//! only some are played (`PAIR=kratos-1.3.1`), and made into a summary and the table of `docs/ory-matrix.md`.

mod hydra;
mod kratos;
mod line;
mod table;

use super::differential::both_orders;
use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::apps::{App, Kind, Pair, claimed};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings, Step};
use line::{Line, Outcome, Played};
use peers::cluster::Cluster;
use peers::kratos::Methods;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Pairs whose servers setup builds on every machine: a matrix without them has shown nothing.
const BUILT_EVERYWHERE: [(&str, &str, &str); 1] = [("kratos", "1.0.0", "1.3.1")];

/// The orders, as the summary names them.
const ORDERS: [(&str, OrderChoice); 2] =
    [("documented", OrderChoice::Documented), ("migrate-first", OrderChoice::MigrateFirst)];

#[test]
#[ignore = "every pair of releases: make ory-matrix"]
fn every_pair() {
    let only = std::env::var("PAIR").unwrap_or_default();
    let played = || claimed().iter().filter(|pair| Line::of(pair).name().contains(&only));
    assert!(played().count() > 0, "no pair's name contains {only}");
    for pair in played() {
        let line = play(pair);
        eprintln!("{}", line.told());
        line.keep().unwrap();
    }
    let lines = table::write().unwrap();
    let of = |outcome| lines.iter().filter(move |line| line.outcome == outcome);
    for line in of(Outcome::NotRun) {
        eprintln!("{}", line.told());
    }
    let failed: Vec<String> = of(Outcome::Failed).map(Line::told).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let must = |line: &&Line| BUILT_EVERYWHERE.contains(&(line.app.as_str(), line.from.as_str(), line.to.as_str()));
    let unplayed: Vec<String> = of(Outcome::NotRun).filter(must).map(Line::told).collect();
    assert!(unplayed.is_empty(), "these need nothing but setup: {unplayed:#?}");
}

/// Plays a pair's parts one after the other; one that fails does not keep the others from being played.
fn play(pair: &Pair) -> Line {
    let mut line = Line::of(pair);
    let programs = match programs(pair) {
        Ok(programs) => programs,
        Err(missing) => return Line { missing, ..line },
    };
    let begun = Instant::now();
    for (name, order) in ORDERS {
        let of = programs.clone();
        match part(move || there_and_back(of, order)) {
            Ok(played) => {
                line.orders.insert(name.to_owned(), played);
            }
            Err(said) => line.findings.push(format!("{name}: {said}")),
        }
    }
    match part(|| both_orders(programs)) {
        Ok(rows) => line.rows_compared = rows,
        Err(said) => line.findings.push(format!("both orders: {said}")),
    }
    line.seconds = begun.elapsed().as_secs();
    line.outcome = if line.findings.is_empty() { Outcome::Passed } else { Outcome::Failed };
    line
}

/// The pair's programs, or the names of those that no folder holds.
fn programs(pair: &Pair) -> Result<(Program, Program), Vec<String>> {
    let find = |version| match App::named(pair.app).map(|app| app.kind) {
        Some(Kind::Kratos) => {
            // A server of 1.0.0 would refuse an identity schema with the newer method in it.
            let methods = if pair.from == "1.0.0" { Methods::SecondFactors } else { Methods::Codes };
            let settings = peers::kratos::Settings { methods, ..peers::kratos::Settings::default() };
            peers::kratos::Release::find(version).map(|release| Program::Kratos(release, settings))
        }
        _ => Program::hydra(version),
    };
    match (find(pair.from), find(pair.to)) {
        (Ok(from), Ok(to)) => Ok((from, to)),
        (from, to) => {
            let missing =
                [(from.is_err(), pair.from), (to.is_err(), pair.to)].into_iter().filter(|(missing, _)| *missing);
            Err(missing.map(|(_, version)| format!("{}-v{version}", pair.app)).collect())
        }
    }
}

/// What a part comes to; a failed assertion of its, in words.
fn part<T: Send + 'static>(play: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    std::thread::spawn(play).join().map_err(|panic| line::short(&said(panic.as_ref())))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn there_and_back(programs: (Program, Program), order: OrderChoice) -> Played {
    let settings = Settings { order, outage_limit: 3600, ..Settings::default() };
    let begun = Instant::now();
    let cluster = |major| Cluster::builder(major).setting("log_statement", "all").start().map(Arc::new).unwrap();
    let is_kratos = programs.0.app().kind == Kind::Kratos;
    let mut rig = Rig::of(programs, cluster(14), cluster(16), 300).unwrap();
    let played = if is_kratos { kratos::play(&mut rig, &settings) } else { hydra::play(&mut rig, &settings) };
    Played { seconds: begun.elapsed().as_secs(), ..played }
}

/// From wherever a run may begin to a target that took over; `between` is what happens before the schema is migrated
/// and after it, as far as users can write then. Answers the write outage in milliseconds.
fn flip(rig: &mut Rig, settings: &Settings, mut between: impl FnMut(&Rig)) -> u64 {
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
    let run = state.active().unwrap();
    assert_eq!(run.way_back(), Ok(()));
    let outage = run.output(Step::HandOver, "outage-ms").and_then(serde_json::Value::as_u64).unwrap();
    rig.verified();
    outage
}

/// Back to the source; answers the write outage in milliseconds.
fn roll_back(rig: &mut Rig, settings: &Settings) -> u64 {
    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.phase(), Phase::Idle);
    let run = state.run.unwrap();
    run.output(Step::ReverseHandOver, "outage-ms").and_then(serde_json::Value::as_u64).unwrap()
}
