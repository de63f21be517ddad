//! A consumer of `kratos_info`, such as the login UI: it takes Kratos'
//! addresses from the relation and restarts once for each change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

const METADATA: &str = "
name: identity-platform-login-ui-operator
summary: The login UI
description: A consumer of kratos_info that restarts with every change of it.
requires:
  kratos-info: {interface: kratos_info, limit: 1}
";

/// The charm of the consumer.
#[derive(Default)]
pub struct Consumer {
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

impl Consumer {
    pub fn new() -> Self {
        Self::default()
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

    /// Asks for the session of a token, as the login UI does for a user.
    pub fn whoami(&self, session_token: &str) -> Result<Value> {
        self.client()?.whoami(session_token)
    }
}

impl NativeCharm for Consumer {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, "", "")
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        // The end of the relation is not observed: the process keeps the addresses it has.
        if matches!(event, Event::RelationBroken(_)) {
            return Ok(());
        }
        let Some(relation) = context.relations("kratos-info")?.into_iter().next() else {
            return context.status_set("blocked", "Missing integration kratos-info");
        };
        let information = context.application_databag(&relation.id, &relation.remote_application)?;
        let (Some(public), Some(admin)) = (information.get("public_endpoint"), information.get("admin_endpoint"))
        else {
            return context.status_set("waiting", "Waiting for Kratos' endpoints");
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
