//! Applications and units: deploy, configure, refresh, scale, remove.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::Model;
use crate::agent::{self, deploy};
use crate::charm::{CharmFiles, Role};
use crate::native::{NativeCharm, Published};
use crate::world::{Application, Code, End, Life, Relation, Status, Unit, UnitKey, World};

/// What to deploy.
pub enum Charm {
    /// A charm folder with `metadata.yaml` and an executable `dispatch`.
    Folder(PathBuf),
    Native(Box<dyn NativeCharm>),
    /// A native charm registered under this name.
    Known(String),
}

/// Makes a native charm; asked at `deploy` with the channel and revision.
pub type Factory = Box<dyn Fn(&DeployOptions) -> Result<Box<dyn NativeCharm>> + Send + Sync>;

/// How to deploy.
#[derive(Debug, Clone)]
pub struct DeployOptions {
    pub units: u32,
    pub channel: Option<String>,
    pub revision: Option<u64>,
    pub config: Vec<(String, String)>,
}

impl Default for DeployOptions {
    fn default() -> Self {
        DeployOptions { units: 1, channel: None, revision: None, config: Vec::new() }
    }
}

impl Model {
    /// Deploys one unit with default options.
    pub fn deploy(&self, charm: Charm, application: &str) -> Result<()> {
        self.deploy_with(charm, application, &DeployOptions::default())
    }

    pub fn deploy_with(&self, charm: Charm, application: &str, options: &DeployOptions) -> Result<()> {
        check_application_name(application)?;
        if self.shared.lock().model(&self.name).is_some_and(|model| {
            model.applications.contains_key(application) || model.consumed.contains_key(application)
        }) {
            bail!("cannot add application {application:?}: application already exists");
        }
        let (files, code) = match charm {
            Charm::Folder(folder) => self.store(&folder, application, 0)?,
            Charm::Native(charm) => (charm.files()?, Code::Native(Arc::new(Mutex::new(charm)))),
            Charm::Known(name) => {
                let factories = self.factories.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let charm = factories.get(&name).with_context(|| {
                    let known: Vec<&str> = factories.keys().map(String::as_str).collect();
                    format!("charm {name:?} not found; known here: {}", known.join(", "))
                })?(options)?;
                (charm.files()?, Code::Native(Arc::new(Mutex::new(charm))))
            }
        };
        let published = code.published();
        let deployed = match options.revision {
            Some(_) => Published::newest(&published, None, options.revision),
            None => published.first(),
        };
        let new = Application {
            charm: files,
            local: matches!(code, Code::Process(_)),
            code,
            charm_revision: options.revision.or(deployed.map(|it| it.revision)).unwrap_or(0),
            channel: options.channel.clone().or(deployed.map(|it| it.channel.clone())).unwrap_or_default(),
            image: deployed.map(|it| it.image),
            image_pending: false,
            uploaded_image: String::new(),
            attached: BTreeMap::new(),
            published,
            config: BTreeMap::new(),
            units: BTreeMap::new(),
            next_unit: 0,
            leader: None,
            status: None,
            workload_version: String::new(),
            dying: false,
            withheld: BTreeMap::new(),
        };
        let config: Vec<(&str, &str)> =
            options.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        {
            let mut world = self.shared.lock();
            world
                .models
                .get_mut(&self.name)
                .context("the model is gone")?
                .applications
                .insert(application.to_owned(), new);
            world.add_peer_relations(&self.name, application);
        }
        if !config.is_empty() {
            self.set_config(application, &config, false)?;
        }
        self.add_units(application, options.units)
    }

    /// Reads a charm folder and keeps a copy, as an upload does.
    pub(super) fn store(
        &self,
        folder: &std::path::Path,
        application: &str,
        revision: u64,
    ) -> Result<(CharmFiles, Code)> {
        use std::os::unix::fs::PermissionsExt;
        let files = CharmFiles::read(folder)?;
        let dispatch = std::fs::metadata(folder.join("dispatch"));
        if !dispatch.is_ok_and(|found| found.permissions().mode() & 0o111 != 0) {
            bail!("cannot deploy the charm in {}: no executable dispatch", folder.display());
        }
        let target =
            self.shared.lock().folder.join(&self.name).join("charms").join(format!("{application}-{revision}"));
        deploy::store_charm(folder, &target)?;
        Ok((files, Code::Process(target)))
    }

    pub fn add_units(&self, application: &str, count: u32) -> Result<()> {
        for _ in 0..count {
            let key = {
                let mut world = self.shared.lock();
                let interval = world.model(&self.name).context("the model is gone")?.update_status_interval;
                let known = world
                    .models
                    .get_mut(&self.name)
                    .and_then(|model| model.applications.get_mut(application))
                    .with_context(|| format!("application {application:?} not found"))?;
                let number = known.next_unit;
                known.next_unit += 1;
                known.units.insert(number, new_unit(interval, known.charm_revision));
                known.leader.get_or_insert(number);
                let key = UnitKey { model: self.name.clone(), application: application.to_owned(), number };
                deploy::make_tools(&world, &key)?;
                agent::configuration::write(&world, &key)?;
                key
            };
            agent::start(&self.shared, key)?;
        }
        self.shared.ring();
        Ok(())
    }

    /// Sets options from text, as `juju config` does.
    pub fn config(&self, application: &str, values: &[(&str, &str)]) -> Result<()> {
        self.set_config(application, values, true)
    }

    fn set_config(&self, application: &str, values: &[(&str, &str)], announce: bool) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world
            .models
            .get_mut(&self.name)
            .and_then(|model| model.applications.get_mut(application))
            .with_context(|| format!("application {application:?} not found"))?;
        let mut parsed = Vec::new();
        for (name, text) in values {
            let option = known.charm.options.get(*name).with_context(|| format!("unknown option {name:?}"))?;
            parsed.push(((*name).to_owned(), option.parse(name, text)?));
        }
        let before = known.config.clone();
        known.config.extend(parsed);
        if announce && known.config != before {
            known.announce_config();
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Puts options back to their defaults.
    pub fn reset_config(&self, application: &str, names: &[&str]) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world
            .models
            .get_mut(&self.name)
            .and_then(|model| model.applications.get_mut(application))
            .with_context(|| format!("application {application:?} not found"))?;
        for name in names {
            known.config.remove(*name);
        }
        known.announce_config();
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Makes update-status due now.
    pub fn update_status(&self, unit: &str) -> Result<()> {
        let key = self.key(unit)?;
        if let Some(unit) = self.shared.lock().unit_mut(&key) {
            unit.next_update_status = Instant::now();
        }
        self.shared.ring();
        Ok(())
    }

    /// `update-status-hook-interval`, from the next tick on.
    pub fn set_update_status_interval(&self, interval: Duration) {
        let mut world = self.shared.lock();
        if let Some(model) = world.models.get_mut(&self.name) {
            model.update_status_interval = interval;
            for unit in model.applications.values_mut().flat_map(|application| application.units.values_mut()) {
                unit.next_update_status = Instant::now() + interval;
            }
        }
        drop(world);
        self.shared.ring();
    }
}

fn check_application_name(name: &str) -> Result<()> {
    let valid = name.split('-').enumerate().all(|(place, part)| {
        let characters = part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let letter = part.chars().any(|c| c.is_ascii_lowercase());
        characters && letter && (place > 0 || part.starts_with(|c: char| c.is_ascii_lowercase()))
    });
    if !valid {
        bail!("invalid application name {name:?}");
    }
    Ok(())
}

fn new_unit(interval: Duration, charm_revision: u64) -> Unit {
    Unit {
        life: Life::Alive,
        installed: false,
        started: false,
        leader_elected: false,
        upgrade_pending: false,
        stopped: false,
        config_changed: 0,
        config_repeats: false,
        charm_revision,
        workload: Status::new("waiting", "installing agent"),
        charm_set_status: false,
        agent: Status::new("allocating", ""),
        state: BTreeMap::new(),
        ports: Default::default(),
        relations: BTreeMap::new(),
        secret_events: Default::default(),
        pending: None,
        failed: None,
        execute: Default::default(),
        running: None,
        next_update_status: Instant::now() + interval,
        events: Vec::new(),
    }
}

impl Application {
    /// One change of configuration gives two config-changed hooks to a unit
    /// that is idle; a busy one sees a single hook.
    fn announce_config(&mut self) {
        for unit in self.units.values_mut().filter(|unit| unit.started) {
            unit.config_changed = if unit.running.is_none() { 2 } else { 1 };
            unit.config_repeats = false;
        }
    }
}

impl World {
    fn add_peer_relations(&mut self, model: &str, application: &str) {
        let Some(state) = self.models.get(model) else { return };
        let Some(known) = state.applications.get(application) else { return };
        let peers = known.charm.endpoints.iter().filter(|(_, declared)| declared.role == Role::Peer);
        let peers: Vec<_> = peers.map(|(name, declared)| (name.clone(), declared.clone())).collect();
        for (endpoint, declared) in peers {
            let id = self.take_relation_number(model);
            let end = End {
                model: model.to_owned(),
                application: application.to_owned(),
                endpoint,
                declared,
                id,
                seen_as: application.to_owned(),
                application_bag: Default::default(),
                units: BTreeMap::new(),
            };
            self.insert_relation(Relation {
                ends: vec![end],
                since: SystemTime::now(),
                dying: false,
                offering_end: None,
            });
        }
    }
}
