//! From addresses to an open websocket: TLS by the controller's private CA, several addresses side by side.

use super::error::{ConnectFailure, Error, Result};
use rand::seq::SliceRandom as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

/// The name in every controller's certificate, whatever address it is reached at (juju's `apiserver` certificates).
pub(super) const SERVER_NAME: &str = "juju-apiserver";

/// Where the API listens when nothing else is said (controller config `api-port`).
const DEFAULT_PORT: u16 = 17070;

/// The stream that requests and replies travel on.
pub(super) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Where a controller is, and whom to believe that it is the controller.
#[derive(Clone, Debug)]
pub struct Controller {
    /// `host:port`, IPv6 in brackets; a missing port is 17070.
    pub addresses: Vec<String>,
    /// The controller's CA certificate, PEM. Nothing else is trusted.
    pub ca: String,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between the beginnings of two attempts at different addresses.
    pub stagger: Duration,
    /// For a connection, over all addresses.
    pub connect: Duration,
    /// For the answer to a request.
    pub call: Duration,
    /// Between two looks whether the controller is still there.
    pub ping_every: Duration,
    /// For the answer to such a look.
    pub ping_answer: Duration,
}

impl Default for Timing {
    /// What Juju's own client does; a call has two minutes.
    fn default() -> Self {
        Self {
            stagger: Duration::from_millis(50),
            connect: Duration::from_secs(45),
            call: Duration::from_secs(120),
            ping_every: Duration::from_secs(60),
            ping_answer: Duration::from_secs(30),
        }
    }
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPath {
    /// One model, by its UUID.
    Model(String),
    /// The controller's own facades.
    Controller,
}

impl ModelPath {
    fn path(&self) -> String {
        match self {
            Self::Model(uuid) => format!("/model/{uuid}/api"),
            Self::Controller => "/api".to_owned(),
        }
    }
}

impl Controller {
    /// Opens a websocket at whichever address answers first.
    ///
    /// # Errors
    /// [`Error::Connect`] when none does within `timing.connect`, or when whoever answered cannot be trusted.
    pub(super) async fn dial(&self, path: &ModelPath, timing: &Timing) -> Result<(Socket, String)> {
        let attempt = self.race(path, timing);
        let late = format!("no answer within {} s from {}", timing.connect.as_secs(), self.addresses.join(", "));
        let raced = tokio::time::timeout(timing.connect, attempt).await;
        raced.unwrap_or(Err(ConnectFailure::Unreachable(late))).map_err(|failure| Error::Connect { failure })
    }

    async fn race(&self, path: &ModelPath, timing: &Timing) -> std::result::Result<(Socket, String), ConnectFailure> {
        let tls = TlsConnector::from(Arc::new(self.tls()?));
        let mut attempts = JoinSet::new();
        for (place, address) in self.sockets().await?.into_iter().enumerate() {
            let (tls, path) = (tls.clone(), path.path());
            let head_start = timing.stagger * u32::try_from(place).unwrap_or(u32::MAX);
            attempts.spawn(async move {
                tokio::time::sleep(head_start).await;
                open(address, &path, tls).await.map(|socket| (socket, address.to_string()))
            });
        }
        let mut failures = Vec::new();
        while let Some(ended) = attempts.join_next().await {
            match ended {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(failure)) => failures.push(failure),
                Err(error) => failures.push(ConnectFailure::Unreachable(error.to_string())),
            }
        }
        Err(worst(failures))
    }

    /// Every address once, in random order so that no controller of several gets all the work.
    async fn sockets(&self) -> std::result::Result<Vec<SocketAddr>, ConnectFailure> {
        let mut found: Vec<SocketAddr> = Vec::new();
        let mut unknown = Vec::new();
        for address in self.addresses.iter().filter(|address| !address.is_empty()) {
            match tokio::net::lookup_host(with_port(address)).await {
                Ok(sockets) => found.extend(sockets),
                Err(error) => unknown.push(format!("{address}: {error}")),
            }
        }
        found.sort_unstable();
        found.dedup();
        found.shuffle(&mut rand::rng());
        match (found.is_empty(), unknown.is_empty()) {
            (false, _) => Ok(found),
            (true, true) => Err(ConnectFailure::NoAddress),
            (true, false) => Err(ConnectFailure::Unreachable(unknown.join(", "))),
        }
    }

    fn tls(&self) -> std::result::Result<ClientConfig, ConnectFailure> {
        let unusable = |why: String| ConnectFailure::UnusableCa(why);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// `host:port`, with the usual port where there is none.
fn with_port(address: &str) -> String {
    let behind_host = address.rsplit_once(']').map_or(address, |(_, rest)| rest);
    if behind_host.contains(':') { address.to_owned() } else { format!("{address}:{DEFAULT_PORT}") }
}

/// The failure that says most: who must not be trusted, then who answered at all.
fn worst(failures: Vec<ConnectFailure>) -> ConnectFailure {
    let telling = |failure: &&ConnectFailure| !matches!(failure, ConnectFailure::Unreachable(_));
    let untrusted = |failure: &&ConnectFailure| matches!(failure, ConnectFailure::Untrusted { .. });
    if let Some(failure) = failures.iter().find(untrusted).or_else(|| failures.iter().find(telling)) {
        return failure.clone();
    }
    let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
    ConnectFailure::Unreachable(all.join(", "))
}

async fn secure(address: SocketAddr, tls: TlsConnector) -> std::result::Result<TlsStream<TcpStream>, ConnectFailure> {
    let unreachable = |error: std::io::Error| ConnectFailure::Unreachable(format!("{address}: {error}"));
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| ConnectFailure::UnusableCa(error.to_string()))?;
    tls.connect(name, tcp).await.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            ConnectFailure::Untrusted { address: address.to_string(), why: why.to_string() }
        }
        _ => unreachable(error),
    })
}

async fn open(address: SocketAddr, path: &str, tls: TlsConnector) -> std::result::Result<Socket, ConnectFailure> {
    let stream = secure(address, tls).await?;
    let url = format!("wss://{address}{path}");
    let opened = tokio_tungstenite::client_async(url, stream).await;
    opened.map(|(socket, _)| socket).map_err(|error| match error {
        tungstenite::Error::Http(response) => {
            ConnectFailure::Http { address: address.to_string(), status: response.status().as_u16() }
        }
        other => ConnectFailure::Unreachable(format!("{address}: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        assert_eq!(with_port("10.1.2.3"), "10.1.2.3:17070");
        assert_eq!(with_port("10.1.2.3:443"), "10.1.2.3:443");
        assert_eq!(with_port("[fd00::2]"), "[fd00::2]:17070");
        assert_eq!(with_port("[fd00::2]:443"), "[fd00::2]:443");
    }

    #[test]
    fn whom_not_to_trust_is_said_first() {
        let http = ConnectFailure::Http { address: "a".into(), status: 503 };
        let untrusted = ConnectFailure::Untrusted { address: "b".into(), why: "UnknownIssuer".into() };
        let nobody = ConnectFailure::Unreachable("c".into());
        assert_eq!(worst(vec![nobody.clone(), http.clone(), untrusted.clone()]), untrusted);
        assert_eq!(worst(vec![nobody.clone(), http.clone()]), http);
        assert_eq!(worst(vec![nobody.clone(), nobody]), ConnectFailure::Unreachable("c, c".into()));
    }

    #[tokio::test]
    async fn a_ca_that_is_none_and_no_address_are_said() {
        let timing = Timing::default();
        let mut controller = Controller { addresses: vec!["127.0.0.1:1".into()], ca: "no certificate".into() };
        let path = ModelPath::Controller;
        let failure = |error: Error| match error {
            Error::Connect { failure } => failure,
            other => panic!("{other}"),
        };
        let found = failure(controller.dial(&path, &timing).await.unwrap_err());
        assert!(matches!(found, ConnectFailure::UnusableCa(_)), "{found}");
        controller.addresses.clear();
        controller.ca = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".into();
        let found = failure(controller.dial(&path, &timing).await.unwrap_err());
        assert!(matches!(found, ConnectFailure::UnusableCa(_)), "{found}");
    }
}
