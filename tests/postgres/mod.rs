//! The PostgreSQL layer on real clusters.

mod connections;
mod slots;

use coordinator::postgres::{Password, Server};
use peers::cluster::Cluster;

/// The superuser's way into a cluster, as a relation would give it.
fn server(cluster: &Cluster) -> Server {
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
