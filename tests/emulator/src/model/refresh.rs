//! An application goes to another revision of its charm: all at once, as `juju refresh` asks for, or charm and image
//! apart, as the controller's API is asked.

use std::path::Path;
use std::sync::PoisonError;

use anyhow::{Context as _, Result, bail};

use super::Model;
use crate::native::Published;
use crate::world::{Application, Code, World};

impl Model {
    /// Refreshes a charm: from a folder for charm processes, by channel and
    /// revision for native ones.
    pub fn refresh(
        &self,
        application: &str,
        folder: Option<&Path>,
        channel: Option<&str>,
        revision: Option<u64>,
    ) -> Result<()> {
        let (code, current, published) = {
            let world = self.shared.lock();
            let known = world.model(&self.name).and_then(|model| model.applications.get(application));
            let known = known.with_context(|| format!("application {application:?} not found"))?;
            (known.code.clone(), known.charm_revision, known.published.clone())
        };
        let chosen = Published::newest(&published, channel, revision);
        let next = revision.or(chosen.map(|chosen| chosen.revision)).unwrap_or(current + 1);
        let (files, code) = match (code, folder) {
            (Code::Process(_), Some(folder)) => self.store(folder, application, next)?,
            (Code::Process(_), None) => bail!("cannot refresh {application:?}: it is a local charm; give --path"),
            (Code::Native(_), Some(_)) => {
                bail!("cannot refresh {application:?} from a folder: it is a charm of the store")
            }
            (Code::Native(charm), None) => {
                let mut inside = charm.lock().unwrap_or_else(PoisonError::into_inner);
                inside.refresh(channel, revision)?;
                let files = inside.files()?;
                drop(inside);
                (files, Code::Native(charm))
            }
        };
        let mut world = self.shared.lock();
        world.check_limits(&self.name, application, &files)?;
        let known = world.application_of(&self.name, application)?;
        known.charm = files;
        known.code = code;
        known.charm_revision = next;
        known.image = chosen.map(|chosen| chosen.image).or(known.image);
        // It runs already.
        known.image_pending = false;
        if let Some(channel) = channel {
            known.channel = channel.to_owned();
        }
        known.announce_upgrade();
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// The application has this revision of its charm from now on, with an image that comes at the same moment, if any
    /// does; units follow. The revision that it has already changes the channel only.
    pub(crate) fn set_charm(&self, application: &str, revision: u64, channel: &str, image: Option<u64>) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world.application_of(&self.name, application)?;
        let (process, other) = (matches!(known.code, Code::Process(_)), known.charm_revision != revision);
        if process && other {
            bail!("cannot refresh {application:?}: nobody has uploaded revision {revision} of its charm");
        }
        let restarts = known.set_image(image)?;
        known.charm_revision = revision;
        channel.clone_into(&mut known.channel);
        if other || restarts {
            known.announce_upgrade();
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// The application's pods restart with another image, under the charm that it has.
    pub(crate) fn set_image(&self, application: &str, image: u64) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world.application_of(&self.name, application)?;
        if known.set_image(Some(image))? {
            known.announce_upgrade();
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }
}

impl World {
    pub(super) fn application_of(&mut self, model: &str, application: &str) -> Result<&mut Application> {
        let found = self.models.get_mut(model).and_then(|model| model.applications.get_mut(application));
        found.with_context(|| format!("application {application:?} not found"))
    }
}

impl Application {
    /// True when it is another one than before.
    fn set_image(&mut self, image: Option<u64>) -> Result<bool> {
        let Some(image) = image.filter(|image| Some(*image) != self.image) else { return Ok(false) };
        if self.published.iter().all(|published| published.image != image) {
            bail!("cannot find the image {image} of {} in the store", self.charm.name);
        }
        self.image = Some(image);
        self.image_pending = true;
        Ok(true)
    }

    fn announce_upgrade(&mut self) {
        for unit in self.units.values_mut().filter(|unit| unit.installed) {
            unit.upgrade_pending = true;
        }
    }
}
