//! The PostgreSQL layer on real clusters.

mod connections;
mod copying;
mod following;
mod repairing;
mod reversing;
mod schema;
mod slots;
mod sweeping;

use coordinator::postgres::{Password, Server};
use peers::cluster::Cluster;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long anything may take before the test fails.
const POLL_LIMIT: Duration = Duration::from_secs(30);

/// Asks again until the answer is `Ok`; the panic tells the last other answer.
pub(crate) async fn poll<T, E: Display>(what: &str, mut check: impl AsyncFnMut() -> Result<T, E>) {
    let started = Instant::now();
    loop {
        match check().await {
            Ok(_) => return,
            Err(last) if started.elapsed() > POLL_LIMIT => panic!("waited too long for {what}; last seen: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The superuser's way into a cluster, as a relation would give it.
pub(crate) fn server(cluster: &Cluster) -> Server {
    let (user, password) = cluster.superuser();
    Server {
        host: cluster.host().to_owned(),
        port: cluster.port(),
        user: user.to_owned(),
        password: Password::new(password),
        tls: cluster.ca_pem().is_some(),
        ca: cluster.ca_pem().map(str::to_owned),
    }
}
