//! The unit's status; Juju makes the application's from those of its units.

use super::hook_tool::{Call, HookToolError, HookTools};
use serde::Deserialize;

/// The statuses that a charm may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusKind {
    /// Resting in a good state.
    Active,
    /// Something outside will finish by itself.
    Waiting,
    /// We are working.
    Maintenance,
    /// A person must act.
    Blocked,
}

impl StatusKind {
    /// Juju's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Maintenance => "maintenance",
            Self::Blocked => "blocked",
        }
    }
}

/// A status as Juju shows it; may be one that a charm cannot set, such as `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShownStatus {
    /// Juju's name of the status.
    pub status: String,
    /// The message; may be empty.
    #[serde(default)]
    pub message: String,
}

impl HookTools {
    /// The unit's status as Juju shows it now.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn unit_status(&self) -> Result<ShownStatus, HookToolError> {
        self.json(Call::new("status-get", ["--include-data"]))
    }

    /// Sets the unit's status, at once and for good, even if the hook fails later;
    /// does nothing when Juju shows it already, so that its time stays.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn set_unit_status(&self, status: StatusKind, message: &str) -> Result<(), HookToolError> {
        let shown = self.unit_status()?;
        if shown.status == status.name() && shown.message == message {
            return Ok(());
        }
        self.run(Call::new("status-set", ["--", status.name(), message])).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;
    use super::*;

    #[test]
    fn an_unchanged_status_is_not_written_again() {
        let shown = r#"echo '{"message":"-50 %","status":"active","status-data":{}}'"#;
        let scripts = Scripts::new().tool("status-get", shown).tool("status-set", "exit 0");
        scripts.tools().set_unit_status(StatusKind::Active, "-50 %").unwrap();
        assert!(scripts.calls("status-set").is_empty());
        scripts.tools().set_unit_status(StatusKind::Active, "-51 %").unwrap();
        assert_eq!(scripts.calls("status-set"), ["--", "active", "-51 %"]);
    }
}
