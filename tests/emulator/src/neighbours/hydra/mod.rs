//! The Hydra charm: asks for a database and migrates a fresh one by itself, keeps the secrets that its server encrypts
//! and signs with, and serves with the real binary once it has a public URL and a login UI. After a refresh it waits for
//! `run-migration`, which starts the server too.

mod endpoints;
mod secrets;
mod sources;

use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::hydra::App;
use serde_json::{Map, Value, json};

use super::ory::{DATABASE, RUN_MIGRATION, Servers, Workload, submit_routes};
use crate::ExecuteResult;
use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, Published, UnitContext};
use secrets::Kind;
use sources::Sources;

const METADATA: &str = "
name: hydra
summary: Ory Hydra
description: OAuth 2.0 and OpenID Connect provider.
requires:
  pg-database: {interface: postgresql_client, limit: 1}
  ui-endpoint-info: {interface: login_ui_endpoints, limit: 1}
  public-route: {interface: traefik_route}
provides:
  hydra-endpoint-info: {interface: hydra_endpoints}
peers:
  hydra: {interface: hydra_peers}
resources:
  oci-image: {type: oci-image, description: The image of the server.}
";

const SECRET_ACTIONS: &str = "
get-secret-keys:
  description: Show the values of a secret, the newest first.
  params:
    type: {type: string, description: system or cookie}
  required: [type]
  additionalProperties: false
add-secret-key:
  description: Add a value to a secret, which becomes the newest.
  params:
    type: {type: string, description: system or cookie}
    key: {type: string, description: At least 16 characters.}
  required: [type, key]
  additionalProperties: false
";

const CONFIGURATION: &str = "
options:
  log_level: {type: string, default: info, description: Level of the server's log.}
  dev: {type: boolean, default: false, description: Development mode.}
  jwt_access_tokens: {type: boolean, default: true, description: Signed access tokens instead of opaque ones.}
  initial_system_secret_id: {type: secret, description: System secrets for the first start.}
  initial_cookie_secret_id: {type: secret, description: Cookie secrets for the first start.}
";

const PEERLESS: &str = "Peer integration is not ready yet";

/// What it has an ingress lead to it.
const RULES: [&str; 5] = [
    "PathPrefix(`/oauth2`)",
    "Path(`/.well-known/jwks.json`)",
    "Path(`/.well-known/openid-configuration`)",
    "Path(`/.well-known/oauth-authorization-server`)",
    "Path(`/userinfo`)",
];

/// How long the migration that a fresh database gets by itself may take.
const AUTOMATIC_LIMIT: Duration = Duration::from_secs(60);

/// The servers of a Hydra application.
pub type HydraView = Servers<App>;

/// The charm of Hydra, with the releases that it can be refreshed to.
pub struct HydraApp(Workload<App>);

impl HydraApp {
    /// A charm whose only revision brings this version of Hydra.
    pub fn new(revision: u64, channel: &str, version: &str) -> Result<Self> {
        HydraApp(Workload::new("hydra")?).with_revision(revision, channel, version)
    }

    /// Publishes another revision, for a refresh.
    pub fn with_revision(mut self, revision: u64, channel: &str, version: &str) -> Result<Self> {
        self.0.publish(revision, channel, version)?;
        Ok(self)
    }

    /// A view of the servers that stays when the charm is deployed.
    pub fn view(&self) -> HydraView {
        self.0.servers().clone()
    }

    /// What every hook and the migration come to: the server that the relations ask for, and the status. Where something
    /// is missing the server is left as it is: a route that goes does not stop it.
    fn reconcile(&mut self, event: Option<&Event>, context: &UnitContext) -> Result<()> {
        if context.is_leader()? {
            secrets::ensure(context)?;
        }
        let (workload, sources) = (&self.0, Sources::gather(event, context)?);
        let credentials = workload.credentials(context)?;
        let of_database = match &credentials {
            None => Some("Waiting for database creation"),
            Some(credentials) => {
                workload.migrate_fresh(credentials, AUTOMATIC_LIMIT, context)?;
                let migrated = workload.is_migrated(credentials, context)?;
                (!migrated).then_some("Waiting for migration to run, try running the `run-migration` action")
            }
        };
        if let Some((word, message)) = sources.obstacle(of_database) {
            return context.status_set(word, message);
        }
        if let Some(credentials) = credentials {
            let (servers, settings) = (workload.servers(), sources.settings());
            servers.ensure_serving(context.unit(), workload.release(), &credentials.dsn, &settings)?;
        }
        context.status_set("active", "")
    }

    fn run_migration(&mut self, parameters: &Map<String, Value>, context: &UnitContext) -> Result<()> {
        if self.0.migrate_by_action(parameters, PEERLESS, context)? {
            context.action_log("Successfully updated migration version")?;
            self.reconcile(None, context)?;
        }
        Ok(())
    }
}

/// A text among an action's parameters.
fn text<'a>(parameters: &'a Map<String, Value>, name: &str) -> Result<&'a str> {
    parameters.get(name).and_then(Value::as_str).with_context(|| format!("cannot do this without {name}"))
}

fn kind(parameters: &Map<String, Value>) -> Result<Kind> {
    let name = text(parameters, "type")?;
    Kind::named(name).with_context(|| format!("cannot find a secret of type {name}"))
}

fn show_secret(parameters: &Map<String, Value>, context: &UnitContext) -> Result<()> {
    let kind = kind(parameters)?;
    let values = secrets::values(kind, context)?;
    if values.is_empty() {
        return context.action_fail("Juju secrets are not ready yet");
    }
    context.action_set(&[(kind.name(), &json!(values).to_string())])
}

/// The server learns of the value by the next hook, such as secret-changed.
fn add_secret(parameters: &Map<String, Value>, context: &UnitContext) -> Result<()> {
    let (kind, key) = (kind(parameters)?, text(parameters, "key")?);
    if secrets::values(kind, context)?.is_empty() {
        return context.action_fail("Juju secrets are not ready yet");
    }
    if key.len() < 16 {
        return context.action_fail("Key must have >16 characters");
    }
    secrets::add(kind, key, context)
}

impl NativeCharm for HydraApp {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, &format!("{RUN_MIGRATION}{SECRET_ACTIONS}"), CONFIGURATION)
    }

    fn published(&self) -> Vec<Published> {
        self.0.published()
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        match event {
            Event::Install => return context.status_set("maintenance", "Configuring resources"),
            Event::RelationCreated(created) if created.endpoint == DATABASE && context.is_leader()? => {
                self.0.request_database(&created.id, context)?;
            }
            Event::RelationBroken(broken) if broken.endpoint == DATABASE => {
                self.0.servers().stop(context.unit())?;
                return context.status_set("blocked", "Missing integration pg-database");
            }
            Event::Stop | Event::Remove => return self.0.servers().stop(context.unit()),
            _ => {}
        }
        if context.is_leader()? {
            context.application_version_set(self.0.release().version())?;
            submit_routes(event, &RULES, &self.0.servers().ports().public_url(), context)?;
            if endpoints::are_due(event) {
                endpoints::publish(self.0.servers(), context)?;
            }
        }
        self.reconcile(Some(event), context)
    }

    fn action(&mut self, name: &str, parameters: &Map<String, Value>, context: &mut UnitContext) -> Result<()> {
        match name {
            "run-migration" => self.run_migration(parameters, context),
            "get-secret-keys" => show_secret(parameters, context),
            "add-secret-key" => add_secret(parameters, context),
            _ => anyhow::bail!("cannot run {name}: this charm has no such action"),
        }
    }

    fn shell(&self, command: &str) -> Result<ExecuteResult> {
        self.0.shell(command)
    }

    fn refresh(&mut self, channel: Option<&str>, revision: Option<u64>) -> Result<()> {
        self.0.refresh(channel, revision)
    }

    fn image_at(&self, reference: &str) -> Option<u64> {
        self.0.image_at(reference)
    }

    fn use_image(&mut self, image: u64) -> Result<()> {
        self.0.use_image(image)
    }
}
