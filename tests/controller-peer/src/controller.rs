//! What a controller keeps beside its models: users, blocks, what it is busy with, and what a test lets go wrong.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which rules it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Juju 3.6.
    Three,
    /// Juju 4.0.
    Four,
}

impl Generation {
    /// What `server-version` says.
    pub fn version(self) -> &'static str {
        match self {
            Self::Three => "3.6.12",
            Self::Four => "4.0.14.1",
        }
    }
}

/// Access to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    None,
    Read,
    Write,
    Admin,
}

impl Access {
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub password: String,
    pub access: Access,
    /// To the controller: `login` or `superuser`.
    pub controller_access: String,
    pub disabled: bool,
}

impl User {
    /// A user as `juju add-user` and `juju grant` make one.
    pub fn new(password: &str, access: Access) -> Self {
        let controller_access = "login".to_owned();
        Self { password: password.to_owned(), access, controller_access, disabled: false }
    }
}

/// What `juju disable-command` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    BlockDestroy,
    BlockRemove,
    BlockChange,
}

/// What controller and model are busy with.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Normal,
    /// The controller is being upgraded; with `true` it refuses logins, too.
    Upgrading(bool),
    /// The model goes to another controller.
    Migrating,
    /// The model comes from another controller.
    Importing,
    /// The model has gone: the facts of `redirection required`.
    Moved(Value),
    /// The API server stops: 503 to every new connection.
    Stopping,
}

/// What goes wrong with the next call of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the request is done.
    CutBefore,
    /// The connection is cut after the request was done, before its reply.
    CutAfter,
    /// The request is done, and its reply never comes.
    DropReply,
    /// The reply comes behind the next one.
    OutOfOrder,
}

/// A request that was done, or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub user: String,
    /// `Application.SetCharm`.
    pub call: String,
    pub params: Value,
    /// What the caller needed.
    pub needs: Access,
    /// What the login said of itself for the audit log.
    pub cli_args: String,
    /// The envelope's error, when it was refused there.
    pub error: Option<String>,
}

/// What changes a model.
const CHANGES: [&str; 8] = [
    "Application.SetCharm",
    "Application.SetConfigs",
    "Action.EnqueueOperation",
    "Resources.AddPendingResources",
    "Application.AddRelation",
    "Application.DestroyRelation",
    crate::http::CHARM,
    crate::http::RESOURCE,
];

impl Received {
    /// Whether it asks for more than a look.
    pub fn changes_the_model(&self) -> bool {
        CHANGES.contains(&self.call.as_str())
    }
}

/// Everything of it, behind one lock.
pub struct Controller {
    pub generation: Generation,
    pub uuid: String,
    pub users: BTreeMap<String, User>,
    pub blocks: BTreeMap<&'static str, String>,
    pub mode: Mode,
    pub faults: Vec<(String, Fault)>,
    /// Calls before which an administrator disables every change, and the words.
    pub freezes: Vec<(String, String)>,
    /// How far its clock is ahead of everybody else's.
    pub ahead: Duration,
    /// Replies that stand for what the peer would answer itself.
    pub canned: Vec<(String, Value)>,
    pub received: Vec<Received>,
    pub ports: Vec<u16>,
    /// Resources that were added and not used yet, by pending id: application and resource.
    pub pending: BTreeMap<String, (String, crate::model::Resource)>,
}

impl Controller {
    pub(crate) fn block(&self, removal: bool) -> Option<&String> {
        let change = self.blocks.get("BlockChange");
        if removal { change.or_else(|| self.blocks.get("BlockRemove")) } else { change }
    }

    /// The administrator is a moment faster than this call.
    pub(crate) fn freeze_before(&mut self, call: &str) {
        if let Some(place) = self.freezes.iter().position(|(name, _)| name == call) {
            let (_, message) = self.freezes.remove(place);
            self.blocks.insert("BlockChange", message);
        }
    }

    pub(crate) fn take_canned(&mut self, call: &str) -> Option<Value> {
        let place = self.canned.iter().position(|(name, _)| name == call)?;
        Some(self.canned.remove(place).1)
    }

    pub(crate) fn take_fault(&mut self, call: &str) -> Option<Fault> {
        let place = self.faults.iter().position(|(name, _)| name == call)?;
        Some(self.faults.remove(place).1)
    }
}
