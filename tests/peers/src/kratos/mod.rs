//! Real Kratos servers.

mod client;

pub use client::{Client, Login};

use crate::encode::base64;
use crate::ory;
use serde_json::{Value, json};

const IDENTITY_SCHEMA: &str = include_str!("identity.schema.json");

/// Kratos among the applications.
#[derive(Debug, Clone)]
pub enum App {}

/// One release's program; setup builds 1.0.0 and 1.3.1.
pub type Release = ory::Release<App>;

/// The two ports of a server.
pub type Ports = ory::Ports<App>;

/// A running server; dropping it kills it.
pub type Kratos = ory::Server<App>;

/// What a server is told besides the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where its courier sends messages; without it no courier runs.
    pub smtp_port: Option<u16>,
    /// The document of its identity schema; without one it is [`identity_schema`].
    pub identity_schema: Option<Value>,
}

/// The document that servers have when they are told nothing else.
pub fn identity_schema() -> Value {
    serde_json::from_str(IDENTITY_SCHEMA).unwrap_or_default()
}

impl ory::Application for App {
    const PROGRAM: &'static str = "kratos";
    const NAME: &'static str = "Kratos";
    type Client = Client;
    type Settings = Settings;

    fn client(public: &str, admin: &str) -> Client {
        Client::new(public, admin)
    }

    fn ready(client: &Client) -> anyhow::Result<()> {
        client.ready()
    }

    /// One configuration for every server: source and target share the cookie secret and the identity schema, as an
    /// operator must have arranged before a migration.
    fn configuration(ports: &Ports, settings: &Settings) -> Value {
        let (public, admin) = (ports.public_url(), ports.admin_url());
        let smtp_port = settings.smtp_port.unwrap_or(1);
        let document = settings.identity_schema.as_ref().map_or_else(|| IDENTITY_SCHEMA.to_owned(), Value::to_string);
        let mut serve = ports.listen();
        serve["public"]["base_url"] = json!(format!("{public}/"));
        serve["admin"]["base_url"] = json!(format!("{admin}/"));
        json!({
            "serve": serve,
            "identity": {
                "default_schema_id": "default",
                "schemas": [{"id": "default", "url": format!("base64://{}", base64(document.as_bytes()))}],
            },
            "selfservice": {"default_browser_return_url": format!("{public}/")},
            "secrets": {"cookie": ["a-cookie-secret-that-both-sides-share"]},
            "courier": {"smtp": {"connection_uri": format!("smtp://127.0.0.1:{smtp_port}/?disable_starttls=true")}},
            "hashers": {"algorithm": "bcrypt", "bcrypt": {"cost": 4}},
        })
    }

    fn arguments(settings: &Settings) -> &'static [&'static str] {
        if settings.smtp_port.is_some() { &["--watch-courier"] } else { &[] }
    }
}
