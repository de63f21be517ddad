//! What a server shows of its configuration to everybody, without writing anything.
//!
//! Login methods, providers and the WebAuthn relying party show in flows only, and a flow is a row: a closed server cannot
//! begin one, and an open one would keep what nobody asked for.

use super::health::{Error, Server, Told, get};
use serde_json::Value as Json;

/// The cookie that Kratos protects forms with: set with the answer to the first question of a browser, whatever it
/// asks for; no row is written. Its name ends with a hash of the server's own public URL. Seen live with 1.0.0 to 26.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// What it says besides its value, sorted: domain, path, who may send it.
    pub attributes: Vec<String>,
}

impl Cookie {
    /// Reads a `Set-Cookie` header; its value is forgotten.
    fn read(header: &str) -> Option<Self> {
        let mut parts = header.split(';').map(str::trim);
        let (name, _) = parts.next()?.split_once('=')?;
        let lasts = |part: &&str| !["max-age", "expires"].iter().any(|key| part.to_lowercase().starts_with(key));
        let mut attributes: Vec<String> = parts.filter(lasts).map(str::to_owned).collect();
        attributes.sort();
        Some(Self { name: name.to_owned(), attributes })
    }
}

impl Server {
    /// The cookie of a Kratos; `None` when it sets none. Blocks.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn cookie_blocking(&self) -> Result<Option<Cookie>, Error> {
        let answer = get(&format!("{}/schemas", self.public_endpoint.trim_end_matches('/')))?;
        Ok(answer.cookie.as_deref().and_then(Cookie::read))
    }

    /// [`Server::cookie_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn cookie(&self) -> Result<Option<Cookie>, Error> {
        self.asked(Self::cookie_blocking).await
    }

    /// What a Hydra says that it can do. Blocks. See [`super::hydra::KEY_SETS`] before asking.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn discovery_blocking(&self) -> Result<Told<Json>, Error> {
        self.well_known("openid-configuration", |json| json.is_object().then(|| json.clone()))
    }

    /// [`Server::discovery_blocking`] for async callers.
    ///
    /// # Errors
    /// As there.
    pub async fn discovery(&self) -> Result<Told<Json>, Error> {
        self.asked(Self::discovery_blocking).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_without_its_value() {
        let header =
            "csrf_token_ab=c2VjcmV0==; Path=/; Domain=iam.example; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax";
        let cookie = Cookie::read(header).unwrap();
        assert_eq!(cookie.name, "csrf_token_ab");
        assert_eq!(cookie.attributes, ["Domain=iam.example", "HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
        assert_eq!(Cookie::read("nothing"), None);
    }
}
