//! Uploads over HTTPS, at the port of the API: packed charms, and what resources hold.

use crate::charm::Charm;
use crate::controller::{Access, Controller, Fault, Generation, Received};
use crate::facades::{Refusal, World};
use crate::model::{Change, Model};
use crate::server::Shared;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a websocket or an upload comes through.
pub(crate) type Stream = BufReader<TlsStream<TcpStream>>;

/// The names of the two uploads among the calls, for faults and for what was received.
pub const CHARM: &str = "PUT charm";
pub const RESOURCE: &str = "PUT resource";

/// A request up to its body.
struct Head {
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
}

impl Head {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

struct Response {
    status: u16,
    content_type: &'static str,
    curl: Option<String>,
    body: String,
}

impl Response {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", curl: None, body: body.to_string() }
    }

    fn plain(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", curl: None, body: format!("{text}\n") }
    }
}

/// True when what comes is an upload and no websocket.
pub(crate) async fn is_upload(stream: &mut Stream) -> Result<bool> {
    Ok(stream.fill_buf().await?.starts_with(b"PUT "))
}

/// Takes one upload, answers it and closes the connection.
pub(crate) async fn serve(mut stream: Stream, shared: Arc<Shared>) -> Result<()> {
    let head = read_head(&mut stream).await?;
    let call = if head.path.starts_with("/model-") { CHARM } else { RESOURCE };
    let fault = shared.controller().take_fault(call);
    let user = who(&head, &shared.controller());
    let mut body = Vec::new();
    if user.is_ok() {
        if head.header("expect") == "100-continue" {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            stream.flush().await?;
        }
        body = vec![0; head.header("content-length").parse().context("content-length")?];
        stream.read_exact(&mut body).await?;
    }
    if fault == Some(Fault::CutBefore) {
        return Ok(());
    }
    let response = match user {
        Err(response) => response,
        Ok(user) => done(&head, call, &user, &body, &shared),
    };
    if fault.is_some() {
        return Ok(());
    }
    let curl = response.curl.map(|url| format!("Juju-Curl: {url}\r\n")).unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {} -\r\nContent-Type: {}\r\nContent-Length: {}\r\n{curl}Connection: close\r\n\r\n{}",
        response.status,
        response.content_type,
        response.body.len(),
        response.body
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn read_head(stream: &mut Stream) -> Result<Head> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let target = line.split(' ').nth(1).context("a request without a path")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_ascii_lowercase(), value.to_owned())),
            None => return Ok(Head { path, query, headers }),
        }
    }
}

/// Who sends it, if they may change the model.
fn who(head: &Head, controller: &Controller) -> Result<String, Response> {
    let given = head.header("authorization").strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
    let given = given.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let (name, password) = given.strip_prefix("user-").and_then(|pair| pair.split_once(':')).unwrap_or_default();
    let user = controller.users.get(name).filter(|user| user.password == password && !user.disabled);
    match user {
        None => Err(Response::plain(401, "authentication failed: invalid entity name or password")),
        Some(user) if user.access < Access::Write && user.controller_access != "superuser" => {
            Err(Response::plain(403, "authorization failed: permission denied"))
        }
        Some(_) => Ok(name.to_owned()),
    }
}

fn done(head: &Head, call: &str, user: &str, body: &[u8], shared: &Shared) -> Response {
    let mut controller = shared.controller();
    let mut model = shared.model();
    let world = &mut World { controller: &mut controller, model: &mut *model };
    let answered = if call == CHARM { charm(head, body, world) } else { resource(head, body, world) };
    let refusal = answered.as_ref().err().cloned();
    controller.received.push(Received {
        user: user.to_owned(),
        call: call.to_owned(),
        params: json!({"path": head.path}),
        needs: Access::Write,
        cli_args: head.header("user-agent").to_owned(),
        error: refusal.as_ref().map(|refusal| refusal.message.clone()),
    });
    let status = |refusal: &Refusal| if refusal.code == "not found" { 404 } else { 400 };
    match (answered, call) {
        (Ok(response), _) => response,
        (Err(refusal), CHARM) => {
            let body = json!({"error": refusal.message, "error-code": refusal.code});
            Response::json(status(&refusal), &body)
        }
        (Err(refusal), _) => Response::json(status(&refusal), &json!({"error": refusal.item()})),
    }
}

fn bad(message: &str) -> Refusal {
    Refusal::new(message, "bad request")
}

fn of_model(model: &dyn Model, uuid: &str) -> Result<(), Refusal> {
    let unknown = || Refusal::new(&format!("unknown model: {uuid:?}"), "model not found");
    (uuid == model.uuid()).then_some(()).ok_or_else(unknown)
}

/// `/model-<uuid>/charms/<name>-<first 7 digits of SHA-256>`.
fn charm(head: &Head, body: &[u8], world: &mut World<'_>) -> Result<Response, Refusal> {
    let four = world.generation() == Generation::Four;
    let doing = if four { "uploading charm" } else { "cannot upload charm" };
    let (uuid, object) = head.path["/model-".len()..].split_once("/charms/").ok_or_else(|| bad("no charm's path"))?;
    of_model(world.model, uuid)?;
    let kind = head.header("content-type");
    if kind != "application/zip" {
        return Err(bad(&format!("{doing}: expected Content-Type: application/zip, got: {kind}")));
    }
    let curl = head.header("juju-curl");
    if !curl.starts_with("local:") {
        return Err(bad(&format!("{doing}: {curl:?} is not a valid charm url")));
    }
    let (name, prefix) = object.rsplit_once('-').ok_or_else(|| bad(&format!("{object:?} is not a valid charm")))?;
    let sha256 = crate::model::hex(&Sha256::digest(body));
    if sha256[..7] != *prefix {
        return Err(bad(&match four {
            true => format!("{doing}: resolving uploaded charm: charm hash mismatch"),
            false => format!("{doing}: Uploaded charm sha256 ({}) does not match sha in url ({prefix})", &sha256[..7]),
        }));
    }
    let unpacked = Charm::unpack("", body);
    let unpacked = unpacked.map_err(|error| bad(&format!("{doing}: invalid charm archive: {error:#}")))?;
    let uploaded = world.model.charms().into_iter().filter(|known| known.url.starts_with("local:"));
    let last = uploaded.filter(|known| known.name() == name).map(|known| known.revision()).max();
    let url = format!("local:{name}-{}", last.map_or(0, |last| last + 1));
    world.apply(Change::AddCharm(unpacked.at(&url)))?;
    Ok(Response { curl: Some(url.clone()), ..Response::json(200, &json!({"charm-url": url})) })
}

/// `/model/<uuid>/applications/<application>/resources/<name>?pendingid=<id>`.
fn resource(head: &Head, body: &[u8], world: &mut World<'_>) -> Result<Response, Refusal> {
    let parts: Vec<&str> = head.path.split('/').collect();
    let ["", "model", uuid, "applications", application, "resources", name] = parts[..] else {
        return Err(Refusal::new("404 page not found", "not found"));
    };
    of_model(world.model, uuid)?;
    if let Some(message) = world.controller.block(false) {
        return Err(Refusal::new(message, "operation is blocked"));
    }
    world.application(application)?;
    let kind = head.header("content-type");
    if kind != "application/octet-stream" {
        return Err(Refusal::new(&format!("unsupported content type {kind:?}"), ""));
    }
    if head.header("content-sha384") != crate::model::hex(&Sha384::digest(body)) {
        return Err(Refusal::new("downloading resource body: resource hash mismatch", ""));
    }
    if !head.header("content-disposition").contains("filename=") {
        return Err(Refusal::new("missing \"filename\" in resource upload request", ""));
    }
    let id = head.query.strip_prefix("pendingid=").unwrap_or_default();
    let pending = world.controller.pending.get(id).cloned();
    let announced = pending.filter(|(of, resource)| of == application && resource.name == name);
    let missing = || Refusal::new(&format!("resource {name} of application {application} not found"), "not found");
    let (_, mut resource) = announced.ok_or_else(missing)?;
    if resource.origin != "upload" {
        return Err(Refusal::new(&format!("resource {id:?} is not of type upload"), ""));
    }
    let text = String::from_utf8(body.to_vec()).map_err(|error| Refusal::new(&error.to_string(), ""))?;
    resource.content = text;
    if resource.kind == "oci-image" && resource.registry_path().is_none() {
        return Err(Refusal::new("docker registry path not valid", "not valid"));
    }
    if world.generation() == Generation::Four {
        let (application, resource) = (application.to_owned(), resource.clone());
        world.apply(Change::UseResource { application, resource })?;
    }
    let shown = crate::facades::stored(&resource);
    world.controller.pending.insert(id.to_owned(), (application.to_owned(), resource));
    Ok(Response::json(200, &json!({"resource": shown})))
}
