//! TLS: used wherever offered, verified when there is something to verify against.

use super::server;
use coordinator::postgres::replication::create_slot_with_snapshot;
use coordinator::postgres::{Server, Session};
use peers::cluster::Cluster;
use std::time::Duration;

async fn encrypted(session: &Session) -> bool {
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    session.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn tls_is_used_where_offered_and_verified_against_the_given_ca() {
    let cluster = Cluster::builder(16).tls().start().unwrap();
    let other = Cluster::builder(14).tls().start().unwrap();
    let good = server(&cluster);
    assert!(encrypted(&good.connect("postgres", "test").await.unwrap()).await);

    let slot = create_slot_with_snapshot(&good, "postgres", "over_tls", Duration::from_secs(20)).await.unwrap();
    assert!(!slot.snapshot.is_empty());

    let named = Server { host: "localhost".to_owned(), ..good.clone() };
    assert!(encrypted(&named.connect("postgres", "test").await.unwrap()).await);

    let unverified = Server { ca: None, tls: false, ..good.clone() };
    assert!(encrypted(&unverified.connect("postgres", "test").await.unwrap()).await, "prefer takes what is offered");

    let wrong = Server { ca: other.ca_pem().map(str::to_owned), ..good.clone() };
    let error = wrong.connect("postgres", "test").await.err().expect("a foreign CA is refused").to_string();
    assert!(error.contains("certificate"), "{error}");
    let error = create_slot_with_snapshot(&wrong, "postgres", "never", Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");

    let unreadable = Server { ca: Some("no PEM".to_owned()), ..good.clone() };
    let error = unreadable.connect("postgres", "test").await.err().expect("no CA, no connection").to_string();
    assert!(error.contains("holds no certificate") && !error.contains(good.password.reveal()), "{error}");
}

#[tokio::test]
async fn without_tls_a_server_that_claims_it_is_refused() {
    let cluster = Cluster::start(14).unwrap();
    let plain = server(&cluster);
    assert!(!encrypted(&plain.connect("postgres", "test").await.unwrap()).await);
    let claimed = Server { tls: true, ..plain };
    let error = claimed.connect("postgres", "test").await.err().expect("TLS was promised").to_string();
    assert!(error.contains("TLS"), "{error}");
}
