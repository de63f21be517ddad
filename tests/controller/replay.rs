//! The peer against a real Juju 4.0.14: every recorded request is asked again, in its order, and the reply compared.

use super::{PASSWORD, controller, local, timing, wait_for};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controller_peer::store::{Ending, Store};
use controller_peer::{Access, BlockKind, Charm, Generation, Options, Peer, User};
use coordinator::controller::Session;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NOT_A_CALL: &str = "HTTP 400";

/// The recording, a line each.
pub fn frames() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/juju-4.0.14/controller-frames.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let frames: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(frames.len() > 90, "{} frames", frames.len());
    frames
}

/// What may differ, applied to both sides.
///
/// | In | Why | How it is compared |
/// |---|---|---|
/// | times | the clock | only that they are times, and whether they are "never" |
/// | `servers`, addresses, machines | the peer lives on loopback, without machines | whether they are there |
/// | `facades` | the peer lists those that it speaks | each of them is in the recorded list, with its versions |
/// | hashes, keys, block ids, macaroons | random | which keys they have |
/// | databags | the peer keeps none | whether they are there |
/// | `user-models` | the peer has one model | its first entry's keys |
/// | `relations`, `unit-relation-data` | no lasting order | sorted by number |
fn normalise(key: &str, value: &mut Value) {
    let is_time = |text: &str| text.len() > 15 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
    match key {
        "servers"
        | "machines"
        | "facades"
        | "hash"
        | "instance-key"
        | "discharge-required"
        | "bakery-discharge-required"
        | "ApplicationData"
        | "UnitData"
        | "public-address" => {
            *value = match value {
                Value::Object(map) if key.ends_with("discharge-required") => json!(map.keys().collect::<Vec<_>>()),
                _ => json!("(there)"),
            };
            return;
        }
        "user-models" => {
            let first = value.as_array().and_then(|all| all.first()).cloned().unwrap_or_default();
            let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
            *value = json!([keys(&first), keys(&first["model"])]);
            return;
        }
        "relations" | "relation-data" => {
            if let Some(list) = value.as_array_mut() {
                list.sort_by_key(|relation| relation["id"].as_i64().or(relation["relation-id"].as_i64()));
            }
        }
        _ => {}
    }
    match value {
        Value::Object(map) => {
            // A block's id beside its tag; a hook's data beside its status.
            if map.contains_key("tag")
                && map.get("type").is_some_and(|kind| kind.as_str().is_some_and(|kind| kind.starts_with("Block")))
            {
                map.insert("id".into(), json!("(there)"));
            }
            if map.contains_key("status")
                && map.get("data").is_some_and(|data| data.as_object().is_some_and(|data| !data.is_empty()))
            {
                map.insert("data".into(), json!("(there)"));
            }
            for (key, value) in map.iter_mut() {
                normalise(key, value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| normalise("", value)),
        Value::String(text) if text.starts_with("0001-") => *text = "(never)".into(),
        Value::String(text) if is_time(text) => *text = "(time)".into(),
        _ => {}
    }
}

fn compared(mut reply: Value) -> Value {
    reply["request-id"] = json!(0);
    normalise("", &mut reply);
    reply
}

/// The model as it was when the recording began: two applications of the recording charm.
fn recorded_model() -> Store {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/juju-4.0.14/recording-charm");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let charm = |revision: u32| {
        let url = format!("local:probe-{revision}");
        let metadata = file("metadata.yaml");
        Charm::read(&url, &metadata, &file("config.yaml"), &file("actions.yaml")).unwrap().showing("1.2.3")
    };
    let mut store = Store::new(Generation::Four, "iam", "iaas");
    for (name, revision) in [("kratos", 0), ("pg", 1)] {
        store.deploy(name, &charm(revision), local(i64::from(revision)), "", 1);
        store.set_workload(name, 0, "active", "-starts with hyphen");
        store.applications.get_mut(name).unwrap().status.info = "app says hello".into();
    }
    store.play = Box::new(|task| {
        let (status, message, code) = match task.parameters.get("end").and_then(Value::as_str) {
            Some("fail") => ("failed", "cannot drain: nothing is being replicated; run replicate first", 0),
            Some("exit3") => ("failed", "exit status 3", 3),
            Some("kill") => ("failed", "terminated", -1),
            _ => ("completed", "", 0),
        };
        let mut output = json!({
            "a": {"b": "1", "c": "2"},
            "bytes-copied": "12",
            "outcome": "done",
            "report": "line one\nline two",
            "return-code": code,
            "stderr": "to stderr\n",
            "stdout": "to stdout\n",
        });
        if code < 0 {
            output.as_object_mut().unwrap().remove("stdout");
        }
        let log = vec!["-half way".to_owned(), "progress 50%".to_owned()];
        Ending { status: status.into(), message: message.into(), log, output: output.as_object().unwrap().clone() }
    });
    store
}

/// The file that was uploaded: what was recorded of it is its summary.
fn uploaded() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/juju-4.0.14/recording-charm");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let metadata =
        file("metadata.yaml").replace("summary: records what Juju gives a charm", "summary: probe refreshed");
    let (config, actions) = (file("config.yaml"), file("actions.yaml"));
    Charm::pack(&[("metadata.yaml", &metadata), ("config.yaml", &config), ("actions.yaml", &actions)]).unwrap()
}

/// The first digits of its SHA-256 in the recording.
const RECORDED_PREFIX: &str = "8339778";

type Tls = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;
type Socket = tokio_tungstenite::WebSocketStream<Tls>;

/// A websocket of the test's own: frames go out as they were recorded, and come back whole.
async fn dial(peer: &Peer, path: &str) -> Result<Socket, String> {
    let address = peer.addresses()[0].clone();
    match tokio_tungstenite::client_async(format!("wss://{address}{path}"), secure(peer).await).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(format!("HTTP {}", response.status().as_u16()))
        }
        Err(other) => panic!("{other}"),
    }
}

async fn secure(peer: &Peer) -> Tls {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(peer.ca().as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let address = peer.addresses()[0].clone();
    let tcp = tokio::net::TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    connector.connect("juju-apiserver".try_into().unwrap(), tcp).await.unwrap()
}

async fn exchange(socket: &mut Socket, request: &Value) -> Value {
    use tokio_tungstenite::tungstenite::Message;
    socket.send(Message::text(request.to_string())).await.unwrap();
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

struct Replay {
    peer: Peer,
    sockets: BTreeMap<String, Socket>,
    differences: Vec<String>,
    compared: usize,
}

impl Replay {
    fn start() -> Self {
        let options = Options { agents: false, ..Options::default() };
        let peer = Peer::start(recorded_model(), &options).unwrap();
        peer.set_user("migrator", User::new(PASSWORD, Access::Write));
        peer.set_user("reader", User::new(PASSWORD, Access::Read));
        let boss = User { controller_access: "superuser".into(), ..User::new(PASSWORD, Access::Admin) };
        peer.set_user("admin", boss);
        Self { peer, sockets: BTreeMap::new(), differences: Vec::new(), compared: 0 }
    }

    fn compare(&mut self, number: usize, recorded: &Value, played: Value) {
        let (recorded, played) = (compared(recorded.clone()), compared(played));
        self.compared += 1;
        if recorded != played {
            self.differences.push(format!("frame {number}:\n  recorded {recorded}\n  peer     {played}"));
        }
    }

    /// What was done on the command line between the frames.
    fn typed(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        match words.as_slice() {
            ["juju", "disable-command", "-m", "iam", "all", message @ ..] => {
                self.peer.set_block(BlockKind::BlockChange, Some(&message.join(" ")));
            }
            ["juju", "enable-command", ..] => self.peer.set_block(BlockKind::BlockChange, None),
            ["juju", "revoke", user, "write", _] => self.peer.set_access(user, Access::Read),
            ["juju", "disable-user", user] => self.peer.change_user(user, |user| user.disabled = true),
            other => panic!("{other:?} is not played"),
        }
    }

    /// Lets the agents work until a task is in the state that was polled.
    fn step_until_task(&self, note: &str) -> String {
        let (task, status) = note.strip_prefix("poll of ").unwrap().split_once(": ").unwrap();
        let id: u64 = task.strip_prefix("action-").unwrap().parse().unwrap();
        let mut store = self.peer.store();
        for _ in 0..50 {
            if store.tasks.iter().any(|task| task.id == id && task.status == status) {
                return task.to_owned();
            }
            store.step();
        }
        panic!("{note}: {:?}", store.tasks);
    }

    async fn ask(&mut self, connection: &str, path: &str, request: &Value) -> Result<Value, String> {
        let mut request = request.clone();
        if request["params"]["credentials"] == "<password>" {
            request["params"]["credentials"] = json!(PASSWORD);
        }
        // Each login is a connection of its own, but for the second one on purpose.
        let is_login = request["request"] == "Login" && request["request-id"] == 1;
        if is_login || !self.sockets.contains_key(connection) {
            let path = path.replace("<model-uuid>", &self.peer.store().uuid);
            let socket = dial(&self.peer, &path).await?;
            self.sockets.insert(connection.to_owned(), socket);
        }
        let socket = self.sockets.get_mut(connection).unwrap();
        Ok(exchange(socket, &request).await)
    }

    async fn play(&mut self, number: usize, frame: &Value) {
        let text = |key: &str| frame[key].as_str().unwrap_or_default();
        let note = text("note");
        if let Some(command) = frame["cli"].as_str() {
            self.typed(command);
        } else if frame.get("request").is_some() {
            // As the recording has it, hooks ran between these frames.
            if note == "related" {
                self.rest();
                self.peer.store().fail("pg", 0, "hook failed: \"database-relation-changed\"");
            }
            if ["as a read user", "the same charm again"].contains(&note) {
                self.rest();
            }
            let connection =
                if text("connection") == "m" { format!("m{number}") } else { text("connection").to_owned() };
            let played = self.ask(&connection, text("path"), &frame["request"]).await.unwrap();
            if let Some(list) = frame["reply"]["response"]["facades"].as_array() {
                self.facades(number, list, &played);
            }
            self.compare(number, &frame["reply"], played);
        } else if note.starts_with("poll of ") {
            let tag = self.step_until_task(note);
            let request = json!({"request-id": 1000, "type": "Action", "version": 7, "request": "Actions",
                "params": {"entities": [{"tag": tag}]}});
            let played = self.ask("write user", "", &request).await.unwrap();
            self.compare(number, &frame["reply"], played);
        } else if note.starts_with("malformed model uuid") {
            assert_eq!(dial(&self.peer, "/model/zzz/api").await.err().as_deref(), Some(NOT_A_CALL));
        } else if note.starts_with("relations 0.01 s after") {
            let status = self.status().await;
            self.compare(number, &json!({"relations": frame["relations"]}), json!({"relations": status["relations"]}));
        } else if note.starts_with("status poll") {
            self.status_poll(number, frame).await;
        } else {
            assert_eq!(frame["http"], "PUT", "frame {number} is not played: {frame}");
            self.upload(number, frame).await;
        }
    }

    /// The recorded head, with a file whose hash is as right or as wrong as the recorded one's; what must be the same is
    /// the status, what kind of answer it is, and the answer.
    async fn upload(&mut self, number: usize, frame: &Value) {
        let (body, text) = (uploaded(), |value: &Value| value.as_str().unwrap_or_default().to_owned());
        let prefix: String = Sha256::digest(&body).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let path = text(&frame["path"]).replace("<model-uuid>", &self.peer.store().uuid);
        let path = path.replace(RECORDED_PREFIX, &prefix[..7]);
        let user = if text(&frame["note"]).contains("read user") { "reader" } else { "migrator" };
        let authorization = STANDARD.encode(format!("user-{user}:{PASSWORD}"));
        let (kind, curl) = (text(&frame["headers"]["Content-Type"]), text(&frame["headers"]["Juju-Curl"]));
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: juju-apiserver\r\nContent-Type: {kind}\r\nJuju-Curl: {curl}\r\n\
             Authorization: Basic {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = secure(&self.peer).await;
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, answer) = answer.split_once("\r\n\r\n").unwrap();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        let status: u64 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let played = json!([status, header("Content-Type"), header("Juju-Curl"), answer]);
        let replied = &frame["reply-headers"];
        let recorded = json!([frame["status"], replied["Content-Type"], replied["Juju-Curl"], frame["reply"]]);
        self.compare(number, &json!({"reply": recorded}), json!({"reply": played}));
    }

    /// Lets the agents work until nothing is left to do.
    fn rest(&self) {
        let mut store = self.peer.store();
        for _ in 0..50 {
            store.step();
        }
        for name in ["kratos", "pg"] {
            let info = store.applications[name].units[&0].workload.info.clone();
            assert!(info == "-starts with hyphen" || info.starts_with("hook failed"), "{name} says {info}");
        }
    }

    async fn status(&mut self) -> Value {
        let request = json!({"request-id": 1000, "type": "Client", "version": 8, "request": "FullStatus",
            "params": {"patterns": [], "include-storage": false}});
        self.ask("write user", "", &request).await.unwrap()["response"].clone()
    }

    /// A poll after the refresh: stepped on until the agent is at what was seen then.
    async fn status_poll(&mut self, number: usize, frame: &Value) {
        let wanted = &frame["unit"]["agent-status"];
        for _ in 0..50 {
            let status = self.status().await;
            let application = &status["applications"]["kratos"];
            let unit = &application["units"]["kratos/0"];
            if unit["agent-status"]["status"] == wanted["status"] && unit["agent-status"]["info"] == wanted["info"] {
                let pick = |from: &Value, like: &Value| -> Value {
                    let keys = like.as_object().unwrap().keys();
                    Value::Object(keys.map(|key| (key.clone(), from[key].clone())).collect::<Map<_, _>>())
                };
                let recorded = json!({"application": frame["application"], "unit": frame["unit"]});
                let played = json!({
                    "application": pick(application, &frame["application"]),
                    "unit": pick(unit, &frame["unit"]),
                });
                self.compare(number, &recorded, played);
                return;
            }
            self.peer.store().step();
        }
        panic!("frame {number}: the unit never came to {wanted}");
    }

    fn facades(&mut self, number: usize, recorded: &[Value], played: &Value) {
        for facade in played["response"]["facades"].as_array().unwrap() {
            if !recorded.contains(facade) {
                self.differences.push(format!("frame {number}: the peer offers {facade}"));
            }
        }
    }
}

/// Frames that are known to differ, and why.
const KNOWN: [(usize, &str); 0] = [];

#[tokio::test]
async fn the_peer_answers_as_recorded() {
    let mut replay = Replay::start();
    for (number, frame) in frames().iter().enumerate() {
        replay.play(number, frame).await;
    }
    let known =
        |difference: &&String| KNOWN.iter().any(|(number, _)| difference.starts_with(&format!("frame {number}:")));
    let unknown: Vec<&String> = replay.differences.iter().filter(|difference| !known(difference)).collect();
    assert!(unknown.is_empty(), "{}", unknown.iter().map(|it| it.as_str()).collect::<Vec<_>>().join("\n"));
    assert!(replay.compared > 80, "only {} replies were compared", replay.compared);
    // Neither side forgets: our own client can still come in where the recording ended.
    replay.peer.change_user("migrator", |user| (user.disabled, user.access) = (false, Access::Write));
    let uuid = replay.peer.store().uuid.clone();
    let (controller, credentials) = (controller(&replay.peer), super::credentials());
    let session = Session::open(&controller, &credentials, &uuid, timing()).await.unwrap();
    wait_for("a status", || async { session.full_status().await.ok() }).await;
}
