//! Hydra through the real dispatch: both charms of it, their secrets, and a login UI that takes its address from us. The
//! release stays, because only one can be built here; with another one in ORY_BIN it is upgraded, without a person.

use super::closing::{no_hook_failed, no_password_in};
use super::rig::SOON;
use super::story::{charm, expect};
use emulator::neighbours::{CharmedPostgresql, Consumer, ConsumerView, HydraApp, HydraView, Route};
use emulator::stage::give_credentials;
use emulator::{Candidate, Charm, Controller, DeployOptions, Model, Options, Verdict};
use peers::cluster::Cluster;
use peers::seed::hydra::{Grant, check_grants, grants_named, renew_grants};
use std::sync::Arc;
use std::time::Duration;

struct Platform {
    controller: Controller,
    model: Model,
    source: Arc<Cluster>,
    target: Arc<Cluster>,
    hydra: HydraView,
    hydra_new: HydraView,
    login_ui: ConsumerView,
}

impl Platform {
    /// A Hydra that serves, and a second one on a cluster of its own, with secrets of its own.
    fn new() -> Self {
        Self::with(Duration::from_secs(2), Ok)
    }

    /// The same with this time between update-status hooks, and with what is published for the target's refresh.
    fn with(update_status_interval: Duration, publish: impl Fn(HydraApp) -> anyhow::Result<HydraApp>) -> Self {
        let options = Options { update_status_interval, ..Options::default() };
        let [source, target] = [14, 16].map(|major| Arc::new(Cluster::start(major).unwrap()));
        let controller = Controller::start(options).unwrap();
        let model = controller.add_model("iam").unwrap();
        let deploy = |name: &str, charm: Box<dyn emulator::NativeCharm>| {
            model.deploy(Charm::Native(charm), name).unwrap();
        };
        let hydra = || HydraApp::new(339, "0.3/stable", "2.3.0").unwrap();
        let (old, new, consumer) = (hydra(), publish(hydra()).unwrap(), Consumer::of_hydra());
        let (views, login_ui) = ((old.view(), new.view()), consumer.view());
        deploy("postgresql-k8s", Box::new(CharmedPostgresql::new(Arc::clone(&source))));
        deploy("postgresql-new", Box::new(CharmedPostgresql::new(Arc::clone(&target))));
        deploy("hydra", Box::new(old));
        deploy("hydra-new", Box::new(new));
        // Whoever moves keeps the public address, which tokens name.
        deploy("traefik", Box::new(Route::new("iam.example")));
        deploy("traefik-new", Box::new(Route::new("iam.example")));
        deploy("login-ui", Box::new(consumer));
        deploy("login-ui-new", Box::new(Consumer::of_hydra()));
        for (hydra, postgresql, traefik, ui) in [
            ("hydra", "postgresql-k8s", "traefik", "login-ui"),
            ("hydra-new", "postgresql-new", "traefik-new", "login-ui-new"),
        ] {
            model.integrate(&format!("{hydra}:pg-database"), &format!("{postgresql}:database")).unwrap();
            model.integrate(&format!("{hydra}:public-route"), &format!("{traefik}:traefik-route")).unwrap();
            model.integrate(&format!("{hydra}:ui-endpoint-info"), &format!("{ui}:ui-endpoint-info")).unwrap();
        }
        for hydra in ["hydra", "hydra-new"] {
            let serves = |model: &Model| model.status(hydra).is_ok_and(|(word, _)| word == "active");
            model.wait_until("Hydra to serve", SOON, serves).unwrap();
        }
        let ready = || views.0.client().ready().map_err(|error| format!("{error:#}"));
        peers::wait_for("the source's Hydra to be ready", SOON, ready).unwrap();
        peers::seed::hydra::rows(&source, "iam_hydra", 200).unwrap();
        let platform = Self { controller, model, source, target, hydra: views.0, hydra_new: views.1, login_ui };
        platform.deploy_coordinator();
        platform
    }

    fn deploy_coordinator(&self) {
        let model = &self.model;
        model.deploy_with(Charm::Folder(charm("hydra")), "coordinator", &DeployOptions::default()).unwrap();
        for (ours, theirs) in [
            ("source-database", "postgresql-k8s:database"),
            ("target-database", "postgresql-new:database"),
            ("source-hydra", "hydra:hydra-endpoint-info"),
            ("target-hydra", "hydra-new:hydra-endpoint-info"),
            ("hydra-endpoint-info", "login-ui:hydra-endpoint-info"),
        ] {
            model.integrate(&format!("coordinator:{ours}"), theirs).unwrap();
        }
        super::rig::status_says(model, "coordinator/0", "ready");
        self.users_are_with(&self.hydra);
    }

    /// Waits until the login UI has this Hydra's address.
    fn users_are_with(&self, hydra: &HydraView) {
        let url = hydra.ports().admin_url();
        let told = |_: &Model| self.login_ui.current().is_some_and(|seen| seen.admin_endpoint == url);
        self.model.wait_until("the login UI's address", SOON, told).unwrap();
    }

    /// What users and applications hold is good at the Hydra that the login UI has now.
    fn serves(&self, grants: &mut [Grant]) {
        let client = self.login_ui.hydra_client().unwrap();
        check_grants(&client, grants).unwrap();
        renew_grants(&client, grants).unwrap();
    }

    /// The operator restarts the target's server, and its charm has it up again.
    fn restart_target(&self, command: &str) {
        assert_eq!(command, "juju ssh --container hydra hydra-new/0 /charm/bin/pebble restart hydra");
        self.model.shell("hydra-new/0", "/charm/bin/pebble restart hydra").unwrap();
        self.model.update_status("hydra-new/0").unwrap();
    }

    /// Gives the target every secret of the source, as preflight has it.
    fn share_secrets(&self) {
        for kind in ["system", "cookie"] {
            let shown = self.model.run("hydra/leader", "get-secret-keys", &[("type", kind)]).unwrap();
            let values: Vec<String> = serde_json::from_str(&shown.result(kind)).unwrap();
            for value in values.iter().rev() {
                let added = self.model.run("hydra-new/leader", "add-secret-key", &[("type", kind), ("key", value)]);
                assert_eq!(added.unwrap().status, "completed");
            }
        }
        let knows = |_: &Model| {
            let pairs = [self.hydra.settings(), self.hydra_new.settings()].map(Option::unwrap_or_default);
            let [source, target] = pairs.map(|settings| [settings.system_secrets, settings.cookie_secrets].concat());
            source.iter().all(|value| target.contains(value))
        };
        self.model.wait_until("the target to know the source's secrets", SOON, knows).unwrap();
    }

    /// Users are on the target with all that they hold, make something new there, and go back with that, too.
    fn is_on_the_target_and_goes_back(&self, grants: &mut [Grant]) {
        self.users_are_with(&self.hydra_new);
        self.serves(grants);
        let mut new = grants_named(&self.hydra_new.client(), "new", 1).unwrap();
        assert!(!Platform::writable(&self.source, "iam_hydra"));
        expect(&self.model, "rollback", &[("wait", "120")], "done");
        self.is_back([grants, &mut new]);
    }

    /// Users are at the source again with all that they hold, and nothing of ours is left.
    fn is_back(&self, grants: [&mut [Grant]; 2]) {
        self.users_are_with(&self.hydra);
        grants.into_iter().for_each(|grants| self.serves(grants));
        assert!(Platform::writable(&self.source, "iam_hydra"));
        assert_eq!(self.left_behind(), Vec::<String>::new());
        no_hook_failed(&self.model);
        let dsns = [self.hydra.dsn(), self.hydra_new.dsn()];
        let postgresql = [(&self.model, "postgresql-k8s"), (&self.model, "postgresql-new")];
        no_password_in(std::slice::from_ref(&self.model), [&self.source, &self.target], postgresql, dsns);
    }

    fn left_behind(&self) -> Vec<String> {
        let mut left = peers::left_behind(&self.source, &["iam_coordinator"]).unwrap();
        left.extend(peers::left_behind(&self.target, &["iam_coordinator"]).unwrap());
        left
    }

    fn writable(cluster: &Cluster, database: &str) -> bool {
        cluster.psql(database, "UPDATE public.hydra_client SET nid = nid WHERE false").is_ok()
    }
}

#[test]
fn there_with_the_sources_secrets_back_and_nothing_is_left() {
    let platform = Platform::new();
    let model = &platform.model;
    let mut grants = grants_named(&platform.hydra.client(), "user", 2).unwrap();
    let looked = expect(model, "preflight", &[], "done");
    let report = looked.result("report");
    assert!(report.contains("system-secret") && report.contains("get-secret-keys type=system"), "{report}");
    assert!(!report.contains("identity-schemas") && !report.contains("courier-queue"), "{report}");

    expect(model, "refresh", &[("keep-release", "true")], "done");
    let other = super::rig::refused(model, "migrate", &[("channel", "0.4/stable")], "rollback");
    assert!(other.message.contains("keeps the source's release, 2.3.0"), "{other:?}");
    expect(model, "replicate", &[("wait", "120")], "done");
    let asked = expect(model, "run-migration", &[], "waiting");
    platform.restart_target(&asked.result("next"));
    let refused = super::story::run(model, "run-migration", &[("wait", "60")]);
    assert!(refused.message.contains("it cannot decrypt what the source wrote"), "{refused:?}");
    platform.share_secrets();
    expect(model, "run-migration", &[("wait", "60")], "done");

    let drained = expect(model, "drain", &[], "done");
    assert_eq!((drained.result("rows-different").as_str(), drained.result("phase").as_str()), ("0", "drained"));
    let refused = expect(model, "flip-traffic", &[("abandon-queued-messages", "true")], "refused");
    assert!(refused.message.contains("Hydra sends no messages"), "{refused:?}");
    expect(model, "flip-traffic", &[], "done");
    platform.is_on_the_target_and_goes_back(&mut grants);
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn with_credentials_migrate_alone_upgrades_it_and_rollback_leads_back() {
    // No hook comes by itself: a Hydra starts its server in its action.
    let platform = Platform::with(Duration::from_secs(3600), |hydra| hydra.with_revision(400, "latest/edge", "25.4.0"));
    let (model, api) = (&platform.model, give_credentials(&platform.controller, &platform.model).unwrap());
    let mut grants = grants_named(&platform.hydra.client(), "user", 2).unwrap();
    platform.share_secrets();
    let report = expect(model, "preflight", &[], "done").result("report");
    assert!(report.contains("user coordinator may change the model"), "{report}");

    let migrated = expect(model, "migrate", &[("channel", "latest/edge"), ("wait", "240")], "done");
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    let times = |call: &str| api.times_done(call);
    assert_eq!(
        (times("Application.SetCharm"), times("Action.EnqueueOperation"), times("Application.SetConfigs")),
        (1, 1, 0),
        "{:?}",
        api.changes()
    );
    assert_eq!(platform.hydra_new.running()["hydra-new/0"], "25.4.0");
    platform.is_on_the_target_and_goes_back(&mut grants);
}

#[test]
#[ignore = "needs servers in ORY_BIN: make ory-matrix"]
fn with_credentials_several_units_are_refreshed_and_their_leader_migrates() {
    let platform = Platform::with(Duration::from_secs(3600), |hydra| hydra.with_revision(400, "latest/edge", "25.4.0"));
    let (model, api) = (&platform.model, give_credentials(&platform.controller, &platform.model).unwrap());
    model.add_units("hydra-new", 2).unwrap();
    model.set_leader("hydra-new/2").unwrap();
    let serve = |model: &Model| {
        let all = model.units("hydra-new");
        all.len() == 3 && all.iter().all(|unit| model.status(unit).is_ok_and(|(word, _)| word == "active"))
    };
    model.wait_until("every unit to be active", SOON, serve).unwrap();
    let mut grants = grants_named(&platform.hydra.client(), "user", 2).unwrap();
    platform.share_secrets();
    model.wait_idle(SOON).unwrap();

    let held = |next: &Candidate<'_>| next.unit == "hydra-new/1" && next.path.starts_with("hooks/");
    let gate = move |next: &Candidate<'_>| if held(next) { Verdict::Wait } else { Verdict::Run };
    platform.controller.set_gate(Some(Box::new(gate)));
    let waits = expect(model, "refresh", &[("channel", "latest/edge"), ("wait", "20")], "running");
    assert!(waits.result("message").contains("hydra-new/1"), "{waits:?}");
    platform.controller.set_gate(None);
    model.update_status("hydra-new/1").unwrap();
    let migrated = expect(model, "migrate", &[("channel", "latest/edge"), ("wait", "240")], "done");
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    let tasks = model.tasks().into_iter().filter(|task| task.action == "run-migration");
    let ended: Vec<(String, String)> = tasks.map(|task| (task.unit, task.status)).collect();
    assert_eq!(ended, [("hydra-new/2".to_owned(), "completed".to_owned())]);
    assert_eq!((api.times_done("Application.SetCharm"), api.times_done("Application.SetConfigs")), (1, 0));
    let running = platform.hydra_new.running();
    assert!(!running.is_empty() && running.values().all(|version| version == "25.4.0"), "{running:?}");
    platform.is_on_the_target_and_goes_back(&mut grants);
}

#[test]
fn a_revision_with_the_same_release_is_told_and_only_the_database_moves() {
    let platform = Platform::with(Duration::from_secs(2), |hydra| hydra.with_revision(400, "latest/edge", "2.3.0"));
    let (model, api) = (&platform.model, give_credentials(&platform.controller, &platform.model).unwrap());
    let mut grants = grants_named(&platform.hydra.client(), "user", 1).unwrap();
    platform.share_secrets();
    // It has another image, so that only its server tells that the release is the same.
    let idle = expect(model, "refresh", &[("channel", "latest/edge"), ("wait", "120")], "waiting");
    let says = "hydra-new has ch:amd64/hydra-400, and still runs the source's release; to move the database only, run \
                rollback, then refresh keep-release=true";
    assert!(idle.result("message").contains(says), "{idle:?}");
    assert_eq!(platform.hydra_new.running()["hydra-new/0"], "2.3.0");
    expect(model, "rollback", &[("wait", "120")], "done");
    expect(model, "refresh", &[("keep-release", "true")], "done");
    let asked = expect(model, "migrate", &[("keep-release", "true"), ("wait", "120")], "waiting");
    platform.restart_target(&asked.result("next"));
    let migrated = expect(model, "migrate", &[("keep-release", "true"), ("wait", "120")], "done");
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}");
    assert_eq!((api.times_done("Application.SetCharm"), api.times_done("Action.EnqueueOperation")), (1, 0));
    platform.users_are_with(&platform.hydra_new);
    platform.serves(&mut grants);
    expect(model, "rollback", &[("wait", "120")], "done");
    platform.is_back([&mut grants, &mut []]);
}
