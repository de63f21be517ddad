//! The server: addresses, TLS, the path of the websocket, uploads, and the clock of its own model's unit agents.

use crate::connection;
use crate::controller::{Access, BlockKind, Controller, Fault, Generation, Mode, Received, User};
use crate::http;
use crate::model::Model;
use crate::store::Store;
use crate::tls;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// Between two steps of the unit agents.
const STEP: Duration = Duration::from_millis(5);

/// How to play it.
#[derive(Clone, Debug)]
pub struct Options {
    pub generation: Generation,
    /// How many addresses it listens at.
    pub addresses: usize,
    /// The names in its certificate; a controller's own when empty.
    pub names: Vec<&'static str>,
    /// Whether the unit agents of a [`Store`] work by themselves.
    pub agents: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { generation: Generation::Four, addresses: 1, names: Vec::new(), agents: true }
    }
}

/// Somebody who is told of each call and its parameters before it is done.
pub type Observer = Arc<dyn Fn(&str, &Value) + Send + Sync>;

/// What connections share.
pub(crate) struct Shared {
    pub controller: Mutex<Controller>,
    pub observer: Mutex<Option<Observer>>,
    pub model: Arc<Mutex<dyn Model>>,
}

impl Shared {
    pub fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn observer(&self) -> Option<Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn model(&self) -> MutexGuard<'_, dyn Model + 'static> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A controller with one model, on loopback. Dropping it cuts every connection.
pub struct Peer<M = Store> {
    shared: Arc<Shared>,
    model: Arc<Mutex<M>>,
    ca: String,
    addresses: Vec<String>,
    runtime: Option<Runtime>,
}

impl Peer {
    /// Starts it over the model that it brings along.
    pub fn start(store: Store, options: &Options) -> Result<Self> {
        let peer = Self::over(store, options)?;
        if let Some(runtime) = peer.runtime.as_ref().filter(|_| options.agents) {
            let agents = Arc::clone(&peer.model);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(STEP).await;
                    agents.lock().unwrap_or_else(PoisonError::into_inner).step();
                }
            });
        }
        Ok(peer)
    }

    /// The model's own side, under its lock.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.model()
    }
}

impl<M: Model + 'static> Peer<M> {
    /// Starts it over any model, whose unit agents are none of its business.
    pub fn over(model: M, options: &Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let own = ["juju-apiserver", "localhost", "anything", "127.0.0.1"];
        let (acceptor, ca) = tls::make(if options.names.is_empty() { &own } else { &options.names })?;
        let model = Arc::new(Mutex::new(model));
        let controller = Controller {
            generation: options.generation,
            uuid: "cae305e8-c25d-4653-8c28-5dabbdb82f99".into(),
            users: BTreeMap::new(),
            blocks: BTreeMap::new(),
            mode: Mode::Normal,
            faults: Vec::new(),
            freezes: Vec::new(),
            ahead: Duration::ZERO,
            canned: Vec::new(),
            received: Vec::new(),
            ports: Vec::new(),
            pending: BTreeMap::new(),
        };
        let behind: Arc<Mutex<dyn Model>> = Arc::clone(&model) as _;
        let shared = Arc::new(Shared { controller: Mutex::new(controller), observer: Mutex::default(), model: behind });
        let mut addresses = Vec::new();
        for _ in 0..options.addresses {
            // Also within a test's own runtime, where waiting is not allowed.
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let entered = runtime.enter();
            let listener = TcpListener::from_std(listener)?;
            drop(entered);
            shared.controller().ports.push(address.port());
            addresses.push(address.to_string());
            runtime.spawn(accept(listener, acceptor.clone(), Arc::clone(&shared)));
        }
        Ok(Self { shared, model, ca, addresses, runtime: Some(runtime) })
    }

    /// `ip:port` of each listener.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The CA's certificate, PEM.
    pub fn ca(&self) -> String {
        self.ca.clone()
    }

    /// The model behind it, under its lock.
    pub fn model(&self) -> MutexGuard<'_, M> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user as the controller knows it.
    pub fn user(&self, name: &str) -> Option<User> {
        self.shared.controller().users.get(name).cloned()
    }

    /// `juju add-user` and `juju grant`, or whatever changes a user.
    pub fn set_user(&self, name: &str, user: User) {
        self.shared.controller().users.insert(name.to_owned(), user);
    }

    /// Changes a user that is there.
    pub fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) {
        if let Some(user) = self.shared.controller().users.get_mut(name) {
            change(user);
        }
    }

    /// `juju revoke`.
    pub fn set_access(&self, name: &str, access: Access) {
        self.change_user(name, |user| user.access = access);
    }

    /// `juju disable-command`; `None` is `juju enable-command`.
    pub fn set_block(&self, kind: BlockKind, message: Option<&str>) {
        let name = match kind {
            BlockKind::BlockDestroy => "BlockDestroy",
            BlockKind::BlockRemove => "BlockRemove",
            BlockKind::BlockChange => "BlockChange",
        };
        let mut controller = self.shared.controller();
        match message {
            Some(message) => drop(controller.blocks.insert(name, message.to_owned())),
            None => drop(controller.blocks.remove(name)),
        }
    }

    /// What it is busy with from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.controller().mode = mode;
    }

    /// Has somebody told of each call of a user who is logged in, before it is done.
    pub fn observe(&self, observer: impl Fn(&str, &Value) + Send + Sync + 'static) {
        *self.shared.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(observer));
    }

    /// Every change is disabled with these words just before the next call of this kind is judged.
    pub fn freeze_before(&self, call: &str, message: &str) {
        self.shared.controller().freezes.push((call.to_owned(), message.to_owned()));
    }

    /// The clock that a status is dated by goes this far ahead of the one that its parts are dated by: so much time has
    /// passed for whoever compares both.
    pub fn set_clock_ahead(&self, ahead: Duration) {
        self.shared.controller().ahead = ahead;
    }

    /// The next call of this kind, such as `Application.SetCharm`, goes wrong.
    pub fn plan_fault(&self, call: &str, fault: Fault) {
        self.shared.controller().faults.push((call.to_owned(), fault));
    }

    /// The next call of this kind is answered with a reply that was recorded, whole but for its id.
    pub fn plan_reply(&self, call: &str, reply: Value) {
        self.shared.controller().canned.push((call.to_owned(), reply));
    }

    /// Every request that was done or refused, in order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.controller().received.clone()
    }

    /// The calls that changed the model, in the order in which they were done.
    pub fn changes(&self) -> Vec<String> {
        let done = |received: &Received| received.error.is_none() && received.changes_the_model();
        self.received().into_iter().filter(done).map(|received| received.call).collect()
    }

    /// How often a call was done.
    pub fn times_done(&self, call: &str) -> usize {
        let received = self.received();
        received.iter().filter(|received| received.call == call && received.error.is_none()).count()
    }
}

impl<M> Drop for Peer<M> {
    fn drop(&mut self) {
        // Also within a test's own runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // Whoever does not trust the certificate goes away.
            let _gone = serve(tcp, acceptor, shared).await;
        });
    }
}

#[allow(clippy::result_large_err, reason = "the library's own type")]
async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = BufReader::new(acceptor.accept(tcp).await?);
    if http::is_upload(&mut stream).await? {
        return http::serve(stream, shared).await;
    }
    let mut asked = None;
    let check = |request: &Request, response: Response| {
        if shared.controller().mode == Mode::Stopping {
            return refuse(503, "apiserver shutdown in progress");
        }
        match model_in(request.uri().path()) {
            Ok(model) => {
                asked = model;
                Ok(response)
            }
            Err(refusal) => refuse(refusal.0, &refusal.1),
        }
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, check).await?;
    connection::serve(socket, asked, shared).await
}

#[allow(clippy::result_large_err, reason = "the library's own type")]
fn refuse(status: u16, text: &str) -> Result<Response, ErrorResponse> {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status.try_into().unwrap_or_default();
    Err(response)
}

/// The UUID in `/model/<uuid>/api`; `None` for `/api`.
fn model_in(path: &str) -> Result<Option<String>, (u16, String)> {
    if path == "/api" {
        return Ok(None);
    }
    let uuid = path.strip_prefix("/model/").and_then(|rest| rest.strip_suffix("/api"));
    let uuid = uuid.ok_or_else(|| (404, "404 page not found".to_owned()))?;
    let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
    let hex = uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if parts == [8, 4, 4, 4, 12] && hex {
        Ok(Some(uuid.to_owned()))
    } else {
        Err((400, format!("invalid model UUID {uuid:?}")))
    }
}
