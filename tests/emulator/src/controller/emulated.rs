//! A model of the emulator, as the facades of a controller need it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use controller_peer::Charm;
use controller_peer::model::{self as api, Change, Release, Remote, Resource};
use serde_json::Value;

use super::shown;
use crate::model::{Model, UploadedImage};

/// A model, and the charms of Charmhub that were added to it and that nobody may have yet.
pub struct Emulated {
    model: Model,
    added: Vec<Charm>,
}

impl Emulated {
    pub(super) fn new(model: Model) -> Self {
        Emulated { model, added: Vec::new() }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// What is shown of the model as it is now; of one that is gone, nothing.
    fn look<T: Default>(&self, show: impl FnOnce(&shown::View<'_>) -> T) -> T {
        let world = self.model.shared.lock();
        let state = world.model(self.model.name());
        state.map(|state| show(&shown::View { world: &world, name: self.model.name(), state })).unwrap_or_default()
    }

    fn relate(&self, ends: &[api::End; 2]) -> Result<u64> {
        let [one, other] = ends.each_ref().map(|end| format!("{}:{}", end.application, end.endpoint));
        self.model.integrate(&one, &other)
    }

    fn set_options(&self, application: &str, options: &BTreeMap<String, Value>) -> Result<u64> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let texts: Vec<(&str, String)> = options.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let pairs: Vec<(&str, &str)> = texts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.model.config(application, &pairs).map(|()| 0)
    }
}

/// What was uploaded for an application's image.
fn uploaded(model: &Model, application: &str, resource: &Resource) -> Result<UploadedImage> {
    let reference = resource.registry_path().context("the image has no place in a registry")?;
    Ok(UploadedImage { image: model.image_at(application, &reference)?, content: resource.content.clone() })
}

/// The revision of the image, the only resource that charms have here.
fn image(resource: &Resource) -> Result<u64> {
    if resource.name != shown::IMAGE {
        bail!("cannot use the resource {:?}: only {:?} is played", resource.name, shown::IMAGE);
    }
    Ok(u64::try_from(resource.revision)?)
}

impl api::Model for Emulated {
    fn name(&self) -> String {
        self.model.name().to_owned()
    }

    fn uuid(&self) -> String {
        self.model.uuid()
    }

    /// The identity applications are Kubernetes charms.
    fn kind(&self) -> String {
        "caas".to_owned()
    }

    fn applications(&self) -> BTreeMap<String, api::Application> {
        self.look(shown::applications)
    }

    fn remotes(&self) -> BTreeMap<String, Remote> {
        self.look(shown::remotes)
    }

    fn relations(&self) -> Vec<api::Relation> {
        self.look(shown::relations)
    }

    fn tasks(&self) -> Vec<api::Task> {
        self.look(shown::tasks)
    }

    fn charms(&self) -> Vec<Charm> {
        let mut charms = self.look(shown::charms);
        charms.extend(self.added.iter().cloned());
        charms
    }

    fn releases(&self) -> Vec<Release> {
        self.look(shown::releases)
    }

    fn apply(&mut self, change: Change) -> Result<u64> {
        let model = &self.model;
        match change {
            Change::AddCharm(charm) => {
                self.added.push(charm);
                Ok(0)
            }
            Change::SetCharm { application, url, channel, resources, .. } => {
                let number = url.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
                let revision = number.with_context(|| format!("charm URL {url:?} has no revision"))?;
                if url.starts_with("local:") {
                    let images = resources.iter().map(|resource| uploaded(model, &application, resource));
                    let image = images.collect::<Result<Vec<_>>>()?.into_iter().next();
                    return model.set_local_charm(&application, revision, image).map(|()| 0);
                }
                let images = resources.iter().map(image).collect::<Result<Vec<u64>>>()?;
                model.set_charm(&application, revision, &channel, images.first().copied()).map(|()| 0)
            }
            Change::SetOptions { application, options } => self.set_options(&application, &options),
            Change::UseResource { application, resource } if resource.origin == "upload" => {
                model.take_upload(&application, uploaded(model, &application, &resource)?).map(|()| 0)
            }
            Change::UseResource { application, resource } => {
                model.set_image(&application, image(&resource)?).map(|()| 0)
            }
            Change::Relate { ends, .. } => self.relate(&ends),
            Change::Separate { relation } => model.remove_relation_number(u64::try_from(relation)?).map(|()| 0),
            Change::Enqueue { unit: None, .. } => model.take_operation(),
            Change::Enqueue { unit: Some((application, unit)), action, parameters } => {
                let task = model.enqueue_typed(&format!("{application}/{unit}"), &action, parameters)?;
                Ok(model.task(task).context("the task is gone")?.operation)
            }
            Change::Cancel { task } => model.cancel_task(task).map(|()| 0),
        }
    }
}
