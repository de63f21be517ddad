//! The neighbours in a model: databases on request, Kratos through a refresh,
//! a consumer that follows it.

use std::sync::Arc;
use std::time::Duration;

use emulator::neighbours::{CharmedPostgresql, Consumer, KratosApp, Route};
use emulator::{Charm, Controller, Model, Options};
use peers::cluster::Cluster;

const LIMIT: Duration = Duration::from_secs(60);

fn status(model: &Model, unit: &str) -> (String, String) {
    model.status(unit).unwrap()
}

fn wait_status(model: &Model, unit: &str, word: &str, message: &str) {
    model
        .wait_until(&format!("{unit} is {word} {message:?}"), LIMIT, |model| {
            model.status(unit).is_ok_and(|(w, m)| w == word && m == message)
        })
        .unwrap();
}

#[test]
fn kratos_lives_through_relate_refresh_migration_and_the_next_hook() {
    for major in [14, 16] {
        let cluster = Arc::new(Cluster::start(major).unwrap());
        let controller = Controller::start(Options::default()).unwrap();
        let model = controller.add_model("iam").unwrap();
        let kratos = KratosApp::new(500, "0.4/stable", "1.0.0")
            .and_then(|charm| charm.with_revision(600, "1.0/stable", "1.3.1"))
            .unwrap();
        let (servers, consumer) = (kratos.view(), Consumer::new());
        let seen = consumer.view();
        model.deploy(Charm::Native(Box::new(CharmedPostgresql::new(cluster.clone()))), "postgresql-k8s").unwrap();
        model.deploy(Charm::Native(Box::new(kratos)), "kratos").unwrap();
        model.deploy(Charm::Native(Box::new(consumer)), "login-ui").unwrap();
        model.deploy(Charm::Native(Box::new(Route::new("iam.example"))), "traefik").unwrap();
        wait_status(&model, "kratos/0", "blocked", "Missing integration pg-database");

        model.integrate("kratos:pg-database", "postgresql-k8s:database").unwrap();
        model.integrate("kratos:kratos-info", "login-ui:kratos-info").unwrap();
        wait_status(&model, "kratos/0", "active", "");
        model.wait_idle(LIMIT).unwrap();
        assert!(seen.current().is_none(), "without a public URL nothing is published");
        model.integrate("kratos:public-route", "traefik:traefik-route").unwrap();
        model.wait_until("the consumer knows Kratos", LIMIT, |_| seen.current().is_some()).unwrap();

        let client = servers.client();
        peers::wait_for("Kratos to be ready", LIMIT, || client.ready().map_err(|error| format!("{error:#}"))).unwrap();
        assert_eq!(client.version().unwrap(), "v1.0.0");
        let people = peers::seed::people(&client, 2).unwrap();
        assert_eq!(seen.whoami(&people[0].session_token).unwrap()["identity"]["id"], people[0].id.as_str());
        let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'identities'";
        let owner = cluster.psql("iam_kratos", owner).unwrap();
        assert!(owner.starts_with(if major < 16 { "relation_id_" } else { "charmed_iam_kratos_owner" }), "{owner}");

        model.refresh("kratos", None, None, Some(600)).unwrap();
        wait_status(&model, "kratos/0", "waiting", "Waiting for database migration");
        model.config("kratos", &[("log_level", "debug")]).unwrap();
        model.wait_idle(LIMIT).unwrap();
        assert!(servers.running().is_empty(), "{:?}", servers.running());

        let failed = model.run("kratos/leader", "run-migration", &[("timeout", "0")]).unwrap();
        assert_eq!((failed.status.as_str(), failed.message.as_str()), ("failed", "Database migration failed: "));
        let done = model.run("kratos/leader", "run-migration", &[]).unwrap();
        assert_eq!(done.status, "completed", "{done:?}");
        assert_eq!(status(&model, "kratos/0"), ("active".to_owned(), String::new()));
        assert!(servers.running().is_empty(), "the action does not start the server");
        model.update_status("kratos/0").unwrap();
        model.wait_until("the next hook starts it", LIMIT, |_| !servers.running().is_empty()).unwrap();
        peers::wait_for("Kratos to be ready", LIMIT, || client.ready().map_err(|error| format!("{error:#}"))).unwrap();
        assert_eq!(client.version().unwrap(), "v1.3.1");
        peers::seed::check_people(&client, &people).unwrap();
        assert_eq!(seen.starts().len(), 1, "the address never changed");

        model.remove_relation("kratos:pg-database", "postgresql-k8s:database").unwrap();
        wait_status(&model, "kratos/0", "blocked", "Missing integration pg-database");
        model
            .wait_until("the user is gone", LIMIT, |_| {
                cluster.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname ~ '^relation'").unwrap() == "0"
            })
            .unwrap();
        assert_eq!(cluster.psql("iam_kratos", "SELECT count(*) FROM identities").unwrap(), "2");
        assert!(servers.running().is_empty());
    }
}

#[test]
fn a_request_that_cannot_be_served_blocks_the_database_charm() {
    let cluster = Arc::new(Cluster::start(16).unwrap());
    let controller = Controller::start(Options::default()).unwrap();
    let model = controller.add_model("a-model-with-a-name-that-is-really-very-long").unwrap();
    model.deploy(Charm::Native(Box::new(CharmedPostgresql::new(cluster))), "postgresql").unwrap();
    let kratos = KratosApp::new(1, "latest/edge", "1.0.0").unwrap();
    model.deploy(Charm::Native(Box::new(kratos)), "kratos").unwrap();
    model.integrate("kratos:pg-database", "postgresql:database").unwrap();
    wait_status(&model, "postgresql/0", "blocked", "invalid database name");
    wait_status(&model, "kratos/0", "waiting", "Waiting for database creation");
    model.remove_relation("kratos:pg-database", "postgresql:database").unwrap();
    wait_status(&model, "postgresql/0", "active", "Primary");
}
