//! Questions to an app's running server, over HTTP, with short timeouts.
//!
//! Kratos up to 25.4 answers 307 on the admin port's `/health/*` and `/version` and has the real
//! ones under `/admin/`; other releases and Hydra have only the short form: each question tries
//! `/admin/…` first and the short form when that is unknown. A server whose database connections
//! were just terminated answers one 5xx before it heals, so a 5xx is asked for a second time.

use super::App;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a server gets to heal after a 5xx, before the second and last try.
const HEAL: Duration = Duration::from_millis(150);
/// The certificates that the operating system trusts.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where an app's server is reached, as its relation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it is.
    pub app: &'static App,
    /// Admin URL, such as `http://kratos.iam.svc.cluster.local:4434`.
    pub admin_endpoint: String,
    /// Public URL.
    pub public_endpoint: String,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nobody answers: the name does not resolve, the connection is refused or times out.
    Down(String),
    /// Something answers and is not ready; what it waits for, in its own words.
    NotReady {
        /// Pending migrations, a database fault, or an answer that is no health answer.
        pending: String,
    },
    /// Ready to serve.
    Ready {
        /// Its release, without a leading `v`.
        version: String,
    },
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(reason) => write!(f, "down ({reason})"),
            Self::NotReady { pending } => write!(f, "up, not ready ({pending})"),
            Self::Ready { version } => write!(f, "ready, version {version}"),
        }
    }
}

/// Whether the server can read one row of what it keeps: proves the network id, and of an identity the schema id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readable {
    /// It was read.
    Yes,
    /// The server does not know it (another network id, or no such row).
    Missing,
    /// The server failed: status and its own message.
    Failed {
        /// HTTP status.
        status: u16,
        /// The server's message and reason; no traits.
        message: String,
    },
}

/// What a Hydra tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// It was told.
    Yes(T),
    /// The server failed: with another system secret than the one that encrypted its keys it answers 500.
    Failed {
        /// HTTP status.
        status: u16,
        /// The server's message and reason.
        message: String,
    },
}

impl<T> Told<T> {
    /// What was told.
    pub fn yes(self) -> Option<T> {
        match self {
            Self::Yes(told) => Some(told),
            Self::Failed { .. } => None,
        }
    }
}

/// Why a question got no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody answers.
    #[error("cannot ask {url}: {reason}; check that the application runs and that this unit can reach it")]
    Down {
        /// The URL asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Something answered, not with what was asked for.
    #[error("cannot read the answer of {url}: {reason}; check that the address is the identity application's")]
    Odd {
        /// The URL asked.
        url: String,
        /// What was found.
        reason: String,
    },
}

impl Server {
    /// Asks for readiness and version. Blocks; see [`Server::health`].
    pub fn health_blocking(&self) -> Health {
        let answer = match self.admin("/health/ready") {
            Ok(answer) => answer,
            Err(Error::Down { reason, .. }) => return Health::Down(reason),
            Err(Error::Odd { reason, .. }) => return Health::NotReady { pending: reason },
        };
        let ready = answer.status == 200 && answer.json()["status"] == "ok";
        if !ready {
            return Health::NotReady { pending: answer.complaint() };
        }
        match self.version_blocking() {
            Ok(version) => Health::Ready { version },
            Err(Error::Down { reason, .. } | Error::Odd { reason, .. }) => Health::NotReady { pending: reason },
        }
    }

    /// The server's release, without a leading `v`. Blocks.
    ///
    /// # Errors
    /// When nobody answers, or not with a version.
    pub fn version_blocking(&self) -> Result<String, Error> {
        let answer = self.admin("/version")?;
        match answer.json()["version"].as_str() {
            Some(version) if answer.status == 200 => Ok(super::releases::plain(version).to_owned()),
            _ => Err(answer.odd()),
        }
    }

    /// The identity schemas that the server is configured with: documents by id. Blocks.
    ///
    /// # Errors
    /// When nobody answers, or not with a list of schemas.
    pub fn schemas_blocking(&self) -> Result<BTreeMap<String, Json>, Error> {
        let answer = get(&format!("{}/schemas", self.public_endpoint.trim_end_matches('/')))?;
        let json = answer.json();
        let list = json.as_array().filter(|_| answer.status == 200).ok_or_else(|| answer.odd())?;
        let schema = |entry: &Json| Some((entry["id"].as_str()?.to_owned(), entry["schema"].clone()));
        Ok(list.iter().filter_map(schema).collect())
    }

    /// Whether the server can read the identity, or the client, `id`. Blocks.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn readable_blocking(&self, id: &str) -> Result<Readable, Error> {
        let kept = &self.app.keeps;
        let answer = get(&format!("{}{}{}", self.admin_endpoint.trim_end_matches('/'), kept.path, segment(id)))?;
        Ok(match answer.status {
            200 if answer.json()[kept.id_key] == id => Readable::Yes,
            200 => Readable::Failed { status: 200, message: format!("the answer is not that {}", kept.one) },
            404 => Readable::Missing,
            status => Readable::Failed { status, message: answer.complaint() },
        })
    }

    /// The ids of the keys that a Hydra publishes. Blocks. See [`super::hydra::KEY_SETS`] before asking.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn keys_blocking(&self) -> Result<Told<BTreeSet<String>>, Error> {
        let ids = |keys: &Vec<Json>| keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect();
        self.well_known("jwks.json", |json| json["keys"].as_array().map(ids))
    }

    /// The issuer that a Hydra names in its tokens. Blocks. See [`super::hydra::KEY_SETS`] before asking.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn issuer_blocking(&self) -> Result<Told<String>, Error> {
        self.well_known("openid-configuration", |json| json["issuer"].as_str().map(str::to_owned))
    }

    pub(super) fn well_known<T>(&self, name: &str, read: impl FnOnce(&Json) -> Option<T>) -> Result<Told<T>, Error> {
        let answer = get(&format!("{}/.well-known/{name}", self.public_endpoint.trim_end_matches('/')))?;
        Ok(match read(&answer.json()).filter(|_| answer.status == 200) {
            Some(told) => Told::Yes(told),
            None => Told::Failed { status: answer.status, message: answer.complaint() },
        })
    }

    /// [`Server::health_blocking`] for async callers.
    pub async fn health(&self) -> Health {
        let server = self.clone();
        tokio::task::spawn_blocking(move || server.health_blocking())
            .await
            .unwrap_or_else(|error| Health::NotReady { pending: format!("the question failed: {error}") })
    }

    /// [`Server::schemas_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn schemas(&self) -> Result<BTreeMap<String, Json>, Error> {
        self.asked(Self::schemas_blocking).await
    }

    /// [`Server::readable_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn readable(&self, id: &str) -> Result<Readable, Error> {
        let id = id.to_owned();
        self.asked(move |server| server.readable_blocking(&id)).await
    }

    /// [`Server::keys_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn keys(&self) -> Result<Told<BTreeSet<String>>, Error> {
        self.asked(Self::keys_blocking).await
    }

    /// [`Server::issuer_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn issuer(&self) -> Result<Told<String>, Error> {
        self.asked(Self::issuer_blocking).await
    }

    /// A question that blocks, on a thread that may.
    pub(super) async fn asked<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (server, url) = (self.clone(), self.admin_endpoint.clone());
        tokio::task::spawn_blocking(move || question(&server))
            .await
            .unwrap_or_else(|error| Err(Error::Odd { url, reason: error.to_string() }))
    }

    /// Asks the admin port, under `/admin` first.
    fn admin(&self, path: &str) -> Result<Answer, Error> {
        let base = self.admin_endpoint.trim_end_matches('/');
        let answer = get(&format!("{base}/admin{path}"))?;
        if answer.status == 404 { get(&format!("{base}{path}")) } else { Ok(answer) }
    }
}

/// A status and a body.
pub(super) struct Answer {
    url: String,
    status: u16,
    body: String,
    /// The first cookie that it sets.
    pub cookie: Option<String>,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or(Json::Null)
    }

    /// What the server complains about, shortened.
    fn complaint(&self) -> String {
        let json = self.json();
        let words: Vec<String> = match (&json["errors"], &json["error"]) {
            (Json::Object(errors), _) => errors.iter().map(|(what, text)| format!("{what}: {}", words(text))).collect(),
            (_, Json::Object(error)) => {
                ["message", "reason"].iter().filter_map(|key| error.get(*key)).map(words).collect()
            }
            (_, Json::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        };
        let text = format!("HTTP {}", self.status);
        if words.is_empty() { text } else { format!("{text}, {}", words.join("; ")).chars().take(400).collect() }
    }

    fn odd(&self) -> Error {
        Error::Odd { url: self.url.clone(), reason: self.complaint() }
    }
}

/// A path's segment: a client's id may be any text.
fn segment(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn words(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One GET, tried again once on a 5xx; every status is an answer.
pub(super) fn get(url: &str) -> Result<Answer, Error> {
    let answer = get_once(url)?;
    if answer.status < 500 {
        return Ok(answer);
    }
    std::thread::sleep(HEAL);
    get_once(url)
}

fn get_once(url: &str) -> Result<Answer, Error> {
    let mut response = agent().get(url).call().map_err(|error| no_answer(url, &error))?;
    let status = response.status().as_u16();
    let cookie = response.headers().get("set-cookie").and_then(|cookie| Some(cookie.to_str().ok()?.to_owned()));
    let body = response
        .body_mut()
        .with_config()
        .limit(4 << 20)
        .read_to_string()
        .map_err(|error| Error::Odd { url: url.to_owned(), reason: error.to_string() })?;
    Ok(Answer { url: url.to_owned(), status, body, cookie })
}

/// Only what proves that nobody serves there counts as down; a TLS fault or a broken answer
/// comes from something that is up.
fn no_answer(url: &str, error: &ureq::Error) -> Error {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let (url, reason) = (url.to_owned(), error.to_string());
    let down = match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(at) => matches!(at, ureq::Timeout::Connect | ureq::Timeout::Resolve),
        ureq::Error::Io(error) => {
            matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut)
        }
        _ => false,
    };
    if down { Error::Down { url, reason } } else { Error::Odd { url, reason } }
}

/// One agent for the process. Connections are not kept: a kept one would tell of the past.
fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(system_certificates().into())
            .build();
        ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_connect(Some(Duration::from_secs(1)))
            .timeout_global(Some(ANSWER))
            .build()
            .new_agent()
    })
}

/// What the operating system trusts; nothing when it has no such file (then HTTPS fails and says so).
fn system_certificates() -> Vec<ureq::tls::Certificate<'static>> {
    let pem = std::fs::read(SYSTEM_CERTIFICATES).unwrap_or_default();
    ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}
