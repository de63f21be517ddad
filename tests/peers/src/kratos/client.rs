//! What a test asks a Kratos server: health, version, identities, logins, sessions.

use crate::http::Http;
use anyhow::Context;
use serde_json::{Value, json};

/// A client of one server's public and admin APIs.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) public: Http,
    pub(super) admin: Http,
}

/// A session opened with a password.
#[derive(Debug, Clone)]
pub struct Login {
    pub session_token: String,
    pub identity_id: String,
}

impl Client {
    /// Takes the two base URLs, with or without a slash at the end.
    pub fn new(public: &str, admin: &str) -> Self {
        Self { public: Http::new("Kratos", public), admin: Http::new("Kratos", admin) }
    }

    /// Whether the database answers and no migration that this release knows is pending.
    pub fn ready(&self) -> anyhow::Result<()> {
        self.admin.get("/admin/health/ready", &[])?.expect(200).map(drop)
    }

    /// The version as the server states it, such as `v1.0.0`.
    pub fn version(&self) -> anyhow::Result<String> {
        let answer = self.admin.get("/admin/version", &[])?.expect(200)?;
        Ok(answer["version"].as_str().context("no version in the answer")?.to_owned())
    }

    /// Creates an identity with a password; returns its id.
    pub fn create_identity(&self, email: &str, password: &str) -> anyhow::Result<String> {
        let body = json!({
            "schema_id": "default",
            "traits": {"email": email},
            "credentials": {"password": {"config": {"password": password}}},
        });
        let answer = self.admin.post("/admin/identities", &body)?.expect(201)?;
        Ok(answer["id"].as_str().context("no id in the answer")?.to_owned())
    }

    /// Reads an identity through the admin API.
    pub fn identity(&self, id: &str) -> anyhow::Result<Value> {
        self.admin.get(&format!("/admin/identities/{id}"), &[])?.expect(200)
    }

    /// Gives an identity another password.
    pub fn change_password(&self, id: &str, email: &str, password: &str) -> anyhow::Result<()> {
        let body = json!({
            "schema_id": "default",
            "state": "active",
            "traits": {"email": email},
            "credentials": {"password": {"config": {"password": password}}},
        });
        self.admin.put(&format!("/admin/identities/{id}"), &body)?.expect(200).map(drop)
    }

    /// Saves an identity as it is, with the traits that it has; returns the status.
    pub fn save(&self, id: &str) -> anyhow::Result<u16> {
        let mut identity = self.identity(id)?;
        let body = json!({"schema_id": identity["schema_id"], "state": "active", "traits": identity["traits"].take()});
        Ok(self.admin.put(&format!("/admin/identities/{id}"), &body)?.status)
    }

    /// Deletes an identity.
    pub fn delete_identity(&self, id: &str) -> anyhow::Result<()> {
        self.admin.delete(&format!("/admin/identities/{id}"))?.expect(204).map(drop)
    }

    /// Logs in with a password, as a native application does.
    pub fn login(&self, email: &str, password: &str) -> anyhow::Result<Login> {
        let flow = self.public.get("/self-service/login/api", &[])?.expect(200)?;
        let flow = flow["id"].as_str().context("no id in the login flow")?.to_owned();
        let body = json!({"method": "password", "identifier": email, "password": password});
        let answer = self.public.post(&format!("/self-service/login?flow={flow}"), &body)?.expect(200)?;
        let text = |value: &Value, what: &str| -> anyhow::Result<String> {
            Ok(value.as_str().with_context(|| format!("no {what} in the answer to a login"))?.to_owned())
        };
        Ok(Login {
            session_token: text(&answer["session_token"], "session token")?,
            identity_id: text(&answer["session"]["identity"]["id"], "identity")?,
        })
    }

    /// The session of a token.
    pub fn whoami(&self, session_token: &str) -> anyhow::Result<Value> {
        let token = [("X-Session-Token", session_token)];
        self.public.get("/sessions/whoami", &token)?.expect(200)
    }
}
