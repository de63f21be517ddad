//! The action-* tools.

use serde_json::{Value, json};

use super::{Call, Flags, Output};
use crate::context::{Answer, Refusal};
use crate::session::Session;

pub(super) fn run(session: &mut Session<'_>, call: &Call<'_>, flags: &Flags) -> Answer<Output> {
    match call.tool {
        "action-get" => {
            let parameters = session.action_parameters()?;
            Ok(Output::Value(match flags.argument(0) {
                None => json!(parameters),
                Some(path) => {
                    let mut parts = path.split('.');
                    let first = parameters.get(parts.next().unwrap_or_default());
                    parts.fold(first, |value, part| value?.get(part)).cloned().unwrap_or(Value::Null)
                }
            }))
        }
        "action-set" => {
            let mut pairs = Vec::new();
            for argument in &flags.arguments {
                let (key, value) = argument.split_once('=').ok_or_else(|| {
                    Refusal::usage(format!("argument \"{argument}\" must be of the form key...=value"))
                })?;
                pairs.push((key.to_owned(), value.to_owned()));
            }
            session.action_set(&pairs)?;
            Ok(Output::Nothing)
        }
        "action-log" => {
            session.action_log(&flags.arguments.join(" "))?;
            Ok(Output::Nothing)
        }
        _ => {
            session.action_fail(&flags.arguments.join(" "))?;
            Ok(Output::Nothing)
        }
    }
}
