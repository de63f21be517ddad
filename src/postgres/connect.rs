//! The one way to open a connection.

use super::error::{Error, NO_ANSWER, Result};
use super::server::Server;
use super::{pulse, tls};
use std::time::Duration;
use tokio_postgres::config::SslMode;

/// How long a server may take to answer a connection attempt.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take until a session is ready: a server that hangs accepts connections and says nothing.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(6);

impl Server {
    /// Opens a session as ourselves: application name `identity_migration <purpose>`,
    /// out of any role that a login hook switched to, with a pinned search path and no timeouts
    /// inherited from role settings. The server ends what the session runs soon after the
    /// coordinator is gone, or cannot be reached any more. A setting of our own lets its DDL through a closed fence.
    ///
    /// # Errors
    /// [`Error::Server`] when the server cannot be reached or refuses.
    pub async fn connect(&self, database: &str, purpose: &str) -> Result<Session> {
        let doing = format!("connect to database {database} on {}", self.address());
        let ready = tokio::time::timeout(READY_TIMEOUT, self.open(database, purpose, &doing));
        ready.await.unwrap_or_else(|_| {
            Err(Error::Timeout { doing: doing.clone(), limit: READY_TIMEOUT, last_seen: NO_ANSWER.to_owned() })
        })
    }

    async fn open(&self, database: &str, purpose: &str, doing: &str) -> Result<Session> {
        let config = self.config(database, purpose);
        let (client, connection) = config.connect(tls::connector(self)?).await.map_err(Error::doing(doing))?;
        tokio::spawn(keep(self.clone(), database.to_owned(), connection));
        client
            .batch_execute(
                "SET ROLE NONE; SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; \
                 SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET idle_session_timeout = 0; SET default_transaction_read_only = off; \
                 SET client_min_messages = warning; SET client_connection_check_interval = '2s'; \
                 SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
                 SET tcp_user_timeout = '60s'; \
                 SET identity_migration.run = 'coordinator'; \
                 SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'",
            )
            .await
            .map_err(Error::doing(doing))?;
        Ok(Session { client, database: database.to_owned(), address: self.address() })
    }

    /// The driver's settings for a connection to `database`. TLS is asked for always, and demanded
    /// when the relation says that the server has it.
    pub(super) fn config(&self, database: &str, purpose: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(self.password.reveal())
            .dbname(database)
            .application_name(format!("{} {purpose}", super::names::PREFIX))
            .ssl_mode(if self.tls { SslMode::Require } else { SslMode::Prefer })
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(60))
            .connect_timeout(CONNECT_TIMEOUT);
        config
    }
}

/// Drives a connection until it ends, or until its server does not answer any more: then whoever waits on it is told
/// that it was lost.
pub(super) async fn keep(
    server: Server,
    database: String,
    connection: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>,
) {
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                log::debug!("connection ended: {error}");
            }
        }
        () = pulse::stopped(&server, &database) => log::warn!("{} does not answer; a connection to it is given up", server.address()),
    }
}

/// An open connection and where it leads. Dereferences to the driver's client.
pub struct Session {
    client: tokio_postgres::Client,
    /// The database's name.
    pub database: String,
    /// `host:port`, for messages.
    pub address: String,
}

impl std::ops::Deref for Session {
    type Target = tokio_postgres::Client;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}
