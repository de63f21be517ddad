//! The one way to open a connection.

use super::error::{Error, NO_ANSWER, Result};
use super::tls;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_postgres::config::SslMode;

/// How long a server may take to answer a connection attempt.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take until a session is ready: a server that hangs accepts connections and says nothing.
const READY_TIMEOUT: Duration = Duration::from_secs(6);

/// A password. Shows itself nowhere: `Debug` is redacted and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes a password in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret text, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A PostgreSQL server and the role we have there, as a `postgresql_client` relation gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Host name or address of the primary.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The relation's role.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// True when the relation says that the server speaks TLS: then nothing else is accepted.
    pub tls: bool,
    /// CA certificate (PEM) that the server's certificate must come from.
    pub ca: Option<String>,
}

impl Server {
    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Opens a session as ourselves: application name `identity_migration <purpose>`,
    /// out of any role that a login hook switched to, with a pinned search path and no timeouts
    /// inherited from role settings. The server ends what the session runs soon after the
    /// coordinator is gone. A setting of our own lets its DDL through a closed fence.
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
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("connection ended: {error}");
            }
        });
        client
            .batch_execute(
                "SET ROLE NONE; SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; \
                 SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET idle_session_timeout = 0; SET default_transaction_read_only = off; \
                 SET client_min_messages = warning; SET client_connection_check_interval = '2s'; \
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
            .connect_timeout(CONNECT_TIMEOUT);
        config
    }

    /// A libpq connection string to `database`, for `CREATE SUBSCRIPTION` on another server.
    /// It holds the password, so it is one. TLS is demanded when the relation says that the server
    /// has it, but not verified: the CA would have to be a file on the subscribing server.
    pub fn conninfo(&self, database: &str, application_name: &str) -> Password {
        let port = self.port;
        let [user, password, host, database, name] =
            [self.user.as_str(), self.password.reveal(), self.host.as_str(), database, application_name].map(escaped);
        let tls = if self.tls { "require" } else { "prefer" };
        Password::new(format!(
            "postgresql://{user}:{password}@{host}:{port}/{database}?application_name={name}&sslmode={tls}\
             &connect_timeout=10&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3"
        ))
    }
}

/// A value for a place in a URI, in ASCII alone. libpq takes back the very bytes; a word in a connection string of
/// the other form would arrive in the encoding of the subscription's database, which another server's names are not in.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conninfo_escapes_every_value_and_hides_in_debug() {
        let server = Server {
            host: "fd00::1".to_owned(),
            port: 5432,
            user: "it's".to_owned(),
            password: Password::new("a b'c\\d"),
            tls: true,
            ca: None,
        };
        let conninfo = server.conninfo("krá/tos", "our name");
        let expected = "postgresql://it%27s:a%20b%27c%5Cd@fd00%3A%3A1:5432/kr%C3%A1%2Ftos?application_name=our%20name&sslmode=require&";
        assert!(conninfo.reveal().starts_with(expected), "{}", conninfo.reveal());
        assert_eq!(format!("{conninfo:?}"), "<redacted>");
        assert!(!format!("{server:?}").contains("b'c"));
    }
}
