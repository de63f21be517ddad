//! Status, leadership, configuration and the log.

use serde_json::{Map, Value, json};

use super::{Call, Flags, Output};
use crate::context::{Answer, Refusal};
use crate::session::Session;

pub(super) fn run(session: &mut Session<'_>, call: &Call<'_>, flags: &Flags) -> Answer<Output> {
    match call.tool {
        "is-leader" => Ok(Output::Value(json!(session.is_leader()))),
        "status-set" => {
            let status = flags.argument(0).ok_or_else(|| Refusal::usage("invalid args, require <status> [message]"))?;
            session.status_set(flags.is_set("application"), status, flags.argument(1).unwrap_or_default())?;
            Ok(Output::Nothing)
        }
        "status-get" => {
            let with_data = flags.is_set("include-data");
            let status = session.status_get(flags.is_set("application"), with_data)?;
            // Without data, plain status-get prints the word alone.
            let word = status.get("status").filter(|_| flags.value("format").is_none() && !with_data);
            Ok(Output::Value(word.cloned().unwrap_or(status)))
        }
        "goal-state" => Ok(Output::Value(session.goal_state())),
        "config-get" => Ok(Output::Value(config(session, flags))),
        "application-version-set" => {
            let version = flags.argument(0).unwrap_or_default().to_owned();
            let key = session.context.key.clone();
            if let Some(application) = session.world.application_mut(&key) {
                application.workload_version = version;
            }
            Ok(Output::Nothing)
        }
        _ => {
            let level = if flags.is_set("debug") { "DEBUG" } else { flags.value("log-level").unwrap_or("INFO") };
            let level = match level.to_uppercase().as_str() {
                "TRACE" => "TRACE",
                "DEBUG" => "DEBUG",
                "WARNING" | "WARN" => "WARNING",
                "ERROR" => "ERROR",
                "CRITICAL" => "CRITICAL",
                _ => "INFO",
            };
            let module = format!("unit.{}.juju-log", session.context.key.unit_name());
            session.log(level, &module, &flags.arguments.join(" "));
            Ok(Output::Nothing)
        }
    }
}

fn config(session: &Session<'_>, flags: &Flags) -> Value {
    let set = &session.context.config;
    match flags.argument(0) {
        Some(name) => set.get(name).cloned().unwrap_or(Value::Null),
        None if flags.is_set("all") => {
            let mut all = Map::new();
            if let Some(application) = session.world.application(&session.context.key) {
                for name in application.charm.options.keys() {
                    all.insert(name.clone(), set.get(name).cloned().unwrap_or(Value::Null));
                }
            }
            Value::Object(all)
        }
        None => json!(set),
    }
}
