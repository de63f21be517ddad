//! The secret-* tools.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Call, Flags, Output};
use crate::context::{Answer, Refusal};
use crate::session::{ContentChange, Session, check_content};

pub(super) fn run(session: &mut Session<'_>, call: &Call<'_>, flags: &Flags) -> Answer<Output> {
    let uri = || flags.argument(0).ok_or_else(|| Refusal::usage("missing secret URI"));
    match call.tool {
        "secret-add" => {
            let uri = session.secret_add(change(flags, 0)?)?;
            Ok(Output::Text(format!("{uri}\n")))
        }
        "secret-set" => {
            session.secret_set(uri()?, change(flags, 1)?)?;
            Ok(Output::Nothing)
        }
        "secret-get" => get(session, flags),
        "secret-info-get" => Ok(Output::Value(session.secret_info(flags.argument(0), flags.value("label"))?)),
        "secret-ids" => {
            let ids = session.secret_ids();
            Ok(Output::Value(if ids.is_empty() { Value::Null } else { json!(ids) }))
        }
        "secret-grant" => {
            let relation = flags.value("relation").ok_or_else(|| Refusal::usage("missing relation id"))?;
            let relation = session.parse_relation(relation)?;
            session.secret_grant(uri()?, relation, flags.value("unit").map(str::to_owned))?;
            Ok(Output::Nothing)
        }
        "secret-revoke" => {
            let subject = match (flags.value("relation"), flags.value("app").or(flags.value("unit"))) {
                (Some(relation), None) => {
                    let relation = session.parse_relation(relation)?;
                    session.remote_application(relation)?
                }
                (None, Some(subject)) => subject.to_owned(),
                _ => return Err(Refusal::usage("missing relation or application or unit")),
            };
            session.secret_revoke(uri()?, subject)?;
            Ok(Output::Nothing)
        }
        _ => {
            let revision = flags.value("revision").map(str::parse).transpose();
            let revision = revision.map_err(|_| Refusal::usage("invalid revision"))?;
            session.secret_remove(uri()?, revision)?;
            Ok(Output::Nothing)
        }
    }
}

fn get(session: &mut Session<'_>, flags: &Flags) -> Answer<Output> {
    if flags.is_set("peek") && flags.is_set("refresh") {
        return Err(Refusal::usage("specify one of --peek or --refresh but not both"));
    }
    let content =
        session.secret_get(flags.argument(0), flags.value("label"), flags.is_set("peek"), flags.is_set("refresh"))?;
    Ok(Output::Value(match flags.argument(1) {
        None => json!(content),
        Some(key) => match content.get(key) {
            Some(value) => json!(value),
            None => return Err(Refusal::failed(format!("secret key value \"{key}\" not found"))),
        },
    }))
}

fn change(flags: &Flags, from: usize) -> Answer<ContentChange> {
    let mut content = BTreeMap::new();
    for argument in flags.arguments.iter().skip(from) {
        let (key, value) = argument
            .split_once('=')
            .ok_or_else(|| Refusal::usage(format!("expected \"key=value\", got \"{argument}\"")))?;
        match key.split_once('#') {
            None if value.is_empty() => {
                return Err(Refusal::usage(format!("expected \"key=value\", got \"{argument}\"")));
            }
            None => content.insert(key.to_owned(), value.to_owned()),
            Some((key, "file")) => {
                let text =
                    std::fs::read_to_string(value).map_err(|error| Refusal::failed(format!("{value}: {error}")))?;
                content.insert(key.to_owned(), text)
            }
            Some((_, kind)) => return Err(Refusal::usage(format!("the emulator does not read #{kind}"))),
        };
    }
    if !content.is_empty() || from == 0 {
        check_content(&content)?;
    }
    Ok(ContentChange {
        by_unit: flags.value("owner") == Some("unit"),
        label: flags.value("label").map(str::to_owned),
        description: flags.value("description").map(str::to_owned),
        content,
    })
}
