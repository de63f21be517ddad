//! deploy, refresh, config, scale, relations, offers and secrets.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Call;
use super::arguments::{borrowed, duration};
use crate::model::{Charm, DeployOptions};

impl Call<'_> {
    pub(super) fn deploy(&mut self) -> Result<i32> {
        let charm = self.argument(0, "charm")?;
        let options = DeployOptions {
            units: self.arguments.number("num-units")?.unwrap_or(1),
            channel: self.arguments.value("channel").map(str::to_owned),
            revision: self.arguments.number("revision")?,
            config: self
                .arguments
                .values("config")
                .into_iter()
                .map(|pair| {
                    let (key, value) = pair.split_once('=').context("--config takes key=value here")?;
                    Ok((key.to_owned(), value.to_owned()))
                })
                .collect::<Result<_>>()?,
        };
        let name = charm_name(&charm);
        let application = self.arguments.words().get(1).cloned().unwrap_or_else(|| name.clone());
        let (source, found) = self.find_charm(&charm, &name)?;
        self.model.deploy_with(found, &application, &options)?;
        self.out(&format!("Deploying \"{application}\" from {source}\n"))?;
        Ok(0)
    }

    /// A folder, an unpacked charm archive, or a charm known by name.
    fn find_charm(&self, given: &str, name: &str) -> Result<(String, Charm)> {
        let path = self.folder.join(given);
        if path.is_dir() && given.contains(['/', '.']) {
            return Ok((format!("local charm {given}"), Charm::Folder(path)));
        }
        if path.is_file() {
            return Ok((format!("local charm {given}"), Charm::Folder(self.controller.unpack(&path)?)));
        }
        if let Some(folder) = self.controller.known_folder(name) {
            return Ok((format!("charm \"{name}\", built here"), Charm::Folder(folder)));
        }
        if given.contains('/') {
            bail!("no charm was found at {given:?}");
        }
        Ok((format!("charm \"{name}\", played by the emulator"), Charm::Known(name.to_owned())))
    }

    pub(super) fn refresh(&mut self) -> Result<i32> {
        let application = self.argument(0, "application")?;
        let folder = match self.arguments.value("path") {
            Some(path) => {
                let (_, charm) = self.find_charm(path, &charm_name(path))?;
                match charm {
                    Charm::Folder(folder) => Some(folder),
                    _ => bail!("no charm was found at {path:?}"),
                }
            }
            None => None,
        };
        let channel = self.arguments.value("channel").map(str::to_owned);
        let revision = self.arguments.number("revision")?;
        match self.arguments.value("switch") {
            Some(_) if folder.is_some() => bail!("--switch and --path are mutually exclusive"),
            Some(_) if revision.is_some() => bail!("--switch and --revision are mutually exclusive"),
            Some(charm) => self.model.switch(&application, charm, channel.as_deref())?,
            None => self.model.refresh(&application, folder.as_deref(), channel.as_deref(), revision)?,
        }
        self.out(&format!("Added charm to the model; \"{application}\" is being refreshed\n"))?;
        Ok(0)
    }

    /// `juju attach-resource APPLICATION NAME=FILE`.
    pub(super) fn attach_resource(&mut self) -> Result<i32> {
        let application = self.argument(0, "application name")?;
        let given = self.argument(1, "resource name")?;
        let (name, path) = given.split_once('=').context("expected name=path format for resource")?;
        let path = self.folder.join(path);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.model.attach_resource(&application, name, content)?;
        Ok(0)
    }

    pub(super) fn config(&mut self) -> Result<i32> {
        let application = self.argument(0, "application name")?;
        let resets = self.arguments.values("reset");
        if !resets.is_empty() {
            let names: Vec<&str> = resets.iter().flat_map(|list| list.split(',')).collect();
            self.model.reset_config(&application, &names)?;
        }
        let words = &self.arguments.words()[1..];
        if let [key] = words
            && !key.contains('=')
        {
            let options = self.model.options(&application)?;
            let value =
                options.get(key).with_context(|| format!("key {key:?} not found in {application:?} settings"))?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.out(&format!("{}\n", if value.is_null() { String::new() } else { text }))?;
            return Ok(0);
        }
        if words.is_empty() && resets.is_empty() {
            for (name, value) in self.model.options(&application)? {
                self.out(&format!("{name}: {value}\n"))?;
            }
            return Ok(0);
        }
        let pairs = self.arguments.pairs(1)?;
        self.model.config(&application, &borrowed(&pairs))?;
        Ok(0)
    }

    pub(super) fn model_config(&mut self) -> Result<i32> {
        for (key, value) in self.arguments.pairs(0)? {
            match key.as_str() {
                // Shorter than Juju's minute, for people who wait.
                "update-status-hook-interval" => self.model.set_update_status_interval(duration(&value)?),
                other => bail!("the emulator does not play the model option {other:?}"),
            }
        }
        Ok(0)
    }

    pub(super) fn add_unit(&mut self) -> Result<i32> {
        let application = self.argument(0, "application")?;
        let count = self.arguments.number("num-units")?.unwrap_or(1);
        self.model.add_units(&application, count)?;
        Ok(0)
    }

    pub(super) fn remove_unit(&mut self) -> Result<i32> {
        for unit in self.arguments.words().to_vec() {
            self.model.remove_unit(&unit)?;
            self.out(&format!("will remove unit {unit}\n"))?;
        }
        Ok(0)
    }

    pub(super) fn remove_application(&mut self) -> Result<i32> {
        for application in self.arguments.words().to_vec() {
            self.model.remove_application(&application)?;
            self.out(&format!("will remove application {application}\n"))?;
        }
        Ok(0)
    }

    pub(super) fn resolved(&mut self) -> Result<i32> {
        for unit in self.arguments.words().to_vec() {
            self.model.resolved(&unit, !self.arguments.is_set("no-retry"))?;
        }
        Ok(0)
    }

    pub(super) fn integrate(&mut self) -> Result<i32> {
        let (first, second) = (self.argument(0, "application")?, self.argument(1, "second application")?);
        self.model.integrate(&first, &second)?;
        Ok(0)
    }

    pub(super) fn remove_relation(&mut self) -> Result<i32> {
        let first = self.argument(0, "application")?;
        if let Ok(number) = first.parse() {
            self.model.remove_relation_number(number)?;
            return Ok(0);
        }
        let second = self.argument(1, "second application")?;
        self.model.remove_relation(&first, &second)?;
        Ok(0)
    }

    /// `juju offer [MODEL.]APPLICATION:ENDPOINT[,ENDPOINT] [NAME]`.
    pub(super) fn offer(&mut self) -> Result<i32> {
        let given = self.argument(0, "offer")?;
        let (application, endpoints) =
            given.split_once(':').context("an offer names its endpoints: application:endpoint")?;
        let (model, application) = match application.split_once('.') {
            Some((model, application)) => (self.controller.model(model)?, application),
            None => (self.model.clone(), application),
        };
        let endpoints: Vec<&str> = endpoints.split(',').collect();
        let name = self.arguments.words().get(1).map(String::as_str);
        let address = model.offer(application, &endpoints, name)?;
        self.out(&format!("Application \"{application}\" endpoints {endpoints:?} available at \"{address}\"\n"))?;
        Ok(0)
    }

    pub(super) fn consume(&mut self) -> Result<i32> {
        let address = self.argument(0, "remote offer")?;
        let name = self.arguments.words().get(1).map(String::as_str);
        let name = self.model.consume(&address, name)?;
        self.out(&format!("Added {address} as {name}\n"))?;
        Ok(0)
    }

    pub(super) fn add_secret(&mut self) -> Result<i32> {
        let name = self.argument(0, "secret name")?;
        let content = self.secret_content()?;
        let uri = self.model.add_secret(&name, &borrowed(&content))?;
        self.out(&format!("{uri}\n"))?;
        Ok(0)
    }

    pub(super) fn update_secret(&mut self) -> Result<i32> {
        let name = self.argument(0, "secret")?;
        let content = self.secret_content()?;
        self.model.update_secret(&name, &borrowed(&content))?;
        Ok(0)
    }

    /// `key=value`, or `key#file=path`.
    fn secret_content(&self) -> Result<Vec<(String, String)>> {
        let read = |(key, value): (String, String)| match key.strip_suffix("#file") {
            Some(key) => {
                let path = self.folder.join(&value);
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                Ok((key.to_owned(), text))
            }
            None => Ok((key, value)),
        };
        self.arguments.pairs(1)?.into_iter().map(read).collect()
    }

    pub(super) fn grant_secret(&mut self, grant: bool) -> Result<i32> {
        let (secret, applications) = (self.argument(0, "secret")?, self.argument(1, "application")?);
        for application in applications.split(',') {
            if grant {
                self.model.grant_secret(&secret, application)?;
            } else {
                self.model.revoke_secret(&secret, application)?;
            }
        }
        Ok(0)
    }

    pub(super) fn secrets(&mut self) -> Result<i32> {
        let mut rows = vec![["ID", "Name", "Owner", "Revision"].map(str::to_owned).to_vec()];
        rows.extend(self.model.secret_rows());
        self.out(&super::status::table(&rows))?;
        Ok(0)
    }
}

/// The charm's name in `name`, `./name.charm` or `some/name_amd64.charm`.
fn charm_name(given: &str) -> String {
    let name = Path::new(given).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".charm").unwrap_or(&name);
    name.split('_').next().unwrap_or(name).to_owned()
}
