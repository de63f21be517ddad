//! The identity app's programs and servers, whichever app it is.

use anyhow::{Result, bail};
use coordinator::apps::{App, HYDRA, KRATOS};
use peers::cluster::Cluster;
use peers::hydra::{self, Hydra};
use peers::kratos::{self, Kratos};
use std::sync::Arc;

/// A release of an app, and what its servers are told.
#[derive(Clone, Debug)]
pub enum Program {
    Kratos(kratos::Release, kratos::Settings),
    Hydra(hydra::Release, hydra::Settings),
}

/// Where a server of it is reached, also while it is down.
#[derive(Clone, Debug)]
pub enum Ports {
    Kratos(Arc<kratos::Ports>),
    Hydra(Arc<hydra::Ports>),
}

/// A server of it.
pub enum Running {
    Kratos(Kratos),
    Hydra(Hydra),
}

impl Program {
    pub fn kratos(version: &str) -> Result<Self> {
        Ok(Self::Kratos(kratos::Release::find(version)?, kratos::Settings::default()))
    }

    /// A Hydra with the secrets that both sides share.
    pub fn hydra(version: &str) -> Result<Self> {
        Ok(Self::Hydra(hydra::Release::find(version)?, hydra::Settings::default()))
    }

    pub fn app(&self) -> &'static App {
        match self {
            Self::Kratos(..) => &KRATOS,
            Self::Hydra(..) => &HYDRA,
        }
    }

    /// Runs its schema migration to the end.
    pub fn migrate(&self, dsn: &str) -> Result<String> {
        match self {
            Self::Kratos(release, _) => release.migrate(dsn),
            Self::Hydra(release, _) => release.migrate(dsn),
        }
    }

    /// Fills a database with rows for so many people.
    pub fn seed(&self, cluster: &Cluster, database: &str, people: u32) -> Result<()> {
        match self {
            Self::Kratos(..) => peers::seed::rows(cluster, database, people),
            Self::Hydra(..) => peers::seed::hydra::rows(cluster, database, people),
        }
    }

    /// Ports for a server of it.
    pub fn reserve(&self) -> Result<Ports> {
        Ok(match self {
            Self::Kratos(..) => Ports::Kratos(Arc::new(kratos::Ports::reserve()?)),
            Self::Hydra(..) => Ports::Hydra(Arc::new(hydra::Ports::reserve()?)),
        })
    }

    /// Starts a server and waits until it is ready.
    pub fn serve(&self, dsn: &str, ports: &Ports) -> Result<Running> {
        match (self, ports) {
            (Self::Kratos(release, settings), Ports::Kratos(ports)) => {
                let server = release.start_with(dsn, ports, settings)?;
                server.wait_ready()?;
                Ok(Running::Kratos(server))
            }
            (Self::Hydra(release, settings), Ports::Hydra(ports)) => {
                let server = release.start_with(dsn, ports, settings)?;
                server.wait_ready()?;
                Ok(Running::Hydra(server))
            }
            _ => bail!("the ports are another app's"),
        }
    }
}

impl Ports {
    pub fn public_url(&self) -> String {
        match self {
            Self::Kratos(ports) => ports.public_url(),
            Self::Hydra(ports) => ports.public_url(),
        }
    }

    pub fn admin_url(&self) -> String {
        match self {
            Self::Kratos(ports) => ports.admin_url(),
            Self::Hydra(ports) => ports.admin_url(),
        }
    }

    /// A client of the Kratos there.
    pub fn kratos(&self) -> kratos::Client {
        match self {
            Self::Kratos(ports) => ports.client(),
            Self::Hydra(_) => panic!("a Hydra is there"),
        }
    }

    /// A client of the Hydra there.
    pub fn hydra(&self) -> hydra::Client {
        match self {
            Self::Hydra(ports) => ports.client(),
            Self::Kratos(_) => panic!("a Kratos is there"),
        }
    }
}

impl Running {
    pub fn stop(self) -> Result<()> {
        match self {
            Self::Kratos(server) => server.stop(),
            Self::Hydra(server) => server.stop(),
        }
    }
}
