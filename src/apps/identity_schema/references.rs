//! What a document refers to outside itself. Kratos fetches that each time it saves an identity; here nothing is.

use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// How many characters of an address are said.
const SHOWN: usize = 80;

/// The document without the places that refer outside it, which then take everything; and what those refer to.
pub(super) fn without_outside(document: &Json) -> (Json, BTreeSet<String>) {
    let mut own = BTreeSet::new();
    ids(document, &mut own);
    let mut outside = BTreeSet::new();
    (kept(document, &own, &mut outside), outside)
}

/// The addresses that parts of the document have.
fn ids(part: &Json, own: &mut BTreeSet<String>) {
    match part {
        Json::Object(map) => {
            for id in ["$id", "id"].iter().filter_map(|key| map.get(*key)?.as_str()) {
                own.insert(base(id).to_owned());
                // A reference may be relative to the document's own address.
                own.extend(id.rsplit('/').next().map(|last| base(last).to_owned()));
            }
            map.values().for_each(|value| ids(value, own));
        }
        Json::Array(list) => list.iter().for_each(|value| ids(value, own)),
        _ => {}
    }
}

fn kept(part: &Json, own: &BTreeSet<String>, outside: &mut BTreeSet<String>) -> Json {
    match part {
        Json::Object(map) => match map.get("$ref").and_then(Json::as_str) {
            // Beside a reference nothing counts, in draft 7.
            Some(to) if !is_inside(to, own) => {
                outside.insert(shown(to));
                Json::Object(Map::new())
            }
            _ => Json::Object(map.iter().map(|(key, value)| (key.clone(), kept(value, own, outside))).collect()),
        },
        Json::Array(list) => Json::Array(list.iter().map(|value| kept(value, own, outside)).collect()),
        other => other.clone(),
    }
}

fn is_inside(to: &str, own: &BTreeSet<String>) -> bool {
    to.starts_with('#') || own.contains(base(to)) || to.starts_with("http://json-schema.org/draft-07/schema")
}

/// How much of an address is said: neither credentials nor data that it may hold. Of `http` and `https` the host, of
/// other schemes the scheme.
fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return "a relative address".to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.strip_prefix("//").filter(|_| matches!(scheme.as_str(), "http" | "https")).and_then(host);
    let said = host.map_or_else(|| format!("{scheme}:"), |host| format!("{scheme}://{host}"));
    said.chars().take(SHOWN).collect()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The host of what follows `//`, where it is certain that it is one: an `@` further on may end a password.
fn host(rest: &str) -> Option<&str> {
    let (authority, further) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let behind = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = behind.split_once(':').unwrap_or((behind, ""));
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    (is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && !further.contains('@')).then_some(host)
}

/// An address without its fragment.
fn base(address: &str) -> &str {
    address.split('#').next().unwrap_or_default()
}
