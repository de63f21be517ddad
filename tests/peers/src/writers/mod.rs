//! Live writers: clients that log people in all the time, wherever the database is, and remember what was
//! acknowledged.

mod oracle;
mod transaction;

pub use oracle::{Oracle, Verdict};

use crate::blocking::blocking;
use crate::cluster::connect;
use anyhow::Context;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::Client;
use transaction::{Failure, Written};

/// How long a client waits before it tries a refused write again.
const RETRY: Duration = Duration::from_millis(20);
/// Every so many transactions a client thinks in the middle, so that a fence always finds writers in flight.
const SLOW_EVERY: u64 = 40;
const SLOW: Duration = Duration::from_millis(150);
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

/// Running writers. Dropping them stops them without a verdict.
#[derive(Debug)]
pub struct Writers {
    place: watch::Sender<Place>,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    At(String),
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
}

impl State {
    fn acknowledge(&mut self, written: &Written) -> anyhow::Result<()> {
        self.oracle.acknowledge(written)?;
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
        let run: u32 = rand::random();
        let (nid, identities) = blocking(world(uri)).context("cannot read what to write on")?;
        let phase =
            Phase { name: first_phase.to_owned(), seconds: 0.0, acknowledged: 0, refused: 0, longest_pause_ms: 0 };
        let state = Arc::new(Mutex::new(State {
            oracle: Oracle::new(run, &settings.oracle_file)?,
            phases: Vec::new(),
            phase,
            phase_begun: Instant::now(),
            last_acknowledged: Instant::now(),
            unknown_settled: 0,
            unexpected: Vec::new(),
        }));
        let (place, _) = watch::channel(Place::At(uri.to_owned()));
        let interval = Duration::from_secs_f64(settings.connections as f64 / settings.rate);
        let identities = Arc::new(identities);
        let threads = (0..settings.connections)
            .map(|connection| {
                let writer = Writer {
                    run,
                    connection,
                    nid: nid.clone(),
                    identities: Arc::clone(&identities),
                    place: place.subscribe(),
                    state: Arc::clone(&state),
                    client: None,
                };
                std::thread::spawn(move || {
                    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(writer.work(interval))
                })
            })
            .collect();
        Ok(Self { place, state, threads })
    }

    /// From now on the clients write there: new transactions go to the new place, refused ones too.
    pub fn move_to(&self, uri: &str) {
        self.place.send_replace(Place::At(uri.to_owned()));
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
        self.place.send_replace(Place::Stop);
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
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.place.send_replace(Place::Stop);
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

struct Writer {
    run: u32,
    connection: usize,
    nid: String,
    identities: Arc<Vec<String>>,
    place: watch::Receiver<Place>,
    state: Arc<Mutex<State>>,
    /// The open connection and the place it leads to.
    client: Option<(String, Client)>,
}

impl Writer {
    async fn work(mut self, interval: Duration) -> anyhow::Result<()> {
        let mut at = self.current_place()?;
        // Clients start spread over the interval.
        let mut next = Instant::now() + interval.mul_f64(rand::random::<f64>());
        for sequence in 1.. {
            tokio::time::sleep_until(next.into()).await;
            if *self.place.borrow() == Place::Stop {
                break;
            }
            let identity = &self.identities[rand::random_range(0..self.identities.len())];
            let written = Written {
                connection: self.connection,
                sequence,
                identity: identity.clone(),
                session: transaction::session_key(self.run, self.connection, sequence),
                flow: transaction::flow_key(self.run, self.connection, sequence),
            };
            self.write(&mut at, &written).await?;
            next += interval;
            // After a long refusal a client goes on at its pace, with one second of arrears at most.
            next = next.max(Instant::now() - Duration::from_secs(1));
        }
        Ok(())
    }

    fn current_place(&self) -> anyhow::Result<String> {
        match &*self.place.borrow() {
            Place::At(uri) => Ok(uri.clone()),
            Place::Stop => anyhow::bail!("stopped before it began"),
        }
    }

    /// Tries until the transaction is acknowledged.
    async fn write(&mut self, at: &mut String, written: &Written) -> anyhow::Result<()> {
        let mut unknown = false;
        let mut stopping_since = None;
        let mut last_refusal = String::new();
        loop {
            match &*self.place.borrow() {
                Place::At(uri) => at.clone_from(uri),
                Place::Stop => {
                    let since = *stopping_since.get_or_insert_with(Instant::now);
                    anyhow::ensure!(
                        since.elapsed() < Duration::from_secs(30),
                        "writer {} could not finish its transaction in 30 s after stop; last refusal: {last_refusal}",
                        self.connection
                    );
                }
            }
            let failure = match self.attempt(at, written, unknown).await {
                Ok(()) => {
                    let mut state = lock(&self.state);
                    state.unknown_settled += u64::from(unknown);
                    return state.acknowledge(written);
                }
                Err(failure) => failure,
            };
            let unexpected = match failure {
                Failure::Applied if unknown => {
                    let mut state = lock(&self.state);
                    state.unknown_settled += 1;
                    self.client = None;
                    return state.acknowledge(written);
                }
                Failure::Applied => Some("a key of this transaction is there before it was ever sent".to_owned()),
                Failure::Refused(text) => {
                    last_refusal = text;
                    None
                }
                Failure::Unknown(text) => {
                    last_refusal = text;
                    unknown = true;
                    None
                }
                Failure::Unexpected(text) => Some(text),
            };
            {
                let mut state = lock(&self.state);
                state.phase.refused += 1;
                if let Some(text) = unexpected
                    && state.unexpected.len() < 50
                {
                    state.unexpected.push(format!("writer {}: {text}", self.connection));
                }
            }
            self.roll_back().await;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn attempt(&mut self, at: &str, written: &Written, unknown: bool) -> Result<(), Failure> {
        if self.client.as_ref().is_none_or(|(uri, client)| uri != at || client.is_closed()) {
            let client = connect(at).await.map_err(|error| Failure::Refused(format!("{error:#}")))?;
            self.client = Some((at.to_owned(), client));
        }
        let Some((_, client)) = &self.client else { return Err(Failure::Refused("no connection".to_owned())) };
        if unknown {
            let there = client
                .query_opt("SELECT 1 FROM public.sessions WHERE id = $1::text::uuid", &[&written.session])
                .await
                .map_err(|error| Failure::Refused(transaction::describe(&error)))?;
            if there.is_some() {
                return Ok(());
            }
        }
        let pause = if written.sequence.is_multiple_of(SLOW_EVERY) { SLOW } else { Duration::ZERO };
        transaction::run(client, self.run, written, &self.nid, pause).await
    }

    /// Ends what is open; a connection that cannot even do that is given up.
    async fn roll_back(&mut self) {
        if let Some((_, client)) = &self.client
            && client.batch_execute("ROLLBACK").await.is_err()
        {
            self.client = None;
        }
    }
}
