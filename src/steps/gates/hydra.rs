//! What a Hydra must prove: it reads a client, it can decrypt its signing keys and publishes the source's, and names the
//! source's issuer.

use super::super::context::{Answer, Context};
use super::super::observe;
use super::{Unreadable, ask, unreadable};
use crate::apps::Told;
use crate::apps::hydra::SigningKeys;
use crate::migration::Failure;
use crate::postgres::Session;
use crate::postgres::names::TableName;
use std::collections::BTreeSet;

/// What it did not prove; what a person should know goes to `warnings`.
pub(super) async fn refused(
    context: &Context<'_>,
    shown: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Answer>, Failure> {
    let target = context.world.target("gates").await?;
    // A router may take a slash in an id for one of the path's.
    let sql = format!("SELECT id::text {shown} AND id NOT LIKE '%/%' ORDER BY created_at, id LIMIT 1");
    let rows = ask(&target, &sql).await?;
    if let Some(row) = rows.first() {
        let client: String = row.get(0);
        match unreadable(context, &client).await {
            Ok(()) => {}
            Err(Unreadable::Answer(answer)) => return Ok(Some(answer)),
            Err(Unreadable::Failed { status, message }) => {
                return Ok(Some(Err(Failure::operator(
                    "pass the gates",
                    format!("the target's server answers {status} for client {client}: {message}"),
                    "see its log (juju debug-log), then run the action again",
                ))));
            }
        }
    }
    let kept = keys(context, &target).await?;
    // Asked without any it would make some, which a closed database refuses.
    if !kept.name_the_issuer() {
        warnings.push(unproved(context));
        return Ok(None);
    }
    let lacking = match keys_lacking(context, &kept).await? {
        None => issuer_differs(context, warnings).await?,
        lacking => lacking,
    };
    Ok(lacking.map(Err))
}

/// What nothing could prove, and how a person makes sure of it.
fn unproved(context: &Context<'_>) -> String {
    let target = &context.applications.target;
    format!(
        "the source has no signing keys, so nothing proves that the target has its system secret or names its issuer: compare \
         the outputs of the action get-secret-keys type=system of {} and {}{}",
        context.applications.source.name,
        target.model_flag(),
        target.name
    )
}

/// Every key of the source must be of use to the target: it can decrypt them only with the source's system secret.
async fn keys_lacking(context: &Context<'_>, kept: &SigningKeys) -> Result<Option<Failure>, Failure> {
    let (target, ids) = (&context.applications.target, kept.ids());
    let server = observe::server(context.app(), target);
    let answer = match kept.are_complete() {
        true => server.keys().await,
        // It would make what it lacks; to name its issuer it needs no more than there is.
        false => server.issuer().await.map(|told| match told {
            Told::Yes(_) => Told::Yes(ids.clone()),
            Told::Failed { status, message } => Told::Failed { status, message },
        }),
    };
    let found = match answer {
        Ok(Told::Yes(published)) if published.is_superset(&ids) => return Ok(None),
        Ok(Told::Yes(published)) => {
            format!("the target's server publishes the keys {}, its database has {}", listed(&published), listed(&ids))
        }
        Ok(Told::Failed { status, message }) => format!(
            "the target's server answers {status} where it needs its signing keys ({message}): it cannot decrypt what the \
             source wrote, so tokens would be refused"
        ),
        Err(error) => return Err(Failure::retry("pass the gates", error)),
    };
    let source = &context.applications.source;
    Ok(Some(Failure::operator(
        "pass the gates",
        found,
        format!(
            "give it the source's system secrets, newest last: read them with juju run {}{}/leader get-secret-keys \
             type=system, add each with juju run {}{}/leader add-secret-key type=system key=<value> (a source older than \
             2.0.0 has no such action: a model admin finds its secret with juju secrets), then run the action again",
            source.model_flag(),
            source.name,
            target.model_flag(),
            target.name
        ),
    )))
}

/// The keys in the target's database that its server shows.
async fn keys(context: &Context<'_>, target: &Session) -> Result<SigningKeys, Failure> {
    let mut keys = SigningKeys::default();
    let tables = observe::replicated_tables(context)?;
    let Some(table) = tables.iter().find(|table| table.name == "hydra_jwk") else { return Ok(keys) };
    let networks = TableName::new(&table.schema, context.app().networks_table);
    let sql = format!(
        "{} AND nid = (SELECT id FROM {} ORDER BY created_at LIMIT 1)",
        SigningKeys::sql(table),
        networks.sql()
    );
    for row in ask(target, &sql).await? {
        keys.insert(row.get(0), row.get(1));
    }
    Ok(keys)
}

/// Clients refuse the tokens of another issuer. A source that does not answer cannot be compared with.
async fn issuer_differs(context: &Context<'_>, warnings: &mut Vec<String>) -> Result<Option<Failure>, Failure> {
    let (app, applications) = (context.app(), context.applications);
    let (source, target) = (observe::server(app, &applications.source), observe::server(app, &applications.target));
    let (theirs, ours) = match tokio::join!(source.issuer(), target.issuer()) {
        (_, Err(error)) => return Err(Failure::retry("pass the gates", error)),
        (Ok(Told::Yes(theirs)), Ok(Told::Yes(ours))) => (theirs, ours),
        (_, Ok(Told::Failed { status, message })) => {
            return Ok(Some(Failure::operator(
                "pass the gates",
                format!("the target's server answers {status} for its discovery document: {message}"),
                "see its log (juju debug-log), then run the action again",
            )));
        }
        (source, _) => {
            let reason = match source {
                Ok(Told::Failed { status, message }) => format!("answers {status}: {message}"),
                Err(error) => format!("does not answer: {error}"),
                Ok(Told::Yes(_)) => "was not asked".to_owned(),
            };
            warnings.push(format!("the issuers were not compared, because the source's server {reason}"));
            return Ok(None);
        }
    };
    Ok((theirs != ours).then(|| {
        Failure::operator(
            "pass the gates",
            format!(
                "the issuer of the source is {theirs}, the target's is {ours}: clients refuse tokens of another issuer"
            ),
            format!(
                "give {} the public address that the source has (its public-route), then run the action again",
                applications.target.name
            ),
        )
    }))
}

/// Some ids, as a sentence can hold them.
fn listed(ids: &BTreeSet<String>) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    ids.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
