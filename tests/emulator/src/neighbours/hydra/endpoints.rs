//! The `hydra_endpoints` databag of the Hydra charm.

use anyhow::Result;

use super::HydraView;
use crate::event::Event;
use crate::native::UnitContext;
use crate::neighbours::ory::PUBLIC_ROUTE;

/// Where consumers ask for the addresses.
const ENDPOINT: &str = "hydra-endpoint-info";

/// The charm writes it when a relation is made, the configuration changes or a route does; its server need not run.
pub fn are_due(event: &Event) -> bool {
    match event {
        Event::ConfigChanged => true,
        Event::RelationCreated(relation) => relation.endpoint == ENDPOINT,
        Event::RelationJoined(relation) | Event::RelationChanged(relation) => relation.endpoint == PUBLIC_ROUTE,
        _ => false,
    }
}

/// Writes it to every consumer.
pub fn publish(view: &HydraView, context: &UnitContext) -> Result<()> {
    let ports = view.ports();
    let (admin, public) = (ports.admin_url(), ports.public_url());
    for relation in context.relations(ENDPOINT)? {
        let endpoints = [("admin_endpoint", admin.as_str()), ("public_endpoint", &public)];
        context.set_application_databag(&relation.id, &endpoints)?;
    }
    Ok(())
}
