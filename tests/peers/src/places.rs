//! Where `tests/peers/setup` puts programs, and where clusters live.

use anyhow::Context;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// User and group `nobody` on Debian and Ubuntu, for servers that refuse to run as root.
const NOBODY: u32 = 65534;

/// Programs and data of PostgreSQL; the same default as in `tests/peers/setup`.
pub fn peers_root() -> PathBuf {
    match std::env::var_os("PEERS_ROOT") {
        Some(root) => root.into(),
        None => format!("/var/tmp/identity-migration-peers-{}", rustix::process::getuid().as_raw()).into(),
    }
}

/// The folder in `target/` that holds what setup builds.
pub fn built() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("peers"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"),
    }
}

/// A PostgreSQL program of major version `major`.
pub fn postgresql_program(major: u32, program: &str) -> anyhow::Result<PathBuf> {
    let path = peers_root().join(format!("postgresql/{major}/bin/{program}"));
    anyhow::ensure!(path.is_file(), "cannot find {}; run tests/peers/setup", path.display());
    Ok(path)
}

/// A command that runs as `nobody` when we are root, else as we are.
pub fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Makes a folder that belongs to the user of [`unprivileged`].
pub fn unprivileged_folder(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    give_away(path)
}

/// Gives a file or folder to the user of [`unprivileged`].
pub fn give_away(path: &Path) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
            .with_context(|| format!("cannot give {} to nobody", path.display()))?;
    }
    Ok(())
}

/// Copies an executable, in a process of its own: what this process has open for writing is inherited by whatever another
/// thread starts at that moment, and until that has become its own program nobody can execute the file ("Text file
/// busy").
pub fn copy_program(from: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").arg("--reflink=auto").arg(from).arg(to)).map(drop)
}

/// Runs a command to its end and returns its standard output, or an error with its standard error.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
