//! What a test asks a Hydra server: health, keys, OAuth2 clients, tokens, consents.

use super::Authorization;
use crate::encode::{base64, query_value};
use crate::http::Http;
use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

/// A client of one server's public and admin APIs.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) public: Http,
    pub(super) admin: Http,
}

/// An OAuth2 client, as the application knows itself.
#[derive(Debug, Clone)]
pub struct OAuth2Client {
    pub id: String,
    pub secret: String,
    /// Where users come back to with a code.
    pub redirect_uri: String,
}

/// What an application was given.
#[derive(Debug, Clone, Deserialize)]
pub struct Tokens {
    pub access_token: String,
    /// Where a user allowed access while away.
    pub refresh_token: Option<String>,
    /// Where a user logged in.
    pub id_token: Option<String>,
    pub scope: String,
}

impl OAuth2Client {
    /// The header by which the application proves who it is. Neither id nor secret need an escape here.
    fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.id, self.secret).as_bytes()))
    }
}

impl Client {
    /// Takes the two base URLs, with or without a slash at the end.
    pub fn new(public: &str, admin: &str) -> Self {
        Self { public: Http::new("Hydra", public), admin: Http::new("Hydra", admin) }
    }

    /// Whether the database answers and no migration that this release knows is pending.
    pub fn ready(&self) -> anyhow::Result<()> {
        self.admin.get("/health/ready", &[])?.expect(200).map(drop)
    }

    /// The version as the server states it, such as `v2.3.0`.
    pub fn version(&self) -> anyhow::Result<String> {
        let answer = self.admin.get("/version", &[])?.expect(200)?;
        Ok(answer["version"].as_str().context("no version in the answer")?.to_owned())
    }

    /// The keys that verify what this server signs. Those that are not in the database yet are made by being asked for,
    /// which is a write and takes seconds.
    pub fn keys(&self) -> anyhow::Result<Value> {
        self.public.get("/.well-known/jwks.json", &[])?.expect(200)
    }

    /// The ids of those keys, sorted.
    pub fn key_ids(&self) -> anyhow::Result<Vec<String>> {
        let keys = self.keys()?;
        let keys = keys["keys"].as_array().context("no keys in the answer")?;
        let ids = keys.iter().map(|key| Ok(key["kid"].as_str().context("a key without an id")?.to_owned()));
        let mut ids = ids.collect::<anyhow::Result<Vec<String>>>()?;
        ids.sort();
        Ok(ids)
    }

    /// The discovery document: issuer and addresses.
    pub fn discovery(&self) -> anyhow::Result<Value> {
        self.public.get("/.well-known/openid-configuration", &[])?.expect(200)
    }

    /// Registers an OAuth2 client that may do everything tests do.
    pub fn create_client(&self, name: &str) -> anyhow::Result<OAuth2Client> {
        let redirect_uri = format!("https://{}.example/callback", name.to_lowercase().replace(' ', "-"));
        let body = json!({
            "client_name": name,
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "response_types": ["code"],
            "redirect_uris": [redirect_uri],
            "scope": "openid offline_access email read write",
            "token_endpoint_auth_method": "client_secret_basic",
            "metadata": {"integration-id": name},
        });
        let answer = self.admin.post("/admin/clients", &body)?.expect(201)?;
        let text = |key: &str| -> anyhow::Result<String> {
            Ok(answer[key].as_str().with_context(|| format!("no {key} in a new client"))?.to_owned())
        };
        Ok(OAuth2Client { id: text("client_id")?, secret: text("client_secret")?, redirect_uri })
    }

    /// Reads an OAuth2 client through the admin API.
    pub fn client(&self, id: &str) -> anyhow::Result<Value> {
        self.admin.get(&format!("/admin/clients/{id}"), &[])?.expect(200)
    }

    /// Deletes an OAuth2 client with everything it was given.
    pub fn delete_client(&self, id: &str) -> anyhow::Result<()> {
        self.admin.delete(&format!("/admin/clients/{id}"))?.expect(204).map(drop)
    }

    /// Trusts an issuer to vouch for its users, with a key of its own: another row among the encrypted keys.
    pub fn trust_issuer(&self, issuer: &str) -> anyhow::Result<String> {
        // The public half of a key that signs nothing.
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": format!("key of {issuer}"),
            "x": "XHKtQBrjzjeA3a-HnMEoY_mx3F43AQkVnlQwb96VEOc", "y": "00x-3vf9sQ1ttwbHMSknWk6mLu0kIK7iZfv880xDPZ8",
        });
        let body = json!({
            "issuer": issuer, "allow_any_subject": true, "scope": ["read"], "jwk": key,
            "expires_at": "2099-01-01T00:00:00Z",
        });
        let answer = self.admin.post("/admin/trust/grants/jwt-bearer/issuers", &body)?.expect(201)?;
        Ok(answer["id"].as_str().context("no id in the answer")?.to_owned())
    }

    /// A token for the application itself.
    pub fn client_credentials(&self, application: &OAuth2Client, scope: &str) -> anyhow::Result<Tokens> {
        self.tokens(application, &[("grant_type", "client_credentials"), ("scope", scope)])
    }

    /// Exchanges the code that a user brought back.
    pub fn exchange(&self, application: &OAuth2Client, came_back: &Authorization) -> anyhow::Result<Tokens> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", came_back.code.as_str()),
            ("redirect_uri", application.redirect_uri.as_str()),
            ("code_verifier", came_back.code_verifier.as_str()),
        ];
        self.tokens(application, &fields)
    }

    /// Exchanges a refresh token, which is used up by that together with its access token.
    pub fn refresh(&self, application: &OAuth2Client, refresh_token: &str) -> anyhow::Result<Tokens> {
        self.tokens(application, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)])
    }

    /// Gives a token back: an access or a refresh token, and what belongs to it.
    pub fn revoke(&self, application: &OAuth2Client, token: &str) -> anyhow::Result<()> {
        let basic = application.basic();
        let answer = self.public.post_form("/oauth2/revoke", &[("Authorization", &basic)], &[("token", token)])?;
        answer.expect(200).map(drop)
    }

    /// What the server knows of a token; no more than `active: false` when it is not, or no longer, good.
    pub fn introspect(&self, token: &str) -> anyhow::Result<Value> {
        self.admin.post_form("/admin/oauth2/introspect", &[], &[("token", token)])?.expect(200)
    }

    /// Whether a token is good.
    pub fn is_active(&self, token: &str) -> anyhow::Result<bool> {
        self.introspect(token)?["active"].as_bool().context("the answer does not say whether the token is active")
    }

    /// Claims about the user whose access token this is.
    pub fn user(&self, access_token: &str) -> anyhow::Result<Value> {
        let bearer = format!("Bearer {access_token}");
        self.public.get("/userinfo", &[("Authorization", &bearer)])?.expect(200)
    }

    /// What a user allowed, newest first: the first page.
    pub fn consents(&self, subject: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/admin/oauth2/auth/sessions/consent?subject={}", query_value(subject));
        match self.admin.get(&path, &[])?.expect(200)? {
            Value::Array(consents) => Ok(consents),
            other => anyhow::bail!("Hydra answered with no list of consents: {other}"),
        }
    }

    /// Takes back everything a user allowed.
    pub fn revoke_consents(&self, subject: &str) -> anyhow::Result<()> {
        let path = format!("/admin/oauth2/auth/sessions/consent?all=true&subject={}", query_value(subject));
        self.admin.delete(&path)?.expect(204).map(drop)
    }

    fn tokens(&self, application: &OAuth2Client, fields: &[(&str, &str)]) -> anyhow::Result<Tokens> {
        let basic = application.basic();
        let answer = self.public.post_form("/oauth2/token", &[("Authorization", &basic)], fields)?;
        Ok(serde_json::from_value(answer.expect(200)?)?)
    }
}
