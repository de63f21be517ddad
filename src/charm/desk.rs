//! What every action works with, and what it answers.

use super::event::Context;
use super::gather::Gathered;
use crate::juju::HookTools;
use std::collections::BTreeMap;

/// What an action answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `done`, `running`, `waiting`, `refused` or `failed`.
    pub outcome: &'static str,
    /// One sentence.
    pub message: String,
    /// The exact command to run next, or empty.
    pub next: String,
    /// Figures and reports beside them.
    pub more: BTreeMap<String, String>,
}

impl Reply {
    /// Refused: nothing was done.
    pub fn refused(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: "refused", message: message.into(), next: next.into(), more: BTreeMap::new() }
    }

    /// Failed: it was tried.
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: "failed", message: message.into(), next: next.into(), more: BTreeMap::new() }
    }
}

/// Everything an action works with.
pub struct Desk<'a> {
    /// Juju.
    pub tools: &'a HookTools,
    /// Who we are.
    pub context: &'a Context,
    /// What Juju says.
    pub gathered: &'a Gathered,
}

impl Desk<'_> {
    /// `juju run <coordinator>/leader <action>`.
    pub fn command(&self, action: &str) -> String {
        command(self.context, action)
    }

    /// The same where this action usually comes next, behind what it needs to be of use: somebody to tell.
    pub fn next(&self, action: &str) -> String {
        let tells = ["refresh", "cut-over", "flip-traffic", "finalize"].contains(&action);
        if !tells || self.tells_nobody().is_none() {
            return self.command(action);
        }
        let ours = &self.context.application;
        let app = self.gathered.applications.app;
        let (endpoint, title) = (app.consumers_endpoint, app.title);
        format!("juju integrate {ours}:{endpoint} <consumer of {title}>\n{}", self.command(action))
    }

    /// Without consumers a flip reaches nobody.
    pub fn tells_nobody(&self) -> Option<String> {
        let none = self.gathered.relations.consumers.is_empty();
        let endpoint = self.gathered.applications.app.consumers_endpoint;
        none.then(|| format!("; nobody is related to {endpoint} yet, so a flip would reach no consumer"))
    }
}

/// `juju run <coordinator>/leader <action>`, or nothing for no action.
pub fn command(context: &Context, action: &str) -> String {
    if action.is_empty() { String::new() } else { format!("juju run {}/leader {action}", context.application) }
}
