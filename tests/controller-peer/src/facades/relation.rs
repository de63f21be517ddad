//! `AddRelation` and `DestroyRelation`.

use super::{Answer, Refusal, World};
use crate::controller::Generation;
use crate::model::{Change, End, Relation, charm_of};
use serde_json::{Map, Value, json};

/// The two endpoints that a request names.
fn asked(params: &Value) -> Option<[String; 2]> {
    let list = params.get("endpoints").and_then(Value::as_array)?;
    let names: Vec<String> = list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    names.try_into().ok()
}

/// One side of a relation to be.
struct Side {
    application: String,
    declared: Value,
    /// It is of another model.
    remote: bool,
}

/// The application, perhaps of another model, and the declared endpoint behind `application:endpoint`.
fn declared(world: &World<'_>, name: &str) -> Option<Side> {
    let (application, endpoint) = name.split_once(':')?;
    let (remote, endpoints) = match world.application(application) {
        Ok(found) => (false, charm_of(world.model, &found.charm_url)?.endpoints()),
        Err(_) => (true, world.model.remotes().remove(application)?.endpoints),
    };
    let declared = endpoints.into_iter().find(|known| known["name"] == endpoint)?;
    Some(Side { application: application.to_owned(), declared, remote })
}

/// Two of other models are no business of this one.
fn fits(one: &Side, other: &Side) -> bool {
    let roles = [one, other].map(|side| side.declared["role"].as_str());
    let opposite = roles == [Some("requirer"), Some("provider")] || roles == [Some("provider"), Some("requirer")];
    let here = !(one.remote && other.remote);
    opposite && here && one.declared["interface"] == other.declared["interface"] && one.application != other.application
}

fn end(Side { application, declared, .. }: &Side) -> End {
    let text = |key: &str| declared[key].as_str().unwrap_or_default().to_owned();
    End { application: application.clone(), endpoint: text("name"), role: text("role") }
}

fn existing(world: &World<'_>, names: &[String; 2]) -> Option<Relation> {
    let mut wanted = names.clone();
    wanted.sort_unstable();
    world.model.relations().into_iter().find(|relation| {
        let mut ends: Vec<String> =
            relation.ends.iter().map(|end| format!("{}:{}", end.application, end.endpoint)).collect();
        ends.sort_unstable();
        ends == wanted
    })
}

pub fn add(world: &mut World<'_>, params: &Value) -> Answer {
    if let Some(message) = world.controller.block(false) {
        return Err(Refusal::new(message, "operation is blocked"));
    }
    let names = asked(params).ok_or_else(|| Refusal::new("a relation must involve two applications", "bad request"))?;
    let [one, other] = &names;
    let sides = [declared(world, one), declared(world, other)];
    let (first, second) = match &sides {
        [Some(first), Some(second)] if fits(first, second) => (first, second),
        [Some(_), Some(_)] => return Err(no_fit(world, &names)),
        [None, _] => return Err(missing(world, &names, one)),
        [_, None] => return Err(missing(world, &names, other)),
    };
    if let Some(relation) = existing(world, &names) {
        return Err(exists(world, &names, &relation));
    }
    for (name, side) in names.iter().zip([first, second]) {
        within_limit(world, &names, name, side)?;
    }
    let interface = first.declared["interface"].as_str().unwrap_or_default().to_owned();
    world.apply(Change::Relate { interface, ends: [end(first), end(second)] })?;
    let told = |side: &Side| (side.application.clone(), side.declared.clone());
    let endpoints: Map<String, Value> = [first, second].map(told).into_iter().collect();
    Ok(json!({"endpoints": endpoints}))
}

/// How 4.0 begins all of these sentences.
fn prefix([one, other]: &[String; 2]) -> String {
    format!("adding relation between endpoints {one:?} and {other:?}: ")
}

fn no_fit(world: &World<'_>, names: &[String; 2]) -> Refusal {
    let [one, other] = names;
    match world.generation() {
        Generation::Three => Refusal::new("no relations found", ""),
        Generation::Four => {
            let why = "no compatible endpoints found between applications";
            Refusal::new(&format!("{}cannot relate endpoints {one:?} and {other:?}: {why}", prefix(names)), "")
        }
    }
}

fn missing(world: &World<'_>, names: &[String; 2], which: &str) -> Refusal {
    let [one, other] = names;
    let application = which.split(':').next().unwrap_or_default();
    match world.generation() {
        Generation::Three => Refusal::new(&format!("application {application:?} not found"), "not found"),
        Generation::Four => {
            let why = format!("no candidates for {which}: relation endpoint not found");
            Refusal::new(&format!("{}cannot relate endpoints {one:?} and {other:?}: {why}", prefix(names)), "")
        }
    }
}

fn exists(world: &World<'_>, names: &[String; 2], relation: &Relation) -> Refusal {
    let [one, other] = names;
    let key = relation.key();
    match world.generation() {
        Generation::Three if relation.dying => {
            let message = format!("cannot add relation \"{key}\": relation {key} is dying, but not yet removed");
            Refusal::new(&message, "already exists")
        }
        Generation::Three => {
            Refusal::new(&format!("cannot add relation \"{key}\": relation {key} already exists"), "already exists")
        }
        Generation::Four => {
            let why = format!("cannot add relation {one:?}, {other:?}: relation {key}: already exists");
            Refusal::new(&format!("{}{why}", prefix(names)), "")
        }
    }
}

fn within_limit(world: &World<'_>, names: &[String; 2], name: &str, side: &Side) -> Result<(), Refusal> {
    let limit = side.declared["limit"].as_u64().unwrap_or_default();
    let own = end(side);
    let relations = world.model.relations();
    let used = relations.iter().filter(|relation| relation.ends.contains(&own)).count();
    if limit == 0 || u64::try_from(used).unwrap_or(u64::MAX) < limit {
        return Ok(());
    }
    let why = format!("establishing a new relation for {name} would exceed its maximum relation limit of {limit}");
    Err(match world.generation() {
        Generation::Three => Refusal::new(&format!("cannot add relation: {why}"), "quota limit exceeded"),
        Generation::Four => Refusal::new(&format!("{}{why}", prefix(names)), ""),
    })
}

pub fn destroy(world: &mut World<'_>, params: &Value) -> Answer {
    if let Some(message) = world.controller.block(true) {
        return Err(Refusal::new(message, "operation is blocked"));
    }
    let found = match asked(params) {
        Some(names) => existing(world, &names).ok_or_else(|| format!("relation {:?} not found", names.join(" "))),
        None => {
            let id = params.get("relation-id").and_then(Value::as_i64);
            let found = world.model.relations().into_iter().find(|relation| Some(relation.id) == id);
            found.ok_or_else(|| format!("relation {} not found", id.unwrap_or_default()))
        }
    };
    let relation = found.map_err(|message| Refusal::new(&message, "not found"))?;
    if relation.ends.len() < 2 {
        return Err(Refusal::new("a peer relation cannot be destroyed", ""));
    }
    world.apply(Change::Separate { relation: relation.id })?;
    Ok(json!({}))
}
