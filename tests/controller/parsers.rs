//! Our parsers read every reply that a real controller gave: the peer passes each one on as it was recorded.

use super::{controller, credentials, open, peer, replay, timing};
use controller_peer::Generation;
use coordinator::controller::{
    Access, CharmOrigin, Code, Error, Integrated, Login, LoginRefusal, Result, Scalar, Session, SetCharm, TaskStatus,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Which call of ours reads the reply; what it found, as text.
async fn read(session: &Session, call: &str) -> Option<Result<String>> {
    fn shown<T: std::fmt::Debug>(read: Result<T>) -> Option<Result<String>> {
        Some(read.map(|found| format!("{found:?}")))
    }
    let switch = SetCharm {
        application: "kratos".into(),
        charm_url: "local:probe-2".into(),
        charm_origin: CharmOrigin::default(),
        channel: String::new(),
        resource_ids: BTreeMap::new(),
        force_base: false,
    };
    match call {
        "Client.FullStatus" => shown(session.full_status().await),
        "Application.AddRelation" => shown(session.add_relation("kratos:source-database", "pg:database").await),
        "Application.DestroyRelation" => shown(session.destroy_relation("kratos:source-database", "pg:database").await),
        "Application.GetCharmURLOrigin" => shown(session.charm_url_origin("kratos").await),
        "Application.Get" => shown(session.application("kratos").await),
        "Application.Leader" => shown(session.leader("kratos").await),
        "Application.SetCharm" => shown(session.set_charm(&switch).await),
        "Application.SetConfigs" => shown(session.set_config("kratos", &BTreeMap::new()).await),
        "Block.List" => shown(session.blocks().await),
        "Charms.CharmInfo" => shown(session.charm_info("local:probe-2").await),
        "Resources.ListResources" => shown(session.resources("kratos").await),
        "Action.EnqueueOperation" => {
            let given = BTreeMap::from([("wait".to_owned(), Scalar::Number(7))]);
            shown(session.enqueue("kratos/leader", "probe", &given).await)
        }
        "Action.Actions" => shown(session.task("action-1").await),
        "Action.Operations" => shown(session.operation("operation-0").await),
        _ => None,
    }
}

/// The refusal in a recorded reply: in the envelope, beside the result, or in the first of several.
fn refusal(reply: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let response = &reply["response"];
    text(&reply["error"])
        .or_else(|| text(&response["error"]["message"]))
        .or_else(|| text(&response["results"][0]["error"]["message"]))
        .or_else(|| text(&response["actions"][0]["error"]["message"]))
}

#[tokio::test]
async fn every_recorded_reply_is_read() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let (mut read_calls, mut left) = (BTreeSet::new(), BTreeSet::new());
    for frame in replay::frames() {
        let Some(reply) = frame.get("reply").filter(|reply| reply.is_object()) else { continue };
        let asked = &frame["request"];
        let call = match asked["type"].as_str() {
            Some(facade) => format!("{facade}.{}", asked["request"].as_str().unwrap()),
            None => "Action.Actions".to_owned(),
        };
        if call == "Admin.Login" {
            continue;
        }
        peer.plan_reply(&call, reply.clone());
        let Some(found) = read(&session, &call).await else {
            left.insert(call);
            continue;
        };
        match (refusal(reply), found) {
            (None, Ok(_)) => {}
            // That it exists, and that it is not there, are answers.
            (Some(message), Ok(found)) => {
                assert!(message.ends_with("already exists") && found == "WasThere", "{call}: {message} {found}");
            }
            (Some(message), Err(Error::Refused { detail, .. })) => assert_eq!(detail.message, message),
            (refusal, found) => panic!("{call}: recorded {refusal:?}, read {found:?}"),
        }
        read_calls.insert(call);
    }
    assert_eq!(read_calls.len(), 14, "{read_calls:?}");
    // Calls that are recorded and are none of ours.
    let not_ours = [
        "Action.ApplicationsCharmsActions",
        "Application.ApplicationsInfo",
        "Application.Nope",
        "Application.UnitsInfo",
        "ModelManager.ListModels",
        "Nope.X",
        "Pinger.Ping",
    ];
    assert_eq!(left, not_ours.map(str::to_owned).into());
}

#[tokio::test]
async fn what_was_recorded_is_understood() {
    let peer = peer(Generation::Four);
    let session = open(&peer).await;
    let frames = replay::frames();
    let noted = |note: &str| {
        frames.iter().find(|frame| frame["note"] == note).map(|frame| frame["reply"].clone()).expect("a recorded note")
    };
    peer.plan_reply("Client.FullStatus", noted("related"));
    let status = session.full_status().await.unwrap();
    assert_eq!(status.applications["pg"].units["pg/0"].workload_status.status, "error");
    assert_eq!((status.applications["pg"].charm_rev, status.relations.len()), (1, 3));
    assert!(status.applications["kratos"].units["kratos/0"].leader && status.controller_timestamp.0.is_some());
    assert_eq!((status.model.kind.as_str(), status.model.version.as_str()), ("iaas", "4.0.14.1"));
    peer.plan_reply("Application.AddRelation", noted("again at once"));
    let again = session.add_relation("kratos:source-database", "pg:database").await.unwrap();
    assert_eq!(again, Integrated::WasThere);
    for (note, status, succeeded) in [
        ("poll of action-1: completed", TaskStatus::Completed, true),
        ("poll of action-5: failed", TaskStatus::Failed, false),
        ("poll of action-9: error", TaskStatus::Error, false),
        ("poll of action-1: running", TaskStatus::Running, false),
    ] {
        peer.plan_reply("Action.Actions", noted(note));
        let task = session.task("action-1").await.unwrap();
        assert_eq!((task.status, task.succeeded()), (status, succeeded), "{note}");
    }
    peer.plan_reply("Action.EnqueueOperation", noted("unknown unit"));
    let error = session.enqueue("kratos/9", "probe", &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound), "{error}");
    peer.plan_reply("Block.List", noted("with a block"));
    assert_eq!(session.blocks().await.unwrap()[0].message, "freeze until Monday");
}

#[tokio::test]
async fn recorded_logins_are_read() {
    let mut seen = Vec::new();
    for frame in replay::frames() {
        if frame["request"]["request"] != "Login" || frame["note"] == "second login" {
            continue;
        }
        let reply = &frame["reply"];
        if frame["path"] == "/api" {
            // A controller's own facades: no model, no access to one.
            let login = Login::read(reply["response"].clone()).unwrap();
            assert_eq!((login.access(), login.model_tag.as_str()), (Access::None, ""));
            assert_eq!(login.servers, ["[fd00::2]:17070", "192.0.2.2:17070"]);
            continue;
        }
        let peer = peer(Generation::Four);
        let uuid = peer.store().uuid.clone();
        peer.plan_reply("Admin.Login", reply.clone());
        let opened = Session::open(&controller(&peer), &credentials(), &uuid, timing()).await;
        seen.push(match opened {
            Ok(session) => {
                assert_eq!(session.login().access(), Access::Write);
                assert_eq!(session.login().server_version, "4.0.14.1");
                assert_eq!(session.login().facades.version("Application", "refresh").unwrap(), 22);
                assert_eq!(session.generation(), coordinator::controller::Generation::Four);
                None
            }
            Err(Error::Login { refusal }) => Some(refusal),
            Err(other) => panic!("{other}"),
        });
    }
    let expected = [
        Some(LoginRefusal::WrongPassword),
        Some(LoginRefusal::WrongPassword),
        Some(LoginRefusal::UnknownModel),
        Some(LoginRefusal::DischargeRequired),
        None,
        Some(LoginRefusal::OnlyRead("migrator".into())),
        Some(LoginRefusal::WrongPassword),
    ];
    assert_eq!(seen, expected);
}
