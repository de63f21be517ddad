//! The journal: an append-only list of records, and the one total function that replays it.
//!
//! "Started" is recorded before anything is touched; started without done means unknown, and the
//! step observes before it acts. Nothing here decides what is true in the databases.

use super::failure::Failure;
use super::phase::Phase;
use super::plan::Goal;
use super::runbook::{Order, Step, runbook};
use super::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// Seconds given to the application's schema migration; 0 = estimated.
    pub migration_timeout: u64,
    /// `finalize`: leave a minimal fence on the source.
    pub keep_source_fenced: bool,
    /// `finalize`: go on although the comparison could not be finished.
    pub accept_unverified: bool,
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
            migration_timeout: 0,
            keep_source_fenced: true,
            accept_unverified: false,
        }
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

/// Where one step is. Intent and attempt are apart: `Doing` means that an attempt was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not begun, or undone.
    #[default]
    Pending,
    /// An attempt was made; what is true must be observed.
    Doing,
    /// Its end was observed.
    Done,
    /// It could not go on.
    Failed,
    /// Its undo was begun.
    Undoing,
    /// An attempt was made or its end was observed, and that is true no more: it is done again, or undone.
    Lost,
}

/// The kinds of record that move one step's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Record::Started`].
    Started,
    /// See [`Record::Done`].
    Done,
    /// See [`Record::Failed`].
    Failed,
    /// See [`Record::UndoStarted`].
    UndoStarted,
    /// See [`Record::Undone`].
    Undone,
    /// See [`Record::Lost`] and [`Record::Lifted`].
    Reopened,
}

/// A record that the journal's rules do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's record {seq} does not fit: {what}")]
pub struct Illegal {
    /// Position of the record.
    pub seq: i64,
    /// What is wrong with it.
    pub what: String,
}

/// The transition function of one step. Total: a pair that is not listed is an error.
pub fn next_status(status: Status, kind: Kind) -> Option<Status> {
    use Status::*;
    match (status, kind) {
        (Pending | Doing | Failed | Lost, Kind::Started) => Some(Doing),
        (Doing, Kind::Done) => Some(Done),
        (Doing, Kind::Failed) => Some(Failed),
        (Doing | Done | Failed | Undoing | Lost, Kind::UndoStarted) => Some(Undoing),
        (Undoing, Kind::Undone) => Some(Pending),
        // What was undone, or never begun, cannot get lost.
        (Pending, Kind::Reopened) => Some(Pending),
        (_, Kind::Reopened) => Some(Lost),
        _ => None,
    }
}

/// What the journal knows of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// Where it is.
    pub status: Status,
    /// When the first attempt began, in milliseconds since 1970.
    pub started: Option<i64>,
    /// When its end was observed.
    pub done: Option<i64>,
    /// Its output, once done.
    pub output: Value,
    /// Why it failed, when it did.
    pub failure: Option<Failure>,
    /// What it noted, newest value per name.
    pub notes: BTreeMap<String, Value>,
}

/// One run, replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run's id.
    pub id: String,
    /// The order taken.
    pub order: Order,
    /// Whether the comparison runs inside the outage.
    pub strict: bool,
    /// Why this order was taken.
    pub reason: String,
    /// Where it is.
    pub phase: Phase,
    /// Its steps; those never begun are absent.
    pub steps: BTreeMap<Step, StepState>,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
    /// True once it was rolled back or finalized.
    pub ended: bool,
    /// Why the fence was lifted last, if it was.
    pub lifted: Option<String>,
    /// What was lost last, if something was.
    pub lost: Option<String>,
    /// The side that consumers were given last.
    pub brokered: Option<Side>,
}

impl Run {
    /// True while the target follows the source, or could as soon as a paused subscription goes on.
    pub fn follows(&self) -> bool {
        let caught_up = self.order == Order::Documented || !self.is_done(Step::Migrate) || self.is_done(Step::CatchUp);
        self.is_done(Step::Follow) && caught_up
    }

    /// True while twin snapshots stand whose comparison was not judged yet.
    pub fn awaits_comparison(&self) -> bool {
        let judged = matches!(self.status(Step::Verify), Status::Done | Status::Failed);
        self.is_done(Step::Snapshot) && !judged && self.phase != Phase::RollingBack
    }

    /// True while the subscription rests on purpose: no apply worker may run beside a change of the schema.
    pub fn is_paused(&self) -> bool {
        let altered = matches!(self.status(Step::Migrate), Status::Doing | Status::Done | Status::Failed);
        self.phase == Phase::Migrating || (self.order == Order::Documented && altered)
    }

    /// The runbook.
    pub fn book(&self) -> &'static [Step] {
        runbook(self.order, self.strict)
    }

    /// One step's status.
    pub fn status(&self, step: Step) -> Status {
        self.steps.get(&step).map(|s| s.status).unwrap_or_default()
    }

    /// True when the step's end was observed.
    pub fn is_done(&self, step: Step) -> bool {
        self.status(step) == Status::Done
    }

    /// A field of a finished step's output.
    pub fn output(&self, step: Step, name: &str) -> Option<&Value> {
        self.steps.get(&step)?.output.get(name)
    }

    /// A step's note.
    pub fn note(&self, step: Step, name: &str) -> Option<&Value> {
        self.steps.get(&step)?.notes.get(name)
    }

    /// The step that is being done or undone, if any.
    pub fn current(&self) -> Option<Step> {
        self.book()
            .iter()
            .copied()
            .find(|s| matches!(self.status(*s), Status::Doing | Status::Undoing | Status::Failed))
    }
}

/// The journal, replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The current run, or the last one.
    pub run: Option<Run>,
    /// The request that is being worked on.
    pub request: Option<Request>,
    /// Position of the newest request's record.
    pub request_seq: i64,
    /// Why the last request could not be reached, until a new one comes.
    pub failure: Option<Failure>,
    /// The last request that was reached or refused, for `show`.
    pub last_request: Option<Request>,
    /// Position of the last record.
    pub seq: i64,
}

impl State {
    /// Replays a journal.
    ///
    /// # Errors
    /// [`Illegal`] for a record that the rules do not allow: the journal was changed by hand.
    pub fn replay(entries: &[Entry]) -> Result<Self, Illegal> {
        let mut state = State::default();
        for entry in entries {
            state.apply(entry)?;
        }
        Ok(state)
    }

    /// The run that is under way.
    pub fn active(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !run.ended)
    }

    /// Where we are.
    pub fn phase(&self) -> Phase {
        self.run.as_ref().map_or(Phase::Idle, |run| run.phase)
    }

    /// Takes one record in.
    ///
    /// # Errors
    /// [`Illegal`] as for [`State::replay`].
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Illegal> {
        let illegal = |what: String| Illegal { seq: entry.seq, what };
        self.seq = entry.seq;
        match &entry.record {
            Record::Requested(request) => {
                self.request = Some(request.clone());
                self.request_seq = entry.seq;
                self.failure = None;
                return Ok(());
            }
            Record::Settled { request, .. } if *request != self.request_seq => return Ok(()),
            Record::Settled { failure, .. } => {
                self.last_request = self.request.take();
                self.failure = failure.clone();
                return Ok(());
            }
            Record::RunStarted { run, order, strict, reason } => {
                if self.active().is_some() {
                    return Err(illegal("a run began while another was under way".into()));
                }
                self.run = Some(Run {
                    id: run.clone(),
                    order: *order,
                    strict: *strict,
                    reason: reason.clone(),
                    phase: Phase::Idle,
                    steps: BTreeMap::new(),
                    started: entry.at,
                    ended: false,
                    lifted: None,
                    lost: None,
                    brokered: None,
                });
                return Ok(());
            }
            _ => {}
        }
        let run = self.run.as_mut().ok_or_else(|| illegal("it belongs to no run".into()))?;
        run.apply(entry).map_err(illegal)
    }
}

impl Run {
    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.record {
            Record::Started { step } => {
                let state = self.step(*step, Kind::Started)?;
                state.started.get_or_insert(entry.at);
                state.failure = None;
                self.go(step.enters())
            }
            Record::Done { step, output } => {
                let state = self.step(*step, Kind::Done)?;
                state.done = Some(entry.at);
                state.output = output.clone();
                self.go(step.reaches(self.order))
            }
            Record::Failed { step, failure } => {
                self.step(*step, Kind::Failed)?.failure = Some(failure.clone());
                Ok(())
            }
            Record::Noted { step, name, value } => {
                self.steps.entry(*step).or_default().notes.insert(name.clone(), value.clone());
                Ok(())
            }
            Record::Lost { step, reason } => {
                self.lost = Some(reason.clone());
                self.reopen_from(*step)?;
                let place = |step: Step| self.book().iter().position(|s| *s == step);
                let under_way = matches!(self.phase, Phase::Migrating | Phase::Fenced | Phase::Drained);
                self.go((under_way && place(*step) < place(Step::Fence)).then_some(Phase::Following))
            }
            Record::Lifted { reason } => {
                self.lifted = Some(reason.clone());
                self.reopen_from(Step::Fence)?;
                self.go(Some(Phase::Following))
            }
            Record::RollbackStarted => self.go(Some(Phase::RollingBack)),
            Record::UndoStarted { step } => self.step(*step, Kind::UndoStarted).map(|_| ()),
            Record::Undone { step } => {
                let state = self.step(*step, Kind::Undone)?;
                *state = StepState { notes: std::mem::take(&mut state.notes), ..StepState::default() };
                Ok(())
            }
            Record::RunEnded => {
                if self.phase == Phase::RollingBack {
                    self.go(Some(Phase::Idle))?;
                }
                self.ended = true;
                Ok(())
            }
            Record::Brokered { side, .. } => {
                self.brokered = Some(*side);
                Ok(())
            }
            Record::Requested(_) | Record::Settled { .. } | Record::RunStarted { .. } => Ok(()),
        }
    }

    /// Moves one step's status, by the transition function.
    fn step(&mut self, step: Step, kind: Kind) -> Result<&mut StepState, String> {
        let state = self.steps.entry(step).or_default();
        state.status = next_status(state.status, kind)
            .ok_or_else(|| format!("step {} is {:?} and cannot take {kind:?}", step.name(), state.status))?;
        Ok(state)
    }

    fn reopen_from(&mut self, first: Step) -> Result<(), String> {
        let book = self.book();
        let from =
            book.iter().position(|s| *s == first).ok_or_else(|| format!("{} is not in the runbook", first.name()))?;
        for step in &book[from..] {
            let state = self.step(*step, Kind::Reopened)?;
            *state =
                StepState { status: state.status, notes: std::mem::take(&mut state.notes), ..StepState::default() };
        }
        Ok(())
    }

    fn go(&mut self, to: Option<Phase>) -> Result<(), String> {
        match to {
            Some(to) if to != self.phase && !self.phase.may_become(to) => {
                Err(format!("phase {} cannot become {to}", self.phase))
            }
            Some(to) => {
                self.phase = to;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What the worker is doing right now. Overwritten in place; never a source of decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The step, by name.
    pub step: String,
    /// What is going on, in a few words with figures.
    pub text: String,
    /// Set while something outside must happen first.
    pub waiting: Option<Waiting>,
    /// The last failure that heals by itself, while it lasts.
    pub trouble: Option<String>,
    /// Bytes of WAL that the target still has to apply.
    pub lag_bytes: Option<u64>,
    /// Estimated seconds to the end of the step.
    pub eta_seconds: Option<u64>,
    /// Bytes copied so far.
    pub bytes_copied: Option<u64>,
    /// Rows copied so far.
    pub rows_copied: Option<u64>,
    /// When the fence's lease runs out, in milliseconds since 1970.
    pub lease_until: Option<i64>,
    /// When this was written, in milliseconds since 1970.
    pub at: i64,
}

/// Something outside that must happen first, and the command that makes it happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What is waited for.
    pub reason: String,
    /// The exact command for the operator; empty when it happens by itself.
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(records: Vec<Record>) -> Result<State, Illegal> {
        let entries: Vec<Entry> = records
            .into_iter()
            .enumerate()
            .map(|(i, record)| Entry { seq: i as i64 + 1, at: 1000 + i as i64, record })
            .collect();
        State::replay(&entries)
    }

    fn begun(order: Order) -> Vec<Record> {
        vec![Record::RunStarted { run: "0badcafe".into(), order, strict: false, reason: "test".into() }]
    }

    fn done(records: &mut Vec<Record>, steps: &[Step]) {
        for &step in steps {
            records.push(Record::Started { step });
            records.push(Record::Done { step, output: serde_json::json!({"step": step.name()}) });
        }
    }

    #[test]
    fn the_transition_function_is_this_table() {
        use Status::*;
        let kinds = [Kind::Started, Kind::Done, Kind::Failed, Kind::UndoStarted, Kind::Undone, Kind::Reopened];
        let table = [
            (Pending, [Some(Doing), None, None, None, None, Some(Pending)]),
            (Doing, [Some(Doing), Some(Done), Some(Failed), Some(Undoing), None, Some(Lost)]),
            (Done, [None, None, None, Some(Undoing), None, Some(Lost)]),
            (Failed, [Some(Doing), None, None, Some(Undoing), None, Some(Lost)]),
            (Undoing, [None, None, None, Some(Undoing), Some(Pending), Some(Lost)]),
            (Lost, [Some(Doing), None, None, Some(Undoing), None, Some(Lost)]),
        ];
        for (status, row) in table {
            for (kind, expected) in kinds.iter().zip(row) {
                assert_eq!(next_status(status, *kind), expected, "{status:?} {kind:?}");
            }
        }
    }

    #[test]
    fn both_runbooks_replay_to_finalized() {
        for order in [Order::Documented, Order::MigrateFirst] {
            let mut records = begun(order);
            done(&mut records, runbook(order, false));
            records.push(Record::RunEnded);
            let state = play(records).unwrap();
            assert_eq!(state.phase(), Phase::Finalized);
            assert!(state.active().is_none());
        }
    }

    #[test]
    fn a_lifted_fence_goes_back_to_following() {
        let mut records = begun(Order::Documented);
        done(&mut records, &runbook(Order::Documented, false)[..7]);
        records.push(Record::Lifted { reason: "the lease ran out".into() });
        let state = play(records).unwrap();
        assert_eq!(state.phase(), Phase::Following);
        let run = state.run.unwrap();
        assert!(run.is_done(Step::Follow) && run.status(Step::Fence) == Status::Lost);
    }

    #[test]
    fn a_copy_that_is_lost_in_any_phase_can_be_made_again_and_undone() {
        for (order, steps) in [(Order::MigrateFirst, 5..=12), (Order::Documented, 5..=11)] {
            for count in steps {
                let mut records = begun(order);
                done(&mut records, &runbook(order, false)[..count]);
                records.push(Record::Lost { step: Step::Copy, reason: "the slot is gone".into() });
                let run = play(records.clone()).unwrap().run.unwrap();
                assert_eq!(run.phase, Phase::Following, "{order:?} after {count} steps");
                records.push(Record::Started { step: Step::Copy });
                assert_eq!(play(records.clone()).unwrap().phase(), Phase::Copying);
                records.push(Record::RollbackStarted);
                // What the lost steps left behind is undone too.
                records.push(Record::UndoStarted { step: runbook(order, false)[count - 1] });
                play(records).unwrap();
            }
        }
    }

    #[test]
    fn a_rollback_after_the_open_is_illegal() {
        let mut records = begun(Order::MigrateFirst);
        done(&mut records, &runbook(Order::MigrateFirst, false)[..13]);
        records.push(Record::RollbackStarted);
        assert!(play(records).is_err());
    }

    #[test]
    fn a_new_run_follows_a_rolled_back_one() {
        let mut records = begun(Order::Documented);
        done(&mut records, &[Step::Preflight, Step::Prepare]);
        records.push(Record::RollbackStarted);
        for step in [Step::Prepare, Step::Preflight] {
            records.push(Record::UndoStarted { step });
            records.push(Record::Undone { step });
        }
        records.push(Record::RunEnded);
        records.extend(begun(Order::Documented));
        let state = play(records).unwrap();
        assert_eq!(state.phase(), Phase::Idle);
        assert!(state.active().is_some());
    }

    #[test]
    fn a_request_that_came_meanwhile_is_not_settled_with_the_older_one() {
        let ask = |goal| Record::Requested(Request::plain("test", goal));
        let state =
            play(vec![ask(Goal::Following), ask(Goal::RolledBack), Record::Settled { request: 1, failure: None }])
                .unwrap();
        assert_eq!(state.request.map(|request| request.goal), Some(Goal::RolledBack));
        let state = play(vec![ask(Goal::RolledBack), Record::Settled { request: 1, failure: None }]).unwrap();
        assert_eq!(state.request, None);
    }

    #[test]
    fn records_survive_json() {
        let record = Record::Failed { step: Step::HandOver, failure: Failure::retry("x", "y") };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
