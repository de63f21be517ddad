//! The client of the controller's API against a controller peer, which is held to what a real one was seen to do.

mod actions;
mod connection;
mod emulated;
mod libjuju;
mod login;
mod lost;
mod parsers;
mod refresh;
mod relations;
mod replay;
mod upload;

use controller_peer::store::Store;
use controller_peer::{Access, Charm, Generation, Options, Peer, User};
use coordinator::controller::{Controller, Credentials, Password, Session, Timing};
use serde_json::{Value, json};
use std::time::Duration;

const PASSWORD: &str = "s3cret of the migrator";
const BOTH: [Generation; 2] = [Generation::Three, Generation::Four];

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

/// The origin of a local charm.
fn local(revision: i64) -> Value {
    json!({
        "source": "local",
        "type": "charm",
        "id": "",
        "revision": revision,
        "architecture": "amd64",
        "base": {"name": "ubuntu", "channel": "24.04/stable"},
    })
}

/// The origin of a Kratos from Charmhub.
fn from_charmhub(revision: i64) -> Value {
    json!({
        "source": "charm-hub",
        "type": "charm",
        "id": "id-of-kratos",
        "hash": format!("hash-of-ch:amd64/kratos-{revision}"),
        "track": "latest",
        "risk": "edge",
        "revision": revision,
        "architecture": "amd64",
        "base": {"name": "ubuntu", "channel": "22.04/stable"},
        "instance-key": "8a1f",
    })
}

const KRATOS: &str = "
name: kratos
summary: identities
description: identities
requires:
  pg-database: {interface: postgresql_client, limit: 1}
provides:
  kratos-info: {interface: kratos_info}
peers:
  kratos-peers: {interface: kratos_peers}
resources:
  oci-image: {type: oci-image, description: the server}
  mail: {type: file, filename: mail.tmpl, description: a template}
";
const KRATOS_CONFIG: &str = "
options:
  log_level: {type: string, default: info, description: how much is logged}
  dev: {type: boolean, default: false, description: for developers}
";
const KRATOS_ACTIONS: &str = "
run-migration:
  description: migrates the schema
  params:
    timeout: {type: integer, default: 120, minimum: 10, description: seconds}
";
const POSTGRESQL: &str = "
name: postgresql-k8s
summary: a database
description: a database
provides:
  database: {interface: postgresql_client}
";

fn kratos(url: &str, version: &str) -> Charm {
    Charm::read(url, KRATOS, KRATOS_CONFIG, KRATOS_ACTIONS).unwrap().showing(version)
}

/// A model with Kratos 512 from `latest/edge`, a published 567 in `1.0/stable`, and PostgreSQL.
fn identity_model(generation: Generation) -> Store {
    let mut store = Store::new(generation, "iam", "caas");
    store.deploy("kratos", &kratos("ch:amd64/kratos-512", "1.0.0"), from_charmhub(512), "latest/edge", 2);
    let database = Charm::read("ch:amd64/postgresql-k8s-495", POSTGRESQL, "", "").unwrap();
    for name in ["pg", "pg-new"] {
        store.deploy(name, &database, from_charmhub(495), "14/stable", 1);
    }
    store.releases = refresh::releases();
    store
}

/// A peer with that model, and a user that may change it.
fn peer(generation: Generation) -> Peer {
    peer_of(identity_model(generation), generation)
}

fn peer_of(store: Store, generation: Generation) -> Peer {
    let peer = Peer::start(store, &Options { generation, ..Options::default() }).unwrap();
    peer.set_user("migrator", User::new(PASSWORD, Access::Write));
    peer
}

fn controller(peer: &Peer) -> Controller {
    Controller { addresses: peer.addresses(), ca: peer.ca() }
}

fn credentials() -> Credentials {
    Credentials { username: "migrator".into(), password: Password::new(PASSWORD) }
}

/// Short enough for a test, long enough for a busy machine.
fn timing() -> Timing {
    Timing { call: Duration::from_secs(20), connect: Duration::from_secs(20), ..Timing::default() }
}

async fn open(peer: &Peer) -> Session {
    let uuid = peer.store().uuid.clone();
    Session::open(&controller(peer), &credentials(), &uuid, timing()).await.unwrap()
}

/// Asks until the answer is there.
async fn wait_for<T, A: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> A) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}
