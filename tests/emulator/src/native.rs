//! Neighbouring charms written in Rust: they live in the same world and under
//! the same rules as a charm process.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::context::Refusal;
use crate::event::Event;
use crate::session::{Bag, ContentChange, Session};
use crate::world::{ExecuteResult, Shared};

/// A revision of a charm that Charmhub has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub revision: u64,
    /// Where it was released, such as `0.4/stable`.
    pub channel: String,
    /// Its image's revision in the store.
    pub image: u64,
}

impl Published {
    /// The newest of those that a refresh can mean.
    pub(crate) fn newest<'a>(all: &'a [Self], channel: Option<&str>, revision: Option<u64>) -> Option<&'a Self> {
        let matching = all.iter().filter(|published| {
            channel.is_none_or(|channel| published.channel == channel)
                && revision.is_none_or(|revision| published.revision == revision)
        });
        matching.max_by_key(|published| published.revision)
    }
}

/// A charm without a process. One value serves all units of its application,
/// one call at a time.
pub trait NativeCharm: Send {
    /// What the charm declares; asked once, when it is deployed.
    fn files(&self) -> Result<CharmFiles>;

    /// What Charmhub has of it, the revision that is deployed first; asked once, when it is deployed.
    fn published(&self) -> Vec<Published> {
        Vec::new()
    }

    /// Runs a hook. An error is a failed hook: writes are dropped, the unit
    /// goes into error, and the same event comes again.
    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()>;

    /// Runs an action with validated parameters and defaults filled in.
    /// An error drops the writes and fails the task with the error's text;
    /// [`UnitContext::action_fail`] and `Ok` fails it and keeps the writes.
    fn action(&mut self, name: &str, parameters: &Map<String, Value>, context: &mut UnitContext) -> Result<()>;

    /// A command line typed into a shell of one of its units (`juju ssh`): exit code, output and errors.
    fn shell(&self, command: &str) -> Result<ExecuteResult> {
        Err(anyhow!("no shell is played here for {command:?}"))
    }

    /// New code arrived (`juju refresh`), with its image; upgrade-charm and config-changed
    /// follow as events.
    fn refresh(&mut self, channel: Option<&str>, revision: Option<u64>) -> Result<()>;

    /// The image of the store that is the same as what lies at a place of a registry.
    fn image_at(&self, _: &str) -> Option<u64> {
        None
    }

    /// Another image of the store: the pods restart with it, whatever the charm's revision.
    fn use_image(&mut self, image: u64) -> Result<()> {
        Err(anyhow!("cannot use the image {image}: this charm has none"))
    }
}

/// Which relation, in the answers of [`UnitContext::relations`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationView {
    /// `<endpoint>:<number>`.
    pub id: String,
    pub remote_application: String,
    /// Units that have joined.
    pub units: Vec<String>,
    /// The relation is being removed. A real charm does not see that; it is told by departed and broken.
    pub dying: bool,
}

/// The hook tools, for a native charm during one hook or action.
pub struct UnitContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) context_id: String,
    pub(crate) unit: String,
    pub(crate) application: String,
    pub(crate) model: String,
}

impl UnitContext {
    /// Runs one tool under the lock, with this context taken out of the world.
    fn with<T>(&self, act: impl FnOnce(&mut Session<'_>) -> Result<T, Refusal>) -> Result<T> {
        let mut world = self.shared.lock();
        let mut context = world
            .contexts
            .remove(&self.context_id)
            .ok_or_else(|| anyhow!("the context {} has ended", self.context_id))?;
        let answer = act(&mut Session { world: &mut world, context: &mut context });
        world.contexts.insert(self.context_id.clone(), context);
        drop(world);
        self.shared.ring();
        Ok(answer?)
    }

    /// `<application>/<number>`.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    pub fn application(&self) -> &str {
        &self.application
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    pub fn model_uuid(&self) -> Result<String> {
        self.with(|session| {
            Ok(session.world.model(&session.context.key.model).map(|model| model.uuid.clone()).unwrap_or_default())
        })
    }

    pub fn is_leader(&self) -> Result<bool> {
        self.with(|session| Ok(session.is_leader()))
    }

    /// How many units the application has.
    pub fn units(&self) -> Result<usize> {
        self.with(|session| {
            let key = session.context.key.clone();
            Ok(session.world.application(&key).map_or(0, |application| application.units.len()))
        })
    }

    /// All options that have a value.
    pub fn config(&self) -> Result<Map<String, Value>> {
        self.with(|session| Ok(session.context.config.clone()))
    }

    /// The relations of an endpoint.
    pub fn relations(&self, endpoint: &str) -> Result<Vec<RelationView>> {
        self.with(|session| {
            let mut views = Vec::new();
            for id in session.relation_ids(endpoint) {
                let key = session.parse_relation(&id)?;
                views.push(RelationView {
                    remote_application: session.remote_application(key)?,
                    units: session.relation_units(key)?,
                    dying: session.world.relations.get(&key).is_some_and(|relation| relation.dying),
                    id,
                });
            }
            Ok(views)
        })
    }

    /// UUID of the model at the other end of a relation.
    pub fn relation_model(&self, id: &str) -> Result<String> {
        self.with(|session| session.remote_model(session.parse_relation(id)?))
    }

    /// A unit's databag: our own, a sibling's or a remote one's.
    pub fn unit_databag(&self, id: &str, unit: &str) -> Result<BTreeMap<String, String>> {
        self.with(|session| session.relation_get(session.parse_relation(id)?, &Bag::Unit(unit.to_owned())))
    }

    /// An application's databag: our own or the remote one.
    pub fn application_databag(&self, id: &str, application: &str) -> Result<BTreeMap<String, String>> {
        self.with(|session| {
            session.relation_get(session.parse_relation(id)?, &Bag::Application(application.to_owned()))
        })
    }

    /// Writes our unit's databag; an empty value deletes the key.
    pub fn set_unit_databag(&self, id: &str, changes: &[(&str, &str)]) -> Result<()> {
        self.with(|session| session.relation_set(session.parse_relation(id)?, false, owned(changes)))
    }

    /// Writes our application's databag; leader only.
    pub fn set_application_databag(&self, id: &str, changes: &[(&str, &str)]) -> Result<()> {
        self.with(|session| session.relation_set(session.parse_relation(id)?, true, owned(changes)))
    }

    /// Makes a secret of the application (leader only) and returns its URI.
    pub fn secret_add(&self, label: &str, content: &[(&str, &str)]) -> Result<String> {
        let change = ContentChange { label: Some(label.to_owned()), content: owned(content), ..Default::default() };
        self.with(|session| session.secret_add(change))
    }

    /// New content of an owned secret.
    pub fn secret_set(&self, uri: &str, content: &[(&str, &str)]) -> Result<()> {
        let change = ContentChange { content: owned(content), ..Default::default() };
        self.with(|session| session.secret_set(uri, change))
    }

    /// Grants an owned secret to the application at the other end.
    pub fn secret_grant(&self, uri: &str, relation: &str) -> Result<()> {
        self.with(|session| session.secret_grant(uri, session.parse_relation(relation)?, None))
    }

    /// Reads the latest content and pins it.
    pub fn secret_get(&self, uri: &str) -> Result<BTreeMap<String, String>> {
        self.with(|session| session.secret_get(Some(uri), None, false, true))
    }

    /// Reads the latest content of a secret by our label for it.
    pub fn secret_get_by_label(&self, label: &str) -> Result<BTreeMap<String, String>> {
        self.with(|session| session.secret_get(None, Some(label), false, true))
    }

    /// The URI of an owned secret with this label.
    pub fn secret_find(&self, label: &str) -> Result<Option<String>> {
        self.with(|session| {
            let info = session.secret_info(None, Some(label)).ok();
            let id = info.and_then(|info| info.as_object()?.keys().next().cloned());
            Ok(id.map(|id| format!("secret:{id}")))
        })
    }

    pub fn secret_remove(&self, uri: &str) -> Result<()> {
        self.with(|session| session.secret_remove(uri, None))
    }

    /// The unit's status: maintenance, blocked, waiting or active.
    pub fn status_set(&self, status: &str, message: &str) -> Result<()> {
        self.with(|session| session.status_set(false, status, message))
    }

    /// The application's status; leader only.
    pub fn application_status_set(&self, status: &str, message: &str) -> Result<()> {
        self.with(|session| session.status_set(true, status, message))
    }

    /// What `juju status` shows as the workload's version.
    pub fn application_version_set(&self, version: &str) -> Result<()> {
        self.with(|session| {
            let key = session.context.key.clone();
            if let Some(application) = session.world.application_mut(&key) {
                application.workload_version = version.to_owned();
            }
            Ok(())
        })
    }

    /// The unit's stored state.
    pub fn state(&self) -> Result<BTreeMap<String, String>> {
        self.with(|session| Ok(session.state()))
    }

    pub fn state_set(&self, changes: &[(&str, &str)]) -> Result<()> {
        self.with(|session| session.state_set(owned(changes)))
    }

    /// Writes a line to the model's log.
    pub fn log(&self, message: &str) -> Result<()> {
        let module = format!("unit.{}.juju-log", self.unit);
        self.with(|session| {
            session.log("INFO", &module, message);
            Ok(())
        })
    }

    /// Progress of the running action.
    pub fn action_log(&self, message: &str) -> Result<()> {
        self.with(|session| session.action_log(message))
    }

    /// Results of the running action, by dotted keys.
    pub fn action_set(&self, results: &[(&str, &str)]) -> Result<()> {
        let pairs: Vec<(String, String)> = owned(results).into_iter().collect();
        self.with(|session| session.action_set(&pairs))
    }

    /// Marks the running action as failed; writes are kept.
    pub fn action_fail(&self, message: &str) -> Result<()> {
        self.with(|session| session.action_fail(message))
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
