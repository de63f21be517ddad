//! The stage of the story: one model in which a real Kratos serves from one real PostgreSQL cluster, a second
//! Kratos of the same release stands beside it on a second cluster, and a consumer waits for an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use peers::cluster::Cluster;

use crate::model::{Charm, Controller, DeployOptions, Model};
use crate::neighbours::{CharmedPostgresql, Consumer, ConsumerView, KratosApp, KratosView, Route};
use crate::world::Options;

/// How long any one change of the stage may take.
const SETTLES: Duration = Duration::from_secs(120);

/// What stands on the stage.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// PostgreSQL's major version on the source.
    pub from: u32,
    /// And on the target.
    pub to: u32,
    /// Identities made by SQL on the source.
    pub identities: u32,
    /// The charm's folder: metadata.yaml, actions.yaml, config.yaml and dispatch.
    pub charm: PathBuf,
    /// Time between update-status hooks, which start a migrated Kratos.
    pub update_status_interval: Duration,
}

/// The model and what is behind its applications.
pub struct Stage {
    pub controller: Controller,
    pub model: Model,
    pub source: Arc<Cluster>,
    pub target: Arc<Cluster>,
    pub kratos: KratosView,
    pub kratos_new: KratosView,
    pub consumer: ConsumerView,
    options: StageOptions,
}

impl Stage {
    /// Deploys the neighbours and fills the source; the coordinator is not there yet.
    pub fn new(options: StageOptions) -> Result<Self> {
        let source = Arc::new(Cluster::start(options.from)?);
        let target = Arc::new(Cluster::start(options.to)?);
        let controller = Controller::start(Options {
            update_status_interval: options.update_status_interval,
            ..Options::default()
        })?;
        let model = controller.add_model("iam")?;
        let kratos = KratosApp::new(383, "0.1/stable", "1.0.0")?.with_revision(500, "0.4/stable", "1.3.1")?;
        let kratos_new = KratosApp::new(383, "0.1/stable", "1.0.0")?.with_revision(500, "0.4/stable", "1.3.1")?;
        let consumer = Consumer::new();
        let (views, seen) = ((kratos.view(), kratos_new.view()), consumer.view());
        let native = |name: &str, charm: Box<dyn crate::NativeCharm>| model.deploy(Charm::Native(charm), name);
        native("postgresql-k8s", Box::new(CharmedPostgresql::new(Arc::clone(&source))))?;
        native("postgresql-new", Box::new(CharmedPostgresql::new(Arc::clone(&target))))?;
        native("kratos", Box::new(kratos))?;
        native("kratos-new", Box::new(kratos_new))?;
        native("traefik", Box::new(Route::new("iam.example.com")))?;
        native("traefik-new", Box::new(Route::new("iam-new.example.com")))?;
        native("login-ui", Box::new(consumer))?;
        model.wait_idle(SETTLES)?;
        for (first, second) in [
            ("kratos:pg-database", "postgresql-k8s:database"),
            ("kratos-new:pg-database", "postgresql-new:database"),
            ("kratos:public-route", "traefik:traefik-route"),
            ("kratos-new:public-route", "traefik-new:traefik-route"),
        ] {
            model.integrate(first, second)?;
        }
        model.wait_until("both Kratos to serve", SETTLES, |model| {
            ["kratos", "kratos-new"].iter().all(|name| model.status(name).is_ok_and(|(status, _)| status == "active"))
        })?;
        peers::wait_for("the source's Kratos to be ready", SETTLES, || {
            views.0.client().ready().map_err(|error| format!("{error:#}"))
        })?;
        peers::seed::rows(&source, "iam_kratos", options.identities)?;
        Ok(Stage { controller, model, source, target, kratos: views.0, kratos_new: views.1, consumer: seen, options })
    }

    /// Deploys the coordinator with its relations, as README's story has it.
    pub fn deploy_coordinator(&self, units: u32) -> Result<()> {
        let options = DeployOptions { units, ..DeployOptions::default() };
        self.model.deploy_with(Charm::Folder(self.options.charm.clone()), "coordinator", &options)?;
        for (first, second) in [
            ("coordinator:source-database", "postgresql-k8s:database"),
            ("coordinator:target-database", "postgresql-new:database"),
            ("coordinator:source-kratos", "kratos:kratos-info"),
            ("coordinator:target-kratos", "kratos-new:kratos-info"),
            ("coordinator:kratos-info", "login-ui:kratos-info"),
        ] {
            self.model.integrate(first, second)?;
        }
        self.model.wait_until("the coordinator to be ready", SETTLES, |model| {
            model
                .status("coordinator")
                .is_ok_and(|(status, message)| status == "active" && message.starts_with("ready"))
        })
    }

    /// The source's identity database, for whoever looks from outside.
    pub fn source_uri(&self) -> String {
        self.source.uri("iam_kratos")
    }

    /// The target's identity database.
    pub fn target_uri(&self) -> String {
        self.target.uri("iam_kratos-new")
    }
}

/// Puts a charm's folder together from the repository's files and a built `dispatch`.
pub fn charm_folder(repository: &Path, dispatch: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in ["metadata.yaml", "actions.yaml", "config.yaml"] {
        std::fs::copy(repository.join(name), folder.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    std::fs::copy(dispatch, folder.join("dispatch")).context("cannot copy dispatch")?;
    Ok(())
}
