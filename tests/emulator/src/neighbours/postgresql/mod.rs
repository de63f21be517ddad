//! Charmed PostgreSQL: databases and users on request, with the ownership
//! rules of the 14 charm or the roles of the 16 charm.

mod backups;
mod sql;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use peers::cluster::Cluster;
use rand::Rng;
use serde_json::{Map, Value};

use crate::ExecuteResult;
use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

const METADATA: &str = "
name: postgresql-k8s
summary: Charmed PostgreSQL on a real cluster
description: Serves the databases of one PostgreSQL cluster over postgresql_client.
provides:
  database: {interface: postgresql_client}
requires:
  s3-parameters: {interface: s3, limit: 1, optional: true}
peers:
  database-peers: {interface: postgresql_peers}
";

/// The charm on one cluster. Up to PostgreSQL 15 it follows the rules of the
/// 14 charm, from 16 on those of the 16 charm.
pub struct CharmedPostgresql {
    cluster: Arc<Cluster>,
    /// What keeps the unit blocked until a relation goes.
    blocked: Option<String>,
    /// An application that is given another address than the cluster's own, and that address.
    elsewhere: Option<(String, String)>,
    bucket: backups::Bucket,
}

/// The unit that leads has the primary here.
fn is_primary(context: &UnitContext) -> Result<bool> {
    context.is_leader()
}

impl CharmedPostgresql {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        CharmedPostgresql { cluster, blocked: None, elsewhere: None, bucket: backups::Bucket::default() }
    }

    /// The same, and this application is told that the cluster is at `endpoint`.
    pub fn seen_at(self, application: &str, endpoint: &str) -> Self {
        CharmedPostgresql { elsewhere: Some((application.to_owned(), endpoint.to_owned())), ..self }
    }

    /// Answers a request for a database once; later changes of it do nothing.
    fn serve(&mut self, relation: &str, context: &mut UnitContext) -> Result<()> {
        let views = context.relations("database")?;
        let Some(view) = views.iter().find(|view| view.id == relation) else { return Ok(()) };
        let request = context.application_databag(relation, &view.remote_application)?;
        let answered = context.application_databag(relation, context.application())?;
        let Some(database) = request.get("database") else { return Ok(()) };
        if answered.contains_key("data") {
            return Ok(());
        }
        context.set_application_databag(relation, &[("data", &serde_json::to_string(&request)?)])?;
        let others = views.iter().filter(|other| other.id != relation);
        let mut shared = false;
        for other in others {
            let bag = context.application_databag(&other.id, &other.remote_application)?;
            shared |= bag.get("database") == Some(database);
        }
        let user = sql::User {
            name: user_name(relation),
            password: random_password(),
            roles: request.get("extra-user-roles").map(|roles| roles.to_lowercase()).unwrap_or_default(),
        };
        if let Err(refusal) = sql::check(&self.cluster, database, &user) {
            self.blocked = Some(refusal);
            return Ok(());
        }
        sql::create(&self.cluster, database, &user, shared)?;
        let own = format!("{}:{}", self.cluster.host(), self.cluster.port());
        let elsewhere = self.elsewhere.as_ref().filter(|(application, _)| *application == view.remote_application);
        let endpoint = elsewhere.map_or(own, |(_, endpoint)| endpoint.clone());
        self.publish(relation, database, &user, &request, (&endpoint, context))
    }

    fn publish(
        &self,
        relation: &str,
        database: &str,
        user: &sql::User,
        request: &BTreeMap<String, String>,
        (endpoint, context): (&str, &mut UnitContext),
    ) -> Result<()> {
        let uri = format!("postgresql://{}:{}@{endpoint}/{database}", user.name, user.password);
        let requested = |name: &str| request.get("requested-secrets").is_some_and(|list| list.contains(name));

        // Credentials first, URIs in a second revision, as the real charm does.
        let mut content = vec![("username", user.name.as_str()), ("password", user.password.as_str())];
        let secret_user = context.secret_add(&format!("database.{relation}.user.secret"), &content)?;
        context.secret_grant(&secret_user, relation)?;
        if requested("\"uris\"") {
            content.push(("uris", &uri));
        }
        if requested("\"read-only-uris\"") {
            content.push(("read-only-uris", &uri));
        }
        context.secret_set(&secret_user, &content)?;

        let tls = if self.cluster.ca_pem().is_some() { "True" } else { "False" };
        let mut content = vec![("tls", tls)];
        content.extend(self.cluster.ca_pem().map(|pem| ("tls-ca", pem)));
        let secret_tls = context.secret_add(&format!("database.{relation}.tls.secret"), &content)?;
        context.secret_grant(&secret_tls, relation)?;

        let version = self.cluster.psql("postgres", "SHOW server_version")?;
        context.set_application_databag(
            relation,
            &[
                ("database", database),
                ("endpoints", endpoint),
                ("read-only-endpoints", endpoint),
                ("version", version.split(' ').next().unwrap_or_default()),
                ("secret-user", &secret_user),
                ("secret-tls", &secret_tls),
            ],
        )
    }

    fn forget(&mut self, relation: &str, context: &mut UnitContext) -> Result<()> {
        if self.blocked.take().is_some() && context.relations("database")?.len() > 1 {
            context.log("a relation that could not be served is gone")?;
        }
        if let Err(error) = sql::drop_user(&self.cluster, &user_name(relation)) {
            context.log(&format!("{error:#}"))?;
            self.blocked = Some("Failed to delete user during database relation broken event".to_owned());
        }
        for kind in ["user", "tls"] {
            if let Some(secret) = context.secret_find(&format!("database.{relation}.{kind}.secret"))? {
                context.secret_remove(&secret)?;
            }
        }
        Ok(())
    }
}

impl NativeCharm for CharmedPostgresql {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, backups::ACTIONS, "")
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        if *event == Event::Install {
            return context.status_set("maintenance", "installing PostgreSQL");
        }
        if context.is_leader()? {
            if let Event::RelationBroken(broken) = event
                && broken.endpoint == "database"
            {
                self.forget(&broken.id, context)?;
            } else {
                // Every hook looks at every request: one that came while there was no leader is served late.
                // One that is about to go is not served any more: a grant for it would be refused.
                for view in context.relations("database")?.into_iter().filter(|view| !view.dying) {
                    self.serve(&view.id, context)?;
                }
            }
            let version = self.cluster.psql("postgres", "SHOW server_version")?;
            context.application_version_set(version.split(' ').next().unwrap_or_default())?;
        }
        match &self.blocked {
            Some(message) => context.status_set("blocked", message),
            None if is_primary(context)? => context.status_set("active", "Primary"),
            None => context.status_set("active", ""),
        }
    }

    fn action(&mut self, name: &str, given: &Map<String, Value>, context: &mut UnitContext) -> Result<()> {
        match name {
            "create-backup" => self.bucket.create(&self.cluster, given, context),
            _ => self.bucket.list(context),
        }
    }

    /// The operator's password is given when psql asks for it.
    fn shell(&self, command: &str) -> Result<ExecuteResult> {
        let psql = peers::places::postgresql_program(self.cluster.major(), "psql")?;
        let folder = psql.parent().context("psql is in no folder")?;
        let output = Command::new("sh")
            .args(["-c", command])
            .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
            .env("PGPASSWORD", self.cluster.superuser().1)
            .output()?;
        Ok(ExecuteResult {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}

/// `relation_id_<number>`, as the K8s charm names relation users.
fn user_name(relation: &str) -> String {
    format!("relation_id_{}", relation.rsplit(':').next().unwrap_or(relation))
}

fn random_password() -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(16).map(char::from).collect()
}
