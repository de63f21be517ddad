//! What a test asks a Kratos server: health, version, identities, logins, sessions.

use anyhow::Context;
use serde_json::{Value, json};
use std::time::Duration;

/// A client of one server's public and admin APIs.
#[derive(Debug, Clone)]
pub struct Client {
    public: String,
    admin: String,
    agent: ureq::Agent,
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
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { public: public.trim_end_matches('/').to_owned(), admin: admin.trim_end_matches('/').to_owned(), agent }
    }

    /// Whether the database answers and no migration that this release knows is pending.
    pub fn ready(&self) -> anyhow::Result<()> {
        expect(200, self.get(&format!("{}/admin/health/ready", self.admin), None)?).map(drop)
    }

    /// The version as the server states it, such as `v1.0.0`.
    pub fn version(&self) -> anyhow::Result<String> {
        let answer = expect(200, self.get(&format!("{}/admin/version", self.admin), None)?)?;
        Ok(answer["version"].as_str().context("no version in the answer")?.to_owned())
    }

    /// Creates an identity with a password; returns its id.
    pub fn create_identity(&self, email: &str, password: &str) -> anyhow::Result<String> {
        let body = json!({
            "schema_id": "default",
            "traits": {"email": email},
            "credentials": {"password": {"config": {"password": password}}},
        });
        let answer = expect(201, self.post(&format!("{}/admin/identities", self.admin), &body)?)?;
        Ok(answer["id"].as_str().context("no id in the answer")?.to_owned())
    }

    /// Reads an identity through the admin API.
    pub fn identity(&self, id: &str) -> anyhow::Result<Value> {
        expect(200, self.get(&format!("{}/admin/identities/{id}", self.admin), None)?)
    }

    /// Gives an identity another password.
    pub fn change_password(&self, id: &str, email: &str, password: &str) -> anyhow::Result<()> {
        let body = json!({
            "schema_id": "default",
            "state": "active",
            "traits": {"email": email},
            "credentials": {"password": {"config": {"password": password}}},
        });
        let request = self.agent.put(format!("{}/admin/identities/{id}", self.admin));
        let mut response = request.send_json(body).with_context(|| format!("cannot change identity {id}"))?;
        expect(200, (response.status().as_u16(), response.body_mut().read_to_string()?)).map(drop)
    }

    /// Deletes an identity.
    pub fn delete_identity(&self, id: &str) -> anyhow::Result<()> {
        let request = self.agent.delete(format!("{}/admin/identities/{id}", self.admin));
        let status = request.call().with_context(|| format!("cannot delete identity {id}"))?.status().as_u16();
        anyhow::ensure!(status == 204, "Kratos answered {status} to the deletion of identity {id}");
        Ok(())
    }

    /// Logs in with a password, as a native application does.
    pub fn login(&self, email: &str, password: &str) -> anyhow::Result<Login> {
        let flow = expect(200, self.get(&format!("{}/self-service/login/api", self.public), None)?)?;
        let flow = flow["id"].as_str().context("no id in the login flow")?.to_owned();
        let body = json!({"method": "password", "identifier": email, "password": password});
        let answer = expect(200, self.post(&format!("{}/self-service/login?flow={flow}", self.public), &body)?)?;
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
        expect(200, self.get(&format!("{}/sessions/whoami", self.public), Some(session_token))?)
    }

    fn get(&self, url: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
        let mut request = self.agent.get(url).header("Accept", "application/json");
        if let Some(token) = token {
            request = request.header("X-Session-Token", token);
        }
        let mut response = request.call().with_context(|| format!("cannot get {url}"))?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    fn post(&self, url: &str, body: &Value) -> anyhow::Result<(u16, String)> {
        let request = self.agent.post(url).header("Accept", "application/json");
        let mut response = request.send_json(body).with_context(|| format!("cannot post to {url}"))?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }
}

fn expect(status: u16, answer: (u16, String)) -> anyhow::Result<Value> {
    let (found, body) = answer;
    anyhow::ensure!(found == status, "Kratos answered {found} where {status} is right: {body}");
    serde_json::from_str(&body).with_context(|| format!("Kratos answered with something that is not JSON: {body}"))
}
