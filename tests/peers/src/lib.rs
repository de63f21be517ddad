//! Real peers for tests: PostgreSQL clusters, alone and under Patroni, servers of Kratos and Hydra, data, writers, an
//! independent comparison.
//!
//! Nothing here shares code with the charm: what these modules say about a database is a second opinion.
//! The programs come from `tests/peers/setup`.

mod blocking;
pub mod clock;
pub mod cluster;
pub mod compare;
mod encode;
mod folder;
mod http;
pub mod hydra;
pub mod kratos;
mod leftovers;
pub mod mail;
pub mod ory;
pub mod patroni;
pub mod places;
pub mod ports;
pub mod proxy;
mod psql;
pub mod seed;
mod totp;
pub mod wait;
pub mod writers;

pub use leftovers::left_behind;
pub use wait::wait_for;
