//! The Kratos charm: asks for a database, migrates a fresh one by itself,
//! serves with the real binary, and after a refresh waits for
//! `run-migration`.

mod information;
mod migration;
mod view;

pub use view::KratosView;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use peers::kratos::Release;
use serde_json::{Map, Value};

use crate::ExecuteResult;
use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

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
";

const ACTIONS: &str = "
run-migration:
  description: Run the SQL migration of this release.
  params:
    timeout: {type: number, default: 120}
  additionalProperties: false
";

const CONFIGURATION: &str = "
options:
  log_level: {type: string, default: info, description: Level of the server's log.}
  dev: {type: boolean, default: false, description: Development mode.}
";

const DATABASE: &str = "pg-database";
const PEERS: &str = "kratos-peers";

/// The charm of Kratos, with the releases that it can be refreshed to.
pub struct KratosApp {
    releases: Vec<Published>,
    current: usize,
    view: KratosView,
}

/// A revision of the charm in a channel, with the workload it brings.
struct Published {
    revision: u64,
    channel: String,
    release: Release,
}

/// What the database relation gives, once it gives everything.
struct Credentials {
    /// The relation's number: the record of a migration goes by it.
    relation: String,
    dsn: String,
}

impl KratosApp {
    /// A charm whose only revision brings this version of Kratos.
    pub fn new(revision: u64, channel: &str, version: &str) -> Result<Self> {
        let view = KratosView::new()?;
        KratosApp { releases: Vec::new(), current: 0, view }.with_revision(revision, channel, version)
    }

    /// Publishes another revision, for a refresh.
    pub fn with_revision(mut self, revision: u64, channel: &str, version: &str) -> Result<Self> {
        let release = Release::find(version)?;
        self.releases.push(Published { revision, channel: channel.to_owned(), release });
        Ok(self)
    }

    /// A view of the servers that stays when the charm is deployed.
    pub fn view(&self) -> KratosView {
        self.view.clone()
    }

    fn release(&self) -> &Release {
        &self.releases[self.current].release
    }

    /// `v<version>`, as `kratos version` prints it and migrations are recorded.
    fn version(&self) -> String {
        format!("v{}", self.release().version())
    }

    fn database_name(context: &UnitContext) -> String {
        format!("{}_{}", context.model(), context.application())
    }

    /// What every hook comes to: the state that the relations ask for, and its status.
    fn reconcile(&mut self, context: &mut UnitContext) -> Result<()> {
        let unit = context.unit().to_owned();
        if context.relations(DATABASE)?.is_empty() {
            self.view.stop(&unit)?;
            return context.status_set("blocked", "Missing integration pg-database");
        }
        let Some(credentials) = Self::credentials(context)? else {
            return context.status_set("waiting", "Waiting for database creation");
        };
        let recorded = Self::recorded(&credentials.relation, context)?;
        if recorded.is_none() && context.is_leader()? {
            // A fresh relation: the leader migrates by itself, within two minutes; failing that it waits for the action.
            match migration::run(self.release(), &credentials.dsn, migration::AUTOMATIC_LIMIT) {
                Ok(()) => self.record(&credentials.relation, context)?,
                Err(error) => context.log(&format!("automatic migration failed: {error:#}"))?,
            }
        }
        if Self::recorded(&credentials.relation, context)? != Some(self.version()) {
            return context.status_set(
                "waiting",
                if context.is_leader()? {
                    "Waiting for database migration"
                } else {
                    "Waiting for leader unit to run the migration"
                },
            );
        }
        self.view.ensure_serving(&unit, self.release(), &credentials.dsn)?;
        context.status_set("active", "")
    }

    fn credentials(context: &UnitContext) -> Result<Option<Credentials>> {
        let Some(relation) = context.relations(DATABASE)?.into_iter().next() else { return Ok(None) };
        let answer = context.application_databag(&relation.id, &relation.remote_application)?;
        let (Some(secret), Some(endpoints)) = (answer.get("secret-user"), answer.get("endpoints")) else {
            return Ok(None);
        };
        let content = context.secret_get(secret)?;
        let part = |key: &str| content.get(key).with_context(|| format!("the credentials have no {key}"));
        let endpoint = endpoints.split(',').next().unwrap_or(endpoints);
        let dsn = format!(
            "postgres://{}:{}@{endpoint}/{}",
            part("username")?,
            part("password")?,
            Self::database_name(context)
        );
        let number = relation.id.rsplit(':').next().unwrap_or(&relation.id).to_owned();
        Ok(Some(Credentials { relation: number, dsn }))
    }

    fn peers(context: &UnitContext) -> Result<Option<String>> {
        Ok(context.relations(PEERS)?.into_iter().next().map(|relation| relation.id))
    }

    /// The release that migrated this relation's database, from the peers' databag.
    fn recorded(relation: &str, context: &UnitContext) -> Result<Option<String>> {
        let Some(peers) = Self::peers(context)? else { return Ok(None) };
        let bag = context.application_databag(&peers, context.application())?;
        let record = bag.get(&format!("migration_version_{relation}"));
        Ok(record.and_then(|text| serde_json::from_str(text).ok()))
    }

    fn record(&self, relation: &str, context: &mut UnitContext) -> Result<()> {
        let peers = Self::peers(context)?.context("there is no peer relation yet")?;
        let value = serde_json::to_string(&self.version())?;
        context.set_application_databag(&peers, &[(&format!("migration_version_{relation}"), &value)])
    }

    fn run_migration(&mut self, timeout: f64, context: &mut UnitContext) -> Result<()> {
        if !context.is_leader()? {
            return context.action_fail("Only the leader unit can run the database migration");
        }
        if Self::peers(context)?.is_none() {
            return context.action_fail("Peer integration is not ready");
        }
        let Some(credentials) = Self::credentials(context)? else {
            return context.action_fail("Database migration failed: ");
        };
        context.action_log("Start migrating the database.")?;
        let limit = std::time::Duration::from_secs_f64(timeout.max(0.0));
        if let Err(error) = migration::run(self.release(), &credentials.dsn, limit) {
            // The cause is in the unit's log only.
            context.log(&format!("{error:#}"))?;
            return context.action_fail("Database migration failed: ");
        }
        context.action_log("Successfully migrated the database.")?;
        self.record(&credentials.relation, context)?;
        // The server is not started here: the next hook does.
        context.status_set("active", "")
    }
}

impl NativeCharm for KratosApp {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, ACTIONS, CONFIGURATION)
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        match event {
            Event::Install => return context.status_set("maintenance", "Configuring resources"),
            Event::RelationCreated(created) if created.endpoint == DATABASE && context.is_leader()? => {
                let request = [
                    ("database", Self::database_name(context)),
                    ("extra-user-roles", "SUPERUSER".to_owned()),
                    ("requested-secrets", r#"["username","password","tls","tls-ca","uris"]"#.to_owned()),
                ];
                let request: Vec<(&str, &str)> = request.iter().map(|(key, value)| (*key, value.as_str())).collect();
                context.set_application_databag(&created.id, &request)?;
            }
            Event::RelationBroken(broken) if broken.endpoint == DATABASE => {
                self.view.stop(context.unit())?;
                return context.status_set("blocked", "Missing integration pg-database");
            }
            Event::Stop | Event::Remove => return self.view.stop(context.unit()),
            _ => {}
        }
        if context.is_leader()? {
            context.application_version_set(self.release().version())?;
            if information::is_due(event) {
                information::publish(&self.view, event, context)?;
            }
        }
        self.reconcile(context)
    }

    fn action(&mut self, name: &str, parameters: &Map<String, Value>, context: &mut UnitContext) -> Result<()> {
        match name {
            "run-migration" => {
                self.run_migration(parameters.get("timeout").and_then(Value::as_f64).unwrap_or(120.0), context)
            }
            _ => anyhow::bail!("cannot run {name}: this charm has no such action"),
        }
    }

    /// The next hook finds the server gone and starts it, as pebble does at once.
    fn shell(&self, command: &str) -> Result<ExecuteResult> {
        anyhow::ensure!(command == "/charm/bin/pebble restart kratos", "no shell is played here for {command:?}");
        self.view.kill_servers();
        Ok(ExecuteResult { code: 0, stdout: String::new(), stderr: String::new() })
    }

    /// The pods restart with the new workload, and start empty: nothing serves until a hook finds the migration
    /// recorded for it.
    fn refresh(&mut self, channel: Option<&str>, revision: Option<u64>) -> Result<()> {
        let matching = self.releases.iter().enumerate().filter(|(_, published)| {
            channel.is_none_or(|channel| published.channel == channel)
                && revision.is_none_or(|revision| published.revision == revision)
        });
        let newest = matching.max_by_key(|(_, published)| published.revision);
        let known: BTreeMap<u64, &str> =
            self.releases.iter().map(|published| (published.revision, published.channel.as_str())).collect();
        let (index, _) = newest.with_context(|| {
            format!("cannot find a revision of kratos for channel {channel:?}, revision {revision:?} among {known:?}")
        })?;
        self.current = index;
        self.view.stop_all()
    }
}
