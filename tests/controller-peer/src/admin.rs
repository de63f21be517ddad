//! `Admin.Login`: who may come in, and what the controller tells them.

use crate::connection::{Asked, Client};
use crate::controller::{Access, Controller, Mode, User};
use crate::facades::{Refusal, table};
use crate::model::Model;
use serde_json::{Value, json};

const WRONG: (&str, &str) = ("invalid entity name or password", "unauthorized access");

pub(crate) fn log_in(
    client: &mut Client,
    asked: &Asked<'_>,
    controller: &Controller,
    model: &dyn Model,
) -> Result<Value, Refusal> {
    let Asked { facade, version, request, params } = *asked;
    if (facade, version) != ("Admin", 3) {
        return Err(Refusal::new(&format!("unknown version {version} for facade type {facade:?}"), "not implemented"));
    }
    if request != "Login" {
        return Err(Refusal::new("not redirected", ""));
    }
    let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
    if controller.mode == Mode::Upgrading(true) {
        return Err(Refusal::new("login failed - maintenance in progress", ""));
    }
    if text("credentials").is_empty() {
        return Ok(discharge(&model.uuid()));
    }
    let name = text("auth-tag").strip_prefix("user-").unwrap_or_default();
    let user = controller.users.get(name).filter(|user| user.password == text("credentials") && !user.disabled);
    let user = user.ok_or_else(|| Refusal::new(WRONG.0, WRONG.1))?;
    if let Some(uuid) = &client.model {
        if *uuid != model.uuid() {
            return Err(Refusal::new(&format!("unknown model: {uuid:?}"), "model not found"));
        }
        if let Mode::Moved(info) = &controller.mode {
            let mut refusal = Refusal::new("redirection to alternative server required", "redirection required");
            refusal.info = info.clone();
            return Err(refusal);
        }
        if user.access == Access::None && user.controller_access != "superuser" {
            return Err(Refusal::new("permission denied", "unauthorized access"));
        }
    }
    client.user = Some(name.to_owned());
    text("cli-args").clone_into(&mut client.cli_args);
    Ok(welcome(client, name, user, controller, model))
}

fn welcome(client: &Client, name: &str, user: &User, controller: &Controller, model: &dyn Model) -> Value {
    let server = |port: &u16| json!({"value": "127.0.0.1", "type": "ipv4", "scope": "local-cloud", "port": port});
    let servers: Vec<Value> = controller.ports.iter().map(|port| json!([server(port)])).collect();
    let is_model = client.model.is_some();
    let facades = table::of(controller.generation, is_model);
    let facades: Vec<Value> =
        facades.iter().map(|(name, versions)| json!({"name": name, "versions": versions})).collect();
    let mut reply = json!({
        "servers": servers,
        "controller-tag": format!("controller-{}", controller.uuid),
        "user-info": {
            "display-name": "",
            "identity": format!("user-{name}"),
            "controller-access": user.controller_access,
            "model-access": if is_model { user.access.shown() } else { "" },
        },
        "facades": facades,
        "server-version": controller.generation.version(),
    });
    if is_model {
        reply["model-tag"] = json!(format!("model-{}", model.uuid()));
    }
    reply
}

/// What a plain user without a password gets: no error, and no login.
fn discharge(model: &str) -> Value {
    let macaroon = json!({
        "caveats": [
            {"cid": "time-before 2026-11-24T19:05:54.975166128Z"},
            {"cid": "Zm9y", "vid": "eW91", "cl": "https://127.0.0.1:17070/auth"},
        ],
        "location": format!("juju model {model}"),
        "identifier": "AwoQ",
        "signature": "75dc",
    });
    json!({
        "discharge-required": macaroon,
        "bakery-discharge-required": macaroon,
        "discharge-required-error": "invalid login macaroon",
    })
}
