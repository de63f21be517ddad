//! An emulated model to drive by hand: sets the stage of README's story, then
//! opens a shell in which `juju` acts on it. Everything ends with the shell.
//!
//! Run from the repository, beside a built `dispatch`: model [IDENTITIES]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use emulator::cli::server::{self, SOCKET_VARIABLE};
use emulator::stage::{Stage, StageOptions, charm_folder};

const GREETING: &str = "
This is an emulator of a Juju model: the databases, Kratos and the charm binary are real, Juju is not.
Type the story of README.md (`juju status`, `juju deploy ./identity-migration-coordinator.charm coordinator`, ...);
`juju help` lists what is played. The controller's API is served: a user with access write, whose name and password the
coordinator reads from a secret (option controller-credentials), lets it do the steps of a person.
Leave with `exit`: everything here ends with the shell.
";

fn main() -> Result<ExitCode> {
    let identities = std::env::args().nth(1).map_or(Ok(2000), |number| number.parse());
    let identities = identities.context("usage: model [IDENTITIES]")?;
    let folder = std::env::temp_dir().join(format!("juju-shell-{}", std::process::id()));
    let charm = folder.join("identity-migration-coordinator");
    charm_folder(&std::env::current_dir()?, &emulator::find_binary("dispatch")?, &charm)?;
    eprintln!("Setting the stage: two PostgreSQL clusters (14 and 16), two Kratos, {identities} identities ...");
    let stage = Stage::new(StageOptions {
        from: 14,
        to: 16,
        identities,
        charm: charm.clone(),
        update_status_interval: Duration::from_secs(10),
        encoding: None,
        juju: None,
    })?;
    stage.controller.register_folder("identity-migration-coordinator", &charm);
    stage.serve_api()?;
    let socket = folder.join("control.socket");
    let controller = Arc::new(stage.controller);
    server::serve(controller.clone(), stage.model.name(), &socket)?;
    std::os::unix::fs::symlink(emulator::find_binary("juju")?, folder.join("juju"))?;

    eprintln!("{GREETING}");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/bash".into());
    let ended = Command::new(&shell).env("PATH", path).env(SOCKET_VARIABLE, &socket).status();
    // The shell is over: units and their processes first, then the servers.
    controller.stop();
    std::fs::remove_dir_all(&folder)?;
    let ended = ended.with_context(|| format!("cannot start {shell}"))?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}
