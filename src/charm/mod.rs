//! The composition root: what Juju calls.

pub mod config;
pub mod event;
pub mod relations;
