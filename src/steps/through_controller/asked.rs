//! What was asked for of a refresh, as the journal has it.

use super::super::context::Context;
use super::noted;
use crate::controller::{CharmOrigin, Time};
use crate::migration::Step;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The note of what was asked for, written before anything is sent; taken back when that was refused whole.
pub(super) const ASKED: &str = "controller-refresh";

/// The note that the switch was answered, or seen: the charm.
pub(super) const SENT: &str = "controller-refreshed";

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Asked {
    pub application: String,
    /// The charm before.
    pub before: String,
    /// The charm that was resolved, or uploaded; empty while an upload has no answer.
    pub url: String,
    /// Its origin, as it was resolved.
    pub origin: CharmOrigin,
    /// Empty for a charm that is uploaded.
    pub channel: String,
    /// What the operator wrote: another wish is another refresh.
    pub wish: Value,
    pub units: usize,
    /// The controller's clock.
    pub at: Time,
    /// The charms that had been uploaded before. Notes of older charms do not tell.
    #[serde(default)]
    pub uploaded: Vec<String>,
}

impl Asked {
    /// What was asked for with the request that is worked on.
    pub(super) fn now(context: &Context<'_>) -> Option<Self> {
        let asked: Self = noted(context, Step::Refresh, ASKED)?;
        let same = asked.application == context.applications.target.name && asked.wish == context.request.wish();
        same.then_some(asked)
    }
}

/// Whether a refresh was asked for: what shows from outside is then not believed before it has settled.
pub fn is_asked(context: &Context<'_>) -> bool {
    noted::<Asked>(context, Step::Refresh, ASKED).is_some()
}

/// Whether that was a charm that was uploaded, whatever the request that is worked on says.
pub fn is_asked_local(context: &Context<'_>) -> bool {
    noted::<Asked>(context, Step::Refresh, ASKED).is_some_and(|asked| asked.url.starts_with("local:"))
}

/// The charm that the application had before its refresh was asked for here.
pub fn charm_before(context: &Context<'_>) -> Option<String> {
    Some(noted::<Asked>(context, Step::Refresh, ASKED)?.before)
}
