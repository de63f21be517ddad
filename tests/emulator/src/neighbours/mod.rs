//! The neighbours of the charm, as native charms with real servers behind
//! them: Charmed PostgreSQL, Kratos and Hydra, consumers of their addresses,
//! and the route that gives them a public URL.

mod bucket;
mod consumer;
mod hydra;
mod kratos;
mod ory;
mod postgresql;
mod route;

pub use bucket::S3Integrator;
pub use consumer::{Consumer, ConsumerView, Seen};
pub use hydra::{HydraApp, HydraView};
pub use kratos::{KratosApp, KratosView};
pub use ory::Servers;
pub use postgresql::CharmedPostgresql;
pub use route::{Route, RouteView};
