//! The application's configuration.

use super::hook_tool::{Call, HookToolError, HookTools};
use serde_json::{Map, Value};

impl HookTools {
    /// All options; unset ones are `null`. Numbers may arrive as floats.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn config(&self) -> Result<Map<String, Value>, HookToolError> {
        self.json(Call::new("config-get", ["--all"]))
    }
}
