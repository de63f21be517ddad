//! The journal's records. Append-only: what they mean together is in `replay`.
//!
//! "Started" is recorded before anything is touched; started without done means unknown, and the
//! step observes before it acts. Nothing here decides what is true in the databases.

use super::failure::Failure;
use super::goal::Goal;
use super::runbook::{Order, Step};
use super::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The action that upgrades the one application there is.
pub const IN_PLACE: &str = "upgrade-in-place";

/// What an action asked for. It stays the goal until it is settled or a newer one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The action's name, for messages.
    pub action: String,
    /// Where to go.
    pub goal: Goal,
    /// The settings in force, the action's own parameters included.
    pub settings: Settings,
    /// Whether the target application's refresh belongs to this request.
    pub with_refresh: bool,
    /// Charm channel for the refresh, or empty.
    pub channel: String,
    /// Charm revision for the refresh; 0 = the channel's newest.
    pub revision: u64,
    /// The charm that the operator attached, in place of one of Charmhub. Requests of older charms do not tell.
    #[serde(default)]
    pub local: Option<LocalCharm>,
    /// The target keeps the source's release: only the database moves. Requests of older charms do not tell.
    #[serde(default)]
    pub keep_release: bool,
    /// Seconds given to the application's schema migration; 0 = estimated.
    pub migration_timeout: u64,
    /// `finalize`: leave a minimal fence on the source.
    pub keep_source_fenced: bool,
    /// `finalize`: go on although the comparison could not be finished.
    pub accept_unverified: bool,
    /// Go on where nothing could bring back what the target takes. Requests of older charms do not tell.
    #[serde(default)]
    pub accept_no_way_back: bool,
    /// What the app did not send before the hand-over it never sends. Requests of older charms do not tell.
    #[serde(default)]
    pub abandon_messages: bool,
    /// Rehearse once more, although this run has rehearsed already. Requests of older charms do not tell.
    #[serde(default)]
    pub rehearse_again: bool,
    /// `adopt`: the other way round. Requests of older charms do not tell.
    #[serde(default)]
    pub undo: bool,
    /// `upgrade-in-place`: users may have an outage. Requests of older charms do not tell.
    #[serde(default)]
    pub accept_outage: bool,
    /// `upgrade-in-place`: go on although there is no backup of our own. Requests of older charms do not tell.
    #[serde(default)]
    pub accept_no_backup: bool,
}

impl Request {
    /// A request with nothing but an action's name and its goal.
    pub fn plain(action: &str, goal: Goal) -> Self {
        Self {
            action: action.to_owned(),
            goal,
            settings: Settings::default(),
            with_refresh: false,
            channel: String::new(),
            revision: 0,
            local: None,
            keep_release: false,
            migration_timeout: 0,
            keep_source_fenced: true,
            accept_unverified: false,
            accept_no_way_back: false,
            abandon_messages: false,
            rehearse_again: false,
            undo: false,
            accept_outage: false,
            accept_no_backup: false,
        }
    }
}

/// A charm that the operator attached as a file, and the image that it shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCharm {
    /// SHA-256 of the file: another file is another wish.
    pub sha256: String,
    /// Where the image is, in a registry.
    pub image: String,
}

impl Request {
    /// The charm that was asked for, as notes and outputs of a refresh keep it.
    pub fn wish(&self) -> Value {
        match &self.local {
            None => json!([self.channel, self.revision]),
            Some(local) => json!([self.channel, self.revision, local]),
        }
    }

    /// Whether a charm was asked for by name, and not whatever there is.
    pub fn names_charm(&self) -> bool {
        !self.channel.is_empty() || self.revision > 0 || self.local.is_some()
    }

    /// An action with what this request accepted and asked for, as far as that action takes it: what is typed to go on.
    pub fn again(&self, action: &str) -> String {
        let flips = matches!(action, "flip-traffic" | "cut-over" | "migrate");
        let until = match self.goal {
            Goal::Following => Some("following"),
            Goal::Migrated => Some("migrated"),
            Goal::Drained => Some("drained"),
            _ => None,
        };
        let mut command = action.to_owned();
        if action == IN_PLACE {
            command.push_str(&self.in_place());
        }
        if let Some(until) = until.filter(|_| action == "migrate" && self.action == "migrate") {
            command.push_str(&format!(" until={until}"));
        }
        if self.accept_no_way_back && (flips || action == "drain") {
            command.push_str(" accept-no-way-back=true");
        }
        if self.rehearse_again && action == "rehearse" {
            command.push_str(" again=true");
        }
        if self.undo && action == "adopt" {
            command.push_str(" undo=true");
        }
        if self.abandon_messages && flips {
            command.push_str(" abandon-queued-messages=true");
        }
        command
    }

    /// What `upgrade-in-place` was asked with.
    fn in_place(&self) -> String {
        let mut told = String::new();
        if !self.channel.is_empty() {
            told.push_str(&format!(" channel={}", self.channel));
        }
        for (name, number) in [("revision", self.revision), ("timeout", self.migration_timeout)] {
            if number > 0 {
                told.push_str(&format!(" {name}={number}"));
            }
        }
        if let Some(local) = &self.local {
            told.push_str(&format!(" local=true image={}", local.image));
        }
        told.push_str(" accept-outage=true");
        if self.accept_no_backup {
            told.push_str(" accept-no-backup=true");
        }
        told
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// An action wrote what it wants.
    Requested(Request),
    /// The request came to its end; `failure` is empty when it was reached.
    Settled {
        /// Position of the request's record; a newer request is not closed by it.
        request: i64,
        /// Why it could not be reached.
        failure: Option<Failure>,
    },
    /// A new run begins.
    RunStarted {
        /// The run's id, part of every object's name.
        run: String,
        /// The order taken.
        order: Order,
        /// Whether the comparison runs inside the outage.
        strict: bool,
        /// Why this order was taken.
        reason: String,
        /// The release that the target keeps, when only the database moves. Records of older charms do not tell.
        #[serde(default)]
        keeps: Option<String>,
    },
    /// A step is about to touch something.
    Started {
        /// Which.
        step: Step,
    },
    /// A step's end was observed.
    Done {
        /// Which.
        step: Step,
        /// Figures and facts that later steps and results use.
        output: Value,
    },
    /// A step could not go on.
    Failed {
        /// Which.
        step: Step,
        /// Why.
        failure: Failure,
    },
    /// An intent or a finding inside a step, recorded before (or after) its effect.
    Noted {
        /// Which step.
        step: Step,
        /// What it is called.
        name: String,
        /// The value.
        value: Value,
    },
    /// What a step had done is true no more: it and all after it are open again.
    Lost {
        /// The first step that must be done again.
        step: Step,
        /// What was found.
        reason: String,
    },
    /// The fence was lifted; writes go to the source again.
    Lifted {
        /// Why.
        reason: String,
    },
    /// The schema migration is going to be tried; its last step ends the rehearsal.
    RehearsalStarted,
    /// Everything is going to be undone.
    RollbackStarted,
    /// A step is about to be undone.
    UndoStarted {
        /// Which.
        step: Step,
    },
    /// A step's undo was observed.
    Undone {
        /// Which.
        step: Step,
    },
    /// The run ended: rolled back to idle, or finalized.
    RunEnded,
    /// Which side's facts the consumers were given.
    Brokered {
        /// `source` or `target`.
        side: Side,
        /// How many consumer relations were written.
        consumers: usize,
    },
    /// What the coordinator does in the model beside any run: asked for, under way, or how it ended. The newest value of
    /// a name counts.
    Errand {
        /// What it is called, such as `back-up/source`.
        name: String,
        /// The value; null where it is over and forgotten.
        value: Value,
    },
    /// What stands before it counts no more: records were missing, and the databases were asked instead.
    Void {
        /// What was wrong with the journal.
        reason: String,
        /// The side that takes writes.
        side: Side,
    },
}

impl Record {
    /// Which record this is, in one word: failpoints and tests name it so.
    pub fn label(&self) -> String {
        match self {
            Record::Requested(request) => format!("requested/{}", request.action),
            Record::Settled { .. } => "settled".into(),
            Record::RunStarted { .. } => "run-started".into(),
            Record::Started { step } => format!("started/{}", step.name()),
            Record::Done { step, .. } => format!("done/{}", step.name()),
            Record::Failed { step, .. } => format!("failed/{}", step.name()),
            Record::Noted { step, name, .. } => format!("noted/{}/{name}", step.name()),
            Record::Lost { step, .. } => format!("lost/{}", step.name()),
            Record::Lifted { .. } => "lifted".into(),
            Record::RehearsalStarted => "rehearsal-started".into(),
            Record::RollbackStarted => "rollback-started".into(),
            Record::UndoStarted { step } => format!("undo-started/{}", step.name()),
            Record::Undone { step } => format!("undone/{}", step.name()),
            Record::RunEnded => "run-ended".into(),
            Record::Brokered { .. } => "brokered".into(),
            Record::Errand { name, .. } => format!("errand/{name}"),
            Record::Void { .. } => "void".into(),
        }
    }
}

/// The side that consumers are pointed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The application we leave.
    Source,
    /// The application we go to.
    Target,
}

impl Side {
    /// The name as parameters and messages print it.
    pub fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position; grows.
    pub seq: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub record: Record,
}
