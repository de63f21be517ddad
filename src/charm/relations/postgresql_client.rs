//! `postgresql_client`, version 0 of its protocol, spoken raw: Charmed PostgreSQL understands no other.

use super::identity::is_anonymous;
use super::{Access, End, Reader, Waiting};
use crate::juju::{HookToolError, Kind, RelationWrite};
use crate::postgres::{Password, Server};
use crate::worker::control;
use std::collections::BTreeMap;

/// A PostgreSQL cluster that serves us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRelation {
    /// The relation, `<endpoint>:<number>`.
    pub relation_id: String,
    /// The PostgreSQL application, as this model calls it.
    pub application: String,
    /// The UUID of its model, when that is known to be another than ours.
    pub other_model: Option<String>,
    /// The primary, and the role we have there.
    pub server: Server,
    /// Our own database on it.
    pub database: String,
    /// The server's version as the relation tells it, such as `14.23`; may be empty.
    pub version: String,
}

/// What the provider keeps in a secret and what in clear depends on this list.
const REQUESTED_SECRETS: &str = r#"["username","password","tls","tls-ca","uris","read-only-uris"]"#;

/// The request. Both PostgreSQL charms act once, on a new `database`, and fail when the roles
/// change later: all of it is written at once, and never again.
fn request(model: &str, application: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("database".to_owned(), format!("{model}_{application}")),
        ("requested-secrets".to_owned(), REQUESTED_SECRETS.to_owned()),
        ("extra-user-roles".to_owned(), "SUPERUSER".to_owned()),
    ])
}

/// Reads one database relation; notes the request if the leader has not made it.
pub(super) fn read(
    reader: &Reader<'_>,
    end: Option<&End>,
    requests: &mut Vec<RelationWrite>,
) -> Result<Access<DatabaseRelation>, HookToolError> {
    let Some(end) = end else { return Ok(Access::NoRelation) };
    if end.bag.contains_key("endpoints") && has_credentials(&end.bag) {
        return complete(reader, end);
    }
    if reader.leader {
        let Some(own) = reader.own_bag(&end.relation_id)? else { return Ok(Access::NoRelation) };
        if !own.contains_key("database") {
            let values = request(&reader.context.model_name, &reader.context.application);
            requests.push(RelationWrite { relation_id: end.relation_id.clone(), values });
        }
    }
    let found = format!("{} has not yet created our database and role", end.application);
    let cure = format!("wait, or look at {} in juju status", end.application);
    Ok(waiting(end, found, cure))
}

fn has_credentials(bag: &BTreeMap<String, String>) -> bool {
    bag.contains_key("secret-user") || (bag.contains_key("username") && bag.contains_key("password"))
}

/// Everything is said to be there: reads the secrets.
fn complete(reader: &Reader<'_>, end: &End) -> Result<Access<DatabaseRelation>, HookToolError> {
    let Some((host, port)) = end.bag.get("endpoints").and_then(|text| first_endpoint(text)) else {
        let found = format!("{} gave no address that can be read", end.application);
        return Ok(waiting(end, found, format!("look at {} in juju status", end.application)));
    };
    // What is listed in `requested-secrets` comes in secrets, the rest in clear.
    let mut values = end.bag.clone();
    for key in ["secret-user", "secret-tls"] {
        let Some(uri) = end.bag.get(key) else { continue };
        match reader.tools.secret(uri) {
            Ok(content) => values.extend(content),
            Err(error) if matches!(error.kind, Kind::NotGranted | Kind::NotFound) => {
                return Ok(Access::Waiting(not_granted(reader, end)));
            }
            Err(error) => return Err(error),
        }
    }
    // Secrets are filled in several steps, so a revision may still lack the password.
    let (Some(user), Some(password)) = (filled(&values, "username"), filled(&values, "password")) else {
        let found = format!("the secret of {} holds no credentials yet", end.application);
        return Ok(waiting(end, found, "wait for it to be filled".to_owned()));
    };
    Ok(Access::Ready(DatabaseRelation {
        relation_id: end.relation_id.clone(),
        application: end.application.clone(),
        other_model: reader.other_model(&end.relation_id),
        server: Server {
            host,
            port,
            user: user.clone(),
            password: Password::new(password.clone()),
            tls: values.get("tls").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            ca: filled(&values, "tls-ca").cloned(),
        },
        database: filled(&values, "database")
            .cloned()
            .unwrap_or_else(|| format!("{}_{}", reader.context.model_name, reader.context.application)),
        version: values.get("version").cloned().unwrap_or_default(),
    }))
}

/// A grant arrives after the databag that names the secret, without a hook. One that stood and was taken away does
/// not come back by itself.
fn not_granted(reader: &Reader<'_>, end: &End) -> Waiting {
    let (endpoint, number) = end.relation_id.split_once(':').unwrap_or((&end.relation_id, ""));
    let (coordinator, other) = (&reader.context.application, &end.application);
    // A name that Juju made up cannot be typed: there the other model has to relate it again.
    let commands = match is_anonymous(other) {
        true => vec![format!("juju remove-relation {number}")],
        false => vec![
            format!("juju remove-relation {coordinator}:{endpoint} {other}"),
            format!("juju integrate {coordinator}:{endpoint} {other}"),
        ],
    };
    let again = if is_anonymous(other) { ", then have it related again from the other model" } else { "" };
    let anew = format!("{}{again}", commands.join(", then "));
    let revoked = control::was_told_of(&reader.context.charm_dir, &end.relation_id);
    let (found, cure) = match revoked {
        true => (
            format!("the secret of {other} was revoked, we may not read it any more"),
            format!("let {other} grant it again, or have a new one made: {anew}"),
        ),
        false => (
            format!("the secret of {other} is not granted to us yet"),
            format!("wait; if it stays, have a new one made: {anew}"),
        ),
    };
    Waiting {
        relation_id: end.relation_id.clone(),
        application: Some(other.clone()),
        found,
        cure,
        commands: if revoked { commands } else { Vec::new() },
        person: revoked,
    }
}

fn filled<'a>(values: &'a BTreeMap<String, String>, key: &str) -> Option<&'a String> {
    values.get(key).filter(|value| !value.trim().is_empty())
}

fn waiting<T>(end: &End, found: String, cure: String) -> Access<T> {
    Access::Waiting(Waiting {
        relation_id: end.relation_id.clone(),
        application: Some(end.application.clone()),
        found,
        cure,
        commands: Vec::new(),
        person: false,
    })
}

/// Host and port of the first of a comma list; the host may be an IPv6 address in brackets.
fn first_endpoint(text: &str) -> Option<(String, u16)> {
    let first = text.split(',').next()?.trim();
    let (host, port) = match first.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (first, 5432),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let read = |text| first_endpoint(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(read("pg-primary.iam.svc:5432").as_deref(), Some("pg-primary.iam.svc 5432"));
        assert_eq!(read("10.0.0.1:6432,10.0.0.2:5432").as_deref(), Some("10.0.0.1 6432"));
        assert_eq!(read("[fd00::2]:5433").as_deref(), Some("fd00::2 5433"));
        assert_eq!(read("[fd00::2]").as_deref(), Some("fd00::2 5432"));
        assert_eq!(read("host").as_deref(), Some("host 5432"));
        assert_eq!((read(""), read("host:port"), read(":5432")), (None, None, None));
    }
}
