//! Hook tools as commands: flags in, text and exit code out.

mod actions;
mod flags;
mod machine;
mod relations;
mod secrets;
mod status;

use serde_json::Value;

pub(crate) use flags::Flags;

use crate::agent::socket::Reply;
use crate::context::{Answer, Refusal};
use crate::session::Session;

/// Every tool, as found on PATH.
pub(crate) const NAMES: [&str; 36] = [
    "action-fail",
    "action-get",
    "action-log",
    "action-set",
    "application-version-set",
    "close-port",
    "config-get",
    "credential-get",
    "goal-state",
    "is-leader",
    "juju-log",
    "juju-reboot",
    "network-get",
    "open-port",
    "opened-ports",
    "relation-get",
    "relation-ids",
    "relation-list",
    "relation-model-get",
    "relation-set",
    "resource-get",
    "secret-add",
    "secret-get",
    "secret-grant",
    "secret-ids",
    "secret-info-get",
    "secret-remove",
    "secret-revoke",
    "secret-set",
    "state-delete",
    "state-get",
    "state-set",
    "status-get",
    "status-set",
    "storage-list",
    "unit-get",
];

/// One call of a tool.
pub(crate) struct Call<'a> {
    pub tool: &'a str,
    pub arguments: &'a [String],
    pub stdin: Option<&'a str>,
}

/// What a tool has to say.
pub(crate) enum Output {
    Nothing,
    /// Printed in the format asked for.
    Value(Value),
    /// Printed as it is.
    Text(String),
}

/// Runs a tool.
pub(crate) fn answer(session: &mut Session<'_>, call: &Call<'_>) -> Reply {
    match run(session, call) {
        Ok(stdout) => Reply { code: 0, stdout, stderr: String::new() },
        Err(refusal) => {
            Reply { code: refusal.code, stdout: String::new(), stderr: format!("ERROR {}\n", refusal.text) }
        }
    }
}

fn run(session: &mut Session<'_>, call: &Call<'_>) -> Answer<String> {
    let flags = Flags::parse(call)?;
    let output = match call.tool {
        "relation-ids" | "relation-list" | "relation-get" | "relation-set" | "relation-model-get" => {
            relations::run(session, call, &flags)
        }
        "secret-add" | "secret-set" | "secret-get" | "secret-info-get" | "secret-ids" | "secret-grant"
        | "secret-revoke" | "secret-remove" => secrets::run(session, call, &flags),
        "action-get" | "action-set" | "action-log" | "action-fail" => actions::run(session, call, &flags),
        "status-set"
        | "status-get"
        | "goal-state"
        | "is-leader"
        | "config-get"
        | "application-version-set"
        | "juju-log" => status::run(session, call, &flags),
        _ => machine::run(session, call, &flags),
    }?;
    match output {
        Output::Nothing => Ok(String::new()),
        Output::Text(text) => Ok(text),
        Output::Value(value) => print(&value, flags.format(call.tool)?),
    }
}

fn print(value: &Value, format: &str) -> Answer<String> {
    match format {
        "json" => Ok(format!("{}\n", escape(&value.to_string()))),
        "yaml" => yaml(value),
        _ => Ok(match value {
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("{text}\n"),
            Value::Bool(flag) => if *flag { "True\n" } else { "False\n" }.into(),
            Value::Number(number) => format!("{number}\n"),
            Value::Array(list) => list
                .iter()
                .map(|item| item.as_str().map_or_else(|| format!("{item}\n"), |text| format!("{text}\n")))
                .collect(),
            Value::Object(_) => yaml(value)?,
        }),
    }
}

fn yaml(value: &Value) -> Answer<String> {
    serde_yaml::to_string(value).map_err(|error| Refusal::failed(error.to_string()))
}

/// Go's encoder escapes the characters that HTML knows.
fn escape(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
