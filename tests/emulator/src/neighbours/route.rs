//! The part of Traefik that Kratos and Hydra need to have a public URL: it answers
//! every `traefik_route` with its external host.

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

/// A route with one external host name.
pub struct Route {
    external_host: String,
}

impl Route {
    pub fn new(external_host: &str) -> Self {
        Route { external_host: external_host.to_owned() }
    }
}

impl NativeCharm for Route {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(METADATA, "", "")
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        if context.is_leader()? && !matches!(event, Event::RelationBroken(_)) {
            for relation in context.relations("traefik-route")? {
                let answer = [("external_host", self.external_host.as_str()), ("scheme", "https")];
                context.set_application_databag(&relation.id, &answer)?;
            }
        }
        context.status_set("active", &format!("Serving at {}", self.external_host))
    }

    fn action(&mut self, name: &str, _: &Map<String, Value>, _: &mut UnitContext) -> Result<()> {
        anyhow::bail!("cannot run {name}: this charm has no actions")
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}
