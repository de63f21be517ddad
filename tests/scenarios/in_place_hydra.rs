//! The upgrade in place of Hydra, which starts its server in its action. The way to its end needs another release in ORY_BIN.

use super::closing::{no_hook_failed, no_password_in};
use super::hold;
use super::rig::{self, SOON};
use super::story::{charm, expect, run};
use controller_peer::Fault;
use emulator::neighbours::{CharmedPostgresql, Consumer, ConsumerView, HydraApp, HydraView, Route};
use emulator::stage::give_credentials;
use emulator::{ActionResult, Charm, Controller, DeployOptions, Model, Options};
use peers::cluster::Cluster;
use peers::seed::hydra::{Grant, check_grants, grants_named, renew_grants};
use std::sync::Arc;
use std::time::Duration;

const UNIT: &str = "coordinator/0";

/// One Hydra whose login UI takes its address from the coordinator.
struct Alone {
    controller: Controller,
    model: Model,
    cluster: Arc<Cluster>,
    hydra: HydraView,
    login_ui: ConsumerView,
}

impl Alone {
    fn new(name: &str, update_status_interval: Duration, hydra: HydraApp) -> Self {
        let cluster = Arc::new(Cluster::start(14).unwrap());
        let controller = Controller::start(Options { update_status_interval, ..Options::default() }).unwrap();
        let model = controller.add_model("iam").unwrap();
        let deploy = |name: &str, charm: Box<dyn emulator::NativeCharm>| {
            model.deploy(Charm::Native(charm), name).unwrap();
        };
        let (view, consumer) = (hydra.view(), Consumer::of_hydra());
        let login_ui = consumer.view();
        deploy("postgresql-k8s", Box::new(CharmedPostgresql::new(Arc::clone(&cluster))));
        deploy("hydra", Box::new(hydra));
        deploy("traefik", Box::new(Route::new("iam.example")));
        deploy("login-ui", Box::new(consumer));
        model.integrate("hydra:pg-database", "postgresql-k8s:database").unwrap();
        model.integrate("hydra:public-route", "traefik:traefik-route").unwrap();
        model.integrate("hydra:ui-endpoint-info", "login-ui:ui-endpoint-info").unwrap();
        let ready = || view.client().ready().map_err(|error| format!("{error:#}"));
        peers::wait_for("Hydra to be ready", SOON, ready).unwrap();
        model.deploy_with(Charm::Folder(charm(name)), "coordinator", &DeployOptions::default()).unwrap();
        for (ours, theirs) in [
            ("source-database", "postgresql-k8s:database"),
            ("source-hydra", "hydra:hydra-endpoint-info"),
            ("hydra-endpoint-info", "login-ui:hydra-endpoint-info"),
        ] {
            model.integrate(&format!("coordinator:{ours}"), theirs).unwrap();
        }
        rig::status_says(&model, UNIT, "nothing is related to target-database");
        Self { controller, model, cluster, hydra: view, login_ui }
    }

    /// The new release serves what users hold, and nothing of ours is left but the journal.
    fn upgraded(&self, grants: &mut [Grant]) {
        rig::status_says(&self.model, UNIT, "upgraded in place from 2.3.0 to 25.4.0");
        assert_eq!(self.hydra.running()["hydra/0"], "25.4.0");
        let report = expect(&self.model, "show", &[], "done").result("report");
        assert!(report.contains("order in-place") && report.contains("[x] gates"), "{report}");
        let client = self.login_ui.hydra_client().unwrap();
        check_grants(&client, grants).unwrap();
        renew_grants(&client, grants).unwrap();
        self.left();
        let dsns = [self.hydra.dsn(), None];
        let postgresql = [(&self.model, "postgresql-k8s"), (&self.model, "postgresql-k8s")];
        no_password_in(std::slice::from_ref(&self.model), [&self.cluster, &self.cluster], postgresql, dsns);
    }

    fn left(&self) {
        assert_eq!(peers::left_behind(&self.cluster, &["iam_coordinator"]).unwrap(), Vec::<String>::new());
        no_hook_failed(&self.model);
    }
}

fn with(channel: &str) -> [(&str, &str); 3] {
    [("channel", channel), ("accept-outage", "true"), ("accept-no-backup", "true")]
}

/// With another release in the store, under a channel whose charm can migrate.
fn newer() -> HydraApp {
    HydraApp::new(339, "0.3/stable", "2.3.0").unwrap().with_revision(400, "latest/edge", "25.4.0").unwrap()
}

/// Asked for again until it is over.
fn to_the_end(model: &Model) -> ActionResult {
    let asked = [&with("latest/edge")[..], &[("wait", "120")]].concat();
    let mut last = run(model, "upgrade-in-place", &asked);
    for _ in 0..4 {
        if last.result("outcome") != "running" {
            break;
        }
        last = run(model, "upgrade-in-place", &asked);
    }
    last
}

#[test]
fn it_is_asked_for_in_the_same_way() {
    let hydra = HydraApp::new(339, "0.3/stable", "2.3.0").unwrap();
    let alone = Alone::new("in-place-hydra", Duration::from_secs(2), hydra);
    let model = &alone.model;
    let unfit = "upgrade-in-place channel=0.5/stable accept-outage=true accept-no-backup=true";
    rig::refused(model, "upgrade-in-place", &with("0.4/stable"), unfit);
    let asked = expect(model, "upgrade-in-place", &with("0.5/stable"), "waiting");
    assert_eq!(asked.result("next"), "juju refresh hydra --channel 0.5/stable");
    expect(model, "rollback", &[], "done");
    rig::status_says(model, UNIT, "nothing is related to target-database");
    alone.left();
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn with_credentials_one_action_upgrades_it_with_every_reply_lost() {
    // No hook comes by itself: it starts its server in its action.
    let alone = Alone::new("in-place-hydra-controller", Duration::from_secs(3600), newer());
    let model = &alone.model;
    let mut grants = grants_named(&alone.hydra.client(), "user", 2).unwrap();
    let api = give_credentials(&alone.controller, model).unwrap();
    for call in ["Application.SetCharm", "Action.EnqueueOperation", "Client.FullStatus"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    // And once a worker is killed between the refresh and the migration.
    hold::arm_in(model, UNIT, "record-after/done/refresh", "kill");
    model.enqueue("coordinator/leader", "upgrade-in-place", &with("latest/edge")).unwrap();
    hold::reached_in(model, UNIT);
    model.update_status(UNIT).unwrap();
    let done = to_the_end(model);
    assert_eq!(done.result("outcome"), "done", "{done:?}\n{}", model.unit_log(UNIT));
    let again = to_the_end(model);
    assert!(again.result("message").contains("from 2.3.0 to 25.4.0 already"), "{again:?}");
    let times = |call: &str| api.times_done(call);
    assert_eq!(
        (times("Application.SetCharm"), times("Action.EnqueueOperation"), times("Application.SetConfigs")),
        (1, 1, 0),
        "{:?}",
        api.changes()
    );
    alone.upgraded(&mut grants);
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn typed_by_the_operator_it_is_upgraded() {
    let alone = Alone::new("in-place-hydra-typed", Duration::from_secs(2), newer());
    let model = &alone.model;
    let mut grants = grants_named(&alone.hydra.client(), "user", 2).unwrap();
    let asked = expect(model, "upgrade-in-place", &with("latest/edge"), "waiting");
    assert_eq!(asked.result("next"), "juju refresh hydra --channel latest/edge");
    model.refresh("hydra", None, Some("latest/edge"), None).unwrap();
    rig::status_says(model, UNIT, "juju run hydra/leader run-migration timeout=");
    // Back and there again, while that is possible.
    let asked = expect(model, "rollback", &[], "waiting");
    assert_eq!(asked.result("next"), "juju refresh hydra --revision <revision before>");
    model.refresh("hydra", None, Some("0.3/stable"), Some(339)).unwrap();
    expect(model, "rollback", &[], "done");
    alone.left();
    check_grants(&alone.login_ui.hydra_client().unwrap(), &grants).unwrap();
    expect(model, "upgrade-in-place", &with("latest/edge"), "waiting");
    model.refresh("hydra", None, Some("latest/edge"), None).unwrap();
    rig::status_says(model, UNIT, "juju run hydra/leader run-migration timeout=");
    // Without its login UI it does not start, which only its own status tells.
    model.remove_relation("hydra:ui-endpoint-info", "login-ui:ui-endpoint-info").unwrap();
    model.wait_idle(SOON).unwrap();
    model.run("hydra/leader", "run-migration", &[("timeout", "120")]).unwrap();
    let down = expect(model, "upgrade-in-place", &with("latest/edge"), "waiting");
    assert!(down.result("message").contains("hydra is down, and starts at its next hook"), "{down:?}");
    assert_eq!(down.result("next"), "juju status hydra");
    model.integrate("hydra:ui-endpoint-info", "login-ui:ui-endpoint-info").unwrap();
    model.wait_idle(SOON).unwrap();
    expect(model, "upgrade-in-place", &with("latest/edge"), "done");
    alone.upgraded(&mut grants);
    let late = run(model, "rollback", &[]);
    assert!(late.message.contains("no charm leads a schema back"), "{late:?}");
}
