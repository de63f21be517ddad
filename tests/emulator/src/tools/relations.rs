//! relation-ids, relation-list, relation-get, relation-set and
//! relation-model-get.

use serde_json::{Value, json};

use super::{Call, Flags, Output};
use crate::context::{Answer, Refusal};
use crate::session::{Bag, Session};

pub(super) fn run(session: &mut Session<'_>, call: &Call<'_>, flags: &Flags) -> Answer<Output> {
    if call.tool == "relation-ids" {
        let current = session.context.event.as_ref().and_then(|event| event.relation());
        let endpoint =
            flags.argument(0).map(str::to_owned).or_else(|| current.map(|relation| relation.endpoint.clone()));
        let endpoint = endpoint.ok_or_else(|| Refusal::usage("no endpoint name specified"))?;
        return Ok(Output::Value(json!(session.relation_ids(&endpoint))));
    }
    let key = match flags.value("relation") {
        Some(text) => session.parse_relation(text)?,
        None => session.context.relation.ok_or_else(|| Refusal::usage("no relation id specified"))?,
    };
    match call.tool {
        "relation-list" if flags.is_set("app") => Ok(Output::Value(json!(session.remote_application(key)?))),
        "relation-list" => Ok(Output::Value(json!(session.relation_units(key)?))),
        "relation-model-get" => Ok(Output::Value(json!({ "uuid": session.remote_model(key)? }))),
        "relation-set" => {
            let changes = flags.pairs(call, 0)?;
            session.relation_set(key, flags.is_set("app"), changes)?;
            Ok(Output::Nothing)
        }
        _ => get(session, flags, key),
    }
}

fn get(session: &mut Session<'_>, flags: &Flags, key: u64) -> Answer<Output> {
    let current = session.context.event.as_ref().and_then(|event| event.relation()).cloned();
    let mut of_application = flags.is_set("app");
    let name = match flags.argument(1) {
        Some(name) => name.to_owned(),
        None => match current {
            Some(relation) if of_application => relation.remote_application,
            Some(relation) => match relation.remote_unit {
                Some(unit) => unit,
                None => {
                    of_application = true;
                    relation.remote_application
                }
            },
            None => return Err(Refusal::usage("no unit or application specified")),
        },
    };
    let whose = match (of_application, name.split_once('/')) {
        (true, Some((application, _))) => Bag::Application(application.to_owned()),
        (true, None) => Bag::Application(name),
        (false, Some(_)) => Bag::Unit(name),
        (false, None) => {
            return Err(Refusal::usage(format!("expected unit name, got application name \"{name}\"")));
        }
    };
    let bag = session.relation_get(key, &whose)?;
    Ok(Output::Value(match flags.argument(0) {
        None | Some("-") => json!(bag),
        Some(wanted) => bag.get(wanted).map_or(Value::Null, |value| json!(value)),
    }))
}
