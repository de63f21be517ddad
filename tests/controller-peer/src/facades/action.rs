//! `Action`: tasks asked for, looked at, cancelled.

use super::{Answer, Refusal, World, tags, text};
use crate::controller::Generation;
use crate::model::{Change, Task, charm_of};
use crate::validate;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| NEVER.to_owned(), |moment| moment.to_string())
}

/// Who shall run it: the unit, or why there is none.
enum Receiver {
    Unit(String, u32),
    /// A unit that is not there.
    Unknown(String),
    NoLeader(String),
}

fn receiver(world: &World<'_>, text: &str) -> Receiver {
    if let Some(name) = text.strip_suffix("/leader") {
        return match world.application(name).ok().and_then(|found| found.leader) {
            Some(number) => Receiver::Unit(name.to_owned(), number),
            None => Receiver::NoLeader(name.to_owned()),
        };
    }
    let parts = text.strip_prefix("unit-").and_then(|rest| rest.rsplit_once('-'));
    let Some((name, number)) = parts.and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?))) else {
        return Receiver::Unknown(text.to_owned());
    };
    match world.application(name) {
        Ok(found) if found.units.contains_key(&number) => Receiver::Unit(name.to_owned(), number),
        _ => Receiver::Unknown(format!("{name}/{number}")),
    }
}

/// An item that could not be asked for.
fn refused(message: &str, code: &str) -> Value {
    json!({"enqueued": NEVER, "started": NEVER, "completed": NEVER, "error": {"message": message, "code": code}})
}

pub fn enqueue(world: &mut World<'_>, params: &Value) -> Answer {
    let all = params.get("actions").and_then(Value::as_array).cloned().unwrap_or_default();
    let [asked] = all.as_slice() else {
        return Err(Refusal::new("the peer takes one action at a time", "bad request"));
    };
    let four = world.generation() == Generation::Four;
    let name = text(asked, "name").to_owned();
    let parameters = asked.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let (application, unit) = match receiver(world, text(asked, "receiver")) {
        Receiver::Unit(application, unit) => (application, unit),
        Receiver::NoLeader(application) if four => {
            let message =
                format!("getting leader unit for {application}: application {application:?} not found in leases");
            return Err(Refusal::new(&message, "not found"));
        }
        Receiver::NoLeader(application) => {
            let message = format!("could not determine leader for {application:?}");
            return nothing(world, name, parameters, refused(&message, ""));
        }
        Receiver::Unknown(unit) => {
            let message = if four {
                format!("linking task to unit: getting unit UUID for {unit:?}: unit {unit:?} not found")
            } else {
                format!("unit {unit:?} not found")
            };
            let code = if four { "" } else { "not found" };
            return nothing(world, name, parameters, refused(&message, code));
        }
    };
    let charm = charm_of(world.model, &world.application(&application)?.charm_url);
    let schema = charm.and_then(|charm| charm.actions.get(&name).cloned());
    let Some(schema) = schema else {
        let unit = format!("{application}/{unit}");
        if four {
            return Err(Refusal::new(&format!("action {name:?} not defined for unit {unit:?}."), "not found"));
        }
        let message = format!("action {name:?} not defined on unit {unit:?}");
        return nothing(world, name, parameters, refused(&message, ""));
    };
    let parameters: Map<String, Value> = if four {
        parameters.iter().map(|(key, value)| (key.clone(), validate::flattened(value))).collect()
    } else {
        if let Err(why) = validate::check(&schema["params"], &parameters, false) {
            return nothing(world, name, parameters, refused(&why, ""));
        }
        parameters
    };
    let operation = world.apply(Change::Enqueue { unit: Some((application, unit)), action: name, parameters })?;
    let task = world.model.tasks().into_iter().find(|task| task.operation == operation);
    let task = task.ok_or_else(|| Refusal::new("the model took no task", ""))?;
    let mut shown = shown(world, &task, false);
    if four {
        // The answer leaves out what the question said.
        let tag = shown["action"]["tag"].clone();
        let receiver = shown["action"]["receiver"].clone();
        shown["action"] = json!({"tag": tag, "receiver": receiver, "name": "", "parallel": false});
    }
    Ok(json!({"operation": format!("operation-{operation}"), "actions": [shown]}))
}

/// The operation exists all the same.
fn nothing(world: &mut World<'_>, action: String, parameters: Map<String, Value>, item: Value) -> Answer {
    let operation = world.apply(Change::Enqueue { unit: None, action, parameters })?;
    Ok(json!({"operation": format!("operation-{operation}"), "actions": [item]}))
}

fn shown(world: &World<'_>, task: &Task, output: bool) -> Value {
    // 4.0 never fills in when a task ended.
    let completed = if world.generation() == Generation::Four { None } else { task.completed };
    let mut shown = json!({
        "action": {
            "tag": format!("action-{}", task.id),
            "receiver": format!("unit-{}-{}", task.application, task.unit),
            "name": task.action,
            "parameters": task.parameters,
            "parallel": false,
            "execution-group": "",
        },
        "enqueued": time(Some(task.enqueued)),
        "started": time(task.started),
        "completed": time(completed),
        "status": task.status,
    });
    if !task.message.is_empty() {
        shown["message"] = json!(task.message);
    }
    if !task.log.is_empty() {
        let line = |(at, message): &(Timestamp, String)| json!({"timestamp": at.to_string(), "message": message});
        shown["log"] = json!(task.log.iter().map(line).collect::<Vec<_>>());
    }
    if output && !task.output.is_empty() {
        shown["output"] = json!(task.output);
    }
    shown
}

fn number(tag: &str) -> Option<u64> {
    tag.rsplit_once('-').and_then(|(_, number)| number.parse().ok())
}

fn not_found(tag: &str) -> Value {
    json!({"error": {"message": format!("{tag}: id not found"), "code": "not found"}})
}

pub fn actions(world: &World<'_>, params: &Value) -> Value {
    let tasks = world.model.tasks();
    let one = |tag: &String| match tasks.iter().find(|task| Some(task.id) == number(tag)) {
        Some(task) => shown(world, task, true),
        None => not_found(tag),
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}

fn operation(world: &World<'_>, task: &Task) -> Value {
    json!({
        "operation": format!("operation-{}", task.operation),
        "summary": format!("action {:?}", task.action),
        "enqueued": time(Some(task.enqueued)),
        "started": NEVER,
        "completed": time(task.completed),
        "status": task.status,
        "actions": [shown(world, task, false)],
    })
}

pub fn operations(world: &World<'_>, params: &Value) -> Value {
    let tasks = world.model.tasks();
    let one = |tag: &String| match tasks.iter().find(|task| Some(task.operation) == number(tag)) {
        Some(task) => operation(world, task),
        None => not_found(tag),
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}

pub fn list(world: &World<'_>, params: &Value) -> Value {
    let wanted = |key: &str, value: &str| {
        let names = params.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        names.is_empty() || names.iter().any(|name| name == value)
    };
    let fits = |task: &&Task| {
        wanted("applications", &task.application) && wanted("actions", &task.action) && wanted("status", &task.status)
    };
    let limit = params.get("limit").and_then(Value::as_u64).filter(|limit| *limit > 0).unwrap_or(50);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let tasks = world.model.tasks();
    let all: Vec<&Task> = tasks.iter().filter(fits).collect();
    let found: Vec<Value> = all.iter().take(limit).map(|task| operation(world, task)).collect();
    json!({"results": found, "truncated": all.len() > limit})
}

pub fn cancel(world: &mut World<'_>, params: &Value) -> Answer {
    let mut results = Vec::new();
    for tag in tags(params) {
        // As 4.0.14 answers every time.
        if world.generation() == Generation::Four {
            let message = "type \"taskStatus\" has no \"status_id\" db tag";
            results.push(json!({"error": {"message": message, "code": ""}}));
            continue;
        }
        let Some(task) = number(&tag).filter(|id| world.model.tasks().iter().any(|task| task.id == *id)) else {
            results.push(not_found(&tag));
            continue;
        };
        world.apply(Change::Cancel { task })?;
        let found = world.model.tasks().into_iter().find(|found| found.id == task);
        results.push(found.map_or_else(|| not_found(&tag), |task| shown(world, &task, false)));
    }
    Ok(json!({"results": results}))
}

pub fn specs(world: &World<'_>, params: &Value) -> Value {
    let one = |tag: &String| {
        let name = tag.strip_prefix("application-").unwrap_or_default();
        let charm = world.application(name).ok().and_then(|found| charm_of(world.model, &found.charm_url));
        match charm {
            Some(charm) => json!({"application-tag": tag, "actions": charm.actions}),
            None => json!({"application-tag": tag, "error": {"message": "not found", "code": "not found"}}),
        }
    };
    json!({"results": tags(params).iter().map(one).collect::<Vec<_>>()})
}
