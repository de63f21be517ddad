//! The coordinator's library; `main.rs` only chooses a face.
//!
//! What may import what (arrows point at the imported side; `tests/` holds this rule):
//!
//! ```text
//! main → charm, worker
//! charm, worker → steps, migration, traffic, apps, postgres, controller, juju
//! steps → migration, traffic, apps, postgres, controller, juju
//! traffic → apps, controller, juju
//! apps → postgres (types only)
//! migration, postgres, juju, controller → none of the others
//! everyone → failpoint, password
//! ```

#![warn(missing_docs)]

pub mod apps;
pub mod charm;
pub mod controller;
pub mod failpoint;
pub mod juju;
pub mod migration;
pub mod password;
pub mod postgres;
pub mod steps;
pub mod worker;
