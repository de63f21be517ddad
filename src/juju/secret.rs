//! Secrets that others own.

use super::hook_tool::{Call, HookToolError, HookTools};
use std::collections::BTreeMap;

impl HookTools {
    /// The newest content of a secret, and keeps to that revision. Its values are secret.
    ///
    /// # Errors
    /// [`super::Kind::NotGranted`] or, in some cross-model cases, [`super::Kind::NotFound`]
    /// while the grant has not arrived: both mean "not yet".
    pub fn secret(&self, uri: &str) -> Result<BTreeMap<String, String>, HookToolError> {
        self.json(Call::new("secret-get", [uri, "--refresh"]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;

    #[test]
    fn the_newest_revision_is_asked_for() {
        let scripts = Scripts::new().tool("secret-get", r#"echo '{"username":"u","password":"\u003cp\u003e"}'"#);
        let content = scripts.tools().secret("secret:abc").unwrap();
        assert_eq!(content["password"], "<p>");
        assert_eq!(scripts.calls("secret-get"), ["secret:abc", "--refresh", "--format=json"]);
    }
}
