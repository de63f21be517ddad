//! What the target's identity schemas would do to the people in the source's database. Only reads, in batches; what is
//! said are numbers, places in a document and ids, never a trait.

mod effect;
mod rows;

pub use effect::{Change, Effect, Tally};
pub use rows::{Place, Read};

use crate::apps::identity_schema::{Document, Judged, Use};
use crate::postgres::{Error, Session};
use rows::{Person, Rows};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Documents by the id of their schema, as a server shows them.
pub type Documents = BTreeMap<String, Json>;

/// The effect of each schema in use that the target serves.
///
/// `ours` are the source's documents, `None` when its server does not tell them; `until` is when looking ends, and what
/// was not looked at by then is said. Of a schema with few people everybody is looked at, else a sample.
///
/// # Errors
/// The server's.
pub async fn effects(
    session: &Session,
    place: &Place,
    used: &BTreeSet<String>,
    ours: Option<&Documents>,
    theirs: &Documents,
    until: Instant,
) -> Result<Vec<Effect>, Error> {
    let mut found = Vec::new();
    for schema in used {
        let Some(new) = theirs.get(schema) else { continue };
        let rows = Rows::new(session, place, schema, until);
        found.push(effect(&rows, schema, ours.map(|ours| ours.get(schema)), new).await?);
    }
    Ok(found)
}

/// One schema's; `old` is `None` when nobody knows the source's document.
async fn effect(rows: &Rows<'_>, schema: &str, old: Option<Option<&Json>>, new: &Json) -> Result<Effect, Error> {
    let change = match old {
        None | Some(None) => Change::Unknown,
        Some(Some(old)) if old == new => Change::None,
        Some(Some(_)) => Change::Changed,
    };
    let mut effect = Effect { schema: schema.to_owned(), change, ..Effect::default() };
    let document = match Document::read(new) {
        Ok(document) => document,
        Err(at) => {
            effect.unreadable_at = Some(at);
            return Ok(effect);
        }
    };
    effect.outside.clone_from(document.outside());
    // A document that cannot be judged refuses nobody: then everything counts as the new one's.
    let before = old.flatten().filter(|_| change == Change::Changed).and_then(|old| Document::read(old).ok());
    if let Some(before) = &before {
        effect.unnamed = before.names().difference(document.names()).cloned().collect();
    }
    let mut owners: BTreeMap<Use, String> = BTreeMap::new();
    let mut batches = rows.batches().await?;
    while let Some(people) = rows.next(&mut batches).await? {
        let mut judged = Vec::new();
        for Person { id, traits, kept } in people {
            let Some(traits) = traits else {
                effect.unread += 1;
                continue;
            };
            let old = before.as_ref().map(|before| before.judge(traits.clone()));
            judged.push((id, kept, old, document.judge(traits)));
        }
        let gained: Vec<(String, Use)> = match change {
            Change::None => Vec::new(),
            _ => judged.iter().flat_map(|(id, kept, old, new)| gains(id, kept, old.as_ref(), new)).collect(),
        };
        let taken = taken(rows, &gained, &mut owners).await?;
        for (id, kept, old, new) in &judged {
            match taken.contains(id) {
                true => effect.add_taken(id),
                false => effect.add(id, kept, old.as_ref(), new),
            }
        }
    }
    effect.read = batches.read();
    Ok(effect)
}

/// What an identity would get that it does not have, and would not have got under the old document.
fn gains(id: &str, kept: &BTreeSet<Use>, old: Option<&Judged>, new: &Judged) -> Vec<(String, Use)> {
    if !new.refused.is_empty() {
        return Vec::new();
    }
    let before = |gain: &Use| old.is_some_and(|old| old.refused.is_empty() && old.uses.contains(gain));
    let gained = new.uses.iter().filter(|gain| !kept.contains(*gain) && !before(gain));
    gained.map(|gain| (id.to_owned(), gain.clone())).collect()
}

/// The identities that would get what somebody else has, or would get as well.
async fn taken(
    rows: &Rows<'_>,
    gained: &[(String, Use)],
    owners: &mut BTreeMap<Use, String>,
) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    for (id, gain) in gained {
        if owners.entry(gain.clone()).or_insert_with(|| id.clone()) != id {
            found.insert(id.clone());
        }
    }
    let wanted: BTreeSet<&Use> = gained.iter().map(|(_, gain)| gain).collect();
    let held = rows.held(&wanted).await?;
    let theirs = |id: &String, gain: &Use| held.iter().any(|(holder, has)| has == gain && holder != id);
    found.extend(gained.iter().filter(|(id, gain)| theirs(id, gain)).map(|(id, _)| id.clone()));
    Ok(found)
}
