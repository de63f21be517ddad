//! Where a server is and who we are there.

use crate::password::Password;
use serde::{Deserialize, Serialize};

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
             &connect_timeout=10&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3\
             &tcp_user_timeout=60000"
        ))
    }
}

/// A value for a place in a URI, in ASCII alone. libpq takes back the very bytes; a word in a connection string of
/// the other form would arrive in the encoding of the subscription's database, which another server's names are not in.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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
