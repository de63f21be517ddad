//! HTTP for the clients of the identity applications: every status is an answer, and no redirect is followed.

use anyhow::Context;
use serde_json::Value;
use std::time::Duration;

/// One API of an application.
#[derive(Debug, Clone)]
pub struct Http {
    /// The application's name, for errors.
    whose: &'static str,
    /// What every path begins with.
    base: String,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    whose: &'static str,
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

/// Names and values.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

impl Http {
    /// Takes the base URL with or without a slash at the end.
    pub fn new(whose: &'static str, base: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { whose, base: base.trim_end_matches('/').to_owned(), agent }
    }

    pub fn get(&self, path: &str, headers: Pairs) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let request = with(self.agent.get(&url), headers);
        self.read(request.call().with_context(|| format!("cannot get {url}"))?)
    }

    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let request = with(self.agent.delete(&url), &[]);
        self.read(request.call().with_context(|| format!("cannot delete {url}"))?)
    }

    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.post_with(path, &[], body)
    }

    pub fn post_with(&self, path: &str, headers: Pairs, body: &Value) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let request = with(self.agent.post(&url), headers);
        self.read(request.send_json(body).with_context(|| format!("cannot post to {url}"))?)
    }

    pub fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let request = with(self.agent.put(&url), &[]);
        self.read(request.send_json(body).with_context(|| format!("cannot put to {url}"))?)
    }

    /// Posts a form, as browsers and OAuth2 clients do.
    pub fn post_form(&self, path: &str, headers: Pairs, fields: Pairs) -> anyhow::Result<Answer> {
        let url = self.url(path);
        let request = with(self.agent.post(&url), headers);
        let fields = fields.iter().copied();
        self.read(request.send_form(fields).with_context(|| format!("cannot post a form to {url}"))?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn read(&self, mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Answer> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { whose: self.whose, status, headers, body: response.body_mut().read_to_string()? })
    }
}

fn with<Any>(request: ureq::RequestBuilder<Any>, headers: Pairs) -> ureq::RequestBuilder<Any> {
    let request = request.header("Accept", "application/json");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

impl Answer {
    /// What is in the body when the status is this one; null when it is empty.
    pub fn expect(self, status: u16) -> anyhow::Result<Value> {
        let Answer { whose, status: found, body, .. } = self;
        anyhow::ensure!(found == status, "{whose} answered {found} where {status} is right: {body}");
        if body.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).with_context(|| format!("{whose} answered with something that is not JSON: {body}"))
    }
}
