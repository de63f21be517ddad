//! A consumer of `kratos_info` or `hydra_endpoints`, such as the login UI: it
//! takes the application's addresses from the relation and restarts once for
//! each change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

/// The login UI as far as it needs Kratos.
const OF_KRATOS: Kind = Kind {
    metadata: "
name: identity-platform-login-ui-operator
summary: The login UI
description: A consumer of kratos_info that restarts with every change of it.
requires:
  kratos-info: {interface: kratos_info, limit: 1}
",
    endpoint: "kratos-info",
    missing: "Missing integration kratos-info",
    waiting: "Waiting for Kratos' endpoints",
};

/// The login UI as far as it needs Hydra, and Hydra needs it.
const OF_HYDRA: Kind = Kind {
    metadata: "
name: identity-platform-login-ui-operator
summary: The login UI
description: A consumer of hydra_endpoints that restarts with every change of it, and has pages for logins.
requires:
  hydra-endpoint-info: {interface: hydra_endpoints, limit: 1}
provides:
  ui-endpoint-info: {interface: login_ui_endpoints}
",
    endpoint: "hydra-endpoint-info",
    missing: "Missing integration hydra-endpoint-info",
    waiting: "Waiting for Hydra's endpoints",
};

/// Where the login UI tells its pages, if it does.
const PAGES_ENDPOINT: &str = "ui-endpoint-info";

/// Pages that nobody has to open: tests log users in as `peers::hydra::Browser` does.
const PAGES: [(&str, &str); 6] = [
    ("login_url", "https://login.example/ui/login"),
    ("consent_url", "https://login.example/ui/consent"),
    ("error_url", "https://login.example/ui/error"),
    ("oidc_error_url", "https://login.example/ui/oidc_error"),
    ("device_verification_url", "https://login.example/ui/device_code"),
    ("post_device_done_url", "https://login.example/ui/device_complete"),
];

/// Whose addresses a consumer takes.
struct Kind {
    metadata: &'static str,
    endpoint: &'static str,
    missing: &'static str,
    waiting: &'static str,
}

/// The charm of the consumer.
pub struct Consumer {
    kind: Kind,
    view: ConsumerView,
}

/// What the consumer's process was started with, to look at from outside.
#[derive(Debug, Clone, Default)]
pub struct ConsumerView {
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One start of the process.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    pub unit: String,
    pub public_endpoint: String,
    pub admin_endpoint: String,
}

impl Default for Consumer {
    fn default() -> Self {
        Self::new()
    }
}

impl Consumer {
    /// One of `kratos_info`.
    pub fn new() -> Self {
        Consumer { kind: OF_KRATOS, view: ConsumerView::default() }
    }

    /// One of `hydra_endpoints`, which also tells Hydra where its pages are.
    pub fn of_hydra() -> Self {
        Consumer { kind: OF_HYDRA, view: ConsumerView::default() }
    }

    /// A view that stays when the charm is deployed.
    pub fn view(&self) -> ConsumerView {
        self.view.clone()
    }
}

impl ConsumerView {
    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every start, oldest first: the first one and one for each change of the addresses.
    pub fn starts(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// The addresses that the process has now.
    pub fn current(&self) -> Option<Seen> {
        self.lock().last().cloned()
    }

    /// A client of the Kratos that the consumer uses now.
    pub fn client(&self) -> Result<peers::kratos::Client> {
        let seen = self.current().context("the consumer knows no Kratos yet")?;
        Ok(peers::kratos::Client::new(&seen.public_endpoint, &seen.admin_endpoint))
    }

    /// A client of the Hydra that the consumer uses now.
    pub fn hydra_client(&self) -> Result<peers::hydra::Client> {
        let seen = self.current().context("the consumer knows no Hydra yet")?;
        Ok(peers::hydra::Client::new(&seen.public_endpoint, &seen.admin_endpoint))
    }

    /// Asks for the session of a token, as the login UI does for a user.
    pub fn whoami(&self, session_token: &str) -> Result<Value> {
        self.client()?.whoami(session_token)
    }
}

impl NativeCharm for Consumer {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(self.kind.metadata, "", "")
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        // The end of the relation is not observed: the process keeps the addresses it has.
        if matches!(event, Event::RelationBroken(_)) {
            return Ok(());
        }
        if let Event::RelationCreated(created) = event
            && created.endpoint == PAGES_ENDPOINT
            && context.is_leader()?
        {
            context.set_application_databag(&created.id, &PAGES)?;
        }
        let Some(relation) = context.relations(self.kind.endpoint)?.into_iter().next() else {
            return context.status_set("blocked", self.kind.missing);
        };
        let information = context.application_databag(&relation.id, &relation.remote_application)?;
        let (Some(public), Some(admin)) = (information.get("public_endpoint"), information.get("admin_endpoint"))
        else {
            return context.status_set("waiting", self.kind.waiting);
        };
        let unit = context.unit().to_owned();
        let mut seen = self.view.lock();
        let last = seen.iter().rev().find(|start| start.unit == unit);
        if last.is_none_or(|start| start.public_endpoint != *public || start.admin_endpoint != *admin) {
            seen.push(Seen {
                at: Instant::now(),
                unit,
                public_endpoint: public.clone(),
                admin_endpoint: admin.clone(),
            });
        }
        drop(seen);
        context.status_set("active", "")
    }

    fn action(&mut self, name: &str, _: &Map<String, Value>, _: &mut UnitContext) -> Result<()> {
        anyhow::bail!("cannot run {name}: this charm has no actions")
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}
