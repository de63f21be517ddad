//! `Charms`: what Charmhub answers through the controller, and what the model knows.

use super::{Answer, Refusal, World, text};
use crate::controller::Generation;
use crate::model::{Change, Release, Resource, charm_of};
use serde_json::{Value, json};

/// `kratos` and perhaps 567 in `ch:amd64/kratos-567`.
fn name_and_revision(url: &str) -> (String, Option<i64>) {
    let end = url.rsplit(['/', ':']).next().unwrap_or_default();
    match end.rsplit_once('-').and_then(|(name, number)| Some((name, number.parse().ok()?))) {
        Some((name, revision)) => (name.to_owned(), Some(revision)),
        None => (end.to_owned(), None),
    }
}

fn channel(origin: &Value) -> String {
    format!("{}/{}", text(origin, "track"), text(origin, "risk"))
}

fn track_of_base(origin: &Value) -> String {
    let base = origin.get("base").cloned().unwrap_or_default();
    text(&base, "channel").split('/').next().unwrap_or_default().to_owned()
}

fn release(world: &World<'_>, url: &str, origin: &Value) -> Result<Release, Refusal> {
    let (name, revision) = name_and_revision(url);
    // Who names an installation is answered for its channel, whatever the revision.
    let revision = revision.filter(|_| text(origin, "id").is_empty());
    let channel = channel(origin);
    let releases = world.model.releases();
    let mut of_charm = releases.into_iter().filter(|release| release.charm.name() == name);
    let found = of_charm.find(|release| match revision {
        Some(revision) => release.charm.revision() == revision,
        None => release.channels.contains(&channel),
    });
    let base = track_of_base(origin);
    found.filter(|release| release.bases.contains(&base)).ok_or_else(|| {
        let message = format!(
            "selecting releases: charm or bundle not found for channel {channel:?}, base \"amd64/ubuntu/{base}\""
        );
        Refusal::new(&message, "")
    })
}

/// The origin that a release has for whoever asked with `origin`.
fn origin_of(release: &Release, origin: &Value) -> Value {
    let mut found = json!({
        "source": "charm-hub",
        "type": "charm",
        "id": release.charm.id(),
        "hash": release.charm.hash(),
        "risk": origin["risk"],
        "revision": release.charm.revision(),
        "track": origin["track"],
        "architecture": "amd64",
        "base": origin["base"],
    });
    if let Some(key) = origin.get("instance-key") {
        found["instance-key"] = key.clone();
    }
    found
}

pub fn resolve(world: &World<'_>, params: &Value) -> Value {
    let all = params.get("resolve").and_then(Value::as_array).cloned().unwrap_or_default();
    let one = |asked: &Value| {
        let origin = asked.get("charm-origin").cloned().unwrap_or_default();
        let url = text(asked, "reference");
        match release(world, url, &origin) {
            Err(refusal) => json!({"url": "", "charm-origin": {}, "supported-bases": null, "error": refusal.item()}),
            Ok(release) => {
                let mut found = origin_of(&release, &origin);
                let by_revision = name_and_revision(url).1.is_some();
                if world.generation() == Generation::Four && by_revision {
                    found["id"] = json!("");
                }
                let base = |track: &String| json!({"name": "ubuntu", "channel": format!("{track}/stable")});
                let bases: Vec<Value> = release.bases.iter().map(base).collect();
                json!({"url": release.charm.url, "charm-origin": found, "supported-bases": bases})
            }
        }
    };
    json!({"Results": all.iter().map(one).collect::<Vec<_>>()})
}

pub fn add(world: &mut World<'_>, params: &Value) -> Answer {
    let url = text(params, "url");
    let origin = params.get("charm-origin").cloned().unwrap_or_default();
    if track_of_base(&origin).is_empty() {
        return Err(Refusal::new("base required for charmhub charms", "bad request"));
    }
    let (name, revision) = name_and_revision(url);
    let found = world.model.releases().into_iter();
    let found = found.into_iter().find(|it| it.charm.name() == name && Some(it.charm.revision()) == revision);
    let release = found.ok_or_else(|| Refusal::new(&format!("charm {url:?} not found"), "not found"))?;
    if charm_of(world.model, url).is_none() {
        world.apply(Change::AddCharm(release.charm.clone()))?;
    }
    Ok(json!({"charm-origin": origin_of(&release, &origin)}))
}

pub fn info(world: &World<'_>, params: &Value) -> Answer {
    let url = text(params, "url");
    let charm = charm_of(world.model, url);
    let charm = charm.ok_or_else(|| Refusal::new(&format!("charm {url:?} not found"), "not found"))?;
    let (schema, path) = charm.url.split_once(':').unwrap_or(("ch", &charm.url));
    let path = if path.contains('/') { path.to_owned() } else { format!("amd64/{path}") };
    let base =
        |track: &str| json!({"name": "ubuntu", "channel": format!("{track}/stable"), "architectures": ["amd64"]});
    let mut shown = json!({
        "revision": charm.revision(),
        "url": format!("{schema}:{path}"),
        "config": charm.options,
        "meta": charm.meta,
        "manifest": {"bases": [base("22.04"), base("24.04")]},
    });
    if !charm.actions.is_empty() {
        shown["actions"] = json!({"specs": charm.actions});
    }
    Ok(shown)
}

/// The charms of these names that the model knows.
pub fn list(world: &World<'_>, params: &Value) -> Value {
    let names = params.get("names").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let charms = world.model.charms().into_iter().filter(|charm| wanted(charm.name()));
    json!({"charm-urls": charms.map(|charm| charm.url).collect::<Vec<_>>()})
}

/// A resource as the store tells it.
pub fn stored(resource: &Resource) -> Value {
    json!({
        "name": resource.name,
        "type": resource.kind,
        "path": resource.path,
        "description": "",
        "origin": resource.origin,
        "revision": resource.revision,
        "fingerprint": resource.fingerprint(),
        "size": 0,
    })
}

/// The channel's newest, whatever the charm's revision.
pub fn resources(world: &World<'_>, params: &Value) -> Value {
    let all = params.get("entities").and_then(Value::as_array).cloned().unwrap_or_default();
    let one = |entity: &Value| {
        let origin = entity.get("charm-origin").cloned().unwrap_or_default();
        let (name, channel) = (name_and_revision(text(entity, "charm-url")).0, channel(&origin));
        let releases = world.model.releases();
        let tip = releases.iter().find(|it| it.charm.name() == name && it.channels.contains(&channel));
        json!(tip.map(|tip| tip.resources.iter().map(stored).collect::<Vec<_>>()).unwrap_or_default())
    };
    json!({"results": all.iter().map(one).collect::<Vec<_>>()})
}
