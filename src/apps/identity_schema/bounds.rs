//! What a document may ask for before it is judged: one that refers to itself again and again could take for ever.

use serde_json::Value as Json;
use std::collections::HashMap;

/// Bytes of a document.
const LARGEST: usize = 256 << 10;
/// References inside the document, each with those of what it refers to.
const REFERENCES: u64 = 10_000;
/// References that lead from one to the next.
const DEEPEST: u32 = 200;

/// Why a document cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unjudged {
    /// What stands there: a JSON pointer into the document.
    At(String),
    /// It is too large.
    TooLarge,
    /// Its references come to too many.
    TooEntangled,
}

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(place) => write!(f, "because of what stands at {place}"),
            Self::TooLarge => write!(f, "because it is larger than {} KiB", LARGEST >> 10),
            Self::TooEntangled => {
                write!(f, "because its references come to more than {REFERENCES}, or to a chain longer than {DEEPEST}")
            }
        }
    }
}

/// Whether a document is small enough.
pub(super) fn size(document: &Json) -> Result<(), Unjudged> {
    if document.to_string().len() > LARGEST { Err(Unjudged::TooLarge) } else { Ok(()) }
}

/// Whether its references come to few enough.
pub(super) fn references(document: &Json) -> Result<(), Unjudged> {
    let mut resources = vec![document];
    identified(document, &mut resources);
    let come_to = Graph { resources, known: HashMap::new() }.part(document, 0);
    match come_to.count > REFERENCES || come_to.depth > DEEPEST {
        true => Err(Unjudged::TooEntangled),
        false => Ok(()),
    }
}

/// The parts of a document that have an address of their own.
fn identified<'d>(part: &'d Json, found: &mut Vec<&'d Json>) {
    match part {
        Json::Object(map) => {
            if address(part).is_some() {
                found.push(part);
            }
            map.values().for_each(|value| identified(value, found));
        }
        Json::Array(list) => list.iter().for_each(|value| identified(value, found)),
        _ => {}
    }
}

fn address(part: &Json) -> Option<&str> {
    part["$id"].as_str().or_else(|| part["id"].as_str())
}

/// What the references in a part come to.
#[derive(Clone, Copy, Default)]
struct Expanded {
    count: u64,
    depth: u32,
}

impl Expanded {
    const TOO_MANY: Self = Self { count: u64::MAX, depth: u32::MAX };

    fn and(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), depth: self.depth.max(other.depth) }
    }

    fn or(self, other: Self) -> Self {
        Self { count: self.count.max(other.count), depth: self.depth.max(other.depth) }
    }
}

/// A document's parts, and what is known of those that were referred to; of one that is being looked at, nothing yet:
/// how often it comes round is up to the traits.
struct Graph<'d> {
    resources: Vec<&'d Json>,
    known: HashMap<*const Json, Expanded>,
}

impl<'d> Graph<'d> {
    fn part(&mut self, part: &'d Json, depth: u32) -> Expanded {
        match part {
            Json::Object(map) => {
                let mut sum =
                    map.get("$ref").and_then(Json::as_str).map(|to| self.reference(to, depth)).unwrap_or_default();
                for (key, value) in map {
                    let of_it = match value {
                        // They count where they are referred to.
                        Json::Object(each) if key == "definitions" || key == "$defs" => {
                            each.values().fold(Expanded::default(), |most, value| most.or(self.part(value, depth)))
                        }
                        value => self.part(value, depth),
                    };
                    sum = sum.and(of_it);
                }
                sum
            }
            Json::Array(list) => list.iter().fold(Expanded::default(), |sum, value| sum.and(self.part(value, depth))),
            _ => Expanded::default(),
        }
    }

    /// Whatever address it names: the fragment is looked for in every part that has one, and the most counts.
    fn reference(&mut self, to: &str, depth: u32) -> Expanded {
        if depth > DEEPEST {
            return Expanded::TOO_MANY;
        }
        let fragment = decoded(to.split_once('#').map_or("", |(_, fragment)| fragment));
        let mut most = Expanded::default();
        for resource in self.resources.clone() {
            let target = match fragment.is_empty() || fragment.starts_with('/') {
                true => resource.pointer(&fragment),
                false => {
                    Some(resource).filter(|part| address(part).is_some_and(|id| id.ends_with(&format!("#{fragment}"))))
                }
            };
            most = most.or(target.map(|target| self.target(target, depth)).unwrap_or_default());
        }
        Expanded { count: most.count.saturating_add(1), depth: most.depth.saturating_add(1) }
    }

    fn target(&mut self, target: &'d Json, depth: u32) -> Expanded {
        let key = std::ptr::from_ref(target);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        self.known.insert(key, Expanded::default());
        let found = self.part(target, depth + 1);
        self.known.insert(key, found);
        found
    }
}

/// A fragment without its percent signs.
fn decoded(fragment: &str) -> String {
    let mut parts = fragment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend_from_slice(format!("%{part}").as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
