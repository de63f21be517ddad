//! Juju's side of a charm: hook tools, typed; knows neither PostgreSQL nor migrations.
//!
//! Everything goes through [`HookTools`]. Each call is a process that asks the unit agent
//! (about 5 ms), so callers read once per run and write only what changed.

mod action;
mod config;
mod hook_tool;
mod juju_exec;
mod leader;
pub mod logging;
mod relation;
mod resource;
mod secret;
mod status;

pub use hook_tool::{HookToolError, HookTools, Kind};
pub use juju_exec::JujuExec;
pub use relation::RelationWrite;
pub use status::{ShownStatus, StatusKind};

#[cfg(test)]
pub(crate) use hook_tool::tests::Scripts;
