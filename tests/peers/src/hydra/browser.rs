//! A user's browser, and the login UI that it is sent to: one that logs everybody in and allows everything.

use super::{Client, OAuth2Client, Tokens};
use crate::encode::{base64_for_urls, query_value};
use crate::http::Answer;
use anyhow::Context;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What users are asked to allow.
const SCOPE: &str = "openid offline_access email read";

/// More pages than any login takes.
const LONGEST_WAY: usize = 12;

/// A browser: it keeps its cookies, which is how Hydra remembers who logged in.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

/// What a browser brought back to the application that had sent it out.
#[derive(Debug, Clone)]
pub struct Authorization {
    pub code: String,
    /// What the application proves with that it is the one that had asked.
    pub code_verifier: String,
    /// Whether Hydra remembered the user.
    pub login_remembered: bool,
    /// Whether Hydra remembered what the user had allowed.
    pub consent_remembered: bool,
}

impl Browser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes the whole way of a login: from the application to Hydra, to the login UI, to the question what the
    /// application may do, and back. The user asks to be remembered.
    pub fn authorize(
        &mut self,
        hydra: &Client,
        application: &OAuth2Client,
        subject: &str,
    ) -> anyhow::Result<Authorization> {
        let (state, nonce, code_verifier) = (random(24), random(24), random(64));
        let challenge = base64_for_urls(&Sha256::digest(code_verifier.as_bytes()));
        let mut next = format!(
            "/oauth2/auth?response_type=code&client_id={}&redirect_uri={}&scope={}&state={state}&nonce={nonce}\
             &code_challenge={challenge}&code_challenge_method=S256",
            query_value(&application.id),
            query_value(&application.redirect_uri),
            query_value(SCOPE),
        );
        let (mut login_remembered, mut consent_remembered) = (false, false);
        for _ in 0..LONGEST_WAY {
            let place = self.follow(hydra, &next)?;
            if let Some(challenge) = parameter(&place, "login_challenge") {
                let request = Question { hydra, about: "login", challenge };
                login_remembered = request.asked()?["skip"] == true;
                next = request.accept(&json!({"subject": subject, "remember": true, "remember_for": 0, "acr": "1"}))?;
            } else if let Some(challenge) = parameter(&place, "consent_challenge") {
                let request = Question { hydra, about: "consent", challenge };
                let asked = request.asked()?;
                consent_remembered = asked["skip"] == true;
                next = request.accept(&json!({
                    "grant_scope": asked["requested_scope"],
                    "grant_access_token_audience": asked["requested_access_token_audience"],
                    "remember": true,
                    "remember_for": 0,
                    "session": {"id_token": {"email": format!("{subject}@login.example")}},
                }))?;
            } else if place.starts_with(&application.redirect_uri) {
                anyhow::ensure!(parameter(&place, "state") == Some(&state), "another login came back: {place}");
                let code = parameter(&place, "code").with_context(|| format!("the login failed: {place}"))?.to_owned();
                return Ok(Authorization { code, code_verifier, login_remembered, consent_remembered });
            } else if parameter(&place, "error").is_some() {
                anyhow::bail!("the login failed: {place}");
            } else {
                next = path_of(&place)?.to_owned();
            }
        }
        anyhow::bail!("the login leads to ever more pages, the last of them {next}")
    }

    /// The same, and the application exchanges the code.
    pub fn log_in(&mut self, hydra: &Client, application: &OAuth2Client, subject: &str) -> anyhow::Result<Tokens> {
        let came_back = self.authorize(hydra, application, subject)?;
        hydra.exchange(application, &came_back)
    }

    /// Asks for a page of Hydra's and returns where that leads.
    fn follow(&mut self, hydra: &Client, page: &str) -> anyhow::Result<String> {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let headers: &[(&str, &str)] = if cookies.is_empty() { &[] } else { &[("Cookie", &cookies)] };
        let answer = hydra.public.get(page, headers)?;
        self.take_cookies(&answer)?;
        let Answer { status, headers, body, .. } = answer;
        anyhow::ensure!((300..400).contains(&status), "Hydra answered {status} where a redirect is right: {body}");
        let place = headers.get("location").context("a redirect leads nowhere")?;
        Ok(place.to_str()?.to_owned())
    }

    fn take_cookies(&mut self, answer: &Answer) -> anyhow::Result<()> {
        for cookie in answer.headers.get_all("set-cookie") {
            let mut parts = cookie.to_str()?.split(';').map(str::trim);
            let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).context("a cookie has no name")?;
            // A cookie is taken back by a new one that has expired.
            if parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

/// What Hydra asks the login UI through the user's browser, and takes an answer to at its admin API.
struct Question<'a> {
    hydra: &'a Client,
    about: &'a str,
    challenge: &'a str,
}

impl Question<'_> {
    fn path(&self, verb: &str) -> String {
        let Question { about, challenge, .. } = self;
        format!("/admin/oauth2/auth/requests/{about}{verb}?{about}_challenge={challenge}")
    }

    fn asked(&self) -> anyhow::Result<Value> {
        self.hydra.admin.get(&self.path(""), &[])?.expect(200)
    }

    /// Says yes; returns the page at which the browser goes on.
    fn accept(&self, answer: &Value) -> anyhow::Result<String> {
        let answer = self.hydra.admin.put(&self.path("/accept"), answer)?.expect(200)?;
        let place = answer["redirect_to"].as_str().context("an accepted request leads nowhere")?;
        Ok(path_of(place)?.to_owned())
    }
}

/// Path and query: Hydra names itself by its public URL, which does not lead to a test's server.
fn path_of(url: &str) -> anyhow::Result<&str> {
    let rest = match url.split_once("://") {
        Some((_, rest)) if !url.starts_with('/') => rest,
        _ => url,
    };
    let start = rest.find('/').with_context(|| format!("{url} has no path"))?;
    Ok(&rest[start..])
}

/// A parameter of a URL's query, as it stands there.
fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next()?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn random(letters: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(letters).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_urls_are_found() {
        let url = "https://login.example/oauth2/auth?a=1&login_challenge=x-_%3D&b#c=2";
        assert_eq!(path_of(url).unwrap(), "/oauth2/auth?a=1&login_challenge=x-_%3D&b#c=2");
        assert_eq!(path_of("/oauth2/auth?to=https://a.example/b").unwrap(), "/oauth2/auth?to=https://a.example/b");
        assert_eq!(parameter(url, "login_challenge"), Some("x-_%3D"));
        assert_eq!((parameter(url, "c"), parameter("https://login.example", "a")), (None, None));
    }
}
