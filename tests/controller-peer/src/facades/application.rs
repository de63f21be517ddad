//! `Application`: charm, options and leader; the switch to another charm.

use super::client::{base, bindings};
use super::{Answer, Refusal, World, tags, text};
use crate::charm::Charm;
use crate::controller::Generation;
use crate::model::{Application, Change, Resource, charm_of};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn blocked(world: &World<'_>) -> Result<(), Refusal> {
    match world.controller.block(false) {
        Some(message) => Err(Refusal::new(message, "operation is blocked")),
        None => Ok(()),
    }
}

fn charm(world: &World<'_>, url: &str) -> Result<Charm, Refusal> {
    charm_of(world.model, url).ok_or_else(|| Refusal::new(&format!("charm {url:?} not found"), "not found"))
}

pub fn get(world: &World<'_>, params: &Value) -> Answer {
    let name = text(params, "application");
    let found = world.application(name)?;
    let charm = charm(world, &found.charm_url)?;
    let option = |(name, declared): (&String, &Value)| {
        let mut shown = json!({"description": declared["description"], "type": declared["type"], "source": "unset"});
        if let Some(default) = declared.get("default").filter(|default| !default.is_null()) {
            shown["default"] = default.clone();
            shown["value"] = default.clone();
            shown["source"] = json!("default");
        }
        if let Some(value) = found.options.get(name) {
            shown["value"] = value.clone();
            shown["source"] = json!("user");
        }
        (name.clone(), shown)
    };
    let options: Map<String, Value> = charm.options.iter().map(option).collect();
    Ok(json!({
        "application": name,
        "charm": charm.name(),
        "config": options,
        "application-config": {"trust": {
            "default": false,
            "description": "Does this application have access to trusted credentials",
            "source": "default",
            "type": "bool",
            "value": false,
        }},
        "constraints": {"arch": "amd64"},
        "base": base(&found, false),
        "channel": found.channel,
        "endpoint-bindings": bindings(world, &found.charm_url),
    }))
}

pub fn charm_url_origin(world: &World<'_>, params: &Value) -> Answer {
    let found = world.application(text(params, "application"))?;
    let mut origin = found.origin.clone();
    origin["base"] = base(&found, false);
    if world.generation() == Generation::Four && text(&origin, "source") == "local" {
        // 4.0 has forgotten the type, and knows a hash.
        origin["type"] = json!("");
        origin["hash"] = json!(format!("{:0>64}", found.charm_url.len()));
        origin["instance-key"] = json!("hgLQx9dCnw5fpl9npuHFFVaVoA9OZxPIBpp3OzmipF0");
    }
    Ok(json!({"url": found.charm_url, "charm-origin": origin}))
}

pub fn set_charm(world: &mut World<'_>, params: &Value) -> Answer {
    if params.get("force-units") != Some(&json!(true)) {
        blocked(world)?;
    }
    let (name, url) = (text(params, "application"), text(params, "charm-url"));
    let found = world.application(name)?;
    let new = charm(world, url)?;
    let old = charm(world, &found.charm_url)?;
    let origin = params.get("charm-origin").cloned().unwrap_or_default();
    whole_origin(world, &origin)?;
    if world.model.kind() == "caas" && new.meta.get("storage") != old.meta.get("storage") {
        let message = format!("cannot upgrade application {name:?} to charm {url:?}: storage changes");
        return Err(Refusal::new(&message, "not supported"));
    }
    let mut resources = Vec::new();
    if world.generation() == Generation::Four {
        keeps_relations(world, name, &new)?;
        let force = params.get("force-base") == Some(&json!(true));
        if !force && !same_base(&found.origin, &origin) {
            let message = format!("cannot change the base of application {name:?}");
            return Err(Refusal::new(&message, "incompatible base"));
        }
    } else {
        resources = pending(world, name, params);
    }
    let part = |key: &str| text(&origin, key).to_owned();
    let channel = if part("risk").is_empty() { String::new() } else { format!("{}/{}", part("track"), part("risk")) };
    let kept = json!(found.origin.get("instance-key"));
    let mut origin = origin.clone();
    if origin.get("instance-key").is_none() && !kept.is_null() {
        origin["instance-key"] = kept;
    }
    let (application, url) = (name.to_owned(), url.to_owned());
    world.apply(Change::SetCharm { application, url, origin, channel, resources })?;
    Ok(json!({}))
}

/// From Charmhub id and hash come together; 3.6 asks it of local charms, too.
fn whole_origin(world: &World<'_>, origin: &Value) -> Result<(), Refusal> {
    let concerned = text(origin, "source") == "charm-hub" || world.generation() == Generation::Three;
    if concerned && text(origin, "id").is_empty() != text(origin, "hash").is_empty() {
        let message = "programming error, both CharmOrigin ID and Hash must be set or neither";
        return Err(Refusal::new(message, "bad request"));
    }
    Ok(())
}

fn same_base(old: &Value, new: &Value) -> bool {
    let track = |origin: &Value| {
        let base = origin.get("base").cloned().unwrap_or_default();
        text(&base, "channel").split('/').next().unwrap_or_default().to_owned()
    };
    track(old) == track(new)
}

fn keeps_relations(world: &World<'_>, name: &str, new: &Charm) -> Result<(), Refusal> {
    let endpoints = new.endpoints();
    for relation in world.model.relations() {
        for end in relation.ends.iter().filter(|end| end.application == name) {
            let fits = |endpoint: &Value| {
                endpoint["name"] == end.endpoint.as_str()
                    && endpoint["role"] == end.role.as_str()
                    && endpoint["interface"] == relation.interface.as_str()
            };
            if !endpoints.iter().any(fits) {
                let message = format!("charm has no corresponding relation \"{}\"", end.endpoint);
                return Err(Refusal::new(&message, ""));
            }
        }
    }
    Ok(())
}

/// 3.6 takes resources together with the charm.
fn pending(world: &mut World<'_>, application: &str, params: &Value) -> Vec<Resource> {
    let ids = params.get("resource-ids").and_then(Value::as_object).cloned().unwrap_or_default();
    let found = ids.values().filter_map(|id| world.controller.pending.remove(id.as_str()?));
    found.filter(|(of, _)| of == application).map(|(_, resource)| resource).collect()
}

pub fn set_configs(world: &mut World<'_>, params: &Value) -> Answer {
    blocked(world)?;
    let all = params.get("Args").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut results = Vec::new();
    for one in &all {
        results.push(match set_options(world, one) {
            Ok(()) => json!({}),
            Err(refusal) => json!({"error": refusal.item()}),
        });
    }
    Ok(json!({"results": results}))
}

fn set_options(world: &mut World<'_>, one: &Value) -> Result<(), Refusal> {
    let name = text(one, "application");
    let charm = charm(world, &world.application(name)?.charm_url)?;
    let mut options = BTreeMap::new();
    for (option, value) in one.get("config").and_then(Value::as_object).cloned().unwrap_or_default() {
        let Some(declared) = charm.options.get(&option) else {
            let (four, code) = match world.generation() {
                Generation::Four => ("invalid application config: ", "not valid"),
                Generation::Three => ("", ""),
            };
            return Err(Refusal::new(&format!("{four}unknown option {option:?}"), code));
        };
        let given = value.as_str().unwrap_or_default();
        let typed = match text(declared, "type") {
            "int" => given.parse::<i64>().map(Value::from).ok(),
            "boolean" => given.parse::<bool>().map(Value::from).ok(),
            _ => Some(value.clone()),
        };
        let wrong = || Refusal::new(&format!("option {option:?} has a value of another type"), "not valid");
        options.insert(option.clone(), typed.ok_or_else(wrong)?);
    }
    world.apply(Change::SetOptions { application: name.to_owned(), options }).map(drop)
}

pub fn leader(world: &World<'_>, params: &Value) -> Value {
    let name = text(params, "tag").strip_prefix("application-").unwrap_or_default();
    match world.application(name).map(|found| found.leader) {
        Ok(Some(number)) => json!({"result": format!("{name}/{number}")}),
        _ => json!({"error": {"message": format!("leader for {name:?} not found"), "code": "not found"}}),
    }
}

fn described(world: &World<'_>, name: &str, found: &Application) -> Value {
    let charm = charm_of(world.model, &found.charm_url);
    json!({
        "tag": format!("application-{name}"),
        "charm": charm.as_ref().map(Charm::name).unwrap_or_default(),
        "base": base(found, false),
        "constraints": {"arch": "amd64"},
        "principal": true,
        "exposed": false,
        "remote": false,
        "life": found.life,
        "endpoint-bindings": bindings(world, &found.charm_url),
    })
}

pub fn applications_info(world: &World<'_>, params: &Value) -> Value {
    let one = |tag: &String| {
        let name = tag.strip_prefix("application-").unwrap_or_default();
        match world.application(name) {
            Ok(found) => json!({"result": described(world, name, &found)}),
            Err(_) => json!({"error": {"message": format!("application {name} not found"), "code": "not found"}}),
        }
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}

/// Databags are not kept: they are there, and empty.
pub fn units_info(world: &World<'_>, params: &Value) -> Value {
    let one = |tag: &String| {
        let parts = tag.strip_prefix("unit-").and_then(|rest| rest.rsplit_once('-'));
        let found = parts.and_then(|(name, number)| {
            let number: u32 = number.parse().ok()?;
            let application = world.application(name).ok()?;
            let unit = application.units.get(&number)?.clone();
            Some((name, number, application, unit))
        });
        let Some((name, number, application, unit)) = found else {
            return json!({"error": {"message": format!("unit {tag} not found"), "code": "not found"}});
        };
        json!({"result": {
            "tag": tag,
            "workload-version": unit.workload_version,
            "machine": if world.model.kind() == "caas" { "" } else { "0" },
            "opened-ports": null,
            "public-address": "192.0.2.2",
            "charm": application.charm_url,
            "leader": application.leader == Some(number),
            "life": "alive",
            "relation-data": relation_data(world, name),
        }})
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}

fn relation_data(world: &World<'_>, name: &str) -> Vec<Value> {
    let applications = world.model.applications();
    let mut relations = world.model.relations();
    relations.sort_by_key(|relation| std::cmp::Reverse(relation.id));
    let mut found = Vec::new();
    for relation in &relations {
        let Some(own) = relation.ends.iter().find(|end| end.application == name) else { continue };
        let other = relation.ends.iter().find(|end| end.application != name).unwrap_or(own);
        let numbers = applications.get(&other.application).into_iter().flat_map(|it| it.units.keys());
        let units: Map<String, Value> = numbers
            .map(|number| (format!("{}/{number}", other.application), json!({"InScope": true, "UnitData": {}})))
            .collect();
        found.push(json!({
            "relation-id": relation.id,
            "endpoint": own.endpoint,
            "cross-model": false,
            "related-endpoint": other.endpoint,
            "ApplicationData": {},
            "unit-relation-data": units,
        }));
    }
    found
}
