//! One client: login first, then requests, each answered with what the facades say; and what a test lets go wrong.

use crate::admin;
use crate::controller::{Access, Fault, Received};
use crate::facades::{self, Refusal};
use crate::http::Stream;
use crate::server::Shared;
use anyhow::Result;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Socket = WebSocketStream<Stream>;

/// Who is at the other end.
pub(crate) struct Client {
    /// The model's UUID in the path; `None` on a controller connection.
    pub model: Option<String>,
    /// Once logged in.
    pub user: Option<String>,
    pub cli_args: String,
}

/// A request's name and version.
pub(crate) struct Asked<'a> {
    pub facade: &'a str,
    pub version: u64,
    pub request: &'a str,
    pub params: &'a Value,
}

/// Serves until the client goes, or is cut off.
pub(crate) async fn serve(mut socket: Socket, model: Option<String>, shared: Arc<Shared>) -> Result<()> {
    let mut client = Client { model, user: None, cli_args: String::new() };
    let mut held: Vec<Value> = Vec::new();
    while let Some(message) = socket.next().await {
        let text = match message? {
            Message::Text(text) => text,
            Message::Close(_) => return Ok(()),
            _ => continue,
        };
        let asked: Value = serde_json::from_str(&text)?;
        let call = format!("{}.{}", text_of(&asked, "type"), text_of(&asked, "request"));
        let fault = shared.controller().take_fault(&call);
        if fault == Some(Fault::CutBefore) {
            return Ok(());
        }
        shared.controller().freeze_before(&call);
        let canned = shared.controller().take_canned(&call);
        let reply = match canned {
            Some(reply) => recorded(&mut client, &asked, reply),
            None => answer(&mut client, &asked, &call, &shared),
        };
        match fault {
            Some(Fault::CutAfter) => return Ok(()),
            Some(Fault::DropReply) => continue,
            Some(Fault::OutOfOrder) => held.push(reply),
            _ => {
                socket.send(Message::text(reply.to_string())).await?;
                for late in held.drain(..) {
                    socket.send(Message::text(late.to_string())).await?;
                }
            }
        }
    }
    Ok(())
}

/// A recorded reply under this request's id. After a recorded login the client is who it said.
fn recorded(client: &mut Client, asked: &Value, mut reply: Value) -> Value {
    if asked["type"] == "Admin" && reply.get("error").is_none() {
        client.user = asked["params"]["auth-tag"].as_str().and_then(|tag| tag.strip_prefix("user-")).map(str::to_owned);
    }
    reply["request-id"] = asked["request-id"].clone();
    reply
}

fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn answer(client: &mut Client, frame: &Value, call: &str, shared: &Shared) -> Value {
    let (facade, request) = (text_of(frame, "type"), text_of(frame, "request"));
    let params = frame.get("params").cloned().unwrap_or_default();
    let version = frame.get("version").and_then(Value::as_u64).unwrap_or_default();
    let asked = Asked { facade: &facade, version, request: &request, params: &params };
    if let Some(observer) = shared.observer().filter(|_| client.user.is_some()) {
        observer(call, &params);
    }
    let mut controller = shared.controller();
    let mut model = shared.model();
    let (answered, needs) = if client.user.is_none() {
        (admin::log_in(client, &asked, &controller, &*model), Access::None)
    } else {
        facades::answer(client, &asked, &mut controller, &mut *model)
    };
    // Passwords are not kept, here either.
    let kept = if facade == "Admin" { json!({}) } else { params.clone() };
    controller.received.push(Received {
        user: client.user.clone().unwrap_or_default(),
        call: call.to_owned(),
        params: kept,
        needs,
        cli_args: client.cli_args.clone(),
        error: answered.as_ref().err().map(|refusal| refusal.message.clone()),
    });
    envelope(frame.get("request-id"), answered)
}

fn envelope(id: Option<&Value>, answered: Result<Value, Refusal>) -> Value {
    let mut reply = json!({"request-id": id, "response": {}});
    match answered {
        Ok(response) => reply["response"] = response,
        Err(Refusal { message, code, info }) => {
            reply["error"] = json!(message);
            if !code.is_empty() {
                reply["error-code"] = json!(code);
            }
            if !info.is_null() {
                reply["error-info"] = info;
            }
        }
    }
    reply
}
