//! The one place that starts hook tools.

use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// Juju forbids it.
    PermissionDenied,
    /// Only the leader may do it.
    NotLeader,
    /// The relation was removed. Juju 3.6 says "permission denied" here, 4.0 "relation not found".
    RelationGone,
    /// Something of that name exists.
    AlreadyExists,
    /// The secret exists, and we may not read it (yet).
    NotGranted,
    /// Not inside a hook or action, or the agent does not answer.
    Outside,
    /// We called the tool wrongly.
    Usage,
    /// Anything else.
    Other,
}

impl Kind {
    /// What a person can do about it.
    fn cure(self) -> &'static str {
        match self {
            Self::NotFound | Self::RelationGone => "look at juju status --relations and relate again if it is missing",
            Self::PermissionDenied => "look at the unit's log with juju debug-log",
            Self::NotLeader => "run it on the leader",
            Self::AlreadyExists => "remove the other one first",
            Self::NotGranted => "grant the secret to this application",
            Self::Outside => "look at the unit agent with juju status and juju debug-log",
            Self::Usage | Self::Other => "look at the unit's log with juju debug-log and report it",
        }
    }
}

/// A hook tool that did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot run {tool} {}: {stderr}{}; {}", .arguments.join(" "), ending(.exit_code), .kind.cure())]
pub struct HookToolError {
    /// The tool's name.
    pub tool: String,
    /// Its arguments, without values and free text.
    pub arguments: Vec<String>,
    /// Its exit code; `None` when it never ran or was killed.
    pub exit_code: Option<i32>,
    /// The class of the failure.
    pub kind: Kind,
    /// What it wrote to standard error, without `ERROR `.
    pub stderr: String,
}

fn ending(exit_code: &Option<i32>) -> String {
    exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default()
}

/// One call: a tool, its arguments and what goes to its standard input.
pub(super) struct Call<'a> {
    tool: &'a str,
    arguments: Vec<String>,
    stdin: Option<String>,
}

impl<'a> Call<'a> {
    pub(super) fn new<I, S>(tool: &'a str, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self { tool, arguments: arguments.into_iter().map(Into::into).collect(), stdin: None }
    }

    pub(super) fn stdin(mut self, text: String) -> Self {
        self.stdin = Some(text);
        self
    }

    /// The arguments as an error may show them: no value after `=`, no free text after `--`.
    fn shown(&self) -> Vec<String> {
        self.arguments
            .iter()
            .take_while(|argument| *argument != "--")
            .map(|argument| match argument.split_once('=') {
                Some((key, _)) if !key.starts_with("--") => format!("{key}=…"),
                _ => argument.clone(),
            })
            .collect()
    }

    fn error(&self, exit_code: Option<i32>, kind: Kind, stderr: impl Into<String>) -> HookToolError {
        HookToolError { tool: self.tool.to_owned(), arguments: self.shown(), exit_code, kind, stderr: stderr.into() }
    }
}

/// The hook tools of the running hook or action, found on PATH.
#[derive(Clone, Debug, Default)]
pub struct HookTools {
    path: Option<OsString>,
}

impl HookTools {
    /// The tools on this process's own PATH.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tools on another PATH.
    pub fn on_path(path: impl Into<OsString>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// Runs a tool and answers what it printed.
    pub(super) fn run(&self, call: Call<'_>) -> Result<String, HookToolError> {
        let mut command = Command::new(call.tool);
        // With PATH set on the command, the program is looked up there as well.
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
            .args(&call.arguments)
            .stdin(if call.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| call.error(None, Kind::Outside, error.to_string()))?;
        if let (Some(text), Some(mut stdin)) = (&call.stdin, child.stdin.take()) {
            // A tool that refuses its arguments closes its input unread; its exit code says why.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| call.error(None, Kind::Outside, error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let stderr = text.trim().trim_start_matches("ERROR ").to_owned();
        let kind = classify(call.tool, output.status.code(), &stderr);
        Err(call.error(output.status.code(), kind, stderr))
    }

    /// Runs a tool with `--format=json` and reads its answer.
    pub(super) fn json<T: DeserializeOwned>(&self, mut call: Call<'_>) -> Result<T, HookToolError> {
        call.arguments.push("--format=json".to_owned());
        let error = |text: String| call.error(Some(0), Kind::Other, text);
        // The answer itself stays out of the error: it may be a secret's content.
        let failed = error("its answer is not the JSON that was expected".to_owned());
        let text = self.run(call)?;
        serde_json::from_str(&text).map_err(|_| failed)
    }
}

/// Sorts a failure by its wording: Juju has no error codes, and the wordings differ between 3.6 and 4.0.
fn classify(tool: &str, exit_code: Option<i32>, stderr: &str) -> Kind {
    let has = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    if has(&["JUJU_CONTEXT_ID", "wrong context ID", "agent.socket", "not running an action", "connection is shutdown"])
    {
        return Kind::Outside;
    }
    if has(&["not the leader", "cannot write relation settings", "not leader of", "lease not held"]) {
        return Kind::NotLeader;
    }
    if has(&["not allowed to read this secret"]) || (tool == "secret-get" && has(&["permission denied"])) {
        return Kind::NotGranted;
    }
    if tool.starts_with("relation-") && (has(&["permission denied", "relation not found"]) || numbered_gone(stderr)) {
        return Kind::RelationGone;
    }
    if has(&["already exists"]) {
        return Kind::AlreadyExists;
    }
    if has(&["permission denied", "is not allowed to", "unauthorized"]) {
        return Kind::PermissionDenied;
    }
    if has(&["not found"]) {
        return Kind::NotFound;
    }
    if exit_code == Some(2) { Kind::Usage } else { Kind::Other }
}

/// `relation 7 not found`, in whatever sentence.
fn numbered_gone(stderr: &str) -> bool {
    stderr.split("relation ").skip(1).any(|rest| {
        let digits = rest.trim_start_matches('"').trim_start_matches(|c: char| c.is_ascii_digit());
        rest.starts_with(|c: char| c.is_ascii_digit() || c == '"') && digits.contains("not found")
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    /// A folder of small scripts that stand where the hook tools are; removed in drop.
    pub(crate) struct Scripts(PathBuf);

    impl Scripts {
        pub(crate) fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("hook-tools-{:016x}", rand::random::<u64>()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        /// Adds a tool that writes its arguments (a line each) and its input to files, then runs `body`.
        pub(crate) fn tool(self, name: &str, body: &str) -> Self {
            let path = self.0.join(name);
            let record = self.0.join(format!("{name}.calls"));
            let input = self.0.join(format!("{name}.stdin"));
            let text = format!(
                "#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\ncat > {}\n{body}\n",
                record.display(),
                input.display()
            );
            write_program(&path, &text);
            self
        }

        pub(crate) fn tools(&self) -> HookTools {
            HookTools::on_path(format!("{}:/usr/bin:/bin", self.0.display()))
        }

        /// All arguments of all calls of a tool, a line each.
        pub(crate) fn calls(&self, name: &str) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.join(format!("{name}.calls"))).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        pub(crate) fn stdin(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(format!("{name}.stdin"))).unwrap_or_default()
        }

        pub(crate) fn folder(&self) -> &Path {
            &self.0
        }
    }

    /// Writes a program from a child process: were it open for writing here, another test's fork could
    /// hold it open, and the kernel refuses to start a program that is open for writing.
    pub(crate) fn write_program(path: &Path, text: &str) {
        let mut writer =
            Command::new("/bin/sh").args(["-c", "cat > \"$1\"", "sh"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    impl Drop for Scripts {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn live_wordings_are_classified() {
        let cases = [
            (
                "relation-get",
                2,
                r#"invalid value "source-database:999" for option -r: relation not found"#,
                Kind::RelationGone,
            ),
            ("relation-set", 1, "permission denied", Kind::RelationGone),
            ("relation-get", 1, "relation 7 not found", Kind::RelationGone),
            ("relation-get", 1, "relation unit not found", Kind::NotFound),
            ("relation-list", 2, r#"invalid value "zzz" for option -r: invalid relation id"#, Kind::Usage),
            ("relation-set", 1, "cannot write relation settings", Kind::NotLeader),
            ("status-set", 1, "this unit is not the leader", Kind::NotLeader),
            ("status-get", 1, "finding application status: this unit is not the leader", Kind::NotLeader),
            (
                "status-set",
                2,
                r#"invalid status "error", expected one of [maintenance blocked waiting active]"#,
                Kind::Usage,
            ),
            ("secret-get", 1, r#""aa/0" is not allowed to read this secret"#, Kind::NotGranted),
            (
                "secret-get",
                1,
                "getting latest secret revision: permission denied (unauthorized access)",
                Kind::NotGranted,
            ),
            ("secret-get", 1, "getting latest secret revision: secret not found", Kind::NotFound),
            ("secret-info-get", 1, r#"secret "uagn5dkhgfa1e176suo0" not found"#, Kind::NotFound),
            ("secret-add", 1, r#"secret with label "x" already exists"#, Kind::AlreadyExists),
            ("action-get", 1, "not running an action", Kind::Outside),
            ("config-get", 1, "JUJU_CONTEXT_ID not set", Kind::Outside),
            ("action-log", 1, "connection is shutdown before send", Kind::Outside),
            ("action-set", 2, r#"cannot set reserved action key "stdout""#, Kind::Usage),
            ("open-port", 1, "cannot open: permission denied", Kind::PermissionDenied),
            ("config-get", 1, "boom", Kind::Other),
        ];
        for (tool, code, stderr, kind) in cases {
            assert_eq!(classify(tool, Some(code), stderr), kind, "{tool}: {stderr}");
        }
    }

    #[test]
    fn errors_show_neither_values_nor_free_text() {
        let call = Call::new("action-set", ["outcome=done", "password=hunter2", "--", "free text"]);
        let error = call.error(Some(2), Kind::Usage, "bad");
        assert_eq!(
            error.to_string(),
            "cannot run action-set outcome=… password=…: bad (exit code 2); \
             look at the unit's log with juju debug-log and report it"
        );
    }

    #[test]
    fn a_missing_tool_is_outside() {
        let error = HookTools::on_path("/nonexistent").run(Call::new("is-leader", ["x"])).unwrap_err();
        assert_eq!((error.kind, error.exit_code), (Kind::Outside, None));
    }

    #[test]
    fn a_failing_tool_gives_code_and_text() {
        let scripts = Scripts::new().tool("relation-get", "echo 'ERROR permission denied' >&2; exit 1");
        let error = scripts.tools().run(Call::new("relation-get", ["-r", "7"])).unwrap_err();
        assert_eq!((error.kind, error.exit_code), (Kind::RelationGone, Some(1)));
        assert_eq!(error.stderr, "permission denied");
    }

    #[test]
    fn an_unreadable_answer_is_not_repeated() {
        let scripts = Scripts::new().tool("secret-get", "echo hunter2");
        let error = scripts.tools().json::<bool>(Call::new("secret-get", ["secret:x"])).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
