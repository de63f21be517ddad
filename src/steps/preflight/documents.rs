//! What the target's identity schemas would do to the people in the source's database.

use super::contents::Counted;
use super::judgement::{Judgement, bad, good, hint};
use super::{Facts, Look, Side};
use crate::apps::Kind;
use crate::steps::identity_documents::{Documents, Effect, Place, effects};
use std::time::{Duration, Instant};

/// How long people may be looked at: preflight is to answer at once, whatever the number of people.
const LIMIT: Duration = Duration::from_secs(2);

/// What was looked at.
#[derive(Clone, Debug)]
pub enum Looked {
    /// Nothing: the target does not serve its documents, or nobody uses any.
    NotYet,
    /// Every schema in use.
    Effects(Vec<Effect>),
    /// The source's database did not answer; why.
    Failed(String),
}

/// Looks with a session of its own, once both sides are known.
pub(super) async fn look(look: &Look, source: &Side, target: &Side) -> Looked {
    let (Some(theirs), [schema]) = (&target.schemas, source.contents.app_schemas.as_slice()) else {
        return Looked::NotYet;
    };
    if look.app.kind != Kind::Kratos {
        return Looked::NotYet;
    }
    // With very many people they are not counted by schema: then the documents tell which to look at.
    let used = match &source.contents.schema_ids {
        Counted::Known(used) => used.keys().cloned().collect(),
        Counted::TooLong => theirs.keys().cloned().collect(),
        Counted::NoSuchTable => return Looked::NotYet,
    };
    let place = Place { schema: schema.clone(), networks: look.app.networks_table };
    let looked = async {
        let session = look.source.connect(&look.source_database, "preflight").await?;
        let until = Instant::now() + LIMIT;
        let ours: Option<&Documents> = source.schemas.as_ref();
        effects(&session, &place, &used, ours, theirs, until).await
    };
    match looked.await {
        Ok(found) => Looked::Effects(found),
        Err(error) => Looked::Failed(error.to_string()),
    }
}

/// Who would lose what once the target serves: a lost login keeps everything from beginning, the rest is told.
pub(super) fn documents(facts: &Facts) -> Judgement {
    let target = &facts.look.target_application;
    let found = match &facts.documents {
        Looked::NotYet => {
            return good("the target does not serve its identity schemas yet: the gates look before the flip");
        }
        Looked::Failed(error) => {
            return hint(
                format!("the people were not looked at: {error}"),
                "run preflight again; the gates look before the flip",
            );
        }
        Looked::Effects(found) => found,
    };
    let told = |which: fn(&Effect) -> bool| {
        found.iter().filter(|effect| which(effect)).map(Effect::describe).collect::<Vec<_>>().join("; ")
    };
    if found.iter().any(Effect::breaks_logins) {
        return bad(
            told(Effect::is_worth_knowing),
            format!(
                "juju config {target} identity_schemas=... with the source's documents; bring the changed one in later, under \
                 an id of its own, and move people to it through the admin API"
            ),
        );
    }
    if found.iter().any(Effect::is_unknown)
        && found.iter().all(|effect| effect.is_unknown() || !effect.is_worth_knowing())
    {
        return hint(told(Effect::is_worth_knowing), "run preflight again; the gates look before the flip");
    }
    if found.iter().any(Effect::is_worth_knowing) {
        return hint(
            told(Effect::is_worth_knowing),
            format!(
                "juju config {target} identity_schemas=... with the source's documents, unless this is meant; who cannot be \
                 saved logs in, but cannot change a password or a setting; what a document refers to must be reachable from \
                 the target"
            ),
        );
    }
    match found.as_slice() {
        [] => good("no identities"),
        _ => good(told(|_| true)),
    }
}
