//! A model emulator: plays a Juju controller, its unit agents and the
//! neighbouring charms, so that the real charm binary runs as under Juju.
//!
//! Everything a controller knows is one [`world::World`] behind one lock. Each
//! unit has a thread that takes the next thing to do by Juju's order, runs it,
//! and commits what it wrote if it ended well. Charm processes reach the world
//! through hook tools (real executables that talk over a unix socket), native
//! charms through [`UnitContext`]; both mean the same [`session`].

#![allow(dead_code)] // The engine lands next.

mod charm;
mod clock;
mod context;
mod event;
mod native;
pub mod neighbours;
mod session;
mod world;

pub use charm::{CharmFiles, Role};
pub use context::Refusal;
pub use event::{Event, RelationEvent};
pub use native::{NativeCharm, RelationView, UnitContext};
pub use world::{ExecuteResult, Gate, Options, Running, Verdict};
