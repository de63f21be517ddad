//! Chaos: migrations under live writers, with everything going wrong at random, and nothing lost. See `Makefile`.
//!
//! A round is drawn from its seed and number (`plan`), played on a stage that many rounds share (`ground`) by an
//! operator who does what answers name (`road`), with faults let in for real (`faults`); after it, what must be true
//! is looked at from outside (`checks`) and summed up (`summary`).

mod checks;
mod faults;
mod ground;
mod places;
mod plan;
mod road;
mod round;
mod summary;

use ground::Ground;
use plan::Plan;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use summary::Results;

/// How many rounds one stage serves at most: its logs and its journal grow.
const ROUNDS_OF_A_STAGE: usize = 40;

/// Rounds of the long test where N is not set.
const SOME: u64 = 16;

/// Rounds of the short test: with a crash, a lost reply, killed and stopped workers, a cut connection, and every end.
const FEW: [u64; 4] = [2, 5, 6, 8];

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn folder(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join(name)
}

/// Plays these rounds, several stages side by side.
fn play(seed: u64, mut rounds: Vec<u64>, lanes: usize, results: &Mutex<Results>) {
    let failures = results.lock().unwrap().failures();
    // A stage with standbys serves them one after another. They come first: a part that is played has its share of them.
    rounds.sort_by_key(|round| (!Plan::fails_over(*round), *round));
    let (ahead, stages) = (Mutex::new(VecDeque::from(rounds)), AtomicUsize::new(0));
    let next = || ahead.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                let mut here: Option<(Ground, usize)> = None;
                while let Some(round) = next() {
                    let fails_over = Plan::fails_over(round);
                    let fits = |(ground, _): &(Ground, usize)| ground.patroni.is_some() == fails_over;
                    let (ground, played) = here.take().filter(fits).unwrap_or_else(|| {
                        (Ground::build(stages.fetch_add(1, Ordering::Relaxed), fails_over).expect("a stage"), 0)
                    });
                    let line = round::play(&ground, &Plan::draw(seed, round), &failures);
                    eprintln!(
                        "round {seed}-{round}: {} in {:.1} s, {} writes, {:?} {}",
                        line.end.as_deref().unwrap_or("NO END"),
                        line.seconds,
                        line.findings.acknowledged,
                        line.faults,
                        line.findings.words.join("\n  ")
                    );
                    // After a finalize, or a failure, nothing can begin again there.
                    let again = line.findings.good() && line.end.as_deref() != Some("flipped");
                    results.lock().unwrap().add(line).expect("results can be written");
                    here = (again && played + 1 < ROUNDS_OF_A_STAGE).then_some((ground, played + 1));
                }
            });
        }
    });
}

/// All rounds together found nothing.
fn nothing_found(results: &Results) {
    let summary = results.summary();
    assert_eq!(summary["failures"], serde_json::json!([]), "{summary:#}");
}

#[test]
fn short() {
    let folder = folder("chaos-short");
    let _fresh = std::fs::remove_dir_all(&folder);
    let results = Mutex::new(Results::open(&folder).unwrap());
    play(2, FEW.to_vec(), 2, &results);
    nothing_found(&results.into_inner().unwrap());
}

#[test]
#[ignore = "long: make chaos N=… SEED=…"]
fn rounds() {
    let seed = number("SEED").unwrap_or(1);
    let results = Results::open(&folder("chaos")).unwrap();
    let rounds: Vec<u64> = match number("ROUND") {
        Some(round) => vec![round],
        None => {
            let done = results.done(seed);
            (1..=number("N").unwrap_or(SOME)).filter(|round| !done.contains(round)).collect()
        }
    };
    let results = Mutex::new(results);
    let lanes = usize::try_from(number("LANES").unwrap_or(2)).unwrap();
    play(seed, rounds, lanes, &results);
    let results = results.into_inner().unwrap();
    eprintln!("{:#}", results.summary());
    nothing_found(&results);
}
