//! Files that an operator attached.

use super::hook_tool::{Call, HookToolError, HookTools};
use std::path::PathBuf;

impl HookTools {
    /// Where the newest file of a resource lies; the agent gets it from the controller, unless it has it. The agent may
    /// replace it whenever it is asked again.
    ///
    /// # Errors
    /// When nothing was attached, or the file cannot be got.
    pub fn resource(&self, name: &str) -> Result<PathBuf, HookToolError> {
        Ok(PathBuf::from(self.run(Call::new("resource-get", [name]))?.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;
    use std::path::Path;

    #[test]
    fn the_path_has_no_line_of_its_own() {
        let scripts = Scripts::new().tool("resource-get", "printf /var/lib/juju/resources/a/a.charm");
        let path = scripts.tools().resource("a").unwrap();
        assert_eq!(path, Path::new("/var/lib/juju/resources/a/a.charm"));
        assert_eq!(scripts.calls("resource-get"), ["a"]);
    }
}
