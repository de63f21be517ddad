//! What the target's identity schemas would do to the people in the source's database. Only reads, in batches; what is
//! said are numbers, places in a document and ids, never a trait.

mod effect;
mod judging;
mod rows;

pub use effect::{Change, Effect, Tally};
pub use rows::{Place, Read};

use crate::apps::identity_schema::{Document, Use};
use crate::postgres::{Error, Session};
use judging::{Verdict, Verdicts, in_time, judge};
use rows::Rows;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Documents by the id of their schema, as a server shows them.
pub type Documents = BTreeMap<String, Json>;

/// The effect of each schema in use that the target serves.
///
/// `ours` are the source's documents, `None` when its server does not tell them; `until` is when looking ends, and what
/// was not looked at by then is said. Each schema has its share of the time. Of one with few people everybody is looked
/// at, else a sample.
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
    let served: Vec<(&String, &Json)> = used.iter().filter_map(|schema| theirs.get_key_value(schema)).collect();
    let mut found = Vec::new();
    for (schemas_left, (schema, new)) in (1..=u32::try_from(served.len()).unwrap_or(u32::MAX)).rev().zip(served) {
        let now = Instant::now();
        let share = now + until.saturating_duration_since(now) / schemas_left;
        let rows = Rows::new(session, place, schema, share);
        found.push(effect(&rows, schema, ours.and_then(|ours| ours.get(schema)), new).await?);
    }
    Ok(found)
}

/// One schema's; `old` is `None` when nobody knows the source's document.
async fn effect(rows: &Rows<'_>, schema: &str, old: Option<&Json>, new: &Json) -> Result<Effect, Error> {
    let change = match old {
        None => Change::Unknown,
        Some(old) if old == new => Change::None,
        Some(_) => Change::Changed,
    };
    let mut effect = Effect { schema: schema.to_owned(), change, ..Effect::default() };
    let other = old.filter(|_| change == Change::Changed).cloned();
    let new = new.clone();
    let reading = move || (other.map(|old| Document::read(&old)), Document::read(&new));
    let Some((old, new)) = in_time(rows.until(), reading).await else { return Ok(effect) };
    let old = match old {
        Some(Err(_)) => {
            effect.change = Change::Unjudged;
            None
        }
        Some(Ok(old)) => Some(old),
        None => None,
    };
    let new = match new {
        Ok(new) => new,
        Err(why) => {
            effect.unjudged = Some(why);
            return Ok(effect);
        }
    };
    effect.outside.clone_from(new.outside());
    if let Some(old) = &old {
        effect.unnamed = old.names().difference(new.names()).cloned().collect();
    }
    look(rows, Arc::new(judging::Documents { old, new }), &mut effect).await?;
    Ok(effect)
}

/// Looks at the people, as far as the time reaches.
async fn look(rows: &Rows<'_>, documents: Arc<judging::Documents>, effect: &mut Effect) -> Result<(), Error> {
    let mut owners: BTreeMap<Use, String> = BTreeMap::new();
    let mut batches = rows.batches().await?;
    while let Some(people) = rows.next(&mut batches).await? {
        let count = people.len();
        let Some(Verdicts { judged, unread }) = judge(&documents, people, rows.until()).await else {
            batches.cut();
            break;
        };
        let gained: Vec<(String, Use)> = match effect.change {
            Change::None => Vec::new(),
            _ => judged.iter().flat_map(gains).collect(),
        };
        let Some(taken) = taken(rows, &gained, &mut owners).await? else {
            batches.cut();
            break;
        };
        batches.looked_at(count);
        effect.unread += unread;
        for Verdict { id, kept, old, new } in &judged {
            match taken.contains(id) {
                true => effect.add_taken(id),
                false => effect.add(id, kept, old.as_ref(), new),
            }
        }
    }
    effect.read = batches.read();
    Ok(())
}

/// What an identity would get that it does not have, and would not have got under the old document.
fn gains(Verdict { id, kept, old, new }: &Verdict) -> Vec<(String, Use)> {
    if !new.refused.is_empty() {
        return Vec::new();
    }
    let before = |gain: &Use| old.as_ref().is_some_and(|old| old.refused.is_empty() && old.uses.contains(gain));
    let gained = new.uses.iter().filter(|gain| !kept.contains(*gain) && !before(gain));
    gained.map(|gain| (id.clone(), gain.clone())).collect()
}

/// The identities that would get what somebody else has, or would get as well; `None` when the time is over.
async fn taken(
    rows: &Rows<'_>,
    gained: &[(String, Use)],
    owners: &mut BTreeMap<Use, String>,
) -> Result<Option<BTreeSet<String>>, Error> {
    let mut found = BTreeSet::new();
    for (id, gain) in gained {
        if owners.entry(gain.clone()).or_insert_with(|| id.clone()) != id {
            found.insert(id.clone());
        }
    }
    let wanted: BTreeSet<&Use> = gained.iter().map(|(_, gain)| gain).collect();
    let Some(held) = rows.held(&wanted).await? else { return Ok(None) };
    let theirs = |id: &String, gain: &Use| held.iter().any(|(holder, has)| has == gain && holder != id);
    found.extend(gained.iter().filter(|(id, gain)| theirs(id, gain)).map(|(id, _)| id.clone()));
    Ok(Some(found))
}
