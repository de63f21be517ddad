//! State, ports and network.

use std::fs;

use serde_json::{Value, json};

use super::{Call, Flags, Output};
use crate::context::{Answer, Refusal};
use crate::session::Session;

pub(super) fn run(session: &mut Session<'_>, call: &Call<'_>, flags: &Flags) -> Answer<Output> {
    match call.tool {
        "state-get" => {
            let state = session.state();
            Ok(Output::Value(match flags.argument(0) {
                // The 4.0 agent says null for an empty state.
                None if state.is_empty() => Value::Null,
                None => json!(state),
                Some(key) => match state.get(key) {
                    Some(value) => json!(value),
                    None if flags.is_set("strict") => return Err(Refusal::failed(format!("\"{key}\" not found"))),
                    None => json!(""),
                },
            }))
        }
        "state-set" => {
            session.state_set(flags.pairs(call, 0)?)?;
            Ok(Output::Nothing)
        }
        "state-delete" => {
            let key = flags.argument(0).ok_or_else(|| Refusal::usage("missing key"))?;
            session.context.state_writes.insert(key.to_owned(), None);
            Ok(Output::Nothing)
        }
        "open-port" | "close-port" => {
            let port = flags.argument(0).ok_or_else(|| Refusal::usage("no port or range specified"))?;
            let port = if port.contains('/') || port == "icmp" { port.to_owned() } else { format!("{port}/tcp") };
            session.context.port_writes.insert(port, call.tool == "open-port");
            Ok(Output::Nothing)
        }
        "opened-ports" => Ok(Output::Value(json!(session.ports()))),
        "unit-get" => match flags.argument(0) {
            Some("private-address" | "public-address") => Ok(Output::Value(json!("127.0.0.1"))),
            other => Err(Refusal::usage(format!("unknown setting \"{}\"", other.unwrap_or_default()))),
        },
        "network-get" => network(session, flags),
        "storage-list" => Ok(Output::Value(json!([]))),
        "resource-get" => resource(session, flags),
        "credential-get" => Err(Refusal::failed("cannot access cloud credentials: permission denied")),
        "juju-reboot" if session.context.action.is_some() => {
            Err(Refusal::failed("juju-reboot is not supported when running an action."))
        }
        tool => Err(Refusal::failed(format!("the emulator does not play {tool}"))),
    }
}

/// The path of a file that was attached, without a line's end: it lies where the unit's agent keeps it.
fn resource(session: &Session<'_>, flags: &Flags) -> Answer<Output> {
    let name = flags.argument(0).ok_or_else(|| Refusal::usage("missing required resource name"))?;
    let failed = |why: &str| Refusal::failed(format!("could not download resource: {why}"));
    let key = &session.context.key;
    let missing = || failed(&format!("HTTP request failed: resource#{}/{name} not found", key.application));
    let application = session.world.application(key).ok_or_else(missing)?;
    let file = application.charm.file_of(name).ok_or_else(missing)?;
    let content = application.attached.get(name).ok_or_else(missing)?;
    let folder = session.world.agent_folder(key).join("resources").join(name);
    let path = folder.join(file);
    if fs::read(&path).ok().as_ref() != Some(content) {
        // As the agent does it: whoever reads the file before keeps reading that one.
        let beside = folder.join(".new");
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&beside, content));
        kept.and_then(|()| fs::rename(&beside, &path)).map_err(|error| failed(&error.to_string()))?;
    }
    Ok(Output::Text(path.display().to_string()))
}

fn network(session: &Session<'_>, flags: &Flags) -> Answer<Output> {
    let endpoint = flags.argument(0).unwrap_or_default();
    let known = session
        .world
        .application(&session.context.key)
        .is_some_and(|application| application.charm.endpoints.contains_key(endpoint));
    if !known && endpoint != "juju-info" {
        return Err(Refusal::failed(format!("no network config found for binding \"{endpoint}\"")));
    }
    let one = |name: &str| flags.is_set(name);
    Ok(Output::Value(match (one("bind-address"), one("ingress-address"), one("egress-subnets")) {
        (false, false, false) => json!({
            "bind-addresses": [{
                "mac-address": "00:00:00:00:00:00",
                "interface-name": "lo",
                "addresses": [{ "hostname": "localhost", "value": "127.0.0.1", "cidr": "127.0.0.0/8" }],
            }],
            "egress-subnets": ["127.0.0.1/32"],
            "ingress-addresses": ["127.0.0.1"],
        }),
        (true, false, false) | (false, true, false) => json!("127.0.0.1"),
        (false, false, true) => json!(["127.0.0.1/32"]),
        (bind, ingress, egress) => {
            let mut several = serde_json::Map::new();
            for (wanted, name, value) in [
                (bind, "bind-address", json!("127.0.0.1")),
                (ingress, "ingress-address", json!("127.0.0.1")),
                (egress, "egress-subnets", json!(["127.0.0.1/32"])),
            ] {
                if wanted {
                    several.insert(name.into(), value);
                }
            }
            Value::Object(several)
        }
    }))
}
