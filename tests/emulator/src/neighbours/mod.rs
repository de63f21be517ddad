//! The neighbours of the charm, as native charms with real servers behind
//! them: Charmed PostgreSQL, Kratos, a consumer of `kratos_info`, and the
//! route that gives Kratos a public URL.

mod consumer;
mod kratos;
mod postgresql;
mod route;

pub use consumer::{Consumer, ConsumerView, Seen};
pub use kratos::{KratosApp, KratosView};
pub use postgresql::CharmedPostgresql;
pub use route::Route;
