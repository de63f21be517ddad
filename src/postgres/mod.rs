//! PostgreSQL only: connections, catalogs, slots, copying, the fence, comparison.
//! Knows neither Juju nor migrations.

pub mod connect;
pub mod error;
pub mod names;
mod tls;

pub use connect::{Password, Server, Session};
pub use error::{Error, Result};
