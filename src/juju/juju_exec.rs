//! Back into a hook context from a process that outlived its hook.

use super::hook_tool::{HookToolError, Kind};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Runs our own `dispatch` under an invented hook name through `juju-exec`.
/// Only from a detached process: inside a hook it would wait for that very hook.
#[derive(Clone, Debug)]
pub struct JujuExec {
    unit: String,
    charm_dir: PathBuf,
    path: Option<OsString>,
}

impl JujuExec {
    /// For a unit and the folder its charm is unpacked in.
    pub fn new(unit: impl Into<String>, charm_dir: impl Into<PathBuf>) -> Self {
        Self { unit: unit.into(), charm_dir: charm_dir.into(), path: None }
    }

    /// Finds `juju-exec` on another PATH.
    pub fn on_path(self, path: impl Into<OsString>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Runs `dispatch` as the hook `hook`, and waits for its end, however long other hooks of the
    /// unit take: `tokio::spawn` it. Should we end meanwhile, the hook runs all the same.
    /// Juju never repeats it after a failure.
    ///
    /// # Errors
    /// [`Kind::Outside`] when the agent does not answer, [`Kind::Other`] when `dispatch` failed.
    pub async fn run(&self, hook: &str) -> Result<(), HookToolError> {
        let line = shell_line(hook, &self.charm_dir);
        let mut command = tokio::process::Command::new("juju-exec");
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        // juju-exec refuses to start where this variable says that a hook runs.
        command.env_remove("JUJU_CONTEXT_ID").args(["-u", &self.unit, &line]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let error = |exit_code, kind, stderr: String| HookToolError {
            tool: "juju-exec".to_owned(),
            arguments: vec!["-u".to_owned(), self.unit.clone(), line.clone()],
            exit_code,
            kind,
            stderr,
        };
        let output = command.output().await.map_err(|failure| error(None, Kind::Outside, failure.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.trim().lines().last().unwrap_or_default().trim_start_matches("ERROR ").to_owned();
        let agent_away = ["run.socket", "run socket", "not found on this machine", "aborted", "no runner"];
        let kind = if agent_away.iter().any(|part| last.contains(part)) { Kind::Outside } else { Kind::Other };
        Err(error(output.status.code(), kind, last))
    }
}

/// What bash is given: the environment and the program, quoted.
fn shell_line(hook: &str, charm_dir: &Path) -> String {
    let dispatch = charm_dir.join("dispatch");
    format!("JUJU_DISPATCH_PATH={} {}", quoted(&format!("hooks/{hook}")), quoted(&dispatch.to_string_lossy()))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::hook_tool::tests::{Scripts, write_program};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_line_survives_a_shell_and_a_failure_is_told() {
        let scripts = Scripts::new().tool("juju-exec", r#"exec sh -c "$3""#);
        let charm_dir = scripts.folder().join("it's here");
        std::fs::create_dir(&charm_dir).unwrap();
        let seen = scripts.folder().join("seen");
        let dispatch = charm_dir.join("dispatch");
        write_program(&dispatch, &format!("#!/bin/sh\nprintf %s \"$JUJU_DISPATCH_PATH\" > {}\n", seen.display()));
        std::fs::set_permissions(&dispatch, std::fs::Permissions::from_mode(0o644)).unwrap();
        let exec = JujuExec::new("a/0", &charm_dir).on_path(format!("{}:/usr/bin:/bin", scripts.folder().display()));
        let refused = exec.run("identity_migration_wake").await.unwrap_err();
        assert_eq!(refused.exit_code, Some(126), "not executable yet");
        std::fs::set_permissions(&dispatch, std::fs::Permissions::from_mode(0o755)).unwrap();
        exec.run("identity_migration_wake").await.unwrap();
        assert_eq!(std::fs::read_to_string(seen).unwrap(), "hooks/identity_migration_wake");
    }

    #[tokio::test]
    async fn an_absent_agent_is_outside() {
        let scripts = Scripts::new().tool("juju-exec", "echo 'ERROR dialing juju run socket: refused' >&2; exit 1");
        let exec = JujuExec::new("a/0", "/charm").on_path(format!("{}:/usr/bin:/bin", scripts.folder().display()));
        assert_eq!(exec.run("x").await.unwrap_err().kind, Kind::Outside);
    }
}
