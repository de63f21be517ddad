//! An independent client, python-libjuju, on the peer in its 3.6 mode; and our own requests against the schema that
//! libjuju was generated from.

use super::{PASSWORD, open, peer};
use controller_peer::Generation;
use controller_peer::model::{Remote, Status};
use coordinator::controller::{Channel, NewResource, OperationFilter};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Not the first one of the search path: the one that `tests/peers/setup` installed for.
const PYTHON: &str = "/usr/bin/python3";

fn run(told: &Value) -> Value {
    let modules = peers::places::peers_root().join("libjuju/current");
    assert!(modules.is_dir(), "cannot find {}; run tests/peers/setup", modules.display());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/controller/libjuju.py");
    let mut python = Command::new(PYTHON)
        .arg(script)
        .env("PYTHONPATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Our own calls, as the peer received them: each that a refresh, an action and a relation are made of.
async fn our_requests() -> Vec<Value> {
    let peer = peer(Generation::Three);
    let session = open(&peer).await;
    session.full_status().await.unwrap();
    let at = session.charm_url_origin("kratos").await.unwrap();
    session.application("kratos").await.unwrap();
    let origin = at.origin.by_channel(&Channel::read("1.0/stable").unwrap());
    let resolved = session.resolve_charm("ch:amd64/kratos", &origin, false).await.unwrap();
    let origin = session.add_charm(&resolved.url, &resolved.origin).await.unwrap();
    let info = session.charm_info(&resolved.url).await.unwrap();
    session.uploaded_charms("kratos").await.unwrap();
    session.resources("kratos").await.unwrap();
    session.offered_resources(&resolved.url, &origin).await.unwrap();
    let meta = info.meta.resources["oci-image"].clone();
    let image = NewResource { meta, origin: "store", revision: -1, fingerprint: None, size: 0 };
    let id = session.add_pending_resource("kratos", &resolved.url, &origin, &image).await.unwrap();
    let switch = coordinator::controller::SetCharm {
        application: "kratos".into(),
        charm_url: resolved.url,
        charm_origin: origin,
        channel: "stable".into(),
        resource_ids: BTreeMap::from([("oci-image".to_owned(), id)]),
        force_base: false,
    };
    session.set_charm(&switch).await.unwrap();
    session.set_config("kratos", &BTreeMap::from([("dev".to_owned(), "true".to_owned())])).await.unwrap();
    session.leader("kratos").await.unwrap();
    let enqueued = session.enqueue("kratos/leader", "run-migration", &BTreeMap::new()).await.unwrap();
    session.task(&enqueued.task).await.unwrap();
    session.operation(&enqueued.operation).await.unwrap();
    session.list_operations(&OperationFilter::default()).await.unwrap();
    session.cancel(&enqueued.task).await.unwrap();
    session.add_relation("kratos:pg-database", "pg:database").await.unwrap();
    session.destroy_relation("kratos:pg-database", "pg:database").await.unwrap();
    session.destroy_relation_by_id(99).await.unwrap();
    let received = peer.received().into_iter().filter(|call| call.call != "Admin.Login");
    // libjuju 3.6.1 does not know who leads.
    received.filter(|call| call.call != "Application.Leader").map(|call| json!([call.call, call.params])).collect()
}

#[tokio::test]
async fn python_libjuju_reads_runs_and_integrates() {
    let requests = our_requests().await;
    let names: std::collections::BTreeSet<&str> = requests.iter().filter_map(|request| request[0].as_str()).collect();
    assert_eq!(names.len(), 20, "{names:?}");
    let peer = peer(Generation::Three);
    peer.store().play = Box::new(|task| {
        let given = &task.parameters["timeout"];
        controller_peer::store::Ending::completed(json!({"return-code": 0, "given": given.to_string()}))
    });
    let offered = Remote {
        offer_url: "admin/databases.pg".into(),
        endpoints: vec![json!({"name": "database", "role": "provider", "interface": "postgresql_client", "limit": 0})],
        status: Status::now("active", ""),
    };
    peer.store().remotes.insert("pg-elsewhere".into(), offered);
    let told = json!({
        "endpoint": peer.addresses()[0],
        "uuid": peer.store().uuid,
        "ca": peer.ca(),
        "password": PASSWORD,
        "requests": requests,
    });
    let seen = tokio::task::spawn_blocking(move || run(&told)).await.unwrap();
    assert_eq!(seen["applications"], json!(["kratos", "pg", "pg-new"]));
    assert_eq!(seen["saas"], json!([["pg-elsewhere", "admin/databases.pg", "pg", "database", "provider"]]));
    assert_eq!(seen["options"], json!(["dev", "log_level"]));
    assert_eq!(seen["charm"], "kratos");
    assert_eq!((&seen["status"], &seen["output"]["given"]), (&json!("completed"), &json!("30")));
    assert_eq!(seen["related"], json!(["kratos", "pg"]));
    assert!(seen["again"].as_str().unwrap().contains("already exists"), "{seen}");
    assert_eq!(seen["relations"], 2);
    // The highest that both know, of what the peer offers as 3.6 does.
    assert_eq!((&seen["versions"]["Application"], &seen["versions"]["Charms"]), (&json!(20), &json!(6)));
    assert_eq!(seen["strange-replies"], json!([]), "the peer writes what Juju's schema has not");
    assert_eq!(seen["strange-requests"], json!([]), "we send what Juju's schema has not");
    assert_eq!(peer.times_done("Action.EnqueueOperation"), 1);
    assert_eq!(peer.store().tasks.len(), 1);
}
