//! What the charms of Kratos and Hydra have in common: the database they ask for, the record of who migrated it, the
//! releases they can be refreshed to, and the servers they run.

mod migration;
mod servers;

pub use servers::Servers;

use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::ory::{Application, Release};
use serde_json::{Map, Value, json};

use crate::ExecuteResult;
use crate::event::Event;
use crate::native::{Published, UnitContext};

/// Where both charms ask for their database.
pub const DATABASE: &str = "pg-database";
/// And for the address under which the world reaches them.
pub const PUBLIC_ROUTE: &str = "public-route";

/// The action that both charms have; the default of its time limit is the same in both.
pub const RUN_MIGRATION: &str = "
run-migration:
  description: Run the SQL migration of this release.
  params:
    timeout: {type: number, default: 120}
  additionalProperties: false
";

/// Images were uploaded more often than charms: an image's revision is not its charm's.
const IMAGES_AHEAD: u64 = 20;

/// The application in its charm.
pub struct Workload<A: Application> {
    /// The endpoint of the charm's units among themselves.
    peers: &'static str,
    /// Revisions of the charm, with the workload that each brings.
    releases: Vec<(Published, Release<A>)>,
    /// The one whose image runs.
    current: usize,
    servers: Servers<A>,
}

/// What the database relation gives, once it gives everything.
pub struct Credentials {
    /// The relation's number: the record of a migration goes by it.
    pub relation: String,
    pub dsn: String,
}

impl<A: Application> Workload<A> {
    pub fn new(peers: &'static str) -> Result<Self> {
        Ok(Workload { peers, releases: Vec::new(), current: 0, servers: Servers::new()? })
    }

    /// Publishes a revision of the charm that brings this version; the first one is deployed, the others wait for a
    /// refresh.
    pub fn publish(&mut self, revision: u64, channel: &str, version: &str) -> Result<()> {
        let release = Release::find(version)?;
        let published = Published { revision, channel: channel.to_owned(), image: revision + IMAGES_AHEAD };
        self.releases.push((published, release));
        Ok(())
    }

    /// Every revision that was published.
    pub fn published(&self) -> Vec<Published> {
        self.releases.iter().map(|(published, _)| published.clone()).collect()
    }

    pub fn servers(&self) -> &Servers<A> {
        &self.servers
    }

    pub fn release(&self) -> &Release<A> {
        &self.releases[self.current].1
    }

    /// `v<version>`, as the program prints it and migrations are recorded.
    fn version(&self) -> String {
        format!("v{}", self.release().version())
    }

    fn database_name(context: &UnitContext) -> String {
        format!("{}_{}", context.model(), context.application())
    }

    /// Asks for the database; leader only.
    pub fn request_database(&self, relation: &str, context: &UnitContext) -> Result<()> {
        let database = Self::database_name(context);
        let request = [
            ("database", database.as_str()),
            ("extra-user-roles", "SUPERUSER"),
            ("requested-secrets", r#"["username","password","tls","tls-ca","uris"]"#),
        ];
        context.set_application_databag(relation, &request)
    }

    pub fn credentials(&self, context: &UnitContext) -> Result<Option<Credentials>> {
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

    fn peers(&self, context: &UnitContext) -> Result<Option<String>> {
        Ok(context.relations(self.peers)?.into_iter().next().map(|relation| relation.id))
    }

    /// The release that migrated this relation's database, from the peers' databag.
    fn recorded(&self, relation: &str, context: &UnitContext) -> Result<Option<String>> {
        let Some(peers) = self.peers(context)? else { return Ok(None) };
        let bag = context.application_databag(&peers, context.application())?;
        let record = bag.get(&format!("migration_version_{relation}"));
        Ok(record.and_then(|text| serde_json::from_str(text).ok()))
    }

    fn record(&self, relation: &str, context: &UnitContext) -> Result<()> {
        let peers = self.peers(context)?.context("there is no peer relation yet")?;
        let value = serde_json::to_string(&self.version())?;
        context.set_application_databag(&peers, &[(&format!("migration_version_{relation}"), &value)])
    }

    /// Whether the database was migrated by this release.
    pub fn is_migrated(&self, credentials: &Credentials, context: &UnitContext) -> Result<bool> {
        Ok(self.recorded(&credentials.relation, context)? == Some(self.version()))
    }

    /// A relation that nobody has migrated yet is migrated by the leader within this time; failing that, it waits for
    /// the action.
    pub fn migrate_fresh(&self, credentials: &Credentials, limit: Duration, context: &UnitContext) -> Result<()> {
        if self.recorded(&credentials.relation, context)?.is_some() || !context.is_leader()? {
            return Ok(());
        }
        match migration::run(self.release(), &credentials.dsn, limit) {
            Ok(()) => self.record(&credentials.relation, context),
            Err(error) => context.log(&format!("automatic migration failed: {error:#}")),
        }
    }

    /// The action `run-migration` up to the record of it; false when it failed. `peerless` is what the charm says
    /// before it has a relation among its units.
    pub fn migrate_by_action(
        &self,
        parameters: &Map<String, Value>,
        peerless: &str,
        context: &UnitContext,
    ) -> Result<bool> {
        let fail = |message: &str| context.action_fail(message).map(|()| false);
        if !context.is_leader()? {
            return fail("Only the leader unit can run the database migration");
        }
        if self.peers(context)?.is_none() {
            return fail(peerless);
        }
        let Some(credentials) = self.credentials(context)? else { return fail("Database migration failed: ") };
        context.action_log("Start migrating the database.")?;
        let timeout = parameters.get("timeout").and_then(Value::as_f64).unwrap_or(120.0);
        let limit = Duration::from_secs_f64(timeout.max(0.0));
        if let Err(error) = migration::run(self.release(), &credentials.dsn, limit) {
            // The cause is in the unit's log only.
            context.log(&format!("{error:#}"))?;
            return fail("Database migration failed: ");
        }
        context.action_log("Successfully migrated the database.")?;
        self.record(&credentials.relation, context)?;
        Ok(true)
    }

    /// The pods restart with the new workload, and start empty: nothing serves until a hook finds the migration
    /// recorded for it.
    pub fn refresh(&mut self, channel: Option<&str>, revision: Option<u64>) -> Result<()> {
        let known = self.published();
        let newest = Published::newest(&known, channel, revision).with_context(|| {
            format!(
                "cannot find a revision of {} for channel {channel:?}, revision {revision:?} among {known:?}",
                A::PROGRAM
            )
        })?;
        self.use_image(newest.image)
    }

    /// The image that is tagged with its version, in any registry.
    pub fn image_at(&self, reference: &str) -> Option<u64> {
        let (_, tag) = reference.rsplit_once(':')?;
        self.releases.iter().find(|(_, release)| release.version() == tag).map(|(published, _)| published.image)
    }

    /// The same for another image only.
    pub fn use_image(&mut self, image: u64) -> Result<()> {
        let found = self.releases.iter().position(|(published, _)| published.image == image);
        self.current = found.with_context(|| format!("cannot find the image {image} of {}", A::PROGRAM))?;
        self.servers.stop_all()
    }

    /// What a shell of a unit understands. The next hook finds the server gone and starts it, as pebble does at once.
    pub fn shell(&self, command: &str) -> Result<ExecuteResult> {
        let restart = format!("/charm/bin/pebble restart {}", A::PROGRAM);
        anyhow::ensure!(command == restart, "no shell is played here for {command:?}");
        self.servers.kill_servers();
        Ok(ExecuteResult { code: 0, stdout: String::new(), stderr: String::new() })
    }
}

/// Submits to the ingress the rules that lead to this application, as the charms do: no priority, no host; leader only.
pub fn submit_routes(event: &Event, rules: &[&str], url: &str, context: &UnitContext) -> Result<()> {
    let name = format!("juju-{}-{}-public-api", context.model(), context.application());
    let service = format!("{name}-service");
    let routers: Map<String, Value> = rules
        .iter()
        .enumerate()
        .map(|(number, rule)| {
            let router = json!({"entryPoints": ["web"], "rule": rule, "service": service});
            (format!("{name}-router-{number}"), router)
        })
        .collect();
    let balancer = json!({"loadBalancer": {"servers": [{"url": url}]}});
    let config = json!({"http": {"routers": routers, "services": {service: balancer}}}).to_string();
    for relation in context.relations(PUBLIC_ROUTE)? {
        if !matches!(event, Event::RelationBroken(broken) if broken.id == relation.id) {
            context.set_application_databag(&relation.id, &[("config", config.as_str()), ("raw", "True")])?;
        }
    }
    Ok(())
}

/// The URL under which the world reaches an application, once its route has told. A route that is just going tells
/// nothing any more.
pub fn public_url(event: Option<&Event>, context: &UnitContext) -> Result<Option<String>> {
    if matches!(event, Some(Event::RelationBroken(relation)) if relation.endpoint == PUBLIC_ROUTE) {
        return Ok(None);
    }
    let Some(route) = context.relations(PUBLIC_ROUTE)?.into_iter().next() else { return Ok(None) };
    let answer = context.application_databag(&route.id, &route.remote_application)?;
    let scheme = answer.get("scheme").map_or("http", String::as_str);
    Ok(answer.get("external_host").map(|host| format!("{scheme}://{host}")))
}
