//! A peer for the client of the Juju controller's API: a real websocket server behind TLS by a private CA, on
//! loopback, that keeps a model and enforces what a controller enforces. It shares no code with the charm.
//!
//! [`model::Model`] is what its facades need of a model. [`store::Store`] is the model that it brings along, whose
//! unit agents are played by [`store::Store::step`]; [`Peer::over`] takes any other in its place.
//!
//! | Left out | Why |
//! |---|---|
//! | machines, storage, spaces, offers, secrets in `FullStatus` | no call of ours reads them |
//! | watchers | status is polled: 4.0 has no model watcher |
//! | `POST` of a charm, and its `GET` | `PUT` is what both releases take; nobody here reads a charm back |
//! | facades that it does not speak | not listed at login, so `not implemented` |

mod admin;
mod charm;
mod connection;
mod controller;
mod facades;
mod http;
pub mod model;
mod server;
pub mod store;
mod tls;
mod validate;

pub use charm::Charm;
pub use controller::{Access, BlockKind, Fault, Generation, Mode, Received, User};
pub use http::{CHARM as PUT_CHARM, RESOURCE as PUT_RESOURCE};
pub use server::{Options, Peer};
