//! Files for the controller: a packed charm, and what an `oci-image` resource holds. They go to the port of the API over
//! HTTPS, as the user that is logged in, and to the address that the websocket leads to.

use super::archive::{CharmArchive, hex};
use super::charm::{CharmOrigin, ResourceMeta};
use super::dial::SERVER_NAME;
use super::error::{ConnectFailure, Error, ErrorDetail, Result};
use super::login::{AUDIT_NAME, Credentials, Session};
use super::resources::NewResource;
use super::wire::null_as_default;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};
use std::fs::File;
use std::io::{self, Seek as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// The controller gives a charm five minutes.
const UPLOADED_WITHIN: Duration = Duration::from_secs(300);

/// What an answer may have at most.
const LONGEST_ANSWER: u64 = 1 << 20;

/// What an `oci-image` resource holds: where the image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    text: String,
}

impl Image {
    /// An image of a registry that asks for no password.
    pub fn at(reference: &str) -> Self {
        Self { text: format!("registrypath: {}\n", json!(reference)) }
    }

    fn sha384(&self) -> Vec<u8> {
        Sha384::digest(&self.text).to_vec()
    }

    /// As the controller tells it of a resource that it has.
    pub fn fingerprint(&self) -> String {
        STANDARD.encode(self.sha384())
    }
}

/// Who we are at the controller's HTTPS port, and where that is.
pub(super) struct Door {
    authorization: String,
    ca: String,
}

impl Door {
    pub(super) fn new(credentials: &Credentials, ca: &str) -> Self {
        let pair = format!("user-{}:{}", credentials.username, credentials.password.reveal());
        Self { authorization: format!("Basic {}", STANDARD.encode(pair)), ca: ca.to_owned() }
    }
}

/// What is sent.
enum Body {
    File(File),
    Text(String),
}

/// One upload.
struct Put {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

/// Every name leads to one address: the certificate names the controller and not its address.
#[derive(Debug)]
struct Only(SocketAddr);

impl Resolver for Only {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Uploaded {
    charm_url: String,
}

/// A refusal in either of its forms: `{"error": "…", "error-code": "…"}` or `{"error": {"message": "…", "code": "…"}}`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Refused {
    error: Value,
    #[serde(default, deserialize_with = "null_as_default")]
    error_code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    #[serde(default, deserialize_with = "null_as_default")]
    charm_urls: Vec<String>,
}

impl Session {
    /// Uploads a charm and answers its URL. Each upload is a new revision, of the same file, too; no application is
    /// changed. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn upload_charm(&self, charm: &CharmArchive) -> Result<String> {
        let doing = format!("upload the charm {}", charm.name);
        let prefix = charm.sha256.get(..7).unwrap_or_default();
        let model = &self.login().model_tag;
        let file = from_begin(&charm.file).map_err(|error| not_sent(&doing, error.to_string()))?;
        let put = Put {
            path: format!("/{model}/charms/{}-{prefix}", charm.name),
            headers: vec![
                ("Content-Type", "application/zip".to_owned()),
                ("Juju-Curl", format!("local:{}-0", charm.name)),
            ],
            body: Body::File(file),
        };
        let answer = self.put(put, &doing).await?;
        let uploaded: Uploaded = serde_json::from_str(&answer)
            .map_err(|error| Error::Unreadable { doing: doing.clone(), why: error.to_string() })?;
        Ok(uploaded.charm_url)
    }

    /// The charms of this name that were uploaded to the model, whether an application has them or not. Needs access
    /// `read`.
    ///
    /// # Errors
    /// As every call.
    pub async fn uploaded_charms(&self, name: &str) -> Result<Vec<String>> {
        let doing = format!("list the charms named {name}");
        let listed: Listed = self.call("Charms", "List", &json!({"names": [name]}), &doing).await?;
        Ok(listed.charm_urls.into_iter().filter(|url| url.starts_with("local:")).collect())
    }

    /// Gives an application's resource an image of the operator's own and answers its id for `SetCharm`: units use it from
    /// then on. 3.6 keeps what the application has until then, 4.0 tells the new one at once. Needs access `write`.
    ///
    /// # Errors
    /// As every call.
    pub async fn upload_image(
        &self,
        application: &str,
        url: &str,
        origin: &CharmOrigin,
        meta: &ResourceMeta,
        image: &Image,
    ) -> Result<String> {
        let doing = format!("upload the resource {} of {application}", meta.name);
        let resource = NewResource { meta: meta.clone(), origin: "upload", revision: 0, fingerprint: None, size: 0 };
        let id = self.add_pending_resource(application, url, origin, &resource).await?;
        let model = self.login().model_tag.trim_start_matches("model-");
        let put = Put {
            path: format!("/model/{model}/applications/{application}/resources/{}?pendingid={id}", meta.name),
            headers: vec![
                ("Content-Type", "application/octet-stream".to_owned()),
                ("Content-Sha384", hex(&image.sha384())),
                ("Content-Disposition", format!("form-data; filename={}.yaml", meta.name)),
            ],
            body: Body::Text(image.text.clone()),
        };
        self.put(put, &doing).await?;
        Ok(id)
    }

    /// Sends a file; answers what came back.
    async fn put(&self, put: Put, doing: &str) -> Result<String> {
        let address = self.connection().address().to_owned();
        let (authorization, ca) = (self.door().authorization.clone(), self.door().ca.clone());
        let about = doing.to_owned();
        let sent = tokio::task::spawn_blocking(move || send(put, &authorization, &ca, &address, &about)).await;
        let unknown = |why: String| Error::UnknownOutcome { doing: doing.to_owned(), why };
        let (status, answer) = sent.map_err(|error| unknown(error.to_string()))??;
        if (200..300).contains(&status) { Ok(answer) } else { Err(refusal(status, &answer).refused(doing)) }
    }
}

/// The same file, to be read from its begin.
fn from_begin(file: &File) -> io::Result<File> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(file)
}

fn not_sent(doing: &str, why: String) -> Error {
    Error::NotSent { doing: doing.to_owned(), why }
}

fn send(put: Put, authorization: &str, ca: &str, address: &str, doing: &str) -> Result<(u16, String)> {
    let socket: SocketAddr = address.parse().map_err(|_| not_sent(doing, format!("{address} is no address")))?;
    let mut request = agent(ca, socket)?
        .put(format!("https://{SERVER_NAME}:{}{}", socket.port(), put.path))
        .header("Authorization", authorization)
        .header("User-Agent", AUDIT_NAME)
        // Whoever may not is told before the file goes.
        .header("Expect", "100-continue");
    for (name, value) in put.headers {
        request = request.header(name, value);
    }
    let sent = match put.body {
        Body::File(file) => request.send(file),
        Body::Text(text) => request.send(text),
    };
    let mut response = sent.map_err(|error| lost(error, address, doing))?;
    let body = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
    let answer = body.map_err(|error| Error::UnknownOutcome { doing: doing.to_owned(), why: error.to_string() })?;
    Ok((response.status().as_u16(), answer))
}

/// An agent for one upload: it trusts nobody but the controller's CA, and knows no other address.
fn agent(ca: &str, socket: SocketAddr) -> Result<ureq::Agent> {
    let certificates = parse_pem(ca.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let roots: Vec<_> = certificates.collect();
    if roots.is_empty() {
        let failure = ConnectFailure::UnusableCa("it holds no certificate".to_owned());
        return Err(Error::Connect { failure });
    }
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .max_idle_connections(0)
        .timeout_global(Some(UPLOADED_WITHIN))
        .build();
    Ok(ureq::Agent::with_parts(config, DefaultConnector::default(), Only(socket)))
}

/// What it means that no answer came.
fn lost(error: ureq::Error, address: &str, doing: &str) -> Error {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    if let ureq::Error::Io(error) = &error
        && let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref().and_then(|inner| inner.downcast_ref())
    {
        let failure = ConnectFailure::Untrusted { address: address.to_owned(), why: why.to_string() };
        return Error::Connect { failure };
    }
    let never = match &error {
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        ureq::Error::Timeout(at) => matches!(at, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::Io(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable),
        _ => false,
    };
    let why = format!("{address}: {error}");
    if never { not_sent(doing, why) } else { Error::UnknownOutcome { doing: doing.to_owned(), why } }
}

/// The controller's words in an answer that is no success; who may not come in is told in plain text.
fn refusal(status: u16, answer: &str) -> ErrorDetail {
    let detail = match serde_json::from_str(answer) {
        Ok(Refused { error: Value::String(message), error_code: code }) => ErrorDetail { message, code },
        Ok(Refused { error, .. }) => serde_json::from_value(error).unwrap_or_default(),
        Err(_) => ErrorDetail { message: answer.trim().to_owned(), code: String::new() },
    };
    let code = match (detail.code.as_str(), status) {
        ("", 401 | 403) => "unauthorized access",
        ("", 503) => "try again",
        (code, _) => code,
    };
    let message = if detail.message.is_empty() { format!("HTTP status {status}") } else { detail.message.clone() };
    ErrorDetail { message, code: code.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::error::Code;
    use super::*;

    #[test]
    fn refusals_in_all_their_forms() {
        let table = [
            (
                400,
                r#"{"error":"uploading charm: resolving uploaded charm: charm hash mismatch","error-code":"bad request"}"#,
                "charm hash mismatch",
                Code::Mistake,
            ),
            (
                404,
                r#"{"error":{"message":"application x not found","code":"not found"}}"#,
                "x not found",
                Code::NotFound,
            ),
            (403, "authorization failed: permission denied\n", "permission denied", Code::Unauthorized),
            (401, "", "HTTP status 401", Code::Unauthorized),
            (503, "apiserver shutdown in progress", "shutdown", Code::Transient),
            (400, r#"{"error":"freeze until Monday","error-code":"operation is blocked"}"#, "Monday", Code::Blocked),
            (500, r#"{"error":null}"#, "HTTP status 500", Code::Other),
        ];
        for (status, answer, says, code) in table {
            let found = refusal(status, answer);
            assert!(found.message.contains(says), "{found:?}");
            assert_eq!(found.code(), code, "{found:?}");
        }
    }

    #[test]
    fn an_image_is_told_as_yaml() {
        let image = Image::at("registry.internal:5000/kratos:1.3.1");
        let read: serde_yaml::Value = serde_yaml::from_str(&image.text).unwrap();
        assert_eq!(read["registrypath"], "registry.internal:5000/kratos:1.3.1");
        assert_eq!(image.fingerprint().len(), 64);
        assert_ne!(image.fingerprint(), Image::at("registry.internal:5000/kratos:1.0.0").fingerprint());
    }
}
