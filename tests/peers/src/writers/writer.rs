//! One client: it writes at its pace, tries again what is refused, and settles what it does not know.

use super::oracle::Acknowledged;
use super::transaction::{self, Client, Failure, Written};
use super::{Place, Route, State, lock};
use crate::cluster::connect;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a client waits before it tries a refused write again.
const RETRY: Duration = Duration::from_millis(20);
/// Every so many transactions a client thinks in the middle, so that a fence always finds writers in flight.
const SLOW_EVERY: u64 = 40;
const SLOW: Duration = Duration::from_millis(150);
/// How long it tries after it was stopped.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    client: Client,
    restless: bool,
    identities: Arc<Vec<String>>,
    route: watch::Receiver<Route>,
    state: Arc<Mutex<State>>,
    /// The places it knows, and which of them comes next.
    places: Arc<[Place]>,
    next: usize,
    /// The open connections, by the place they lead to.
    open: HashMap<String, tokio_postgres::Client>,
}

/// A commit that was sent and not answered.
struct Unknown {
    place: Place,
    xid: String,
    sent: Instant,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        restless: bool,
        identities: Arc<Vec<String>>,
        route: watch::Receiver<Route>,
        state: Arc<Mutex<State>>,
    ) -> Self {
        Self { client, restless, identities, route, state, places: Arc::new([]), next: 0, open: HashMap::new() }
    }

    pub(super) async fn work(mut self, interval: Duration) -> anyhow::Result<()> {
        // Clients start spread over the interval.
        let mut next = Instant::now() + interval.mul_f64(rand::random::<f64>());
        for sequence in 1.. {
            tokio::time::sleep_until(next.into()).await;
            if *self.route.borrow() == Route::Stop {
                break;
            }
            let identity = &self.identities[rand::random_range(0..self.identities.len())];
            let (run, connection) = (self.client.run, self.client.connection);
            let written = Written {
                connection,
                sequence,
                identity: identity.clone(),
                session: transaction::session_key(run, connection, sequence),
                flow: transaction::flow_key(run, connection, sequence),
            };
            self.write(written).await?;
            next += interval;
            // After a long refusal a client goes on at its pace, with one second of arrears at most.
            next = next.max(Instant::now() - Duration::from_secs(1));
        }
        Ok(())
    }

    /// Tries until the transaction is acknowledged.
    async fn write(&mut self, written: Written) -> anyhow::Result<()> {
        let mut unknown: Option<Unknown> = None;
        let mut was_unknown = false;
        let mut stopping_since = None;
        let mut last_refusal = String::new();
        loop {
            let stops = *self.route.borrow() == Route::Stop;
            if stops {
                let since = *stopping_since.get_or_insert_with(Instant::now);
                anyhow::ensure!(
                    since.elapsed() < STOPS_WITHIN,
                    "writer {} could not finish its transaction in 30 s after stop; last refusal: {last_refusal}",
                    self.client.connection
                );
            }
            // What is not known is settled where it was sent, before anything is tried elsewhere.
            let at = match &unknown {
                Some(asked) => Some(asked.place.clone()),
                None => self.place(),
            };
            let Some(at) = at else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let answer = match &unknown {
                Some(asked) => self.settle(asked, &written).await.map(|there| match there {
                    Some(acknowledged) => Some(acknowledged),
                    None => {
                        unknown = None;
                        None
                    }
                }),
                None => self.attempt(&at, &written, &mut unknown).await.map(Some),
            };
            was_unknown |= unknown.is_some();
            let failure = match answer {
                Ok(Some(acknowledged)) => {
                    let mut state = lock(&self.state);
                    state.unknown_settled += u64::from(was_unknown);
                    if self.restless {
                        self.next += 1;
                    }
                    return state.acknowledge(acknowledged);
                }
                // It did not happen: once more.
                Ok(None) => continue,
                Err(failure) => failure,
            };
            let unexpected = match failure {
                Failure::Refused(text) | Failure::Unknown(text) => {
                    last_refusal = text;
                    None
                }
                Failure::Applied => Some("a key of this transaction is there before it was ever sent".to_owned()),
                Failure::Unexpected(text) => Some(text),
            };
            {
                let mut state = lock(&self.state);
                state.phase.refused += 1;
                if unexpected.is_none() {
                    *state.refusals.entry(last_refusal.clone()).or_default() += 1;
                }
                if let Some(text) = unexpected
                    && state.unexpected.len() < 50
                {
                    state.unexpected.push(format!("writer {}: {text}", self.client.connection));
                }
            }
            self.roll_back(&at.uri).await;
            if unknown.is_none() {
                self.next += 1;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The place to try next. One that is still known is kept when the route changes.
    fn place(&mut self) -> Option<Place> {
        let route = self.route.borrow_and_update().clone();
        if let Route::Among(places) = route
            && places != self.places
        {
            let here = self.current();
            self.next = here.and_then(|here| places.iter().position(|place| *place == here)).unwrap_or(0);
            // Whoever is connected to a database is somebody to reckon with there.
            self.open.retain(|uri, _| places.iter().any(|place| place.uri == *uri));
            self.places = places;
        }
        self.current()
    }

    fn current(&self) -> Option<Place> {
        self.places.get(self.next % self.places.len().max(1)).cloned()
    }

    async fn connected(&mut self, uri: &str) -> Result<&tokio_postgres::Client, Failure> {
        if self.open.get(uri).is_none_or(tokio_postgres::Client::is_closed) {
            let client = connect(uri).await.map_err(|error| Failure::Refused(format!("{error:#}")))?;
            self.open.insert(uri.to_owned(), client);
        }
        self.open.get(uri).ok_or_else(|| Failure::Refused("no connection".to_owned()))
    }

    async fn attempt(
        &mut self,
        place: &Place,
        written: &Written,
        unknown: &mut Option<Unknown>,
    ) -> Result<Acknowledged, Failure> {
        let pause = if written.sequence.is_multiple_of(SLOW_EVERY) { SLOW } else { Duration::ZERO };
        self.connected(&place.uri).await?;
        let Some(connection) = self.open.get(&place.uri) else {
            return Err(Failure::Refused("no connection".to_owned()));
        };
        let xid = self.client.prepare(connection, written, place.only_while_fenced, pause).await?.xid;
        let sent = Instant::now();
        match transaction::commit(connection).await {
            Ok(()) => Ok(Acknowledged::new(written, &place.uri, &xid, sent)),
            Err(failure) => {
                if matches!(failure, Failure::Unknown(_)) {
                    *unknown = Some(Unknown { place: place.clone(), xid, sent });
                    self.open.remove(&place.uri);
                }
                Err(failure)
            }
        }
    }

    /// The acknowledgement of a commit that was not answered; `None` when it did not happen.
    async fn settle(&mut self, asked: &Unknown, written: &Written) -> Result<Option<Acknowledged>, Failure> {
        let client = self.connected(&asked.place.uri).await?;
        match transaction::settled(client, written, &asked.xid).await {
            Ok(Some(true)) => Ok(Some(Acknowledged::new(written, &asked.place.uri, &asked.xid, asked.sent))),
            Ok(Some(false)) => Ok(None),
            Ok(None) => Err(Failure::Refused("its commit still runs".to_owned())),
            Err(error) => Err(Failure::Refused(transaction::describe(&error))),
        }
    }

    /// Ends what is open there; a connection that cannot even do that is given up.
    async fn roll_back(&mut self, uri: &str) {
        if let Some(client) = self.open.get(uri)
            && client.batch_execute("ROLLBACK").await.is_err()
        {
            self.open.remove(uri);
        }
    }
}
