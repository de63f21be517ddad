//! PostgreSQL only: connections, catalogs, slots, copying, the fence, comparison.
//! Knows neither Juju nor migrations.

pub mod connect;
pub mod error;
pub mod names;
pub mod replication;
pub mod slot;
mod startup_stream;
mod tls;

pub use connect::{Password, Server, Session};
pub use error::{Error, Result};
