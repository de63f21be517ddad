//! The Hydra charm in a model: what its server waits for, the secrets it keeps, and who migrates.

use std::sync::Arc;
use std::time::Duration;

use emulator::neighbours::{CharmedPostgresql, Consumer, ConsumerView, HydraApp, HydraView, Route};
use emulator::{Charm, Controller, DeployOptions, Model, Options};
use peers::cluster::Cluster;
use peers::hydra::Client;
use peers::seed::hydra as seed;

const LIMIT: Duration = Duration::from_secs(60);
const UNMIGRATED: &str = "Waiting for migration to run, try running the `run-migration` action";

fn wait_status(model: &Model, unit: &str, word: &str, message: &str) {
    let wanted = (word.to_owned(), message.to_owned());
    peers::wait_for(&format!("{unit} to be {word} {message:?}"), LIMIT, || match model.status(unit) {
        Ok(status) if status == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
}

fn wait_ready(client: &Client) {
    peers::wait_for("Hydra to be ready", LIMIT, || client.ready().map_err(|error| format!("{error:#}"))).unwrap();
}

/// A model with a database, a route and a login UI, none of them related yet.
struct Stage {
    _controller: Controller,
    model: Model,
    cluster: Arc<Cluster>,
    login_ui: ConsumerView,
}

impl Stage {
    fn new(major: u32) -> Self {
        let cluster = Arc::new(Cluster::start(major).unwrap());
        let controller = Controller::start(Options::default()).unwrap();
        let model = controller.add_model("iam").unwrap();
        let login_ui = Consumer::of_hydra();
        let seen = login_ui.view();
        model.deploy(Charm::Native(Box::new(CharmedPostgresql::new(cluster.clone()))), "postgresql-k8s").unwrap();
        model.deploy(Charm::Native(Box::new(login_ui)), "login-ui").unwrap();
        model.deploy(Charm::Native(Box::new(Route::new("iam.example"))), "traefik").unwrap();
        Stage { _controller: controller, model, cluster, login_ui: seen }
    }

    /// A Hydra with these options, not related yet.
    fn deploy(&self, name: &str, config: &[(&str, &str)]) -> HydraView {
        let hydra = HydraApp::new(339, "0.3/stable", "2.3.0")
            .and_then(|charm| charm.with_revision(400, "0.4/stable", "2.3.0"))
            .unwrap();
        let view = hydra.view();
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let options = DeployOptions { config, ..DeployOptions::default() };
        self.model.deploy_with(Charm::Native(Box::new(hydra)), name, &options).unwrap();
        view
    }

    fn relate(&self, name: &str) {
        for (ours, theirs) in [
            ("pg-database", "postgresql-k8s:database"),
            ("public-route", "traefik:traefik-route"),
            ("ui-endpoint-info", "login-ui:ui-endpoint-info"),
        ] {
            self.model.integrate(&format!("{name}:{ours}"), theirs).unwrap();
        }
    }

    /// The values of a secret, newest first, as the action shows them.
    fn secret(&self, name: &str, kind: &str) -> Vec<String> {
        let shown = self.model.run(&format!("{name}/leader"), "get-secret-keys", &[("type", kind)]).unwrap();
        assert_eq!(shown.status, "completed", "{shown:?}");
        serde_json::from_str(shown.results[kind].as_str().unwrap()).unwrap()
    }
}

#[test]
fn hydra_lives_through_relate_refresh_migration_and_new_secrets() {
    for major in [14, 16] {
        let stage = Stage::new(major);
        let model = &stage.model;
        let servers = stage.deploy("hydra", &[]);
        wait_status(model, "hydra/0", "blocked", "Missing integration pg-database");
        model.integrate("hydra:hydra-endpoint-info", "login-ui:hydra-endpoint-info").unwrap();
        model.wait_until("the login UI knows Hydra", LIMIT, |_| stage.login_ui.current().is_some()).unwrap();
        assert!(servers.running().is_empty(), "addresses are told before anything listens");

        // The automatic migration fails on a table that is in the way, and the action is asked for.
        stage.cluster.psql("postgres", "CREATE DATABASE iam_hydra").unwrap();
        stage.cluster.psql("iam_hydra", "CREATE TABLE hydra_oauth2_flow (in_the_way int)").unwrap();
        stage.relate("hydra");
        wait_status(model, "hydra/0", "waiting", UNMIGRATED);
        model.wait_idle(LIMIT).unwrap();
        assert!(servers.running().is_empty(), "{:?}", servers.running());
        let failed = model.run("hydra/leader", "run-migration", &[]).unwrap();
        assert_eq!((failed.status.as_str(), failed.message.as_str()), ("failed", "Database migration failed: "));
        stage.cluster.psql("iam_hydra", "DROP TABLE hydra_oauth2_flow").unwrap();
        let done = model.run("hydra/leader", "run-migration", &[]).unwrap();
        assert_eq!(done.status, "completed", "{done:?}");
        assert!(!servers.running().is_empty(), "the action starts the server");
        wait_status(model, "hydra/0", "active", "");

        let client = stage.login_ui.hydra_client().unwrap();
        wait_ready(&client);
        assert_eq!(client.version().unwrap(), "v2.3.0");
        assert_eq!(client.discovery().unwrap()["issuer"], "https://iam.example");
        let mut grants = seed::grants(&client, 2).unwrap();
        assert_eq!(grants[0].machine_token.split('.').count(), 3, "the charm has access tokens signed");
        let keys = client.key_ids().unwrap();

        // The pods of a new revision start empty; with the same release the next hook starts the server.
        model.refresh("hydra", None, None, Some(400)).unwrap();
        model.wait_idle(LIMIT).unwrap();
        model.wait_until("the server runs again", LIMIT, |_| !servers.running().is_empty()).unwrap();
        wait_ready(&client);
        assert_eq!(client.key_ids().unwrap(), keys);

        // A new system secret is for what is written from now on; a hook tells the server of it.
        let before = stage.secret("hydra", "system");
        let added = [("type", "system"), ("key", "a-system-secret-from-the-operator")];
        assert_eq!(model.run("hydra/leader", "add-secret-key", &added).unwrap().status, "completed");
        assert_eq!(
            stage.secret("hydra", "system"),
            [&["a-system-secret-from-the-operator".to_owned()], &before[..]].concat()
        );
        model
            .wait_until("the server is told", LIMIT, |_| {
                servers.settings().is_some_and(|settings| settings.system_secrets == stage.secret("hydra", "system"))
            })
            .unwrap();
        wait_ready(&client);
        assert_eq!(client.key_ids().unwrap(), keys);
        seed::renew_grants(&client, &mut grants).unwrap();
        seed::check_grants(&client, &grants).unwrap();

        // A route that goes does not stop the server; a database does.
        model.remove_relation("hydra:public-route", "traefik:traefik-route").unwrap();
        wait_status(model, "hydra/0", "blocked", "Missing required relation with public-route");
        client.ready().unwrap();
        model.remove_relation("hydra:pg-database", "postgresql-k8s:database").unwrap();
        wait_status(model, "hydra/0", "blocked", "Missing integration pg-database");
        assert!(servers.running().is_empty());
        assert_eq!(stage.login_ui.starts().len(), 1, "the address never changed");
    }
}

#[test]
fn a_second_hydra_has_the_secrets_of_the_first_when_it_is_given_them_before_its_first_start() {
    let stage = Stage::new(16);
    let model = &stage.model;
    let first = stage.deploy("hydra", &[]);
    stage.relate("hydra");
    wait_status(model, "hydra/0", "active", "");
    let stranger = stage.deploy("hydra-stranger", &[]);
    stage.relate("hydra-stranger");
    wait_status(model, "hydra-stranger/0", "active", "");
    let secrets = first.settings().unwrap().system_secrets;
    assert_ne!(stranger.settings().unwrap().system_secrets, secrets);

    let mut options = Vec::new();
    for kind in ["system", "cookie"] {
        let values = stage.secret("hydra", kind);
        let secret = model.add_secret(&format!("{kind}-of-hydra"), &[("value", &values[0])]).unwrap();
        options.push((format!("initial_{kind}_secret_id"), secret));
    }
    let options: Vec<(&str, &str)> = options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let second = stage.deploy("hydra-new", &options);
    // Until both are granted its hooks fail.
    model
        .wait_until("the hook fails", LIMIT, |model| {
            model.status("hydra-new/0").is_ok_and(|(status, _)| status == "error")
        })
        .unwrap();
    for kind in ["system", "cookie"] {
        model.grant_secret(&format!("{kind}-of-hydra"), "hydra-new").unwrap();
    }
    stage.relate("hydra-new");
    wait_status(model, "hydra-new/0", "active", "");
    assert_eq!(second.settings(), first.settings());

    // A user secret that comes later changes nothing.
    let late = model.add_secret("late", &[("value", "a-secret-that-comes-too-late")]).unwrap();
    model.grant_secret("late", "hydra-new").unwrap();
    model.config("hydra-new", &[("initial_system_secret_id", &late)]).unwrap();
    model.wait_idle(LIMIT).unwrap();
    assert_eq!(stage.secret("hydra-new", "system"), secrets);
}
