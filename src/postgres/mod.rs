//! PostgreSQL only: connections, catalogs, slots, copying, the fence, comparison.
//! Knows neither Juju nor migrations.

pub mod blockers;
pub mod checks;
pub mod compare;
pub mod connect;
pub mod copy;
pub mod error;
pub mod fence;
pub mod inspect;
pub mod leftovers;
mod locks;
pub mod marker;
pub mod names;
pub mod others;
pub mod patroni;
pub mod publication;
mod pulse;
pub mod reach;
pub mod repair;
pub mod replication;
pub mod reset;
pub mod reverse;
pub mod schema;
pub mod sequences;
pub mod server;
pub mod server_log;
pub mod shape;
pub mod slot;
mod startup_stream;
pub mod subscription;
pub mod survey;
mod tls;

pub use crate::password::Password;
pub use connect::Session;
pub use error::{Error, Result, UNREACHABLE_CURE};
pub use server::Server;
