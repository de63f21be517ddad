//! A unit's charm folder and tools folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, Result};
use peers::places::copy_program;

use crate::event::Event;
use crate::tools;
use crate::world::{Code, Shared, UnitKey, World};

/// Puts the charm in place before install and upgrade-charm; the first unit to get there restarts the pods with a new
/// image.
pub(crate) fn prepare(shared: &Arc<Shared>, key: &UnitKey, event: &Event) -> Result<()> {
    if !matches!(event, Event::Install | Event::UpgradeCharm) {
        return Ok(());
    }
    let (code, target, image) = {
        let mut world = shared.lock();
        let target = world.charm_folder(key);
        let application = world.application_mut(key).context("the application is gone")?;
        let (code, revision) = (application.code.clone(), application.charm_revision);
        let image = application.image.filter(|_| std::mem::take(&mut application.image_pending));
        if let Some(unit) = application.units.get_mut(&key.number) {
            unit.charm_revision = revision;
        }
        (code, target, image)
    };
    match (code, image) {
        (Code::Process(source), _) => install_charm(&source, &target),
        (Code::Native(charm), Some(image)) => charm.lock().unwrap_or_else(PoisonError::into_inner).use_image(image),
        (Code::Native(_), None) => Ok(()),
    }
}

/// Unlinks and recreates the charm's files, so that a running old binary
/// lives on; drops files of the old charm that the new one lacks; keeps files
/// that no charm brought.
fn install_charm(source: &Path, target: &Path) -> Result<()> {
    let manifest = target.with_file_name("charm-files");
    let old: BTreeSet<String> = fs::read_to_string(&manifest).unwrap_or_default().lines().map(str::to_owned).collect();
    let mut new = BTreeSet::new();
    copy_folder(source, target, Path::new(""), &mut new)?;
    for gone in old.difference(&new) {
        fs::remove_file(target.join(gone)).with_context(|| format!("cannot remove {gone}"))?;
    }
    let lines: Vec<&str> = new.iter().map(String::as_str).collect();
    fs::write(manifest, lines.join("\n"))?;
    Ok(())
}

fn copy_folder(source: &Path, target: &Path, below: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    let folder = target.join(below);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for entry in fs::read_dir(source.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(source, target, &path, files)?;
            continue;
        }
        let to = target.join(&path);
        if to.exists() {
            fs::remove_file(&to)?;
        }
        copy_program(&entry.path(), &to)?;
        files.insert(path.display().to_string());
    }
    Ok(())
}

/// Copies a charm folder as a controller stores an uploaded charm.
pub(crate) fn store_charm(source: &Path, target: &Path) -> Result<()> {
    copy_folder(source, target, Path::new(""), &mut BTreeSet::new())
}

/// Makes the tools folder: one executable under every tool's name.
pub(crate) fn make_tools(world: &World, key: &UnitKey) -> Result<()> {
    let folder = world.tools_folder(key);
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(world.agent_folder(key))?;
    let first = folder.join("juju-exec");
    copy_program(&world.hook_tool, &first)?;
    for name in tools::NAMES {
        fs::hard_link(&first, folder.join(name)).with_context(|| format!("cannot make the hook tool {name}"))?;
    }
    Ok(())
}

/// Takes a removed unit out of the model.
pub(crate) fn bury(world: &mut World, key: &UnitKey) {
    let known: Vec<u64> = world.unit(key).map(|unit| unit.relations.keys().copied().collect()).unwrap_or_default();
    for id in known {
        super::run::leave(world, key, id);
    }
    // The folder of a real removed unit goes too, under a process that a
    // charm may have left behind.
    let _already_gone = fs::remove_dir_all(world.agent_folder(key));
    let _already_gone = fs::remove_dir_all(world.tools_folder(key));
    let Some(application) = world.application_mut(key) else { return };
    application.units.remove(&key.number);
    if application.leader == Some(key.number) {
        application.leader = application.units.keys().next().copied();
    }
    if application.dying && application.units.is_empty() {
        world.remove_application(&key.model, &key.application);
    }
}
