//! Requests and replies on one websocket.
//!
//! Many requests may be on their way at once and their replies come in any order; ids say what belongs together.
//! When the connection ends, whoever waits for an answer is told that the outcome is unknown.

use super::dial::{Controller, ModelPath, Socket, Timing};
use super::error::{Error, ErrorDetail, Result};
use super::wire::null_as_default;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Which request: facade, version and name as in Juju's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The facade, such as `Application`.
    pub facade: &'a str,
    /// The facade's version.
    pub version: u32,
    /// The request's name, such as `SetCharm`.
    pub request: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Request<'a, P> {
    request_id: u64,
    r#type: &'a str,
    version: u32,
    request: &'a str,
    params: &'a P,
}

/// What came back: the envelope without its id.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Reply {
    request_id: u64,
    #[serde(default, deserialize_with = "null_as_default")]
    error: String,
    #[serde(default, deserialize_with = "null_as_default")]
    error_code: String,
    #[serde(default)]
    error_info: Value,
    #[serde(default)]
    response: Value,
}

/// A refusal in the envelope, with the facts that a redirection carries.
#[derive(Debug)]
pub(super) struct EnvelopeError {
    pub detail: ErrorDetail,
    pub info: Value,
}

type Answer = std::result::Result<Value, EnvelopeError>;

/// Who waits for which reply, and how the connection ended.
#[derive(Default)]
struct Waiting {
    last_id: u64,
    by_id: HashMap<u64, oneshot::Sender<Answer>>,
    ended: Option<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Waiting>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everybody's waiting; the first reason stays.
    fn end(&self, why: &str) {
        let mut waiting = self.lock();
        waiting.ended.get_or_insert_with(|| why.to_owned());
        waiting.by_id.clear();
    }

    fn why_ended(&self) -> String {
        self.lock().ended.clone().unwrap_or_else(|| "the connection was lost".to_owned())
    }
}

/// An open websocket to a controller. Not logged in by itself. Dropping it closes it.
pub struct Connection {
    shared: Shared,
    outgoing: mpsc::UnboundedSender<Message>,
    address: String,
    timing: Timing,
    tasks: Vec<JoinHandle<()>>,
}

impl Connection {
    /// Connects, and does not log in.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn open(controller: &Controller, path: &ModelPath, timing: Timing) -> Result<Self> {
        let (socket, address) = controller.dial(path, &timing).await?;
        let (sink, stream) = socket.split();
        let (outgoing, requests) = mpsc::unbounded_channel();
        let shared = Shared::default();
        let tasks = vec![
            tokio::spawn(write(sink, requests, shared.clone())),
            tokio::spawn(read(stream, shared.clone(), outgoing.clone())),
        ];
        Ok(Self { shared, outgoing, address, timing, tasks })
    }

    /// The `ip:port` that this connection leads to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// False once the connection has ended; every further call is then [`Error::NotSent`].
    pub fn is_open(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// Sends one request and waits for its reply. `doing` completes "cannot <doing>".
    ///
    /// # Errors
    /// [`Error::NotSent`], [`Error::UnknownOutcome`], [`Error::Refused`] or [`Error::Unreadable`].
    pub async fn call<P: Serialize + Sync, R: DeserializeOwned>(
        &self,
        call: Call<'_>,
        params: &P,
        doing: &str,
    ) -> Result<R> {
        let answer = self.exchange(call, params, doing, self.timing.call).await?;
        let response = answer.map_err(|error| error.detail.refused(doing))?;
        read_response(response, doing)
    }

    /// As [`Self::call`], with the envelope's refusal as it came.
    pub(super) async fn exchange<P: Serialize + Sync>(
        &self,
        call: Call<'_>,
        params: &P,
        doing: &str,
        limit: Duration,
    ) -> Result<Answer> {
        let (id, answer) = self.send(call, params, doing)?;
        let unknown = |why: String| Error::UnknownOutcome { doing: doing.to_owned(), why };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(unknown(self.shared.why_ended())),
            Err(_) => {
                self.shared.lock().by_id.remove(&id);
                Err(unknown(format!("no answer from {} within {} ms", self.address, limit.as_millis())))
            }
        }
    }

    fn send<P: Serialize>(&self, call: Call<'_>, params: &P, doing: &str) -> Result<(u64, oneshot::Receiver<Answer>)> {
        let not_sent = |why: String| Error::NotSent { doing: doing.to_owned(), why };
        let (told, answer) = oneshot::channel();
        let mut waiting = self.shared.lock();
        if let Some(why) = &waiting.ended {
            return Err(not_sent(why.clone()));
        }
        waiting.last_id += 1;
        let id = waiting.last_id;
        let Call { facade, version, request } = call;
        let request = Request { request_id: id, r#type: facade, version, request, params };
        let text = serde_json::to_string(&request).map_err(|error| not_sent(error.to_string()))?;
        waiting.by_id.insert(id, told);
        drop(waiting);
        self.outgoing.send(Message::text(text)).map_err(|_| not_sent(self.shared.why_ended()))?;
        Ok((id, answer))
    }

    /// From now on looks every `ping_every` whether the controller is still there, and gives the connection up when
    /// it does not answer within `ping_answer`: a dead peer would otherwise never be noticed.
    pub(super) fn keep_alive(&mut self) {
        let (shared, outgoing, timing) = (self.shared.clone(), self.outgoing.clone(), self.timing);
        let address = self.address.clone();
        self.tasks.push(tokio::spawn(async move {
            // A connection for the pings alone: it owns no tasks, so dropping it ends nothing.
            let pinger = Connection { shared, outgoing, address, timing, tasks: Vec::new() };
            let ping = Call { facade: "Pinger", version: 1, request: "Ping" };
            loop {
                tokio::time::sleep(timing.ping_every).await;
                let empty = serde_json::json!({});
                let answer = pinger.exchange(ping, &empty, "ping the Juju controller", timing.ping_answer).await;
                if let Err(error) = answer {
                    log::debug!("{error}");
                    let why = format!("{} did not answer a ping", pinger.address);
                    pinger.shared.end(&why);
                    return;
                }
            }
        }));
    }

    /// Says goodbye. Whoever still waits is told that the outcome is unknown.
    pub async fn close(mut self) {
        self.shared.end("closed by ourselves");
        if self.outgoing.send(Message::Close(None)).is_ok()
            && let Some(writer) = self.tasks.first_mut()
        {
            // The writer ends after the farewell; without one the socket is simply dropped.
            let _late = tokio::time::timeout(GOODBYE, writer).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads a response into what its call answers.
pub(super) fn read_response<R: DeserializeOwned>(response: Value, doing: &str) -> Result<R> {
    serde_json::from_value(response)
        .map_err(|error| Error::Unreadable { doing: doing.to_owned(), why: error.to_string() })
}

async fn write(mut sink: SplitSink<Socket, Message>, mut requests: mpsc::UnboundedReceiver<Message>, shared: Shared) {
    while let Some(message) = requests.recv().await {
        let farewell = matches!(message, Message::Close(_));
        if let Err(error) = sink.send(message).await {
            shared.end(&error.to_string());
            return;
        }
        if farewell {
            return;
        }
    }
}

async fn read(mut stream: SplitStream<Socket>, shared: Shared, outgoing: mpsc::UnboundedSender<Message>) {
    let why = loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str::<Reply>(&text) {
                Ok(reply) => deliver(&shared, reply),
                Err(error) => break format!("a reply cannot be read ({error})"),
            },
            Some(Ok(Message::Close(_))) | None => break "the controller closed the connection".to_owned(),
            Some(Ok(_)) => {}
            Some(Err(error)) => break error.to_string(),
        }
    };
    shared.end(&why);
    // Wakes the writer, so that it ends too.
    let _ended = outgoing.send(Message::Close(None));
}

fn deliver(shared: &Shared, reply: Reply) {
    let Some(waiter) = shared.lock().by_id.remove(&reply.request_id) else {
        log::debug!("a late reply to request {} is left alone", reply.request_id);
        return;
    };
    let refused = !reply.error.is_empty() || !reply.error_code.is_empty();
    let answer = if refused {
        let detail = ErrorDetail { message: reply.error, code: reply.error_code };
        Err(EnvelopeError { detail, info: reply.error_info })
    } else {
        Ok(reply.response)
    };
    // Whoever waited may have given up.
    let _gone = waiter.send(answer);
}
