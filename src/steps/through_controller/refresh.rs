//! `juju refresh` of the target application: by channel or by revision, with its resources, until it has settled.

use super::super::context::Context;
use super::super::refresh::cannot_migrate;
use super::asked::{ASKED, Asked, SENT};
use super::{Conductor, FINE, Shown, Stop, Through, local, noted};
use crate::controller::settled::{RefreshGoal, Settled, refreshed, resting, same_charm};
use crate::controller::{
    Change, Channel, CharmInfo, CharmOrigin, Code, Error, FullStatus, Generation, ModelLogin, NewResource, Reaction,
    Resolved, ResourceMeta, Session, SetCharm, blocking, resources_to_change,
};
use crate::migration::{Failure, Step};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The type of a resource that is a workload's image.
pub(super) const IMAGE: &str = "oci-image";

/// A refresh that has not settled by then is looked at by a person.
const SETTLES_WITHIN: i64 = 900;

/// Every unit may rest on the old code for seconds; a server that is the old one after this many is the new charm's, too.
const SHOWS_WITHIN: i64 = 60;

/// Begins the refresh, or looks how far it is.
pub(super) async fn refresh(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    shown: Shown,
) -> Result<Through, Stop> {
    match Asked::now(context) {
        // Somebody else has made it.
        None if shown == Shown::Yes => Ok(Through::Guided),
        None => begin(context, conductor, login, shown).await,
        Some(asked) => look(context, conductor, login, &asked, shown).await,
    }
}

/// What a person does for a local charm, which plain `juju refresh` does not take: from its next file, or from Charmhub.
fn by_its_file(context: &Context<'_>, url: &str, shown: Shown) -> Through {
    if shown != Shown::No {
        return Through::Guided;
    }
    let (name, channel) = (&context.applications.target.name, &context.request.channel);
    let from_file = format!("juju refresh {name} --path=<charm file> --resource {IMAGE}=<image>");
    let attach = format!("juju attach-resource {} target-charm=<charm file>", context.applications.coordinator);
    let reason = format!(
        "{name} has a local charm, {url}, whose next file is not known here: attach it with {attach} and give the action \
         local=true image=<image>, or refresh it by hand"
    );
    match channel.as_str() {
        "" => Through::Person(reason, from_file),
        channel => {
            let charm = without_revision(url).rsplit([':', '/']).next().unwrap_or_default();
            let switch = format!("juju refresh {name} --switch ch:{charm} --channel {channel}");
            Through::Person(format!("{reason}; to stay with a local one run {from_file} instead"), switch)
        }
    }
}

/// Whether the application has the charm again that it had before.
pub(super) async fn returned(
    context: &Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
) -> Result<Through, Stop> {
    let Some(asked) = noted::<Asked>(context, Step::Refresh, ASKED) else { return Ok(Through::Done) };
    let status = conductor.status_now(login).await?;
    let has = status.applications.get(&asked.application).map(|application| application.charm.as_str());
    match has {
        Some(charm) if same_charm(charm, &asked.before) => Ok(Through::Done),
        // A local charm comes back as a revision of its own.
        Some(charm) if [charm, &asked.before].iter().all(|charm| charm.starts_with("local:")) && charm != asked.url => {
            Ok(Through::Done)
        }
        charm => Ok(Through::Cannot(format!("{} has {}", asked.application, charm.unwrap_or("no charm")))),
    }
}

/// Everything that can be seen before anything is changed, and then the change.
async fn begin(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    shown: Shown,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    // A person may have refreshed it just now: what was seen before that would be asked for once more.
    let status = conductor.status_now(login).await?;
    let Some(application) = status.applications.get(&name) else {
        return Ok(conductor.cannot(format!("the application {name} is not in this model")));
    };
    let session = conductor.session(login).await?;
    if let Some(block) = blocking(&session.blocks().await?, Change::Alter) {
        let why = format!("juju disable-command stops every change (\"{}\")", block.message);
        return Ok(conductor.cannot(why));
    }
    match resting(&status, &name, &FINE) {
        Settled::Yes => {}
        Settled::NotYet(why) => return Ok(Through::AtWork(format!("before the refresh: {why}"))),
        Settled::Stuck(why) => return Ok(conductor.cannot(why)),
    }
    let now = session.charm_url_origin(&name).await?;
    if now.origin.is_unfinished() {
        return Ok(Through::AtWork(format!("before the refresh: the charm of {name} is still being downloaded")));
    }
    if let Some(local) = context.request.local.clone() {
        return local::begin(context, conductor, login, (now, status, shown), &local).await;
    }
    if now.origin.source != "charm-hub" {
        return Ok(by_its_file(context, &now.url, shown));
    }
    let wanted = match context.request.channel.as_str() {
        "" => application.charm_channel.clone(),
        channel => channel.to_owned(),
    };
    let Some(channel) = Channel::read(&wanted) else {
        return Ok(conductor.cannot(format!("the channel {wanted:?} cannot be read")));
    };
    let resolved = resolve(session, &now.url, &now.origin, &channel, context.request.revision).await?;
    if !resolved.supported_bases.is_empty()
        && !resolved.supported_bases.iter().any(|base| base.is_like(&now.origin.base))
    {
        let why = format!(
            "{} does not run on {} {}, on which {name} is",
            resolved.url, now.origin.base.name, now.origin.base.channel
        );
        return Ok(conductor.cannot(why));
    }
    fit(context, &resolved.url)?;
    if same_charm(&resolved.url, &now.url) && Channel::read(&application.charm_channel) == Some(channel.clone()) {
        if shown == Shown::Perhaps {
            return Ok(Through::Guided);
        }
        let found = format!("{name} has {} already, the newest of {wanted}", now.url);
        let (what, cure) = match context.world.is_in_place() {
            true => {
                ("refresh the application", "give upgrade-in-place the channel= or the revision= of a newer release")
            }
            false => {
                let cure = "give refresh (or migrate) the channel= or the revision= of a newer release";
                ("refresh the target application", cure)
            }
        };
        return Err(Failure::operator(what, found, cure).into());
    }
    let asked = Asked {
        application: name,
        before: now.url,
        url: resolved.url,
        origin: resolved.origin,
        channel: wanted,
        wish: context.request.wish(),
        units: application.units.len(),
        at: status.controller_timestamp,
        uploaded: Vec::new(),
    };
    context.note(Step::Refresh, SENT, Value::Null).await?;
    context.note(Step::Refresh, ASKED, json!(asked)).await?;
    let whether = if shown == Shown::No { Whether::AnImageChanges } else { Whether::Possible };
    send(context, conductor, login, &asked, &status, whether).await
}

/// What is looked at before the application is touched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whether {
    /// Whether Juju can do it.
    Possible,
    /// Also whether it brings another release: one that had been begun may have its image already.
    AnImageChanges,
}

/// Why the plan does not fit.
pub(super) enum Misfit {
    /// Juju would not do it.
    Impossible(String),
    /// It would bring no other release.
    Idle(String),
}

/// The charm that a channel or a revision means.
async fn resolve(
    session: &Session,
    url: &str,
    origin: &CharmOrigin,
    channel: &Channel,
    revision: u64,
) -> Result<Resolved, Error> {
    let plain = without_revision(url);
    match i64::try_from(revision) {
        Ok(revision) if revision > 0 => {
            let by_revision = origin.by_revision(channel, revision);
            session.resolve_charm(&format!("{plain}-{revision}"), &by_revision, true).await
        }
        _ => session.resolve_charm(plain, &origin.by_channel(channel), false).await,
    }
}

/// `ch:amd64/kratos` of `ch:amd64/kratos-512`.
fn without_revision(url: &str) -> &str {
    match url.rsplit_once('-') {
        Some((plain, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain,
        _ => url,
    }
}

/// A revision that could not run its own schema migration is known before it is there.
fn fit(context: &Context<'_>, url: &str) -> Result<(), Failure> {
    let revision = url.rsplit_once('-').and_then(|(_, revision)| revision.parse().ok()).unwrap_or_default();
    let request = crate::migration::Request { revision, ..context.request.clone() };
    match cannot_migrate(context.app(), &request) {
        Some((sentence, _)) => Err(Failure::new(sentence, crate::migration::Class::Operator)),
        None => Ok(()),
    }
}

/// Sends what was asked for, from the beginning; each part of it may have been sent before.
pub(super) async fn send(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    asked: &Asked,
    status: &FullStatus,
    whether: Whether,
) -> Result<Through, Stop> {
    let on_kubernetes = status.model.kind == "caas";
    let local = context.request.local.clone();
    let uploaded = match &local {
        Some(local) if asked.url.is_empty() => match local::upload(context, conductor, login, (asked, local)).await? {
            Ok(uploaded) => uploaded,
            Err(waits) => return Ok(waits),
        },
        _ => asked.clone(),
    };
    let asked = &uploaded;
    let session = conductor.session(login).await?;
    // On 4.0 resources are in use as soon as they were asked for, so a refusal after them is none of the whole.
    let whole = session.generation() == Generation::Three;
    let switched = match &local {
        Some(local) => local::switch(session, asked, local, on_kubernetes).await,
        None => switch(session, asked, on_kubernetes, whether).await,
    };
    match switched {
        Ok(None) => {
            context.note(Step::Refresh, SENT, json!(asked.url)).await?;
            log::info!("the controller refreshes {} to {} {}", asked.application, asked.url, asked.channel);
            conductor.status_now(login).await?;
            Ok(Through::AtWork(format!("{} is being refreshed to {}", asked.application, asked.url)))
        }
        // What was refused has changed nothing, so that a person may do something else instead.
        Ok(Some(Misfit::Impossible(why))) => {
            context.note(Step::Refresh, ASKED, Value::Null).await?;
            Ok(conductor.cannot(why))
        }
        Ok(Some(Misfit::Idle(found))) => {
            context.note(Step::Refresh, ASKED, Value::Null).await?;
            let cure = "give refresh (or migrate) the channel= whose newest revision that is, for Juju takes the images of a \
                        channel's newest, whatever the revision; to move the database only, run rollback, then refresh \
                        keep-release=true";
            Err(Failure::operator("refresh the target application", found, cure).into())
        }
        Err(error @ Error::Refused { .. })
            if whole && matches!(error.reaction(), Reaction::Person | Reaction::Stop) =>
        {
            context.note(Step::Refresh, ASKED, Value::Null).await?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The calls of a refresh. Answers why the plan does not fit, before the application was touched.
async fn switch(
    session: &Session,
    asked: &Asked,
    on_kubernetes: bool,
    whether: Whether,
) -> Result<Option<Misfit>, Error> {
    let Asked { application, url, before, channel, .. } = asked;
    let origin = session.add_charm(url, &asked.origin).await?;
    let info = session.charm_info(url).await?;
    if on_kubernetes && session.charm_info(before).await?.meta.storage != info.meta.storage {
        let why = format!("{url} declares other storage than {before}, which Kubernetes does not allow");
        return Ok(Some(Misfit::Impossible(why)));
    }
    let changing = outstanding(session, asked, &origin, &info).await?;
    let is_image = |meta: &ResourceMeta| meta.kind == IMAGE;
    if whether == Whether::AnImageChanges
        && info.meta.resources.values().any(is_image)
        && !changing.iter().any(|resource| is_image(&resource.meta))
    {
        let found =
            format!("with {url} of {channel} {application} would keep its image, and with it the source's release");
        return Ok(Some(Misfit::Idle(found)));
    }
    let mut resource_ids = BTreeMap::new();
    let mut late = Vec::new();
    for resource in changing {
        match session.add_pending_resource(application, url, &origin, &resource).await {
            Ok(id) => drop(resource_ids.insert(resource.meta.name, id)),
            // 4.0 does not know yet what only the new charm declares.
            Err(error) if error.code() == Some(Code::NotFound) => late.push(resource),
            Err(error) => return Err(error),
        }
    }
    let risk = Channel::read(&asked.channel).map(|channel| channel.risk).unwrap_or_default();
    let charm_origin = origin.clone();
    session
        .set_charm(&SetCharm {
            application: application.clone(),
            charm_url: url.clone(),
            charm_origin,
            channel: risk,
            resource_ids,
            force_base: false,
        })
        .await?;
    for resource in late {
        session.add_pending_resource(application, url, &origin, &resource).await?;
    }
    Ok(None)
}

/// The resources that still are the old charm's.
async fn outstanding(
    session: &Session,
    asked: &Asked,
    origin: &CharmOrigin,
    info: &CharmInfo,
) -> Result<Vec<NewResource>, Error> {
    let now = session.resources(&asked.application).await?;
    let offered = session.offered_resources(&asked.url, origin).await?;
    Ok(resources_to_change(&info.meta, &now, &offered, &BTreeMap::new()))
}

/// How far the refresh is.
async fn look(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    asked: &Asked,
    shown: Shown,
) -> Result<Through, Stop> {
    let name = &asked.application;
    let status = conductor.status(login).await?;
    let Some(application) = status.applications.get(name) else {
        return Ok(conductor.cannot(format!("the application {name} is not in this model any more")));
    };
    if !same_charm(&application.charm, &asked.url) {
        let sent = noted::<String>(context, Step::Refresh, SENT).is_some();
        if sent || !same_charm(&application.charm, &asked.before) {
            log::warn!("{name} has {}, which is not what was asked for here", application.charm);
            context.note(Step::Refresh, ASKED, Value::Null).await?;
            return Ok(Through::Guided);
        }
        return send(context, conductor, login, asked, &status, Whether::Possible).await;
    }
    if noted::<String>(context, Step::Refresh, SENT).is_none() {
        // Whether the answer that did not come was a yes shows in what has changed.
        let session = conductor.session(login).await?;
        let whole = match &context.request.local {
            Some(local) => local::has_image(session, name, local).await?,
            None => {
                let info = session.charm_info(&asked.url).await?;
                let origin = session.charm_url_origin(name).await?.origin;
                Channel::read(&application.charm_channel) == Channel::read(&asked.channel)
                    && outstanding(session, asked, &origin, &info).await?.is_empty()
            }
        };
        if !whole {
            return send(context, conductor, login, asked, &status, Whether::Possible).await;
        }
        context.note(Step::Refresh, SENT, json!(asked.url)).await?;
    }
    settled(&status, asked, shown)
}

/// Every unit has run the new charm's hooks.
fn settled(status: &FullStatus, asked: &Asked, shown: Shown) -> Result<Through, Stop> {
    let name = &asked.application;
    let runs_hooks = !same_charm(&asked.before, &asked.url);
    let goal = RefreshGoal {
        application: name,
        charm_url: &asked.url,
        channel: None,
        asked_at: runs_hooks.then_some(asked.at),
        units: asked.units,
        workload_version: None,
        fine: &FINE,
    };
    let show = || format!("juju status {name}");
    Ok(match refreshed(status, &goal) {
        // A unit may rest on the old code for seconds: the new server, or none, is the proof.
        Settled::Yes if shown != Shown::No => Through::Done,
        Settled::Yes if has_lasted(status, asked, SHOWS_WITHIN) => Through::Person(
            format!(
                "{name} has {}, and still runs the source's release; to move the database only, run rollback, then refresh \
                 keep-release=true",
                asked.url
            ),
            show(),
        ),
        Settled::Yes => Through::AtWork(format!("{name} has {}; its server is still the old one", asked.url)),
        Settled::Stuck(why) => Through::Person(format!("the refresh to {} stands still: {why}", asked.url), show()),
        Settled::NotYet(why) if has_lasted(status, asked, SETTLES_WITHIN) => {
            let reason = format!("the refresh to {} has not settled for {SETTLES_WITHIN} s: {why}", asked.url);
            Through::Person(reason, show())
        }
        Settled::NotYet(why) => Through::AtWork(format!("{name} is being refreshed to {}: {why}", asked.url)),
    })
}

fn has_lasted(status: &FullStatus, asked: &Asked, limit: i64) -> bool {
    status.controller_timestamp.seconds_since(asked.at).is_some_and(|seconds| seconds > limit)
}

#[cfg(test)]
mod tests {
    use super::without_revision;

    #[test]
    fn a_url_without_its_revision() {
        assert_eq!(without_revision("ch:amd64/kratos-512"), "ch:amd64/kratos");
        assert_eq!(without_revision("ch:amd64/kratos-new-7"), "ch:amd64/kratos-new");
        assert_eq!(without_revision("ch:amd64/kratos"), "ch:amd64/kratos");
    }
}
