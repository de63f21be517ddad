//! Real Kratos servers.

mod client;
mod self_service;

pub use client::{Client, Login};
pub use self_service::Pending;

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
    /// The login methods beside the password.
    pub methods: Methods,
    /// The document of its identity schema; without one it is [`identity_schema`].
    pub identity_schema: Option<Value>,
    /// How much it logs, where that is not its own default.
    pub log_level: Option<String>,
}

/// What users can log in with, and how they come back in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Methods {
    /// With a password alone.
    #[default]
    Password,
    /// With one-time passwords and lookup secrets too; recovery and verification by code.
    SecondFactors,
    /// With a code that is sent to them too, which 1.1.0 brought.
    Codes,
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
        let mut serve = ports.listen();
        serve["public"]["base_url"] = json!(format!("{public}/"));
        serve["admin"]["base_url"] = json!(format!("{admin}/"));
        let mut self_service = json!({"default_browser_return_url": format!("{public}/")});
        let mut session = json!({});
        let mut secrets = json!({"cookie": ["a-cookie-secret-that-both-sides-share"]});
        if settings.methods != Methods::Password {
            self_service["methods"] = login_methods(settings.methods);
            let by_code = json!({"enabled": true, "use": "code"});
            let settings = json!({"required_aal": "aal1"});
            self_service["flows"] = json!({"recovery": by_code, "verification": by_code, "settings": settings});
            // Codes are kept as what this secret makes of them.
            session["whoami"] = json!({"required_aal": "aal1"});
            secrets["default"] = json!(["a-secret-for-codes-that-both-sides-share"]);
        }
        let mut configuration = json!({
            "serve": serve,
            "identity": {
                "default_schema_id": "default",
                "schemas": [{"id": "default", "url": schema_url(settings)}],
            },
            "selfservice": self_service,
            "session": session,
            "secrets": secrets,
            "courier": {"smtp": {"connection_uri": format!("smtp://127.0.0.1:{smtp_port}/?disable_starttls=true")}},
            "hashers": {"algorithm": "bcrypt", "bcrypt": {"cost": 4}},
        });
        if let Some(level) = &settings.log_level {
            configuration["log"] = json!({"level": level});
        }
        configuration
    }

    fn arguments(settings: &Settings) -> &'static [&'static str] {
        if settings.smtp_port.is_some() { &["--watch-courier"] } else { &[] }
    }
}

/// The methods of a server's configuration.
fn login_methods(methods: Methods) -> Value {
    let mut configured = json!({
        "totp": {"enabled": true, "config": {"issuer": "identity.example"}},
        "lookup_secret": {"enabled": true},
        "code": {"enabled": true},
    });
    if methods == Methods::Codes {
        configured["code"]["passwordless_enabled"] = json!(true);
    }
    configured
}

/// The identity schema, as the URL that holds it.
fn schema_url(settings: &Settings) -> String {
    // Releases that do not know the method refuse a schema that names it.
    let by_password = r#"{ "password": { "identifier": true } }"#;
    let by_code = r#"{ "password": { "identifier": true }, "code": { "identifier": true, "via": "email" } }"#;
    let document = match (&settings.identity_schema, settings.methods) {
        (Some(document), _) => document.to_string(),
        (None, Methods::Codes) => IDENTITY_SCHEMA.replace(by_password, by_code),
        (None, _) => IDENTITY_SCHEMA.to_owned(),
    };
    format!("base64://{}", base64(document.as_bytes()))
}
