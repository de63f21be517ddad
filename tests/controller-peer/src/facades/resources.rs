//! `Resources`: what an application has, and what it shall have.

use super::charms::stored;
use super::{Answer, Refusal, World, tags, text};
use crate::controller::Generation;
use crate::model::{Change, Resource, charm_of};
use serde_json::{Value, json};

pub fn list(world: &World<'_>, params: &Value) -> Value {
    let one = |tag: &String| {
        let name = tag.strip_prefix("application-").unwrap_or_default();
        let Ok(found) = world.application(name) else {
            return json!({"error": {"message": format!("application {name:?} not found"), "code": "not found"}});
        };
        let of_application = |resource: &Resource| {
            let mut shown = stored(resource);
            shown["application"] = json!(name);
            shown
        };
        let resources: Vec<Value> = found.resources.iter().map(of_application).collect();
        let unit = |number: &u32| json!({"tag": format!("unit-{name}-{number}"), "resources": null, "download-progress": null});
        json!({
            "resources": if resources.is_empty() { Value::Null } else { json!(resources) },
            "charm-store-resources": [],
            "unit-resources": found.units.keys().map(unit).collect::<Vec<_>>(),
        })
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}

pub fn add_pending(world: &mut World<'_>, params: &Value) -> Answer {
    let application = text(params, "tag").strip_prefix("application-").unwrap_or_default().to_owned();
    let found = world.application(&application)?;
    let all = params.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut ids = Vec::new();
    for asked in &all {
        let resource = wanted(world, params, asked)?;
        let id = format!("3f0c9f7e-0000-4000-8000-{:012}", world.controller.pending.len());
        let four = world.generation() == Generation::Four;
        if four {
            // At once, under the charm that the application still has.
            let charm = charm_of(world.model, &found.charm_url);
            let known = charm.is_some_and(|charm| charm.meta["resources"].get(&resource.name).is_some());
            if !known {
                return Err(Refusal::new(&format!("resource {:?} not found", resource.name), "not found"));
            }
            // What is uploaded is used once it is there.
            if resource.origin == "store" {
                let (application, resource) = (application.clone(), resource.clone());
                world.apply(Change::UseResource { application, resource })?;
            }
        }
        world.controller.pending.insert(id.clone(), (application.clone(), resource));
        ids.push(json!(id));
    }
    Ok(json!({"pending-ids": ids}))
}

/// The resource that a request means: one that will be uploaded, the channel's newest, or the revision that it names.
fn wanted(world: &World<'_>, params: &Value, asked: &Value) -> Result<Resource, Refusal> {
    let name = text(asked, "name").to_owned();
    let (kind, path) = (text(asked, "type").to_owned(), text(asked, "path").to_owned());
    if kind == "file" && path.is_empty() {
        return Err(Refusal::new("bad resource metadata: resource missing filename", ""));
    }
    if text(asked, "origin") == "upload" {
        return Ok(Resource { name, kind, path, origin: "upload".to_owned(), ..Resource::default() });
    }
    let entity = json!({"charm-url": params["url"], "charm-origin": params["charm-origin"]});
    let offered = super::charms::resources(world, &json!({"entities": [entity]}));
    let offered = offered["results"][0].as_array().cloned().unwrap_or_default();
    let tip = offered.iter().find(|offer| text(offer, "name") == name).and_then(|offer| offer["revision"].as_i64());
    let revision = asked["revision"].as_i64().filter(|revision| *revision >= 0).or(tip);
    let revision = revision.ok_or_else(|| Refusal::new(&format!("resource {name:?} not found"), "not found"))?;
    Ok(Resource { name, kind, path, origin: "store".to_owned(), revision, ..Resource::default() })
}
