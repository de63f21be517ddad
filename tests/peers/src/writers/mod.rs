//! Live writers: clients that log people in all the time, wherever the database is, and remember what was
//! acknowledged.

mod oracle;
mod sides;
mod transaction;
mod writer;

pub use oracle::{Acknowledged, Oracle, Verdict};
pub use sides::{Accepted, both_open};
pub use transaction::{KEYLESS, KEYLESS_TABLE};

use crate::blocking::blocking;
use crate::cluster::connect;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use writer::Writer;

/// How many identities the writers share: few enough to conflict now and then.
const IDENTITIES: i64 = 400;

/// How many clients, and how many transactions a second they ask for together.
#[derive(Debug, Clone)]
pub struct Settings {
    pub connections: usize,
    pub rate: f64,
    /// Where the oracle's file goes.
    pub oracle_file: PathBuf,
}

impl Settings {
    /// Eight clients, two hundred transactions a second.
    pub fn new(oracle_file: impl Into<PathBuf>) -> Self {
        Self { connections: 8, rate: 200.0, oracle_file: oracle_file.into() }
    }
}

/// A database that clients know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub uri: String,
    /// Nothing is tried there unless the coordinator's fence, open or closed, stands on the table: without a fence it
    /// is a database that no migration has to do with, and taking a write there proves nothing.
    pub only_while_fenced: bool,
}

impl Place {
    /// A database that is written to whoever fences it.
    pub fn at(uri: &str) -> Self {
        Self { uri: uri.to_owned(), only_while_fenced: false }
    }
}

/// What clients do beside the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// Each transaction leaves a row in the keyless table too, which [`KEYLESS_TABLE`] makes.
    pub keyless: bool,
    /// So many of the clients go on to the next place after every try; the others when they are refused.
    pub restless: usize,
}

/// Running writers. Dropping them stops them without a verdict.
#[derive(Debug)]
pub struct Writers {
    route: watch::Sender<Route>,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Route {
    /// These are tried one after the other; none, and clients wait.
    Among(Arc<[Place]>),
    Stop,
}

/// How the writers fared between two marks.
#[derive(Debug, Clone)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
    pub acknowledged: u64,
    /// Tries that the server refused or that lost their connection; each was tried again.
    pub refused: u64,
    /// The longest time without any acknowledgement, in milliseconds.
    pub longest_pause_ms: u64,
}

impl Phase {
    /// Acknowledged transactions a second.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.seconds.max(0.001)
    }
}

/// What the writers did, after they stopped.
#[derive(Debug)]
pub struct Record {
    pub oracle: Oracle,
    pub phases: Vec<Phase>,
    /// Commits whose connection broke, settled by looking; all others were answered.
    pub unknown_settled: u64,
    /// Errors that no client should see, in words.
    pub unexpected: Vec<String>,
    /// Why tries were refused that were made again, and how often.
    pub refusals: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct State {
    oracle: Oracle,
    phases: Vec<Phase>,
    phase: Phase,
    phase_begun: Instant,
    last_acknowledged: Instant,
    unknown_settled: u64,
    unexpected: Vec<String>,
    refusals: BTreeMap<String, u64>,
}

impl State {
    fn acknowledge(&mut self, acknowledged: Acknowledged) -> anyhow::Result<()> {
        self.oracle.acknowledge(acknowledged)?;
        self.phase.acknowledged += 1;
        self.note_pause();
        self.last_acknowledged = Instant::now();
        Ok(())
    }

    fn note_pause(&mut self) {
        let pause = self.last_acknowledged.max(self.phase_begun).elapsed().as_millis();
        self.phase.longest_pause_ms = self.phase.longest_pause_ms.max(u64::try_from(pause).unwrap_or(u64::MAX));
    }

    fn begin_phase(&mut self, name: &str) {
        self.note_pause();
        let next = Phase { name: name.to_owned(), seconds: 0.0, acknowledged: 0, refused: 0, longest_pause_ms: 0 };
        let mut ended = std::mem::replace(&mut self.phase, next);
        ended.seconds = self.phase_begun.elapsed().as_secs_f64();
        self.phases.push(ended);
        self.phase_begun = Instant::now();
    }
}

impl Writers {
    /// Starts writing to the Kratos database at `uri`, which must hold identities. The first phase is `first_phase`.
    pub fn start(uri: &str, settings: &Settings, first_phase: &str) -> anyhow::Result<Self> {
        Self::start_among(&[Place::at(uri)], settings, Habits::default(), first_phase)
    }

    /// The same for clients that know several databases, and begin with the first.
    pub fn start_among(
        places: &[Place],
        settings: &Settings,
        habits: Habits,
        first_phase: &str,
    ) -> anyhow::Result<Self> {
        let run: u32 = rand::random();
        let first = places.first().context("there is no place to write to")?;
        let (nid, identities) = blocking(world(&first.uri)).context("cannot read what to write on")?;
        let phase =
            Phase { name: first_phase.to_owned(), seconds: 0.0, acknowledged: 0, refused: 0, longest_pause_ms: 0 };
        let state = Arc::new(Mutex::new(State {
            oracle: Oracle::new(run, habits.keyless, &settings.oracle_file)?,
            phases: Vec::new(),
            phase,
            phase_begun: Instant::now(),
            last_acknowledged: Instant::now(),
            unknown_settled: 0,
            unexpected: Vec::new(),
            refusals: BTreeMap::new(),
        }));
        let (route, _) = watch::channel(Route::Among(places.into()));
        let interval = Duration::from_secs_f64(settings.connections as f64 / settings.rate);
        let identities = Arc::new(identities);
        let threads = (0..settings.connections)
            .map(|connection| {
                let client = transaction::Client { run, connection, nid: nid.clone(), keyless: habits.keyless };
                let restless = connection < habits.restless;
                let writer =
                    Writer::new(client, restless, Arc::clone(&identities), route.subscribe(), Arc::clone(&state));
                std::thread::spawn(move || {
                    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(writer.work(interval))
                })
            })
            .collect();
        Ok(Self { route, state, threads })
    }

    /// From now on the clients write there: new transactions go to the new place, refused ones too.
    pub fn move_to(&self, uri: &str) {
        self.move_among(&[Place::at(uri)]);
    }

    /// From now on the clients know these places, and go on where they are if it is among them; none, and they wait.
    pub fn move_among(&self, places: &[Place]) {
        self.route.send_replace(Route::Among(places.into()));
    }

    /// Ends the phase that was running and begins one of this name.
    pub fn mark_phase(&self, name: &str) {
        lock(&self.state).begin_phase(name);
    }

    /// How many transactions were acknowledged up to now.
    pub fn acknowledged(&self) -> u64 {
        lock(&self.state).oracle.acknowledged()
    }

    /// Lets every client finish its transaction, trying refused ones again until they are through, and returns
    /// what they did. The place they write to must be open.
    pub fn stop(mut self) -> anyhow::Result<Record> {
        self.route.send_replace(Route::Stop);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        let state = Arc::clone(&self.state);
        drop(self);
        let state = Arc::into_inner(state).context("a writer still holds the record")?;
        let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.begin_phase("");
        Ok(Record {
            oracle: state.oracle,
            phases: state.phases,
            unknown_settled: state.unknown_settled,
            unexpected: state.unexpected,
            refusals: state.refusals,
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.route.send_replace(Route::Stop);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network that rows belong to, and identities to write on.
async fn world(uri: &str) -> anyhow::Result<(String, Vec<String>)> {
    let client = connect(uri).await?;
    let nid = client.query_one("SELECT id::text FROM public.networks ORDER BY created_at LIMIT 1", &[]).await?.get(0);
    let rows = client.query("SELECT id::text FROM public.identities ORDER BY id LIMIT $1", &[&IDENTITIES]).await?;
    anyhow::ensure!(!rows.is_empty(), "there are no identities to write on");
    Ok((nid, rows.iter().map(|row| row.get(0)).collect()))
}
