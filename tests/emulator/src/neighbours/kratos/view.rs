//! The servers of a Kratos application, to look at from outside the model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use peers::kratos::{Client, Kratos, Ports, Release};

/// The servers of one application by unit. All units listen on the same addresses, as behind one Kubernetes service:
/// on one machine that means that the first unit serves.
#[derive(Debug, Clone)]
pub struct KratosView {
    ports: Arc<Ports>,
    servers: Arc<Mutex<BTreeMap<String, Serving>>>,
}

#[derive(Debug)]
struct Serving {
    server: Kratos,
    dsn: String,
}

impl KratosView {
    pub(super) fn new() -> Result<Self> {
        Ok(KratosView { ports: Arc::new(Ports::reserve()?), servers: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Serving>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The application's addresses, whether anything listens there or not.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// A client of the application's addresses.
    pub fn client(&self) -> Client {
        self.ports.client()
    }

    /// The versions of the servers that run, by unit.
    pub fn running(&self) -> BTreeMap<String, String> {
        let servers = self.lock();
        let running = servers.iter().filter(|(_, serving)| serving.server.is_running());
        running.map(|(unit, serving)| (unit.clone(), serving.server.release().version().to_owned())).collect()
    }

    /// The connection string that a running server was started with.
    pub fn dsn(&self) -> Option<String> {
        self.lock().values().find(|serving| serving.server.is_running()).map(|serving| serving.dsn.clone())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.lock().values().map(|serving| serving.server.log_tail(lines)).collect()
    }

    /// Kills the server of every unit without the charm knowing, as a node failure does.
    pub fn kill_servers(&self) {
        self.lock().clear();
    }

    /// Starts the unit's server unless it runs with this release on this database.
    pub(super) fn ensure_serving(&self, unit: &str, release: &Release, dsn: &str) -> Result<()> {
        let mut servers = self.lock();
        let serves = |serving: &Serving| {
            serving.server.is_running() && serving.dsn == dsn && serving.server.release().version() == release.version()
        };
        if servers.get(unit).is_some_and(serves) {
            return Ok(());
        }
        if let Some(old) = servers.remove(unit) {
            old.server.stop()?;
        }
        if servers.values().any(|serving| serving.server.is_running()) {
            return Ok(());
        }
        let server = release.start(dsn, &self.ports)?;
        servers.insert(unit.to_owned(), Serving { server, dsn: dsn.to_owned() });
        Ok(())
    }

    pub(super) fn stop(&self, unit: &str) -> Result<()> {
        match self.lock().remove(unit) {
            Some(serving) => serving.server.stop(),
            None => Ok(()),
        }
    }

    pub(super) fn stop_all(&self) -> Result<()> {
        let servers = std::mem::take(&mut *self.lock());
        servers.into_values().try_for_each(|serving| serving.server.stop())
    }
}
