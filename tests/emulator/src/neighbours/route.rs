//! The part of Traefik that Kratos and Hydra need to have a public URL: it answers
//! every `traefik_route` with its external host, and keeps whose rules it was given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Map, Value};

use crate::charm::CharmFiles;
use crate::event::Event;
use crate::native::{NativeCharm, UnitContext};

const METADATA: &str = "
name: route
summary: A route to the outside
description: Tells its requirers the host name under which the world reaches them.
provides:
  traefik-route: {interface: traefik_route}
";

/// Where requirers ask for a place.
const ENDPOINT: &str = "traefik-route";

/// A route with one external host name.
pub struct Route {
    external_host: String,
    view: RouteView,
}

/// The rules of an ingress, to look at from outside.
#[derive(Debug, Clone, Default)]
pub struct RouteView(Arc<Mutex<BTreeMap<String, Value>>>);

impl RouteView {
    /// The servers to which requests under this rule are led; which of several gets one is left to chance, as in Traefik.
    pub fn servers(&self, rule: &str) -> Vec<String> {
        let submitted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = |config: &Value| -> Vec<String> {
            let http = &config["http"];
            let routers = http["routers"].as_object().into_iter().flatten();
            let led = routers.filter(|(_, router)| router["rule"] == rule);
            led.filter_map(|(_, router)| {
                let service = router["service"].as_str()?;
                Some(http["services"][service]["loadBalancer"]["servers"][0]["url"].as_str()?.to_owned())
            })
            .collect()
        };
        submitted.values().flat_map(of_one).collect()
    }
}

impl Route {
    pub fn new(external_host: &str) -> Self {
        Self::seen_by(external_host, &RouteView::default())
    }

    /// The same with somebody who looks.
    pub fn seen_by(external_host: &str, view: &RouteView) -> Self {
        Route { external_host: external_host.to_owned(), view: view.clone() }
    }
}

impl NativeCharm for Route {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, "", "")
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        let mut submitted = BTreeMap::new();
        for relation in context.relations(ENDPOINT)? {
            if matches!(event, Event::RelationBroken(broken) if broken.id == relation.id) {
                continue;
            }
            if context.is_leader()? {
                let answer = [("external_host", self.external_host.as_str()), ("scheme", "https")];
                context.set_application_databag(&relation.id, &answer)?;
            }
            let asked = context.application_databag(&relation.id, &relation.remote_application)?;
            if let Some(config) = asked.get("config") {
                submitted.insert(relation.id, serde_yaml::from_str(config)?);
            }
        }
        *self.view.0.lock().unwrap_or_else(PoisonError::into_inner) = submitted;
        context.status_set("active", &format!("Serving at {}", self.external_host))
    }

    fn action(&mut self, name: &str, _: &Map<String, Value>, _: &mut UnitContext) -> Result<()> {
        anyhow::bail!("cannot run {name}: this charm has no actions")
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}
