//! The Juju controller's API: a small client for the calls that a migration needs, and nothing else.
//!
//! Every call asks for model access `write` at most. What changes something is a single request: the caller records
//! it before it is sent, and when the answer is [`Error::UnknownOutcome`] looks at the model before it sends again.
//! Whether something has come true ([`settled`]) is read from the model's status, never remembered.
//!
//! Juju 3.6 and 4.0 are both spoken; where they differ, the doc comment says how. Shapes are those of the releases'
//! own sources and of frames recorded from a real 4.0.14 (`tests/data/juju-4.0.14/controller-frames.jsonl`).

mod action;
mod application;
mod archive;
mod block;
mod charm;
mod dial;
mod entry;
mod error;
mod facades;
mod login;
mod relation;
mod resources;
mod rpc;
pub mod settled;
mod status;
mod upload;
mod wire;

pub use crate::password::Password;
pub use action::{Enqueued, LogLine, Operation, OperationFilter, Scalar, Task, TaskStatus};
pub use application::{ApplicationConfig, ConfigOption, SetCharm};
pub use archive::{CharmArchive, Unpackable};
pub use block::{Block, BlockKind, Change, blocking};
pub use charm::{Base, Channel, CharmAt, CharmInfo, CharmMeta, CharmOrigin, Endpoint, Resolved, ResourceMeta};
pub use dial::{Controller, ModelPath, Timing};
pub use entry::ModelLogin;
pub use error::{Code, ConnectFailure, Error, ErrorDetail, Reaction, Result};
pub use facades::{Facades, Generation};
pub use login::{Access, Credentials, Login, LoginRefusal, Session, UserInfo};
pub use relation::{Integrated, RelationEndpoint};
pub use resources::{ApplicationResources, NewResource, Resource, resources_to_change};
pub use rpc::{Call, Connection};
pub use status::{
    ApplicationStatus, DetailedStatus, FullStatus, ModelSummary, OfferedEndpoint, RelationEndpointStatus,
    RelationStatus, RemoteApplicationStatus, UnitStatus,
};
pub use upload::Image;
pub use wire::{Time, application_tag, unit_name, unit_tag};
