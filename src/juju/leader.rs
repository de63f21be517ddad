//! Leadership, and the version that `juju status` shows.

use super::hook_tool::{Call, HookToolError, HookTools};

impl HookTools {
    /// Whether this unit leads, good for at least 30 seconds. `false` can also mean that the
    /// controller is away, so it is no proof of another leader.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn is_leader(&self) -> Result<bool, HookToolError> {
        self.json(Call::new("is-leader", [] as [&str; 0]))
    }

    /// Sets the application's version in `juju status`.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn set_application_version(&self, version: &str) -> Result<(), HookToolError> {
        self.run(Call::new("application-version-set", ["--", version])).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;

    #[test]
    fn leadership_is_read() {
        assert!(Scripts::new().tool("is-leader", "echo true").tools().is_leader().unwrap());
        assert!(!Scripts::new().tool("is-leader", "echo false").tools().is_leader().unwrap());
    }
}
