//! The Kratos charm: asks for a database, migrates a fresh one by itself,
//! serves with the real binary, and after a refresh waits for
//! `run-migration`.

mod information;

use std::time::Duration;

use anyhow::Result;
use peers::kratos::{App, Settings};
use serde_json::{Map, Value};

use super::ory::{DATABASE, RUN_MIGRATION, Servers, Workload, submit_routes};
use crate::ExecuteResult;
use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, Published, UnitContext};

const METADATA: &str = "
name: kratos
summary: Ory Kratos
description: Identity and user management.
requires:
  pg-database: {interface: postgresql_client, limit: 1}
  public-route: {interface: traefik_route, limit: 1}
provides:
  kratos-info: {interface: kratos_info}
peers:
  kratos-peers: {interface: kratos_peers}
resources:
  oci-image: {type: oci-image, description: The image of the server.}
";

const CONFIGURATION: &str = "
options:
  log_level: {type: string, default: info, description: Level of the server's log.}
  dev: {type: boolean, default: false, description: Development mode.}
";

/// What it has an ingress lead to it.
const RULES: [&str; 3] =
    ["Path(`/.well-known/webauthn.js`)", "PathPrefix(`/self-service/methods/oidc/callback`)", "PathPrefix(`/schemas`)"];

/// How long the migration that a fresh database gets by itself may take.
const AUTOMATIC_LIMIT: Duration = Duration::from_secs(120);

/// The servers of a Kratos application.
pub type KratosView = Servers<App>;

/// The charm of Kratos, with the releases that it can be refreshed to.
pub struct KratosApp(Workload<App>);

impl KratosApp {
    /// A charm whose only revision brings this version of Kratos.
    pub fn new(revision: u64, channel: &str, version: &str) -> Result<Self> {
        KratosApp(Workload::new("kratos-peers")?).with_revision(revision, channel, version)
    }

    /// Publishes another revision, for a refresh.
    pub fn with_revision(mut self, revision: u64, channel: &str, version: &str) -> Result<Self> {
        self.0.publish(revision, channel, version)?;
        Ok(self)
    }

    /// The charm as somebody packed it.
    pub fn packed() -> Result<Vec<u8>> {
        let manifest = "bases: [{name: ubuntu, channel: '22.04', architectures: [amd64]}]";
        let files = [
            ("metadata.yaml", METADATA),
            ("config.yaml", CONFIGURATION),
            ("actions.yaml", RUN_MIGRATION),
            ("manifest.yaml", manifest),
        ];
        controller_peer::Charm::pack(&files)
    }

    /// A view of the servers that stays when the charm is deployed.
    pub fn view(&self) -> KratosView {
        self.0.servers().clone()
    }

    /// What every hook comes to: the state that the relations ask for, and its status.
    fn reconcile(&mut self, context: &mut UnitContext) -> Result<()> {
        let workload = &self.0;
        let unit = context.unit().to_owned();
        if context.relations(DATABASE)?.is_empty() {
            workload.servers().stop(&unit)?;
            return context.status_set("blocked", "Missing integration pg-database");
        }
        let Some(credentials) = workload.credentials(context)? else {
            return context.status_set("waiting", "Waiting for database creation");
        };
        workload.migrate_fresh(&credentials, AUTOMATIC_LIMIT, context)?;
        if !workload.is_migrated(&credentials, context)? {
            return context.status_set(
                "waiting",
                if context.is_leader()? {
                    "Waiting for database migration"
                } else {
                    "Waiting for leader unit to run the migration"
                },
            );
        }
        // Another level is another configuration, with which the real charm restarts its service, too.
        let log_level = context.config()?.get("log_level").and_then(Value::as_str).map(str::to_owned);
        let settings = Settings { log_level, ..Settings::default() };
        workload.servers().ensure_serving(&unit, workload.release(), &credentials.dsn, &settings)?;
        context.status_set("active", "")
    }

    fn run_migration(&mut self, parameters: &Map<String, Value>, context: &mut UnitContext) -> Result<()> {
        if self.0.migrate_by_action(parameters, "Peer integration is not ready", context)? {
            // The server is not started here: the next hook does.
            context.status_set("active", "")?;
        }
        Ok(())
    }
}

impl NativeCharm for KratosApp {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, RUN_MIGRATION, CONFIGURATION)
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
            if information::is_due(event) {
                information::publish(self.0.servers(), event, context)?;
            }
        }
        self.reconcile(context)
    }

    fn action(&mut self, name: &str, parameters: &Map<String, Value>, context: &mut UnitContext) -> Result<()> {
        match name {
            "run-migration" => self.run_migration(parameters, context),
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
