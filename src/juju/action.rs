//! The running action: its parameters, results, log and failure.

use super::hook_tool::{Call, HookToolError, HookTools, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Linux refuses an argument of 128 KiB; what is longer is cut here, and says so.
const LONGEST: usize = 100 * 1024;
/// All arguments of one call together; Linux allows at least 512 KiB with the environment.
const LONGEST_CALL: usize = 256 * 1024;
const CUT: &str = "\n[cut here: too long for an action result]";
/// Names that Juju fills itself.
const RESERVED: [&str; 4] = ["stdout", "stdout-encoding", "stderr", "stderr-encoding"];

impl HookTools {
    /// The action's parameters, defaults included. Numbers may arrive as floats.
    ///
    /// # Errors
    /// [`Kind::Outside`] outside an action.
    pub fn action_parameters(&self) -> Result<Map<String, Value>, HookToolError> {
        let parameters: Option<Map<String, Value>> = self.json(Call::new("action-get", [] as [&str; 0]))?;
        Ok(parameters.unwrap_or_default())
    }

    /// Sets results; kept even when the action fails. A value over 100 KiB is cut and says so.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a key that Juju does not take (`[a-z0-9]([a-z0-9-]*[a-z0-9])?`, not `stdout` or `stderr`),
    /// before anything is set.
    pub fn set_results(&self, results: &BTreeMap<String, String>) -> Result<(), HookToolError> {
        if let Some(key) = results.keys().find(|key| !is_result_key(key)) {
            return Err(HookToolError {
                tool: "action-set".to_owned(),
                arguments: vec![format!("{key}=…")],
                exit_code: None,
                kind: Kind::Usage,
                stderr: format!("key {key:?} is no result name"),
            });
        }
        let mut batch = Vec::new();
        let mut size = 0;
        for (key, value) in results {
            let argument = format!("{key}={}", fitting(value));
            if size + argument.len() > LONGEST_CALL {
                self.run(Call::new("action-set", std::mem::take(&mut batch)))?;
                size = 0;
            }
            size += argument.len();
            batch.push(argument);
        }
        if batch.is_empty() { Ok(()) } else { self.run(Call::new("action-set", batch)).map(drop) }
    }

    /// Shows a line of progress to whoever watches the action. Juju 3.6 keeps about 1000 of them.
    ///
    /// # Errors
    /// [`Kind::Outside`] outside an action.
    pub fn log_progress(&self, line: &str) -> Result<(), HookToolError> {
        self.run(Call::new("action-log", ["--".to_owned(), fitting(line)])).map(drop)
    }

    /// Marks the action as failed. The process must still exit 0, or Juju replaces the sentence.
    ///
    /// # Errors
    /// [`Kind::Outside`] outside an action.
    pub fn fail_action(&self, sentence: &str) -> Result<(), HookToolError> {
        self.run(Call::new("action-fail", ["--".to_owned(), fitting(sentence)])).map(drop)
    }
}

fn is_result_key(key: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    key.bytes().all(inner)
        && !key.is_empty()
        && !key.starts_with('-')
        && !key.ends_with('-')
        && !RESERVED.contains(&key)
}

/// The text, cut at a character's start where it would not fit into an argument. A NUL byte
/// cannot be passed at all.
fn fitting(text: &str) -> String {
    let text = text.replace('\0', "");
    if text.len() <= LONGEST {
        return text;
    }
    let end = (0..=LONGEST - CUT.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::Scripts;
    use super::*;

    fn results(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn result_names_follow_juju() {
        for good in ["outcome", "bytes-copied", "a", "0", "drain-ms"] {
            assert!(is_result_key(good), "{good}");
        }
        for bad in ["", "Bad", "a_b", "-a", "a-", "a.b", "stdout", "stderr-encoding"] {
            assert!(!is_result_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_sets_nothing() {
        let scripts = Scripts::new().tool("action-set", "exit 0");
        let error = scripts.tools().set_results(&results(&[("a", "1"), ("b_c", "2")])).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(scripts.calls("action-set").is_empty());
    }

    #[test]
    fn results_go_in_one_call_while_they_fit() {
        let scripts = Scripts::new().tool("action-set", "exit 0");
        scripts.tools().set_results(&results(&[("outcome", "done"), ("next", "")])).unwrap();
        assert_eq!(scripts.calls("action-set"), ["next=", "outcome=done"]);
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let long = "ü".repeat(200_000);
        assert!(fitting(&long).len() <= LONGEST);
        assert!(fitting(&long).ends_with(CUT));
        let scripts = Scripts::new().tool("action-set", "exit 0");
        let four = [("a", long.as_str()), ("b", &long), ("c", &long), ("d", &long)];
        scripts.tools().set_results(&results(&four)).unwrap();
        assert_eq!(scripts.calls("action-set").iter().filter(|line| line.contains("=ü")).count(), 4);
    }

    #[test]
    fn free_text_may_start_with_a_hyphen() {
        let scripts = Scripts::new().tool("action-log", "exit 0").tool("action-fail", "exit 0");
        scripts.tools().log_progress("-half way").unwrap();
        scripts.tools().fail_action("cannot drain: nothing is replicated; run replicate").unwrap();
        assert_eq!(scripts.calls("action-log"), ["--", "-half way"]);
        assert_eq!(scripts.calls("action-fail").len(), 2);
    }
}
