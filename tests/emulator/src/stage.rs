//! The stage of the story: a real Kratos serves from one real PostgreSQL cluster, a second Kratos of the same release
//! stands beside it on a second cluster, and a consumer waits for an address. All in one model, or in several.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use controller_peer::{Access, User};
use peers::cluster::Cluster;
use peers::places::copy_program;
use peers::proxy::{Proxy, Replies};

use crate::controller::Api;
use crate::model::{Charm, Controller, DeployOptions, Model};
use crate::neighbours::{CharmedPostgresql, Consumer, ConsumerView, KratosApp, KratosView, Route, RouteView};
use crate::world::{Options, random_hex};

/// The Juju user that the coordinator logs in as.
pub const USER: &str = "coordinator";

/// The name of the secret with that user's password.
pub const CREDENTIALS: &str = "coordinator-credentials";

/// How long any one change of the stage may take.
const SETTLES: Duration = Duration::from_secs(120);

/// What stands on the stage.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// PostgreSQL's major version on the source.
    pub from: u32,
    /// And on the target.
    pub to: u32,
    /// Identities made by SQL on the source, with names that ask for UTF-8.
    pub identities: u32,
    /// The charm's folder: metadata.yaml, actions.yaml, config.yaml and dispatch.
    pub charm: PathBuf,
    /// Time between update-status hooks, which start a migrated Kratos.
    pub update_status_interval: Duration,
    /// Encoding of both identity databases where it is not the clusters' own; they then exist before Kratos asks.
    pub encoding: Option<&'static str>,
    /// The controller's release where it is not 4.0.
    pub juju: Option<&'static str>,
}

/// Which model everybody lives in. The consumer lives with the source, as it does today.
#[derive(Debug, Clone, Copy)]
pub struct Models {
    pub source: &'static str,
    pub coordinator: &'static str,
    pub target: &'static str,
    /// Who offers where a Kratos lives in another model: true when that Kratos does, and the coordinator knows it by
    /// the name it was consumed under; false when the coordinator does, and sees names that Juju makes up.
    pub kratos_offers: bool,
}

impl Models {
    /// All in one.
    pub const ONE: Models = Models { source: "iam", coordinator: "iam", target: "iam", kratos_offers: true };
}

/// One side's applications.
pub struct Place {
    pub model: Model,
    pub kratos: &'static str,
    pub postgresql: &'static str,
    traefik: &'static str,
    /// The rules of that ingress.
    pub ingress: RouteView,
}

impl Place {
    /// The database that this side's Kratos asks for.
    pub fn database(&self) -> String {
        format!("{}_{}", self.model.name(), self.kratos)
    }
}

/// The coordinator (and what it tells one cluster of the other) reaches the clusters through these; the identity
/// applications do not.
pub struct Proxies {
    pub source: Proxied,
    pub target: Proxied,
}

/// What stands before one cluster.
pub struct Proxied {
    pub proxy: Proxy,
    pub replies: Arc<Replies>,
}

impl Proxied {
    fn new(cluster: &Cluster) -> Result<Self> {
        let replies = Arc::new(Replies::default());
        Ok(Proxied { proxy: Proxy::start(cluster.host(), cluster.port(), &replies)?, replies })
    }

    /// `host:port`, as the coordinator is told.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }
}

/// The models and what is behind their applications.
pub struct Stage {
    pub controller: Controller,
    /// The coordinator's.
    pub model: Model,
    pub source: Arc<Cluster>,
    pub target: Arc<Cluster>,
    pub source_place: Place,
    pub target_place: Place,
    pub kratos: KratosView,
    pub kratos_new: KratosView,
    pub consumer: ConsumerView,
    /// What stands between the coordinator and the two clusters, if anything does.
    pub proxies: Option<Proxies>,
    models: Models,
    options: StageOptions,
}

impl Stage {
    /// Deploys the neighbours in one model and fills the source; the coordinator is not there yet.
    pub fn new(options: StageOptions) -> Result<Self> {
        Self::across(Models::ONE, options)
    }

    /// The same in several models.
    pub fn across(models: Models, options: StageOptions) -> Result<Self> {
        Self::build(models, clusters(&options)?, options, false)
    }

    /// The same in one model, with a proxy between the coordinator and each cluster.
    pub fn proxied(options: StageOptions) -> Result<Self> {
        Self::proxied_between(clusters(&options)?, options)
    }

    /// The same on these clusters, source and target, whatever starts and stops them.
    pub fn proxied_between(clusters: [Arc<Cluster>; 2], options: StageOptions) -> Result<Self> {
        Self::build(Models::ONE, clusters, options, true)
    }

    fn build(models: Models, clusters: [Arc<Cluster>; 2], options: StageOptions, proxied: bool) -> Result<Self> {
        let [source, target] = clusters;
        let proxies = match proxied {
            true => Some(Proxies { source: Proxied::new(&source)?, target: Proxied::new(&target)? }),
            false => None,
        };
        let default = Options::default();
        let controller = Controller::start(Options {
            update_status_interval: options.update_status_interval,
            version: options.juju.map_or(default.version, str::to_owned),
            ..Options::default()
        })?;
        let model = |name| controller.model(name).or_else(|_| controller.add_model(name));
        let source_place = Place {
            model: model(models.source)?,
            kratos: "kratos",
            postgresql: "postgresql-k8s",
            traefik: "traefik",
            ingress: RouteView::default(),
        };
        let (model_of_target, model_of_coordinator) = (model(models.target)?, model(models.coordinator)?);
        // In a model of its own nothing else has taken the usual names.
        let (kratos, postgresql, traefik) = match models.target == models.source {
            true => ("kratos-new", "postgresql-new", "traefik-new"),
            false => ("kratos", "postgresql-k8s", "traefik"),
        };
        let target_place = Place { model: model_of_target, kratos, postgresql, traefik, ingress: RouteView::default() };
        let kratos = KratosApp::new(383, "0.1/stable", "1.0.0")?.with_revision(500, "0.4/stable", "1.3.1")?;
        let kratos_new = KratosApp::new(383, "0.1/stable", "1.0.0")?.with_revision(500, "0.4/stable", "1.3.1")?;
        let consumer = Consumer::new();
        let (views, seen) = ((kratos.view(), kratos_new.view()), consumer.view());
        let seen_at = |of: fn(&Proxies) -> &Proxied| proxies.as_ref().map(|proxies| of(proxies).endpoint());
        let served = |cluster: &Arc<Cluster>, seen_at: Option<String>| {
            let served = CharmedPostgresql::new(Arc::clone(cluster));
            match seen_at {
                Some(endpoint) => served.seen_at("coordinator", &endpoint),
                None => served,
            }
        };
        place(&source_place, served(&source, seen_at(|p| &p.source)), kratos, "iam.example.com")?;
        place(&target_place, served(&target, seen_at(|p| &p.target)), kratos_new, "iam-new.example.com")?;
        source_place.model.deploy(Charm::Native(Box::new(consumer)), "login-ui")?;
        source_place.model.wait_idle(SETTLES)?;
        if let Some(encoding) = options.encoding {
            for (cluster, place) in [(&source, &source_place), (&target, &target_place)] {
                let made = format!(
                    "CREATE DATABASE \"{}\" ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
                    place.database()
                );
                cluster.psql("postgres", &made)?;
            }
        }
        for Place { model, kratos, postgresql, traefik, .. } in [&source_place, &target_place] {
            model.integrate(&format!("{kratos}:pg-database"), &format!("{postgresql}:database"))?;
            model.integrate(&format!("{kratos}:public-route"), &format!("{traefik}:traefik-route"))?;
        }
        for Place { model, kratos, .. } in [&source_place, &target_place] {
            model.wait_until("Kratos to serve", SETTLES, |model| {
                model.status(kratos).is_ok_and(|(status, _)| status == "active")
            })?;
        }
        peers::wait_for("the source's Kratos to be ready", SETTLES, || {
            views.0.client().ready().map_err(|error| format!("{error:#}"))
        })?;
        if options.identities > 0 {
            peers::seed::rows(&source, &source_place.database(), options.identities)?;
        }
        Ok(Stage {
            controller,
            model: model_of_coordinator,
            source,
            target,
            source_place,
            target_place,
            kratos: views.0,
            kratos_new: views.1,
            consumer: seen,
            proxies,
            models,
            options,
        })
    }

    /// Deploys the coordinator with its relations, as README's story has it, and waits until it is ready.
    pub fn deploy_coordinator(&self, units: u32) -> Result<()> {
        self.place_coordinator(units)?;
        self.model.wait_until("the coordinator to be ready", SETTLES, |model| {
            model
                .status("coordinator")
                .is_ok_and(|(status, message)| status == "active" && message.starts_with("ready"))
        })
    }

    /// The same without waiting.
    pub fn place_coordinator(&self, units: u32) -> Result<()> {
        let options = DeployOptions { units, ..DeployOptions::default() };
        self.model.deploy_with(Charm::Folder(self.options.charm.clone()), "coordinator", &options)?;
        let coordinator = ["source-kratos", "target-kratos", "kratos-info"];
        let offered = self.model.offer("coordinator", &coordinator, None)?;
        for (side, place) in [("source", &self.source_place), ("target", &self.target_place)] {
            let apart = place.model.name() != self.model.name();
            let local = |application: &str, endpoint: &str| -> Result<String> {
                if !apart {
                    return Ok(format!("{application}:{endpoint}"));
                }
                let address = place.model.offer(application, &[endpoint], None)?;
                Ok(format!("{}:{endpoint}", self.model.consume(&address, Some(&format!("{application}-{side}")))?))
            };
            self.model.integrate(&format!("coordinator:{side}-database"), &local(place.postgresql, "database")?)?;
            let ours = format!("coordinator:{side}-kratos");
            if apart && !self.models.kratos_offers {
                place.model.consume(&offered, Some("coordinator"))?;
                place.model.integrate(&ours, &format!("{}:kratos-info", place.kratos))?;
            } else {
                self.model.integrate(&ours, &local(place.kratos, "kratos-info")?)?;
            }
        }
        let home = &self.source_place.model;
        if home.name() != self.model.name() && self.models.kratos_offers {
            home.consume(&offered, Some("coordinator"))?;
        }
        home.integrate("coordinator:kratos-info", "login-ui:kratos-info")?;
        Ok(())
    }

    /// Serves the controller's API over the coordinator's model, unless it is served.
    pub fn serve_api(&self) -> Result<Arc<Api>> {
        serve_api(&self.controller, &self.model)
    }

    /// [`give_credentials`] in the coordinator's model.
    pub fn give_credentials(&self) -> Result<Arc<Api>> {
        give_credentials(&self.controller, &self.model)
    }

    /// Every model, each once.
    pub fn models(&self) -> Vec<Model> {
        let mut models = vec![self.model.clone()];
        for model in [&self.source_place.model, &self.target_place.model] {
            if models.iter().all(|known| known.name() != model.name()) {
                models.push(model.clone());
            }
        }
        models
    }

    /// The coordinator's own database on either cluster.
    pub fn own_database(&self) -> String {
        format!("{}_coordinator", self.model.name())
    }

    /// The source's identity database, for whoever looks from outside.
    pub fn source_uri(&self) -> String {
        self.source.uri(&self.source_place.database())
    }

    /// The target's identity database.
    pub fn target_uri(&self) -> String {
        self.target.uri(&self.target_place.database())
    }
}

fn serve_api(controller: &Controller, model: &Model) -> Result<Arc<Api>> {
    controller.serve_api(model.name(), &controller_peer::Options::default())
}

/// Makes the user [`USER`] with a password and the access `write`, puts both into a secret of this model, grants it to the
/// coordinator there, and names it in `controller-credentials`: what README tells an operator to type. Serves the API
/// where it is not served yet.
pub fn give_credentials(controller: &Controller, model: &Model) -> Result<Arc<Api>> {
    let api = serve_api(controller, model)?;
    let password = random_hex(24);
    api.set_user(USER, User::new(&password, Access::Write));
    let secret = model.add_secret(CREDENTIALS, &[("username", USER), ("password", &password)])?;
    model.grant_secret(&secret, "coordinator")?;
    model.config("coordinator", &[("controller-credentials", &secret)])?;
    Ok(api)
}

/// Clusters of the stage's own.
fn clusters(options: &StageOptions) -> Result<[Arc<Cluster>; 2]> {
    Ok([Arc::new(Cluster::start(options.from)?), Arc::new(Cluster::start(options.to)?)])
}

/// One side's applications, not related yet.
fn place(place: &Place, postgresql: CharmedPostgresql, kratos: KratosApp, host: &str) -> Result<()> {
    let native = |name: &str, charm: Box<dyn crate::NativeCharm>| place.model.deploy(Charm::Native(charm), name);
    native(place.postgresql, Box::new(postgresql))?;
    native(place.kratos, Box::new(kratos))?;
    native(place.traefik, Box::new(Route::seen_by(host, &place.ingress)))
}

/// Puts a charm's folder together from the repository's files and a built `dispatch`.
pub fn charm_folder(repository: &Path, dispatch: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in ["metadata.yaml", "actions.yaml", "config.yaml"] {
        std::fs::copy(repository.join(name), folder.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    // A link where one can be made: dozens of these folders stay behind, and the program is large.
    let program = folder.join("dispatch");
    match std::fs::remove_file(&program) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    std::fs::hard_link(dispatch, &program).or_else(|_| copy_program(dispatch, &program))
}
