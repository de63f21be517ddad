//! A model emulator: plays a Juju controller, its unit agents and the
//! neighbouring charms, so that the real charm binary runs as under Juju.
//!
//! Everything a controller knows is one `World` behind one lock. Each unit has
//! a thread that takes the next thing to do by Juju's order, runs it, and
//! commits what it wrote if it ended well. Charm processes reach the world
//! through hook tools (real executables that talk over a unix socket), native
//! charms through [`UnitContext`]; both mean the same sessions. An operator, and a charm with a user's password, reach
//! it through the controller's [`Api`], too.

mod agent;
mod binaries;
mod charm;
pub mod cli;
mod clock;
mod context;
mod controller;
mod event;
mod model;
mod native;
pub mod neighbours;
mod random;
mod relation;
mod secret;
mod session;
pub mod stage;
mod tools;
mod world;

pub use binaries::find as find_binary;
pub use charm::{CharmFiles, Role};
pub use context::Refusal;
pub use controller::{Api, Emulated};
pub use event::{Event, RelationEvent};
pub use model::{ActionResult, Charm, Controller, DeployOptions, Factory, Model, TaskView};
pub use native::{NativeCharm, Published, RelationView, UnitContext};
pub use rustix::process::Signal;
pub use world::{Candidate, ExecuteResult, Gate, Options, Running, Verdict};

/// What hook tools and juju-exec say to a unit agent.
pub mod protocol {
    pub use crate::agent::socket::{ExecuteAsk, Reply, ToolRequest};
}
