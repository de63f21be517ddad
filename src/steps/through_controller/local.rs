//! A refresh to the charm that the operator attached as a file, with an image of their own: what is looked at before
//! anything is sent, the upload, and the switch.
//!
//! Every upload makes a new revision, of the same file too, and a new revision runs hooks. So the charms that were there
//! before are noted first: after an answer that did not come, the one that is new is ours.

use super::super::context::Context;
use super::super::local_charm::unfit;
use super::asked::{ASKED, Asked, SENT};
use super::refresh::{IMAGE, Misfit, Whether, send};
use super::{Conductor, Shown, Stop, Through};
use crate::controller::{
    CharmArchive, CharmAt, Code, Error, FullStatus, Image, ModelLogin, Reaction, Session, SetCharm, Unpackable,
};
use crate::migration::{Failure, LocalCharm, Step};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DOING: &str = "refresh the target application";

/// Everything that can be seen before anything is sent, and then the refresh.
pub(super) async fn begin(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    (now, status, shown): (CharmAt, FullStatus, Shown),
    local: &LocalCharm,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    let charm = match open(context, local).await? {
        Ok(charm) => charm,
        Err(waits) => return Ok(waits),
    };
    let base = &now.origin.base;
    if !charm.bases.is_empty() && !charm.bases.iter().any(|runs_on| runs_on.is_like(base)) {
        let found =
            format!("the charm that was attached does not run on {} {}, on which {name} is", base.name, base.channel);
        return Err(Failure::operator(DOING, found, "attach one that was packed for that").into());
    }
    let session = conductor.session(login).await?;
    if has_image(session, &name, local).await? {
        if shown != Shown::No {
            return Ok(Through::Guided);
        }
        let found = format!("{name} has the image {} already, and with it the source's release", local.image);
        return Err(Failure::operator(DOING, found, "give the image= of a newer release").into());
    }
    let asked = Asked {
        application: name.clone(),
        before: now.url,
        url: String::new(),
        origin: now.origin.uploaded(0),
        channel: String::new(),
        wish: context.request.wish(),
        units: status.applications.get(&name).map_or(0, |application| application.units.len()),
        at: status.controller_timestamp,
        uploaded: session.uploaded_charms(&charm.name).await?,
    };
    context.note(Step::Refresh, SENT, Value::Null).await?;
    context.note(Step::Refresh, ASKED, json!(asked)).await?;
    send(context, conductor, login, &asked, &status, Whether::Possible).await
}

/// The file, as it was when the operator asked; or what is waited for.
async fn open(context: &Context<'_>, local: &LocalCharm) -> Result<Result<CharmArchive, Through>, Stop> {
    let path = context.charm_file.clone();
    let opened = tokio::task::spawn_blocking(move || CharmArchive::open(&path)).await;
    let opened = opened.map_err(|error| Failure::operator(DOING, error.to_string(), "run the action again"))?;
    let charm = match opened {
        Ok(charm) => charm,
        // A pod that was replaced: the next hook asks for the file again.
        Err(Unpackable::Unreadable(error)) => {
            let reason = format!("the charm that was attached is not at this unit yet ({error})");
            let next = context.command(&context.request.again(&context.request.action));
            return Ok(Err(Through::Person(reason, next)));
        }
        Err(error) => return Err(Failure::operator(DOING, replaced(&error.to_string()), AGAIN).into()),
    };
    if charm.sha256 != local.sha256 {
        return Err(Failure::operator(DOING, replaced("it is another file"), AGAIN).into());
    }
    match unfit(context.app(), &charm) {
        Some(why) => Err(Failure::operator(DOING, replaced(&why), AGAIN).into()),
        None => Ok(Ok(charm)),
    }
}

const AGAIN: &str = "run the action with local=true and image= again";

fn replaced(why: &str) -> String {
    format!("what is attached as target-charm now is not what was asked for: {why}")
}

/// The charm in the model: what became of an upload whose answer did not come, or a new one.
pub(super) async fn upload(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    (asked, local): (&Asked, &LocalCharm),
) -> Result<Result<Asked, Through>, Stop> {
    let session = conductor.session(login).await?;
    let found = came(session, context.app().name, asked).await?;
    let url = match found {
        Some(url) => url,
        None => {
            let charm = match open(context, local).await? {
                Ok(charm) => charm,
                Err(waits) => return Ok(Err(waits)),
            };
            context.progress.say(format!("the charm that was attached for {} is being uploaded", asked.application));
            match session.upload_charm(&charm).await {
                Ok(url) => url,
                Err(error) => {
                    // What was refused has changed nothing, so that a person may do something else instead.
                    if matches!(error, Error::Refused { .. })
                        && matches!(error.reaction(), Reaction::Person | Reaction::Stop)
                    {
                        context.note(Step::Refresh, ASKED, Value::Null).await?;
                    }
                    return Err(error.into());
                }
            }
        }
    };
    let revision = url.rsplit_once('-').and_then(|(_, revision)| revision.parse().ok()).unwrap_or_default();
    // Hooks that came while the file went are none of the refresh.
    let at = session.full_status().await?.controller_timestamp;
    let asked = Asked { origin: asked.origin.uploaded(revision), url, at, ..asked.clone() };
    context.note(Step::Refresh, ASKED, json!(asked)).await?;
    log::info!("uploaded {} ({})", asked.url, local.sha256);
    Ok(Ok(asked))
}

/// The one charm that was uploaded since the upload was noted: ours, if it is whole. Several are somebody else's, too.
async fn came(session: &Session, name: &str, asked: &Asked) -> Result<Option<String>, Error> {
    let mut new = session.uploaded_charms(name).await?;
    new.retain(|url| !asked.uploaded.contains(url));
    let [url] = &new[..] else { return Ok(None) };
    match session.charm_info(url).await {
        Ok(_) => Ok(Some(url.clone())),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The calls behind the upload; each may have been made before. Answers why the plan does not fit, before the application
/// was touched.
pub(super) async fn switch(
    session: &Session,
    asked: &Asked,
    local: &LocalCharm,
    on_kubernetes: bool,
) -> Result<Option<Misfit>, Error> {
    let Asked { application, url, before, origin, .. } = asked;
    let info = session.charm_info(url).await?;
    if on_kubernetes && session.charm_info(before).await?.meta.storage != info.meta.storage {
        let why = format!("{url} declares other storage than {before}, which Kubernetes does not allow");
        return Ok(Some(Misfit::Impossible(why)));
    }
    let mut resource_ids = BTreeMap::new();
    if let Some(meta) = info.meta.resources.values().find(|meta| meta.kind == IMAGE)
        && !has_image(session, application, local).await?
    {
        let id = session.upload_image(application, url, origin, meta, &Image::at(&local.image)).await?;
        resource_ids.insert(meta.name.clone(), id);
    }
    let switch = SetCharm {
        application: application.clone(),
        charm_url: url.clone(),
        charm_origin: origin.clone(),
        channel: String::new(),
        resource_ids,
        force_base: false,
    };
    session.set_charm(&switch).await.map(|()| None)
}

/// Whether the application has the image that was asked for.
pub(super) async fn has_image(session: &Session, application: &str, local: &LocalCharm) -> Result<bool, Error> {
    let fingerprint = Image::at(&local.image).fingerprint();
    let resources = session.resources(application).await?.resources;
    Ok(resources.iter().any(|resource| resource.kind == IMAGE && resource.fingerprint == fingerprint))
}
