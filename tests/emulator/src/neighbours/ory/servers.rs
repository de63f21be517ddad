//! The servers of an identity application, to look at from outside the model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use peers::ory::{Application, Ports, Release, Server};

/// The servers of one application by unit. All units listen on the same addresses, as behind one Kubernetes service:
/// on one machine that means that the first unit serves.
#[derive(Debug, Clone)]
pub struct Servers<A: Application> {
    ports: Arc<Ports<A>>,
    servers: Arc<Mutex<BTreeMap<String, Serving<A>>>>,
}

#[derive(Debug)]
struct Serving<A: Application> {
    server: Server<A>,
    dsn: String,
    settings: A::Settings,
}

impl<A: Application> Servers<A> {
    pub(super) fn new() -> Result<Self> {
        Ok(Servers { ports: Arc::new(Ports::reserve()?), servers: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Serving<A>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The application's addresses, whether anything listens there or not.
    pub fn ports(&self) -> &Ports<A> {
        &self.ports
    }

    /// A client of the application's addresses.
    pub fn client(&self) -> A::Client {
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

    /// What a running server was told by its charm.
    pub fn settings(&self) -> Option<A::Settings> {
        self.lock().values().find(|serving| serving.server.is_running()).map(|serving| serving.settings.clone())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.lock().values().map(|serving| serving.server.log_tail(lines)).collect()
    }

    /// Kills the server of every unit without the charm knowing, as a node failure does.
    pub fn kill_servers(&self) {
        self.lock().clear();
    }

    /// Starts the unit's server unless it runs with this release and these settings on this database.
    pub(in crate::neighbours) fn ensure_serving(
        &self,
        unit: &str,
        release: &Release<A>,
        dsn: &str,
        settings: &A::Settings,
    ) -> Result<()> {
        let mut servers = self.lock();
        let serves = |serving: &Serving<A>| {
            serving.server.is_running()
                && serving.dsn == dsn
                && serving.settings == *settings
                && serving.server.release().version() == release.version()
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
        let server = release.start_with(dsn, &self.ports, settings)?;
        servers.insert(unit.to_owned(), Serving { server, dsn: dsn.to_owned(), settings: settings.clone() });
        Ok(())
    }

    pub(in crate::neighbours) fn stop(&self, unit: &str) -> Result<()> {
        match self.lock().remove(unit) {
            Some(serving) => serving.server.stop(),
            None => Ok(()),
        }
    }

    pub(in crate::neighbours) fn stop_all(&self) -> Result<()> {
        let servers = std::mem::take(&mut *self.lock());
        servers.into_values().try_for_each(|serving| serving.server.stop())
    }
}
