//! The facades: which request is let through, and to whom it goes.

mod action;
mod application;
mod charms;
mod client;
mod relation;
mod resources;
pub mod table;

pub(crate) use charms::stored;

use crate::connection::{Asked, Client};
use crate::controller::{Access, Controller, Generation, Mode};
use crate::model::{Application, Change, Model};
use serde_json::{Value, json};

/// A "no", in an envelope or in a result.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub message: String,
    pub code: String,
    pub info: Value,
}

impl Refusal {
    pub fn new(message: &str, code: &str) -> Self {
        Self { message: message.to_owned(), code: code.to_owned(), info: Value::Null }
    }

    /// As an item of `results` has it.
    pub fn item(&self) -> Value {
        json!({"message": self.message, "code": self.code})
    }
}

type Answer = Result<Value, Refusal>;

/// What a facade's request is done with.
pub(crate) struct World<'a> {
    pub controller: &'a mut Controller,
    pub model: &'a mut dyn Model,
}

impl World<'_> {
    pub fn generation(&self) -> Generation {
        self.controller.generation
    }

    pub fn application(&self, name: &str) -> Result<Application, Refusal> {
        let found = self.model.applications().remove(name);
        found.ok_or_else(|| Refusal::new(&format!("application {name:?} not found"), "not found"))
    }

    /// Has the model do it.
    pub fn apply(&mut self, change: Change) -> Result<u64, Refusal> {
        self.model.apply(change).map_err(|error| Refusal::new(&format!("{error:#}"), ""))
    }
}

/// A text in a request.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The tags in `entities`.
pub(crate) fn tags(params: &Value) -> Vec<String> {
    let entities = params.get("entities").and_then(Value::as_array).cloned().unwrap_or_default();
    entities.iter().map(|entity| text(entity, "tag").to_owned()).collect()
}

/// Does one request of somebody who is logged in. Answers what it needed, too.
pub(crate) fn answer(
    client: &Client,
    asked: &Asked<'_>,
    controller: &mut Controller,
    model: &mut dyn Model,
) -> (Answer, Access) {
    let call = format!("{}.{}", asked.facade, asked.request);
    let needs = table::needs(controller.generation, &call).unwrap_or(Access::None);
    let answered = is_there(client, asked, &call, controller)
        .and_then(|()| may(client, needs, controller))
        .and_then(|()| is_free(&call, controller))
        .and_then(|()| route(client, asked, &call, &mut World { controller, model }));
    (answered, needs)
}

fn is_there(client: &Client, asked: &Asked<'_>, call: &str, controller: &Controller) -> Result<(), Refusal> {
    let Asked { facade, version, request, .. } = *asked;
    let offers = |model: bool| table::of(controller.generation, model).iter().find(|(name, _)| *name == facade);
    let is_model = client.model.is_some();
    match offers(is_model) {
        None if !is_model && offers(true).is_some() => {
            let message = format!("facade {facade:?} not supported for controller API connection");
            Err(Refusal::new(&message, "not supported"))
        }
        None => {
            let message = format!("unknown version {version} for facade type {facade:?}");
            Err(Refusal::new(&message, "not implemented"))
        }
        Some((_, versions)) if !versions.contains(&version) => {
            let message = format!("unknown version {version} for facade type {facade:?}");
            Err(Refusal::new(&message, "not implemented"))
        }
        Some(_) if table::needs(controller.generation, call).is_none() => {
            let message = format!("unknown method {request:?} at version {version} for facade type {facade:?}");
            Err(Refusal::new(&message, "not implemented"))
        }
        Some(_) => Ok(()),
    }
}

fn may(client: &Client, needs: Access, controller: &Controller) -> Result<(), Refusal> {
    let name = client.user.as_deref().unwrap_or_default();
    let user = controller.users.get(name).filter(|user| !user.disabled);
    let superuser = user.is_some_and(|user| user.controller_access == "superuser");
    if user.is_some_and(|user| superuser || user.access >= needs) {
        Ok(())
    } else {
        Err(Refusal::new("permission denied", "unauthorized access"))
    }
}

/// What a busy controller or model still does.
fn is_free(call: &str, controller: &Controller) -> Result<(), Refusal> {
    let always = ["Client.FullStatus", "Pinger.Ping"].contains(&call);
    match controller.mode {
        Mode::Upgrading(_) if !always => Err(Refusal::new("upgrade in progress", "upgrade in progress")),
        Mode::Migrating if !always => Err(Refusal::new("model migration in progress", "")),
        Mode::Importing => Err(Refusal::new("migration in progress, model is importing", "")),
        _ => Ok(()),
    }
}

fn route(client: &Client, asked: &Asked<'_>, call: &str, world: &mut World<'_>) -> Answer {
    let params = asked.params;
    match call {
        "Pinger.Ping" => Ok(json!({})),
        "Client.FullStatus" => Ok(client::full_status(world, client.user.as_deref().unwrap_or_default())),
        "ModelManager.ListModels" => Ok(client::list_models(world, asked.version)),
        "Block.List" => Ok(client::blocks(world)),
        "Application.Get" => application::get(world, params),
        "Application.GetCharmURLOrigin" => application::charm_url_origin(world, params),
        "Application.SetCharm" => application::set_charm(world, params),
        "Application.SetConfigs" => application::set_configs(world, params),
        "Application.Leader" => Ok(application::leader(world, params)),
        "Application.ApplicationsInfo" => Ok(application::applications_info(world, params)),
        "Application.UnitsInfo" => Ok(application::units_info(world, params)),
        "Application.AddRelation" => relation::add(world, params),
        "Application.DestroyRelation" => relation::destroy(world, params),
        "Charms.ResolveCharms" => Ok(charms::resolve(world, params)),
        "Charms.List" => Ok(charms::list(world, params)),
        "Charms.AddCharm" => charms::add(world, params),
        "Charms.CharmInfo" => charms::info(world, params),
        "Charms.ListCharmResources" => Ok(charms::resources(world, params)),
        "Resources.ListResources" => Ok(resources::list(world, params)),
        "Resources.AddPendingResources" => resources::add_pending(world, params),
        "Action.EnqueueOperation" => action::enqueue(world, params),
        "Action.Actions" => Ok(action::actions(world, params)),
        "Action.Operations" => Ok(action::operations(world, params)),
        "Action.ListOperations" => Ok(action::list(world, params)),
        "Action.Cancel" => action::cancel(world, params),
        "Action.ApplicationsCharmsActions" => Ok(action::specs(world, params)),
        _ => Err(Refusal::new(&format!("the peer lacks {call}"), "not implemented")),
    }
}
