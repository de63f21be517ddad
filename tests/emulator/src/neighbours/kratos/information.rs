//! The `kratos_info` databag of the Kratos charm.

use anyhow::Result;

use super::KratosView;
use crate::event::Event;
use crate::native::UnitContext;
use crate::neighbours::ory::{PUBLIC_ROUTE, public_url};

/// The charm writes it only when a relation is made, the configuration changes or the public route does: not at
/// update-status, and not after a migration.
pub fn is_due(event: &Event) -> bool {
    match event {
        Event::ConfigChanged => true,
        Event::RelationCreated(relation) => relation.endpoint == "kratos-info",
        Event::RelationJoined(relation) | Event::RelationChanged(relation) | Event::RelationBroken(relation) => {
            relation.endpoint == PUBLIC_ROUTE
        }
        _ => false,
    }
}

/// Writes it to every consumer; without a public URL nothing is written at all.
pub fn publish(view: &KratosView, event: &Event, context: &mut UnitContext) -> Result<()> {
    let Some(public_url) = public_url(Some(event), context)? else { return Ok(()) };
    let ports = view.ports();
    let (admin, public) = (ports.admin_url(), ports.public_url());
    let browser = format!("{public_url}/self-service/login/browser");
    let sessions = format!("{public}/sessions/whoami");
    let model = context.model().to_owned();
    let information = [
        ("admin_endpoint", admin.as_str()),
        ("public_endpoint", &public),
        ("login_browser_endpoint", &browser),
        ("sessions_endpoint", &sessions),
        ("providers_configmap_name", "oidc-providers"),
        ("schemas_configmap_name", "identity-schemas"),
        ("configmaps_namespace", &model),
        ("mfa_enabled", "False"),
        ("oidc_webauthn_sequencing_enabled", "False"),
        ("verification_enabled", "False"),
        ("feature_flags", "password,totp,backup_codes"),
    ];
    for relation in context.relations("kratos-info")? {
        context.set_application_databag(&relation.id, &information)?;
    }
    Ok(())
}
