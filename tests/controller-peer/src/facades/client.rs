//! `Client.FullStatus`, `Block.List`, `ModelManager.ListModels`: what only looks.

use super::World;
use crate::controller::{Access, Generation};
use crate::model::{Application, End, Relation, Remote, Status, Unit, charm_of};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A status as `DetailedStatus` has it.
pub fn detailed(status: &Status, version: &str, life: &str, data: Value) -> Value {
    json!({
        "status": status.status,
        "info": status.info,
        "data": data,
        "since": status.since.to_string(),
        "kind": "",
        "version": version,
        "life": life,
    })
}

/// Every endpoint is bound to one space.
pub fn bindings(world: &World<'_>, charm_url: &str) -> Value {
    let endpoints = charm_of(world.model, charm_url).map(|charm| charm.endpoints()).unwrap_or_default();
    let names = endpoints.iter().filter_map(|endpoint| endpoint["name"].as_str().map(str::to_owned));
    let all = std::iter::once(String::new()).chain(names);
    Value::Object(all.map(|name| (name, json!("alpha"))).collect())
}

/// `24.04/stable` or `24.04`, as an origin has it.
pub fn base(application: &Application, with_risk: bool) -> Value {
    let base = application.origin.get("base").cloned().unwrap_or_default();
    let channel = super::text(&base, "channel");
    let track = channel.split('/').next().unwrap_or_default();
    let channel = if with_risk { format!("{track}/stable") } else { track.to_owned() };
    json!({"name": super::text(&base, "name"), "channel": channel})
}

pub fn full_status(world: &World<'_>, user: &str) -> Value {
    let version = world.generation().version();
    let now = Timestamp::now();
    let relations = world.model.relations();
    let applications = world.model.applications();
    let shown: Map<String, Value> =
        applications.iter().map(|(name, found)| (name.clone(), application(world, name, found, &relations))).collect();
    let remotes = world.model.remotes();
    let remotes: Map<String, Value> =
        remotes.iter().map(|(name, found)| (name.clone(), remote(name, found, &relations))).collect();
    let user = world.controller.users.get(user);
    let admin = user.is_some_and(|user| user.access == Access::Admin);
    json!({
        "model": {
            "name": world.model.name(),
            "type": world.model.kind(),
            "cloud-tag": "cloud-unmanaged",
            "version": version,
            "available-version": "",
            "model-status": detailed(&Status { status: "available".into(), info: String::new(), since: now }, "", "", Value::Null),
        },
        "machines": {},
        "applications": shown,
        "remote-applications": remotes,
        "offers": if admin || world.generation() == Generation::Four { json!({}) } else { Value::Null },
        "relations": relations.iter().map(relation).collect::<Vec<_>>(),
        "controller-timestamp": (now + world.controller.ahead).to_string(),
        "branches": null,
    })
}

fn application(world: &World<'_>, name: &str, found: &Application, relations: &[Relation]) -> Value {
    let charm = charm_of(world.model, &found.charm_url);
    let version = found.units.values().next().map(|unit| unit.workload_version.clone()).unwrap_or_default();
    let units: Map<String, Value> = found
        .units
        .iter()
        .map(|(number, it)| (format!("{name}/{number}"), unit(world, it, found.leader == Some(*number))))
        .collect();
    let mut shown = json!({
        "charm": found.charm_url,
        "charm-version": "",
        "charm-profile": "",
        "base": base(found, true),
        "exposed": false,
        "life": found.life,
        "relations": related(name, relations),
        "can-upgrade-to": "",
        "subordinate-to": [],
        "units": units,
        "status": detailed(&found.status, "", "", Value::Null),
        "workload-version": version,
        "endpoint-bindings": bindings(world, &found.charm_url),
        "public-address": "",
    });
    let revision = charm.map(|charm| charm.revision()).unwrap_or_default();
    if revision != 0 {
        shown["charm-rev"] = json!(revision);
    }
    if !found.channel.is_empty() {
        shown["charm-channel"] = json!(found.channel);
    }
    if world.model.kind() == "caas" {
        shown["int"] = json!(found.units.len());
    }
    shown
}

/// A SaaS: its units are not seen from here.
fn remote(name: &str, found: &Remote, relations: &[Relation]) -> Value {
    let endpoint = |declared: &Value| {
        let part = |key: &str| declared[key].clone();
        json!({"name": part("name"), "role": part("role"), "interface": part("interface"), "limit": part("limit")})
    };
    json!({
        "offer-url": found.offer_url,
        "offer-name": found.offer_url.rsplit('.').next().unwrap_or_default(),
        "endpoints": found.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "life": "alive",
        "relations": related(name, relations),
        "status": detailed(&found.status, "", "", json!({})),
    })
}

fn unit(world: &World<'_>, unit: &Unit, leader: bool) -> Value {
    let data = if unit.in_error() { json!({"hook": "(hook)"}) } else { json!({}) };
    let mut shown = json!({
        "agent-status": detailed(&unit.agent, world.generation().version(), "alive", json!({})),
        "workload-status": detailed(&unit.workload, "", "", data),
        "workload-version": unit.workload_version,
        "machine": if world.model.kind() == "caas" { "" } else { "0" },
        "opened-ports": null,
        "public-address": "192.0.2.2",
        "charm": "",
        "subordinates": null,
    });
    if leader {
        shown["leader"] = json!(true);
    }
    shown
}

/// The applications at the other end, by endpoint.
fn related(name: &str, relations: &[Relation]) -> Value {
    let mut found: Map<String, Value> = Map::new();
    for relation in relations {
        let (own, others): (Vec<&End>, Vec<&End>) = relation.ends.iter().partition(|end| end.application == name);
        let Some(own) = own.first() else { continue };
        let other = others.first().map_or(name, |other| other.application.as_str());
        let list = found.entry(own.endpoint.clone()).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(other));
        }
    }
    Value::Object(found)
}

fn relation(relation: &Relation) -> Value {
    let endpoint = |end: &End| json!({"application": end.application, "name": end.endpoint, "role": end.role, "subordinate": false});
    let mut ends: Vec<&End> = relation.ends.iter().collect();
    ends.sort_by_key(|end| end.role != "requirer");
    json!({
        "id": relation.id,
        "key": relation.key(),
        "interface": relation.interface,
        "scope": "global",
        "endpoints": ends.into_iter().map(endpoint).collect::<Vec<_>>(),
        "status": detailed(&relation.status, "", "", json!({})),
    })
}

pub fn blocks(world: &World<'_>) -> Value {
    let tag = format!("model-{}", world.model.uuid());
    let one = |(number, (kind, message)): (usize, (&&str, &String))| json!({"result": {"id": number.to_string(), "tag": tag, "type": kind, "message": message}});
    let found: Vec<Value> = world.controller.blocks.iter().enumerate().map(one).collect();
    if found.is_empty() { json!({}) } else { json!({"results": found}) }
}

pub fn list_models(world: &World<'_>, version: u64) -> Value {
    let mut model = json!({"name": world.model.name(), "uuid": world.model.uuid(), "type": world.model.kind()});
    if version >= 11 {
        model["qualifier"] = json!("admin");
    } else {
        model["owner-tag"] = json!("user-admin");
    }
    json!({"user-models": [{"model": model, "last-connection": Timestamp::now().to_string()}]})
}
