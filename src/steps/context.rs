//! What a step is given, and what it may answer.

use super::store::Store;
use super::through_controller::{Conductor, Credentials};
use super::world::{Application, Applications, World};
use crate::apps::App;
use crate::migration::{Class, Failure, Progress, Record, Request, Run, Settings, Side, State, Step, Waiting};
use crate::postgres::compare::{CompareProgress, Verdict};
use crate::postgres::slot::SlotHistory;
use crate::postgres::{Error, Session, UNREACHABLE_CURE};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A step answers one of these, or a [`Failure`]; nothing else.
#[derive(Debug)]
pub enum Outcome {
    /// Its end was observed; the figures go into the journal.
    Done(Value),
    /// Not yet; look again after this long.
    Again(Duration),
    /// Something outside must happen first.
    Wait(Waiting),
}

/// What a step, its undo or a watch answers.
pub type Answer = Result<Outcome, Failure>;

/// What lives in the worker's memory only; all of it can be made again, or its loss is told.
#[derive(Default)]
pub struct Live {
    /// The comparison of the twin snapshots, while it runs.
    pub comparison: Option<JoinHandle<Result<Verdict, Error>>>,
    /// Its progress.
    pub compare_progress: Arc<CompareProgress>,
    /// What the subscription is judged by.
    pub apply: super::judge::Apply,
    /// What the way back's subscription is judged by.
    pub way_back: super::judge::Revivals,
    /// This worker made the lost way back anew, which is not proven to work yet.
    pub mended: Option<super::judge::Mended>,
    /// What was seen of the slot.
    pub slot: SlotHistory,
    /// What was changed in the source's tables since the copy began, with the cure.
    pub altered: Option<String>,
    /// Why the target is still open, when it should be closed.
    pub open_for: Option<String>,
    /// When the watch looked last.
    pub watched: Option<Instant>,
    /// The request for which the watch looked last: each is judged by what is true since it was made.
    pub watched_for: i64,
    /// When the target was last seen open for its schema migration, and that not begun, in milliseconds since 1970.
    pub unmigrated_at: Option<i64>,
    /// When the source's writes were counted last.
    pub counted: Option<Instant>,
    /// The watch's sessions, source and target, kept from one good look to the next.
    pub watching: Option<(Session, Session)>,
    /// The connection to the controller.
    pub conductor: Conductor,
    /// When the one application of an upgrade in place was last seen to serve, in milliseconds since 1970.
    pub served_at: Option<i64>,
    /// Since when its server was seen down.
    pub down_since: Option<Instant>,
    /// How often the schema was looked at after the task that migrates it had ended well.
    pub looks_after_task: u32,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(task) = &self.comparison {
            task.abort();
        }
    }
}

/// What a step is given.
pub struct Context<'a> {
    /// The two sides.
    pub world: &'a World,
    /// What the relations tell of the applications.
    pub applications: &'a Applications,
    /// How we come into the model, to change it.
    pub controller: &'a Credentials,
    /// The charm that the operator attached as a file, if they did.
    pub charm_file: PathBuf,
    /// The journal.
    pub store: &'a Store,
    /// The journal, replayed; refreshed by [`Context::note`].
    pub state: &'a mut State,
    /// The request that is worked on.
    pub request: Request,
    /// This worker's epoch: fence rows are written under it.
    pub epoch: i64,
    /// What is going on, for status and `show`.
    pub progress: &'a ProgressSink,
    /// What lives in memory only.
    pub live: &'a mut Live,
}

impl Context<'_> {
    /// The run that is under way.
    ///
    /// # Errors
    /// A defect in the plan: a step outside any run.
    pub fn run(&self) -> Result<&Run, Failure> {
        self.state.active().ok_or_else(|| Failure::operator("work on a step", "no run is under way", "run show"))
    }

    /// The identity app that moves.
    pub fn app(&self) -> &'static App {
        self.world.app
    }

    /// The settings in force for this request.
    pub fn settings(&self) -> &Settings {
        &self.request.settings
    }

    /// Records an intent or a finding of a step.
    ///
    /// # Errors
    /// The journal's.
    pub async fn note(&mut self, step: Step, name: &str, value: Value) -> Result<(), Failure> {
        self.store.append(&Record::Noted { step, name: name.to_owned(), value }).await?;
        self.store.refresh(self.state).await?;
        // Nothing is done on the word of a journal that lost some of its records.
        self.state.unreadable().map_or(Ok(()), Err)
    }

    /// Records what is done in the model beside any run; answers the time on the journal's clock, in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// The journal's.
    pub async fn errand(&mut self, name: &str, value: Value) -> Result<i64, Failure> {
        let entry = self.store.append(&Record::Errand { name: name.to_owned(), value }).await?;
        self.store.refresh(self.state).await?;
        self.state.unreadable().map_or(Ok(entry.at), Err)
    }

    /// What the relations tell of one side.
    pub fn side(&self, side: Side) -> &Application {
        match side {
            Side::Source => &self.applications.source,
            Side::Target => &self.applications.target,
        }
    }

    /// The PostgreSQL application of one side, as this model calls it; empty where that is not known.
    pub fn postgresql(&self, side: Side) -> &str {
        &self.side(side).postgresql
    }

    /// A note's text, if it was written.
    pub fn noted(&self, step: Step, name: &str) -> Option<String> {
        self.state.active()?.note(step, name)?.as_str().map(str::to_owned)
    }

    /// `juju run <coordinator>/leader <action>`.
    pub fn command(&self, action: &str) -> String {
        format!("juju run {}/leader {action}", self.applications.coordinator)
    }
}

/// A place for progress that steps write often and the worker flushes now and then.
#[derive(Default)]
pub struct ProgressSink(Mutex<Progress>);

impl ProgressSink {
    /// Changes the progress in place.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        // A poisoned lock only means that a task panicked between two plain assignments.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says what is going on.
    pub fn say(&self, text: impl Into<String>) {
        let text = text.into();
        self.update(|p| p.text = text);
    }

    /// A copy.
    pub fn read(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How the sentence about a server that cannot be reached ends, in the worker's mouth.
pub const BY_ITSELF: &str = ", it is tried again by itself";

/// How the sentence about anything else that heals by itself ends.
pub const TRYING_AGAIN: &str = "; trying again";

/// SQLSTATE classes and codes that heal by themselves: connection trouble, serialization and deadlock,
/// a lock not available in time, an operator's shutdown, too many connections.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let heals = error.is_connection()
            || matches!(error, Error::Timeout { .. } | Error::Passing { .. })
            || error.sqlstate().is_some_and(|state| {
                let code = state.code();
                code.starts_with("08")
                    || code.starts_with("40")
                    || code.starts_with("57P")
                    || matches!(code, "55P03" | "53300")
            });
        match (&error, heals) {
            (Error::Found { .. }, _) => Failure::new(error.to_string(), Class::Operator),
            (_, true) if error.is_unreachable() => {
                let sentence = format!("{error}; {UNREACHABLE_CURE}{BY_ITSELF}");
                Failure::new(sentence, Class::Retry)
            }
            (_, true) => Failure::new(format!("{error}{TRYING_AGAIN}"), Class::Retry),
            (_, false) => Failure::new(format!("{error}; mend that and run the action again"), Class::Operator),
        }
    }
}

/// Something outside must happen first: `next` is the command, or empty when it happens by itself.
pub fn wait(reason: impl Into<String>, next: impl Into<String>) -> Answer {
    Ok(Outcome::Wait(Waiting { reason: reason.into(), next: next.into() }))
}
