//! What a document refers to outside itself. Kratos fetches that each time it saves an identity; here nothing is.

use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

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
                outside.insert(base(to).to_owned());
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

/// An address without its fragment.
fn base(address: &str) -> &str {
    address.split('#').next().unwrap_or_default()
}
