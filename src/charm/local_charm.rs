//! The target's charm as a file that the operator attached to the coordinator: asked for by the action that wants it, and
//! by a hook where it is gone meanwhile, since a pod that is replaced loses it. The worker finds it through a link.

use super::desk::{Desk, Reply};
use super::event::Context;
use super::parameters::Parameters;
use crate::controller::CharmArchive;
use crate::juju::{HookTools, Kind};
use crate::migration::{LocalCharm, State};
use crate::steps::local_charm::{file, unfit};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The resource that it is attached as.
pub const TARGET_CHARM: &str = "target-charm";

/// The charm that an action asks for, once it was looked at; or what to answer instead.
///
/// # Errors
/// A hook tool's that says nothing about the file.
pub fn asked(name: &str, parameters: &Parameters, desk: &Desk<'_>) -> anyhow::Result<Result<LocalCharm, Reply>> {
    let attach = format!("juju attach-resource {} {TARGET_CHARM}=<charm file>", desk.context.application);
    let refused = |found: String| {
        let next = format!("{attach}\n{}", desk.command(&parameters.again(name)));
        Ok(Err(Reply::refused(format!("cannot {name}: {found}; run {attach}, then this action again"), next)))
    };
    let path = match desk.tools.resource(TARGET_CHARM) {
        Ok(path) => path,
        Err(error) if error.kind == Kind::Outside => return Err(error.into()),
        Err(error) => return refused(format!("no charm is attached as {TARGET_CHARM} ({})", error.stderr)),
    };
    let opened = CharmArchive::open(&path).map_err(|why| why.to_string());
    let charm = opened.and_then(|charm| unfit(desk.gathered.applications.app, &charm).map_or(Ok(charm), Err));
    match charm {
        Ok(charm) => {
            link(&path, &file(&desk.context.charm_dir))?;
            Ok(Ok(LocalCharm { sha256: charm.sha256, image: parameters.text("image").to_owned() }))
        }
        Err(why) => refused(format!("what is attached as {TARGET_CHARM} will not do: {why}")),
    }
}

/// Has the file where the worker looks for it while a request wants it. One that is there stays: it is what was asked for.
pub fn keep(tools: &HookTools, context: &Context, state: &State) {
    let wanted = state.request.as_ref().is_some_and(|request| request.local.is_some());
    if wanted
        && !file(&context.charm_dir).exists()
        && let Err(error) = fetch(tools, context)
    {
        log::warn!("{error}");
    }
}

/// Asks the unit's agent for the newest file, and leads the worker there.
fn fetch(tools: &HookTools, context: &Context) -> anyhow::Result<()> {
    let path = tools.resource(TARGET_CHARM)?;
    Ok(link(&path, &file(&context.charm_dir))?)
}

fn link(path: &Path, at: &Path) -> io::Result<()> {
    let beside = at.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(path, &beside)?;
    std::fs::rename(beside, at)
}
