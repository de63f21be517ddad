//! What a Kratos must prove: it serves every identity schema in use, reads an identity of each, and its documents take
//! nobody's login away.

use super::super::context::{Answer, Context};
use super::super::observe;
use super::{Unreadable, ask, unreadable};
use crate::migration::{Failure, Order};
use crate::steps::identity_documents::{Change, Documents, Effect, Place, effects};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// Of how many schemas an identity is read.
const SAMPLES: u32 = 50;

/// How long people may be looked at.
const PEOPLE: Duration = Duration::from_secs(3);
/// The same in the documented order, where users wait meanwhile.
const PEOPLE_IN_THE_OUTAGE: Duration = Duration::from_secs(1);

/// What the server says of an identity whose schema it is not configured with.
const UNKNOWN_SCHEMA: &str = "Unable to find JSON Schema ID";

/// One identity, and the schema that its traits are of. No traits.
struct Sample {
    schema: String,
    identity: String,
}

/// What it did not prove; what a person should know goes to `warnings`.
pub(super) async fn refused(
    context: &Context<'_>,
    shown: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Answer>, Failure> {
    let used = schemas_in_use(context, shown).await;
    // The public address may not lead here yet; reading an identity of each schema proves that they are served.
    let served = match observe::server(context.app(), &context.applications.target).schemas().await {
        Ok(served) => Some(served),
        Err(error) => {
            warnings.push(format!("the target's identity schemas were not compared: {error}"));
            None
        }
    };
    if let Some(failure) = served.as_ref().and_then(|served| schemas_unserved(context, &used, served)) {
        return Ok(Some(Err(failure)));
    }
    for Sample { schema, identity } in samples(context, shown).await? {
        return Ok(Some(match unreadable(context, &identity).await {
            Ok(()) => continue,
            Err(Unreadable::Answer(answer)) => answer,
            Err(Unreadable::Failed { message, .. }) if message.contains(UNKNOWN_SCHEMA) => {
                Err(unserved(context, &schema))
            }
            Err(Unreadable::Failed { status, message }) => Err(Failure::operator(
                "pass the gates",
                format!("the target's server answers {status} for identity {identity}: {message}"),
                "give the target application the source's identity schemas, then run the action again",
            )),
        }));
    }
    match served {
        Some(served) => Ok(logins_broken(context, &used, &served, warnings).await.map(Err)),
        None => Ok(None),
    }
}

/// What the target's documents would do to the people of the source: lost logins keep the gates shut, the rest is said.
async fn logins_broken(
    context: &Context<'_>,
    used: &[String],
    theirs: &Documents,
    warnings: &mut Vec<String>,
) -> Option<Failure> {
    let ours = observe::server(context.app(), &context.applications.source).schemas().await;
    let looked = async {
        let tables = observe::replicated_tables(context)?;
        let table = tables.iter().find(|table| table.name == context.app().keeps.table);
        let Some(schema) = table.map(|table| table.schema.clone()) else { return Ok(Vec::new()) };
        let place = Place { schema, networks: context.app().networks_table };
        // With very many people it is not known which are in use.
        let mut used: BTreeSet<String> = match used {
            [] => theirs.keys().cloned().collect(),
            used => used.iter().cloned().collect(),
        };
        // What is the same takes nothing away, and users may be waiting.
        let same = |schema: &String| theirs.get(schema) == ours.as_ref().ok().and_then(|ours| ours.get(schema));
        used.retain(|schema| !same(schema));
        if used.is_empty() {
            return Ok(Vec::new());
        }
        let source = context.world.source("gates").await?;
        let limit = match context.run()?.order {
            Order::MigrateFirst => PEOPLE,
            Order::Documented | Order::InPlace => PEOPLE_IN_THE_OUTAGE,
        };
        Ok::<_, Failure>(effects(&source, &place, &used, ours.as_ref().ok(), theirs, Instant::now() + limit).await?)
    };
    let found = match looked.await {
        Ok(found) => found,
        Err(failure) => {
            warnings.push(format!("what identity schemas do to people was not looked at: {failure}"));
            return None;
        }
    };
    let broken: Vec<String> = found.iter().filter(|effect| effect.breaks_logins()).map(Effect::describe).collect();
    if broken.is_empty() {
        let known = found.iter().filter(|effect| effect.is_worth_knowing());
        warnings.extend(known.map(|effect| match &ours {
            Err(error) if effect.change == Change::Unknown => {
                format!("identity schema {}; its documents could not be asked for: {error}", effect.describe())
            }
            _ => format!("identity schema {}", effect.describe()),
        }));
        return None;
    }
    let target = &context.applications.target;
    Some(Failure::operator(
        "pass the gates",
        format!("the target's identity schemas would take logins away: {}", broken.join("; ")),
        format!(
            "run juju config {}{} identity_schemas=... default_identity_schema_id=... as the source has them, then run the \
             action again; bring a changed document in later, under an id of its own",
            target.model_flag(),
            target.name
        ),
    ))
}

/// Every identity schema must be served that identities of the source use: reading an identity of another fails.
fn schemas_unserved(context: &Context<'_>, used: &[String], served: &Documents) -> Option<Failure> {
    let lacking: Vec<&str> = used.iter().map(String::as_str).filter(|id| !served.contains_key(*id)).collect();
    (!lacking.is_empty()).then(|| unserved(context, &lacking.join(", ")))
}

/// Identities that the server could not show.
fn unserved(context: &Context<'_>, schemas: &str) -> Failure {
    let target = &context.applications.target;
    Failure::operator(
        "pass the gates",
        format!(
            "the target's server does not serve the identity schemas {schemas}, which identities of the source use"
        ),
        format!(
            "run juju config {}{} identity_schemas=... default_identity_schema_id=... as the source has them, then run the action again",
            target.model_flag(),
            target.name
        ),
    )
}

/// The identity schemas in use on the source; empty when they cannot be told soon.
async fn schemas_in_use(context: &Context<'_>, shown: &str) -> Vec<String> {
    let sql = format!("SELECT DISTINCT schema_id::text {shown} ORDER BY 1 LIMIT {SAMPLES}");
    let found = match context.world.source("gates").await {
        Ok(source) => ask(&source, &sql).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(error) => {
            log::warn!("the identity schemas in use were not compared: {error}");
            Vec::new()
        }
    }
}

/// One identity of each schema, as the target has them now; with very many identities the first one has to do.
async fn samples(context: &Context<'_>, shown: &str) -> Result<Vec<Sample>, Failure> {
    let target = context.world.target("gates").await?;
    let each = format!("SELECT schema_id::text, min(id::text) {shown} GROUP BY 1 ORDER BY 1 LIMIT {SAMPLES}");
    let rows = match ask(&target, &each).await {
        Err(error) if error.sqlstate() == Some(&SqlState::QUERY_CANCELED) => {
            ask(&target, &format!("SELECT schema_id::text, id::text {shown} LIMIT 1")).await?
        }
        rows => rows?,
    };
    Ok(rows.iter().map(|row| Sample { schema: row.get(0), identity: row.get(1) }).collect())
}
