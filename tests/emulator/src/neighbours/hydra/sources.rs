//! What the Hydra charm puts its server's settings together from, and what it says of the parts that are not there.

use std::collections::BTreeMap;

use anyhow::Result;
use peers::hydra::Settings;
use serde_json::{Map, Value};

use super::secrets::{self, Kind};
use crate::event::Event;
use crate::native::UnitContext;
use crate::neighbours::ory::{DATABASE, PUBLIC_ROUTE, public_url};

/// Where the login UI tells its pages.
const LOGIN_UI: &str = "ui-endpoint-info";

/// The relations without which there is no server, and what is said of a missing one.
const NEEDED: [(&str, &str); 3] = [
    (DATABASE, "Missing integration pg-database"),
    (PUBLIC_ROUTE, "Missing required relation with public-route"),
    (LOGIN_UI, "Missing required relation with ui-endpoint-info"),
];

/// What the login UI must offer.
const PAGES: [&str; 5] =
    ["consent_url", "device_verification_url", "login_url", "oidc_error_url", "post_device_done_url"];

const INSECURE: &str = "Requires a secure (HTTPS) public ingress. Either enable HTTPS on public ingress or set 'dev' \
                        config to true for local development.";

/// Everything but the database's contents.
pub struct Sources {
    missing: Option<&'static str>,
    public_url: Option<String>,
    pages: Option<BTreeMap<String, String>>,
    system_secrets: Vec<String>,
    cookie_secrets: Vec<String>,
    configuration: Map<String, Value>,
}

/// A word of status, and why.
pub type Obstacle = (&'static str, &'static str);

impl Sources {
    /// Reads them in this hook; a relation whose end is the hook's event is there no more.
    pub fn gather(event: Option<&Event>, context: &UnitContext) -> Result<Self> {
        let mut missing = None;
        for (endpoint, message) in NEEDED {
            if is_going(endpoint, event) || context.relations(endpoint)?.is_empty() {
                missing = missing.or(Some(message));
            }
        }
        Ok(Sources {
            missing,
            public_url: public_url(event, context)?,
            pages: if is_going(LOGIN_UI, event) { None } else { pages(context)? },
            system_secrets: secrets::values(Kind::System, context)?,
            cookie_secrets: secrets::values(Kind::Cookie, context)?,
            configuration: context.config()?,
        })
    }

    fn option(&self, name: &str) -> bool {
        self.configuration.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The first thing that is in the way of a server, the worst kind first. `of_database` is what its contents say.
    pub fn obstacle(&self, of_database: Option<&'static str>) -> Option<Obstacle> {
        let insecure = self.public_url.as_ref().is_some_and(|url| !url.starts_with("https://") && !self.option("dev"));
        let no_secrets = self.system_secrets.is_empty() || self.cookie_secrets.is_empty();
        let waiting = [
            self.public_url.is_none().then_some("Waiting for ingress to be ready"),
            self.pages.is_none().then_some("Waiting for login UI to be ready"),
            of_database,
            no_secrets.then_some("Waiting for secrets creation"),
        ];
        let blocked = self.missing.or(insecure.then_some(INSECURE)).map(|message| ("blocked", message));
        blocked.or_else(|| waiting.into_iter().flatten().next().map(|message| ("waiting", message)))
    }

    /// What the server is told when nothing is in the way.
    pub fn settings(&self) -> Settings {
        let page = |name: &str| self.pages.as_ref().and_then(|pages| pages.get(name)).cloned().unwrap_or_default();
        Settings {
            system_secrets: self.system_secrets.clone(),
            cookie_secrets: self.cookie_secrets.clone(),
            issuer: self.public_url.clone().unwrap_or_default(),
            login_url: page("login_url"),
            consent_url: page("consent_url"),
            error_url: page("oidc_error_url"),
            jwt_access_tokens: self.option("jwt_access_tokens"),
        }
    }
}

fn is_going(endpoint: &str, event: Option<&Event>) -> bool {
    matches!(event, Some(Event::RelationBroken(relation)) if relation.endpoint == endpoint)
}

/// The pages of the login UI, once it offers all.
fn pages(context: &UnitContext) -> Result<Option<BTreeMap<String, String>>> {
    let Some(relation) = context.relations(LOGIN_UI)?.into_iter().next() else { return Ok(None) };
    let pages = context.application_databag(&relation.id, &relation.remote_application)?;
    Ok(PAGES.iter().all(|page| pages.get(*page).is_some_and(|url| !url.is_empty())).then_some(pages))
}
