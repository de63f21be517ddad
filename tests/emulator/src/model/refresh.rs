//! An application goes to another revision of its charm: all at once, as `juju refresh` asks for, or charm and image
//! apart, as the controller's API is asked.

use std::path::Path;
use std::sync::PoisonError;

use anyhow::{Context as _, Result, bail};

use super::Model;
use crate::native::Published;
use crate::world::{Application, Code, World};

impl Model {
    /// The application's charm is one that was uploaded from now on (`juju refresh --path`): what Charmhub has under this
    /// revision. Native charms only.
    pub fn upload(&self, application: &str, revision: u64) -> Result<()> {
        self.upload_as(application, revision, revision)
    }

    /// The same under a number of its own, as a controller counts what is uploaded.
    pub fn upload_as(&self, application: &str, revision: u64, number: u64) -> Result<()> {
        self.refresh_to(application, None, (None, Some(revision)), Some(number), Some(true))
    }

    /// Charmhub's charm instead of the one that was uploaded (`juju refresh --switch`).
    pub fn switch(&self, application: &str, charm: &str, channel: Option<&str>) -> Result<()> {
        let known = self.shared.lock().application_of(&self.name, application)?.charm.name.clone();
        if charm.trim_start_matches("ch:") != known {
            bail!("cannot refresh {application:?}: it is {known}, and {charm} is not");
        }
        self.refresh_to(application, None, (channel, None), None, Some(false))
    }

    /// Refreshes a charm: from a folder for charm processes, by channel and
    /// revision for native ones.
    pub fn refresh(
        &self,
        application: &str,
        folder: Option<&Path>,
        channel: Option<&str>,
        revision: Option<u64>,
    ) -> Result<()> {
        self.refresh_to(application, folder, (channel, revision), None, None)
    }

    /// The same, under another number perhaps, and the charm becomes a local one, or one of Charmhub.
    fn refresh_to(
        &self,
        application: &str,
        folder: Option<&Path>,
        (channel, revision): (Option<&str>, Option<u64>),
        number: Option<u64>,
        becomes_local: Option<bool>,
    ) -> Result<()> {
        let (code, local, current, published) = {
            let world = self.shared.lock();
            let known = world.model(&self.name).and_then(|model| model.applications.get(application));
            let known = known.with_context(|| format!("application {application:?} not found"))?;
            (known.code.clone(), known.local, known.charm_revision, known.published.clone())
        };
        let chosen = Published::newest(&published, channel, revision);
        let next = number.or(revision).or(chosen.map(|chosen| chosen.revision)).unwrap_or(current + 1);
        let (files, code) = match (code, folder) {
            (Code::Process(_), Some(folder)) => self.store(folder, application, next)?,
            (_, None) if local && becomes_local.is_none() => {
                bail!("refreshing a local charm requires either --path or --switch")
            }
            (Code::Process(_), None) => bail!("cannot refresh {application:?}: it has no other charm"),
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
        known.local = becomes_local.unwrap_or(local);
        known.image = chosen.map(|chosen| chosen.image).or(known.image);
        known.uploaded_image.clear();
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
        let other = known.charm_revision != revision;
        if known.local && other {
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

    /// The same with a charm that was uploaded; its image, too, where it comes at the same moment.
    pub(crate) fn set_local_charm(&self, application: &str, revision: u64, image: Option<UploadedImage>) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world.application_of(&self.name, application)?;
        let other = !known.local || known.charm_revision != revision;
        if let Some(image) = image {
            known.take_upload(image);
        }
        known.local = true;
        known.charm_revision = revision;
        known.channel.clear();
        if other {
            known.announce_upgrade();
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// The application has an image that was uploaded; its pods restart with the next charm.
    pub(crate) fn take_upload(&self, application: &str, image: UploadedImage) -> Result<()> {
        self.shared.lock().application_of(&self.name, application)?.take_upload(image);
        Ok(())
    }

    /// The image of the store that is the same as what lies at a place of a registry.
    pub(crate) fn image_at(&self, application: &str, reference: &str) -> Result<u64> {
        let code = self.shared.lock().application_of(&self.name, application)?.code.clone();
        let Code::Native(charm) = code else { bail!("cannot use the image {reference}: the charm has none") };
        let charm = charm.lock().unwrap_or_else(PoisonError::into_inner);
        charm.image_at(reference).with_context(|| format!("cannot pull {reference}"))
    }

    /// An operator gives a file for one of the charm's resources (`juju attach-resource`).
    pub fn attach_resource(&self, application: &str, name: &str, content: Vec<u8>) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world.application_of(&self.name, application)?;
        if known.charm.file_of(name).is_none() {
            bail!("cannot attach {name:?} to {application:?}: charm resource {name:?} not found");
        }
        known.attached.insert(name.to_owned(), content);
        known.announce_upgrade();
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

/// An image that was uploaded: what it says, and the image of the store that it is.
pub(crate) struct UploadedImage {
    pub image: u64,
    pub content: String,
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
        self.uploaded_image.clear();
        Ok(true)
    }

    fn take_upload(&mut self, UploadedImage { image, content }: UploadedImage) {
        self.image = Some(image);
        self.image_pending = true;
        self.uploaded_image = content;
    }

    fn announce_upgrade(&mut self) {
        for unit in self.units.values_mut().filter(|unit| unit.installed) {
            unit.upgrade_pending = true;
        }
    }
}
