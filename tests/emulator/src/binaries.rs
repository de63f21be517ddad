//! Finding this crate's executables beside the running one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

/// The path of one of this crate's executables. Under `cargo test` of another
/// package cargo does not build them by itself, so it is asked to, once.
pub fn find(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let own = std::env::current_exe().context("cannot tell which executable runs")?;
    let mut folder = own.parent().unwrap_or(Path::new("/"));
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
        let release = folder.ends_with("release");
        BUILT.get_or_init(|| build(release)).clone().map_err(|error| anyhow::anyhow!(error))?;
    }
    let path = folder.join(name);
    if !path.exists() {
        bail!("cannot find {}: run `cargo build -p emulator`", path.display());
    }
    Ok(path)
}

fn build(release: bool) -> Result<(), String> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "emulator", "--bins"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if release {
        command.arg("--release");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot build the emulator's executables: cargo ended with {status}")),
        Err(error) => Err(format!("cannot build the emulator's executables: {error}")),
    }
}
