//! `agent.conf`: what a unit agent knows of its controller, in a file beside the charm.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::world::{UnitKey, World};

/// The part of it that a charm may look for; the agent's own password is left out.
#[derive(Serialize)]
struct Configuration<'a> {
    tag: String,
    #[serde(rename = "upgradedToVersion")]
    upgraded_to_version: &'a str,
    cacert: &'a str,
    model: String,
    apiaddresses: &'a [String],
}

/// Writes it, when there is an API to tell of.
pub(crate) fn write(world: &World, key: &UnitKey) -> Result<()> {
    let Some(api) = &world.api else { return Ok(()) };
    let uuid = world.model(&key.model).map(|model| model.uuid.as_str()).unwrap_or_default();
    let text = serde_yaml::to_string(&Configuration {
        tag: key.tag(),
        upgraded_to_version: &world.options.version,
        cacert: &api.ca,
        model: format!("model-{uuid}"),
        apiaddresses: &api.addresses,
    })?;
    let (path, new) = (world.agent_folder(key).join("agent.conf"), world.agent_folder(key).join("agent.conf-new"));
    let written = || -> Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        write!(file, "# format 2.0\n{text}")?;
        // A charm that reads it meanwhile sees the old one or the new one.
        Ok(fs::rename(&new, &path)?)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
