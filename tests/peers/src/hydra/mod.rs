//! Real Hydra servers, clients of theirs, and users that log in.

mod browser;
mod client;
mod tokens;

pub use browser::{Authorization, Browser};
pub use client::{Client, OAuth2Client, Tokens};
pub(crate) use tokens::{Kind, Opaque};

use crate::ory;
use serde_json::{Value, json};

/// `secrets.system` of every server that is told nothing else: source and target share it, as an operator must have
/// arranged before a migration.
pub const SYSTEM_SECRET: &str = "a-system-secret-that-both-sides-share";

/// Hydra among the applications.
#[derive(Debug, Clone)]
pub enum App {}

/// One release's program; setup builds 2.3.0.
pub type Release = ory::Release<App>;

/// The two ports of a server.
pub type Ports = ory::Ports<App>;

/// A running server; dropping it kills it.
pub type Hydra = ory::Server<App>;

/// What the Hydra charm tells its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The first one encrypts keys and sessions in the database and signs opaque tokens; every one decrypts and
    /// verifies. At least 16 characters each.
    pub system_secrets: Vec<String>,
    /// The same for cookies.
    pub cookie_secrets: Vec<String>,
    /// The URL that tokens are issued under. Whoever moves must keep it; nothing need listen there.
    pub issuer: String,
    /// Pages of the login UI, to which users are sent.
    pub login_url: String,
    pub consent_url: String,
    pub error_url: String,
    /// Whether access tokens are signed with a key in the database instead of with the system secret.
    pub jwt_access_tokens: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            system_secrets: vec![SYSTEM_SECRET.to_owned()],
            cookie_secrets: vec!["a-cookie-secret-that-both-sides-share".to_owned()],
            issuer: "https://login.example".to_owned(),
            login_url: "https://login.example/ui/login".to_owned(),
            consent_url: "https://login.example/ui/consent".to_owned(),
            error_url: "https://login.example/ui/oidc_error".to_owned(),
            jwt_access_tokens: false,
        }
    }
}

impl Settings {
    /// The usual settings with these system secrets.
    pub fn with_system_secrets(secrets: &[&str]) -> Self {
        let system_secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Settings { system_secrets, ..Settings::default() }
    }
}

impl ory::Application for App {
    const PROGRAM: &'static str = "hydra";
    const NAME: &'static str = "Hydra";
    type Client = Client;
    type Settings = Settings;

    fn client(public: &str, admin: &str) -> Client {
        Client::new(public, admin)
    }

    fn ready(client: &Client) -> anyhow::Result<()> {
        client.ready()
    }

    fn configuration(ports: &Ports, settings: &Settings) -> Value {
        let mut keys = vec!["hydra.openid.id-token"];
        if settings.jwt_access_tokens {
            keys.push("hydra.jwt.access-token");
        }
        json!({
            "serve": ports.listen(),
            "secrets": {"system": settings.system_secrets, "cookie": settings.cookie_secrets},
            "strategies": {
                "access_token": if settings.jwt_access_tokens { "jwt" } else { "opaque" },
                "jwt": {"scope_claim": "list"},
                "scope": "exact",
            },
            "urls": {
                "self": {"issuer": settings.issuer, "public": settings.issuer},
                "login": settings.login_url,
                "consent": settings.consent_url,
                "error": settings.error_url,
            },
            "webfinger": {"jwks": {"broadcast_keys": keys}},
        })
    }
}
