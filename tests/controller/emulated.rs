//! The API over an emulated model: what is asked for here is done by the emulator's units, and what they do is seen here.

use super::refresh::{PLAIN, channel, switch, until_refreshed};
use super::{BOTH, DEADLINE, PASSWORD, credentials, timing, wait_for};
use controller_peer::{Access, Generation, Options as ApiOptions, User};
use coordinator::controller::settled::{RefreshGoal, Settled, related, relation_between, relation_gone};
use coordinator::controller::{
    Code, Controller, Credentials, Integrated, Password, Scalar, Session, SetCharm, TaskStatus,
};
use emulator::neighbours::{KratosApp, Route};
use emulator::{Api, Charm, DeployOptions, Model, NativeCharm, Options};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

/// A charm in shell that tells how it reaches the controller, and whose hooks fail on request.
const DISPATCH: &str = r#"#!/bin/bash
if [ -n "$JUJU_ACTION_NAME" ]; then
    conf="$JUJU_CHARM_DIR/../agent.conf"
    action-log "looking"
    action-set addresses="$JUJU_API_ADDRESSES" model="$JUJU_MODEL_UUID" mode="$(stat -c %a "$conf")" conf="$(cat "$conf")"
    while [ "$(action-get hold)" = True ] && [ ! -e "$JUJU_CHARM_DIR/go-on" ]; do sleep 0.01; done
    exit 0
fi
[ "$JUJU_DISPATCH_PATH" = hooks/config-changed ] && [ "$(config-get bad)" = True ] && exit 1
status-set active "at work"
"#;
const METADATA: &str = "{name: little, summary: s, description: d}";
const ACTIONS: &str = "look: {params: {hold: {type: boolean, default: false}}}";
const CONFIG: &str = "options: {bad: {type: boolean, default: false}}";

struct Played {
    emulator: emulator::Controller,
    model: Model,
    api: Arc<Api>,
    folder: PathBuf,
}

impl Played {
    fn new(generation: Generation, name: &str) -> Self {
        let version = match generation {
            Generation::Three => "3.6.12",
            Generation::Four => "4.0.14.1",
        };
        let emulator = emulator::Controller::start(Options { version: version.into(), ..Options::default() }).unwrap();
        let model = emulator.add_model("iam").unwrap();
        let folder = std::env::temp_dir().join(format!("emulated-{}-{name}-{generation:?}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in
            [("metadata.yaml", METADATA), ("actions.yaml", ACTIONS), ("config.yaml", CONFIG), ("dispatch", DISPATCH)]
        {
            std::fs::write(folder.join(file), text).unwrap();
        }
        std::fs::set_permissions(folder.join("dispatch"), std::fs::Permissions::from_mode(0o755)).unwrap();
        // One that is there before the API, and others that come later.
        model.deploy(Charm::Folder(folder.clone()), "little").unwrap();
        let api = emulator.serve_api("iam", &ApiOptions::default()).unwrap();
        api.set_user("migrator", User::new(PASSWORD, Access::Write));
        Self { emulator, model, api, folder }
    }

    fn deploy(&self, charm: impl NativeCharm + 'static, name: &str, units: u32) {
        let options = DeployOptions { units, ..DeployOptions::default() };
        self.model.deploy_with(Charm::Native(Box::new(charm)), name, &options).unwrap();
    }

    fn kratos(&self, units: u32) {
        let kratos = KratosApp::new(383, "0.1/stable", "1.0.0").unwrap();
        self.deploy(kratos.with_revision(500, "0.4/stable", "1.3.1").unwrap(), "kratos", units);
    }

    fn idle(&self) {
        self.model.wait_idle(DEADLINE).unwrap();
    }

    async fn session(&self) -> Session {
        let controller = Controller { addresses: self.api.addresses(), ca: self.api.ca() };
        Session::open(&controller, &credentials(), &self.model.uuid(), timing()).await.unwrap()
    }

    /// How often a unit has begun this hook.
    fn count(&self, unit: &str, hook: &str) -> usize {
        self.model.hooks(unit).unwrap().iter().filter(|name| *name == hook).count()
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        self.model.wait_until(what, DEADLINE, |_| holds()).unwrap();
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_charm_process_is_told_how_to_reach_it() {
    for generation in BOTH {
        let played = Played::new(generation, "told");
        played.model.deploy(Charm::Folder(played.folder.clone()), "later").unwrap();
        played.idle();
        for application in ["little", "later"] {
            let told = played.model.run(&format!("{application}/0"), "look", &[]).unwrap();
            assert_eq!((told.status.as_str(), told.result("mode").as_str()), ("completed", "600"), "{told:?}");
            let agent: BTreeMap<String, serde_json::Value> = serde_yaml::from_str(&told.result("conf")).unwrap();
            assert_eq!(agent["tag"], format!("unit-{application}-0"));
            assert_eq!(agent["upgradedToVersion"], played.emulator.version());
            assert!(agent.keys().all(|key| !key.contains("password")), "{:?}", agent.keys());
            let controller = Controller {
                addresses: told.result("addresses").split(' ').map(str::to_owned).collect(),
                ca: agent["cacert"].as_str().unwrap().to_owned(),
            };
            let session = Session::open(&controller, &credentials(), &told.result("model"), timing()).await.unwrap();
            assert_eq!(session.login().model_tag, format!("model-{}", played.model.uuid()));
            assert_eq!(format!("{:?}", session.generation()), format!("{generation:?}"));
        }
        // One API at a time, and the same one for the same model.
        assert!(Arc::ptr_eq(&played.api, &played.emulator.serve_api("iam", &ApiOptions::default()).unwrap()));
        played.emulator.add_model("other").unwrap();
        assert!(played.emulator.serve_api("other", &ApiOptions::default()).is_err());
    }
}

#[tokio::test]
async fn a_refresh_shows_as_upgrade_charm_at_every_unit_and_its_image_as_another_server() {
    for generation in BOTH {
        let played = Played::new(generation, "refresh");
        played.kratos(2);
        played.idle();
        let session = played.session().await;
        let before = session.full_status().await.unwrap();
        let kratos = &before.applications["kratos"];
        assert_eq!((kratos.charm.as_str(), kratos.charm_channel.as_str()), ("ch:amd64/kratos-383", "0.1/stable"));
        assert_eq!((kratos.workload_version.as_str(), kratos.scale), ("1.0.0", 2));
        assert_eq!(played.count("kratos/1", "upgrade-charm"), 0);
        let at = session.charm_url_origin("kratos").await.unwrap();
        let origin = at.origin.by_channel(&channel("0.4/stable"));
        let resolved = session.resolve_charm(PLAIN, &origin, false).await.unwrap();
        let done = switch(&session, &resolved, "stable", &BTreeMap::new()).await;
        assert_eq!((done.charm_url.as_str(), done.resource_ids.len()), ("ch:amd64/kratos-500", 1));
        let goal = RefreshGoal {
            application: "kratos",
            charm_url: &resolved.url,
            channel: Some("0.4/stable"),
            asked_at: Some(before.controller_timestamp),
            units: 2,
            workload_version: Some("1.3.1"),
            // It has no database.
            fine: &["blocked"],
        };
        until_refreshed(&session, &goal).await;
        played.wait("the hook at both units", || {
            ["kratos/0", "kratos/1"].iter().all(|unit| played.count(unit, "upgrade-charm") > 0)
        });
        played.idle();
        let images = session.resources("kratos").await.unwrap();
        assert_eq!(images.resources.iter().map(|image| image.revision).collect::<Vec<_>>(), [520]);

        // Back by revision, and without its image: the charm is the old one, and the server is not.
        let upgrades = played.count("kratos/0", "upgrade-charm");
        let at = session.charm_url_origin("kratos").await.unwrap();
        let old = at.origin.by_revision(&channel("0.1/stable"), 383);
        let resolved = session.resolve_charm("ch:amd64/kratos-383", &old, true).await.unwrap();
        let origin = session.add_charm(&resolved.url, &resolved.origin).await.unwrap();
        let back = SetCharm { charm_url: resolved.url, charm_origin: origin, resource_ids: BTreeMap::new(), ..done };
        session.set_charm(&back).await.unwrap();
        played.wait("the hook", || played.count("kratos/0", "upgrade-charm") > upgrades);
        played.idle();
        let after = session.full_status().await.unwrap();
        let kratos = &after.applications["kratos"];
        assert_eq!((kratos.charm.as_str(), kratos.workload_version.as_str()), ("ch:amd64/kratos-383", "1.3.1"));
    }
}

#[tokio::test]
async fn an_action_runs_at_the_unit_and_is_seen_at_it() {
    for generation in BOTH {
        let played = Played::new(generation, "action");
        played.idle();
        let session = played.session().await;
        let hold = BTreeMap::from([("hold".to_owned(), Scalar::Flag(true))]);
        let enqueued = session.enqueue("little/leader", "look", &hold).await.unwrap();
        let agent = wait_for("the unit at work", || async {
            let unit = session.full_status().await.unwrap().applications["little"].units["little/0"].clone();
            (unit.agent_status.status == "executing").then_some(unit.agent_status)
        })
        .await;
        assert_eq!(agent.info, "running action look");
        assert_eq!(session.task(&enqueued.task).await.unwrap().status, TaskStatus::Running);
        std::fs::write(played.model.charm_folder("little/0").unwrap().join("go-on"), "").unwrap();
        let task = wait_for("the task's end", || async {
            let task = session.task(&enqueued.task).await.unwrap();
            task.status.is_final().then_some(task)
        })
        .await;
        assert!(task.succeeded(), "{task:?}");
        assert_eq!(task.result("model").as_deref(), Some(played.model.uuid().as_str()));
        assert_eq!(task.log[0].message, "looking");
        let number: u64 = enqueued.task.trim_start_matches("action-").parse().unwrap();
        assert_eq!(played.model.task(number).unwrap().status, "completed");
        let unit = session.full_status().await.unwrap().applications["little"].units["little/0"].clone();
        assert!(unit.agent_status.status == "idle" && unit.agent_status.since >= agent.since, "{unit:?}");
    }
}

#[tokio::test]
async fn a_relation_shows_as_hooks_at_both_ends() {
    let played = Played::new(Generation::Four, "relation");
    played.kratos(1);
    played.deploy(Route::new("iam.example.com"), "traefik", 1);
    played.idle();
    let session = played.session().await;
    let (one, other) = ("kratos:public-route", "traefik:traefik-route");
    session.add_relation(one, other).await.unwrap();
    let made = wait_for("the relation", || async {
        let status = session.full_status().await.unwrap();
        (related(&status, one, other) == Settled::Yes).then_some(status)
    })
    .await;
    played.wait("the hooks", || {
        played.count("kratos/0", "public-route-relation-changed") > 0
            && played.count("traefik/0", "traefik-route-relation-created") > 0
    });
    assert_eq!(session.add_relation(one, other).await.unwrap(), Integrated::WasThere);
    let id = relation_between(&made, one, other).unwrap().id;
    session.destroy_relation(one, other).await.unwrap();
    wait_for("its end", || async {
        (relation_gone(&session.full_status().await.unwrap(), id) == Settled::Yes).then_some(())
    })
    .await;
    assert_eq!(played.count("kratos/0", "public-route-relation-broken"), 1);
    assert_eq!(played.count("traefik/0", "traefik-route-relation-broken"), 1);
}

#[tokio::test]
async fn an_application_of_another_model_shows_as_its_offer_and_is_related_by_its_name_here() {
    for generation in BOTH {
        let played = Played::new(generation, "offer");
        played.kratos(1);
        let edge = played.emulator.add_model("edge").unwrap();
        edge.deploy(Charm::Native(Box::new(Route::new("iam.example.com"))), "traefik").unwrap();
        let address = edge.offer("traefik", &["traefik-route"], None).unwrap();
        played.model.consume(&address, Some("ingress")).unwrap();
        played.idle();
        let session = played.session().await;
        let status = session.full_status().await.unwrap();
        let seen = &status.remote_applications["ingress"];
        assert_eq!((seen.offer_url.as_str(), seen.life.as_str()), ("admin/edge.traefik", "alive"));
        assert!(!status.applications.contains_key("ingress"));
        let (one, other) = ("kratos:public-route", "ingress:traefik-route");
        // What is not offered is not there.
        assert!(session.add_relation("kratos:public-route", "ingress:ingress").await.is_err());
        session.add_relation(one, other).await.unwrap();
        assert_eq!(session.add_relation(one, other).await.unwrap(), Integrated::WasThere);
        let made = wait_for("the relation", || async {
            let status = session.full_status().await.unwrap();
            (related(&status, one, other) == Settled::Yes).then_some(status)
        })
        .await;
        let hooks = |hook: &str| edge.hooks("traefik/0").unwrap().iter().filter(|name| *name == hook).count();
        played.wait("the hooks of the other model", || hooks("traefik-route-relation-changed") > 0);
        let id = relation_between(&made, one, other).unwrap().id;
        session.destroy_relation_by_id(id).await.unwrap();
        wait_for("its end", || async {
            (relation_gone(&session.full_status().await.unwrap(), id) == Settled::Yes).then_some(())
        })
        .await;
        assert_eq!(hooks("traefik-route-relation-broken"), 1);
        played.model.remove_saas("ingress").unwrap();
        assert!(session.full_status().await.unwrap().remote_applications.is_empty());
        assert!(session.add_relation(one, other).await.is_err());
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_seen_until_it_is_cured() {
    let played = Played::new(Generation::Four, "failing");
    played.idle();
    let session = played.session().await;
    let set = |value: &str| BTreeMap::from([("bad".to_owned(), value.to_owned())]);
    session.set_config("little", &set("true")).await.unwrap();
    let seen = async |word: &str| {
        wait_for(word, || async {
            let unit = session.full_status().await.unwrap().applications["little"].units["little/0"].clone();
            (unit.workload_status.status == word).then_some(unit.workload_status.info)
        })
        .await
    };
    assert_eq!(seen("error").await, "hook failed: \"config-changed\"");
    assert!(session.application("little").await.unwrap().config["bad"].value == serde_json::json!(true));
    session.set_config("little", &set("false")).await.unwrap();
    assert_eq!(seen("active").await, "at work");
}

/// Takes what a command prints, and gives it a password to read.
#[derive(Default)]
struct Terminal(String);

impl emulator::cli::Printer for Terminal {
    fn out(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.push_str(text);
        Ok(())
    }

    fn err(&mut self, text: &str) -> anyhow::Result<()> {
        self.out(text)
    }

    fn input(&mut self) -> anyhow::Result<String> {
        Ok(format!("{PASSWORD}\n"))
    }
}

#[tokio::test]
async fn an_operator_gives_and_takes_access_on_the_command_line() {
    let played = Played::new(Generation::Four, "users");
    played.idle();
    played.api.change_user("migrator", |user| user.disabled = true);
    let controller = Controller { addresses: played.api.addresses(), ca: played.api.ca() };
    let by_hand = Credentials { username: "by-hand".into(), password: Password::new(PASSWORD) };
    let juju = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut terminal = Terminal::default();
        let code = emulator::cli::execute(&played.emulator, &mut "iam".into(), &words, &played.folder, &mut terminal);
        (code, terminal.0)
    };
    let typed = |line: &str| assert_eq!(juju(line).0, 0, "{line}: {}", juju(line).1);
    let uuid = played.model.uuid();
    let login = || Session::open(&controller, &by_hand, &uuid, timing());
    typed("add-user by-hand");
    assert!(login().await.is_err(), "it has no password and no access");
    typed("grant by-hand write iam");
    typed("change-user-password by-hand --no-prompt");
    let session = login().await.unwrap();
    let same = BTreeMap::from([("bad".to_owned(), "false".to_owned())]);
    session.set_config("little", &same).await.unwrap();
    typed("disable-command all frozen until Monday");
    let error = session.set_config("little", &same).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().contains("frozen until Monday")),
        (Some(Code::Blocked), true),
        "{error}"
    );
    typed("enable-command all");
    session.set_config("little", &same).await.unwrap();
    typed("revoke by-hand write iam");
    assert!(session.set_config("little", &same).await.is_err());
    assert!(session.full_status().await.is_ok(), "read is left");
    typed("disable-user by-hand");
    assert!(session.full_status().await.is_err() && login().await.is_err());
    typed("enable-user by-hand");
    assert!(login().await.is_err(), "read is not enough");
    typed("grant by-hand write iam");
    login().await.unwrap();
    for wrong in ["grant nobody write iam", "grant by-hand write other", "grant by-hand much iam", "add-user by-hand"] {
        assert_eq!(juju(wrong).0, 1, "{wrong}");
    }
}
