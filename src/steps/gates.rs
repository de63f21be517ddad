//! What the target's server must prove before users come: it is ready, it is the new release, it
//! serves the source's network and reads an identity that was copied.

use super::context::{Answer, Context, Outcome, wait};
use super::observe;
use crate::apps::{Health, KRATOS, Readable};
use crate::migration::{Failure, Step};
use crate::postgres::{Error, Session};
use serde_json::json;

/// Asks the target's server until it passes.
///
/// # Errors
/// A server that serves another network or cannot read a copied identity.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let name = context.applications.target.name.clone();
    let (_, to) = super::catch_up::releases(context);
    let version = match observe::target_health(context).await {
        Health::Ready { version } => version,
        Health::NotReady { pending } => {
            return wait(format!("the target's server is not ready yet: {pending}"), "");
        }
        Health::Down(_) => {
            return wait(
                format!(
                    "the target application {name} starts its server at its next hook (update-status at the latest)"
                ),
                "",
            );
        }
    };
    let migrated = KRATOS.release_of(&version).is_some_and(|release| release.is(&to)) || version == to;
    if !migrated {
        return wait(
            format!("the target's server is release {version}, its schema is release {to}"),
            format!("juju run {}{name}/leader run-migration", context.applications.target.model_flag()),
        );
    }
    if let Some(failure) = identity_unreadable(context).await? {
        return Err(failure);
    }
    Ok(Outcome::Done(json!({"version": version, "after": Step::Migrate.name()})))
}

/// One copied identity must be readable through the target: proves network id and identity schema.
async fn identity_unreadable(context: &Context<'_>) -> Result<Option<Failure>, Failure> {
    let target = context.world.target("gates").await?;
    let Some(id) = some_identity(&target).await? else { return Ok(None) };
    let readable = observe::server(&context.applications.target).identity(&id).await;
    Ok(match readable {
        Ok(Readable::Yes { .. }) => None,
        Ok(Readable::Missing) => Some(Failure::operator(
            "pass the gates",
            format!(
                "the target's server does not know identity {id}, which is in its database: it serves another network"
            ),
            format!("restart the units of {}, then run the action again", context.applications.target.name),
        )),
        Ok(Readable::Failed { status, message }) => Some(Failure::operator(
            "pass the gates",
            format!("the target's server answers {status} for identity {id}: {message}"),
            "give the target application the source's identity schemas, then run the action again",
        )),
        Err(error) => Some(Failure::retry("pass the gates", error)),
    })
}

async fn some_identity(target: &Session) -> Result<Option<String>, Error> {
    let doing = "find an identity on the target";
    let present = target
        .query_opt("SELECT FROM pg_class WHERE oid = to_regclass('public.identities')", &[])
        .await
        .map_err(Error::doing(doing))?;
    if present.is_none() {
        return Ok(None);
    }
    let row =
        target.query_opt("SELECT id::text FROM public.identities LIMIT 1", &[]).await.map_err(Error::doing(doing))?;
    Ok(row.map(|row| row.get(0)))
}
