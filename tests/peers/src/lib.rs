//! Real peers for tests: PostgreSQL clusters, Kratos servers, data, writers, an independent comparison.
//!
//! Nothing here shares code with the charm: what these modules say about a database is a second opinion.
//! The programs come from `tests/peers/setup`.

mod blocking;
pub mod cluster;
pub mod compare;
mod folder;
pub mod kratos;
mod leftovers;
pub mod places;
pub mod ports;
pub mod proxy;
pub mod seed;
pub mod wait;
pub mod writers;

pub use leftovers::left_behind;
pub use wait::wait_for;
