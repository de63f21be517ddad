//! What a Kratos must prove: it serves every identity schema in use, and reads an identity of each.

use super::super::context::{Answer, Context};
use super::super::observe;
use super::{Unreadable, ask, unreadable};
use crate::migration::Failure;
use tokio_postgres::error::SqlState;

/// Of how many schemas an identity is read.
const SAMPLES: u32 = 50;

/// What the server says of an identity whose schema it is not configured with.
const UNKNOWN_SCHEMA: &str = "Unable to find JSON Schema ID";

/// One identity, and the schema that its traits are of. No traits.
struct Sample {
    schema: String,
    identity: String,
}

/// What it did not prove.
pub(super) async fn refused(context: &Context<'_>, shown: &str) -> Result<Option<Answer>, Failure> {
    if let Some(failure) = schemas_unserved(context, &schemas_in_use(context, shown).await).await {
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
    Ok(None)
}

/// Every identity schema must be served that identities of the source use: reading an identity of another fails.
async fn schemas_unserved(context: &Context<'_>, used: &[String]) -> Option<Failure> {
    let target = &context.applications.target;
    let served = match observe::server(context.app(), target).schemas().await {
        Ok(served) => served,
        // The public address may not lead here yet; reading an identity of each schema proves the same.
        Err(error) => {
            log::warn!("the identity schemas of {} could not be listed: {error}", target.name);
            return None;
        }
    };
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
