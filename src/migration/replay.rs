//! What the journal means: the one total function that replays it.

use super::errand::{self, Errand};
use super::failure::Failure;
use super::goal::Goal;
use super::journal::{Entry, Record, Request, Side};
use super::phase::Phase;
use super::rehearsal::Rehearsed;
use super::runbook::{Order, REHEARSAL, REVERSAL, Step, runbook};
use super::step_state::{Illegal, Kind, Status, StepState, next_status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The note of a comparison that found differences before the open.
pub const DIFFERED: &str = "differed";

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
    /// The release that the target keeps, when only the database moves.
    pub keeps: Option<String>,
    /// Where it is.
    pub phase: Phase,
    /// Its steps; those never begun are absent.
    pub steps: BTreeMap<Step, StepState>,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
    /// True while a schema migration is only tried: from its declaration until the target was reset.
    pub rehearsing: bool,
    /// True once it was rolled back or finalized, or the upgrade in place is over.
    pub ended: bool,
    /// Position of the record that ended it.
    #[serde(default)]
    pub ended_seq: i64,
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
        let in_outage = self.order == Order::Documented && !self.rehearsing;
        let caught_up = in_outage || !self.is_done(Step::Migrate) || self.is_done(Step::CatchUp);
        self.is_done(Step::Follow) && caught_up
    }

    /// True while twin snapshots stand whose comparison was not judged yet.
    pub fn awaits_comparison(&self) -> bool {
        let judged = matches!(self.status(Step::Verify), Status::Done | Status::Failed);
        self.is_done(Step::Snapshot) && !judged && !matches!(self.phase, Phase::Reversing | Phase::RollingBack)
    }

    /// Whether what the target takes after its opening can be brought back to the source.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn way_back(&self) -> Result<(), String> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        if let Some(reason) = text(self.note(Step::WayBack, "lost")) {
            return Err(reason);
        }
        match self.output(Step::WayBack, "open").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(text(self.output(Step::WayBack, "closed-because")).unwrap_or("it was never prepared".to_owned())),
        }
    }

    /// True when users are on the target and the way back that they had was lost: it can be made anew.
    pub fn may_mend(&self) -> bool {
        let had_one = self.output(Step::WayBack, "open").and_then(Value::as_bool) == Some(true);
        self.phase == Phase::Flipped && had_one && self.way_back().is_err()
    }

    /// What the comparison found to differ between source and target, in words.
    pub fn differing(&self) -> Option<&str> {
        if !self.is_done(Step::Verify) || self.output(Step::Verify, "rows-different").and_then(Value::as_u64) == Some(0)
        {
            return None;
        }
        let found = self.output(Step::Verify, "found").and_then(Value::as_str);
        Some(found.unwrap_or("rows differ between source and target"))
    }

    /// True while the last comparison found differences: nothing goes on before another one finds none.
    pub fn must_compare(&self) -> bool {
        self.note(Step::Verify, DIFFERED).and_then(Value::as_bool) == Some(true)
    }

    /// True once this run may have left something of its own in the databases. What is found there before
    /// belongs to somebody else.
    pub fn has_touched(&self) -> bool {
        self.status(Step::Prepare) != Status::Pending
    }

    /// True once the target's schema is another, or may be, and that counts.
    pub fn has_begun_to_migrate(&self) -> bool {
        !self.rehearsing
            && (self.status(Step::Pause) != Status::Pending || self.status(Step::Migrate) != Status::Pending)
    }

    /// True while writes are stopped, or somebody began to stop them.
    pub fn stops_writes(&self) -> bool {
        !matches!(self.status(Step::Fence), Status::Pending | Status::Lost)
    }

    /// True while the target follows, with the source's schema, and nobody stops writes.
    pub fn may_rehearse(&self) -> bool {
        let follows = self.phase == Phase::Following && self.is_done(Step::Follow);
        follows && !self.rehearsing && !self.has_begun_to_migrate() && !self.stops_writes()
    }

    /// True for an upgrade of the one application there is.
    pub fn is_in_place(&self) -> bool {
        self.order == Order::InPlace
    }

    /// The upgrade in place that came to its end: from which release to which.
    pub fn upgraded(&self) -> Option<(&str, &str)> {
        let release = |name| self.output(Step::Gates, name).and_then(Value::as_str);
        release("from").zip(release("to")).filter(|_| self.is_in_place() && self.ended)
    }

    /// The runbook.
    pub fn book(&self) -> &'static [Step] {
        if self.rehearsing { REHEARSAL } else { runbook(self.order, self.strict) }
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
    /// Why the journal cannot be trusted: then it is known of no run, and only a rollback can be asked for.
    pub damaged: Option<String>,
    /// The side that took writes when a damaged journal was given up, until a new run begins.
    pub void: Option<Side>,
    /// What the last rehearsal measured.
    pub rehearsed: Option<Rehearsed>,
    /// What is done in the model beside any run, newest value per name.
    pub errands: BTreeMap<String, Errand>,
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

    /// True when what was done last, or is asked for, is an upgrade in place: then only one side is related.
    pub fn is_in_place(&self) -> bool {
        let asked = self.request.as_ref().is_some_and(|request| request.goal == Goal::UpgradedInPlace);
        asked || self.run.as_ref().is_some_and(|run| run.is_in_place() && (!run.ended || run.upgraded().is_some()))
    }

    /// True when the upgrade in place that the current request asks for came to its end.
    pub fn has_upgraded(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.upgraded().is_some() && run.ended_seq > self.request_seq)
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
        if let Record::Void { reason, side } = &entry.record {
            self.give_up(reason, *side);
            return Ok(());
        }
        if let Some(found) = self.damaged.clone() {
            self.apply_damaged(entry, &found);
            return Ok(());
        }
        match &entry.record {
            Record::Errand { name, value } => {
                errand::keep(&mut self.errands, name, value, entry.at);
                return Ok(());
            }
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
            Record::RunStarted { run, order, strict, reason, keeps } => {
                if self.active().is_some() {
                    return Err(illegal("a run began while another was under way".into()));
                }
                self.run = Some(Run {
                    id: run.clone(),
                    order: *order,
                    strict: *strict,
                    reason: reason.clone(),
                    keeps: keeps.clone(),
                    phase: Phase::Idle,
                    steps: BTreeMap::new(),
                    started: entry.at,
                    rehearsing: false,
                    ended: false,
                    ended_seq: 0,
                    lifted: None,
                    lost: None,
                    brokered: None,
                });
                self.void = None;
                return Ok(());
            }
            _ => {}
        }
        let run = self.run.as_mut().ok_or_else(|| illegal("it belongs to no run".into()))?;
        run.apply(entry).map_err(illegal)?;
        if let Record::Done { step: Step::Reset, output } = &entry.record
            && let Ok(rehearsed) = serde_json::from_value::<Rehearsed>(output.clone())
        {
            self.rehearsed = Some(Rehearsed { run: run.id.clone(), at: entry.at, seq: entry.seq, ..rehearsed });
        }
        Ok(())
    }

    /// True when what the current request asks for was rehearsed: in this run, and since then where it asks for one more.
    pub fn has_rehearsed(&self) -> bool {
        let (Some(request), Some(run), Some(rehearsed)) = (&self.request, self.active(), &self.rehearsed) else {
            return false;
        };
        rehearsed.run == run.id && (!request.rehearse_again || rehearsed.seq > self.request_seq)
    }

    /// Records are missing, or do not fit: what the rest says of a run is not to be trusted. Of what was asked for only
    /// a rollback stands.
    pub fn damage(&mut self, found: &str) {
        if self.damaged.is_some() {
            return;
        }
        self.damaged = Some(found.to_owned());
        self.run = None;
        if self.request.as_ref().is_none_or(|request| request.goal != Goal::RolledBack) {
            self.last_request = self.request.take().or(self.last_request.take());
            self.failure = Some(unreadable(found));
        }
    }

    /// What to say of a damaged journal, with its cure; `None` for one that is whole.
    pub fn unreadable(&self) -> Option<Failure> {
        self.damaged.as_deref().map(unreadable)
    }

    /// Takes one record into a damaged journal: only a rollback that is asked for, and its end.
    fn apply_damaged(&mut self, entry: &Entry, found: &str) {
        match &entry.record {
            Record::Requested(request) if request.goal == Goal::RolledBack => {
                self.request = Some(request.clone());
                self.request_seq = entry.seq;
                self.failure = None;
            }
            Record::Settled { request, failure } if *request == self.request_seq && self.request.is_some() => {
                self.last_request = self.request.take();
                self.failure = Some(failure.clone().unwrap_or_else(|| unreadable(found)));
            }
            _ => {}
        }
    }

    /// Begins anew: what was asked for is at its end with it.
    fn give_up(&mut self, reason: &str, side: Side) {
        let last_request = self.request.take().or(self.last_request.take());
        let beyond = || {
            Failure::operator(
                "roll back",
                format!("{reason}, and the target takes writes already"),
                "stay on the target; show names the commands that take the coordinator away",
            )
            .cured_by("show")
        };
        let failure = (side == Side::Target).then(beyond);
        *self = State { seq: self.seq, last_request, failure, void: Some(side), ..State::default() };
    }
}

/// The sentence about a damaged journal, with its cure.
fn unreadable(found: &str) -> Failure {
    Failure::operator(
        "read the journal",
        format!("{found}, so what was begun is not known any more"),
        "run rollback, which removes everything of ours from both databases",
    )
    .cured_by("rollback")
}

impl Run {
    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        match &entry.record {
            Record::Started { step } => {
                if *step == Step::FollowBack && self.is_done(*step) && self.may_mend() {
                    self.reopen(&[*step])?;
                }
                let state = self.step(*step, Kind::Started)?;
                state.started.get_or_insert(entry.at);
                state.failure = None;
                if *step == Step::Reset {
                    // What the copy was is given up with it.
                    self.reopen(&[Step::Copy, Step::Follow])?;
                }
                self.go(step.enters())
            }
            Record::Done { step, output } => {
                let state = self.step(*step, Kind::Done)?;
                state.done = Some(entry.at);
                state.output = output.clone();
                if *step == Step::Reset {
                    self.end_rehearsal();
                }
                self.go(step.reaches(self.order, self.rehearsing))
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
                // A rehearsal has no fence before it: it stays where it is.
                let under_way = matches!(self.phase, Phase::Migrating | Phase::Fenced | Phase::Drained);
                self.go((under_way && place(*step) < place(Step::Fence)).then_some(Phase::Following))
            }
            Record::Lifted { reason } => {
                self.lifted = Some(reason.clone());
                if self.phase == Phase::Reversing {
                    self.reopen(REVERSAL)?;
                    let flipped = self.is_done(Step::Flip);
                    return self.go(Some(if flipped { Phase::Flipped } else { Phase::Opened }));
                }
                self.reopen_from(Step::Fence)?;
                self.go(Some(Phase::Following))
            }
            Record::RehearsalStarted if self.may_rehearse() => {
                self.rehearsing = true;
                Ok(())
            }
            Record::RehearsalStarted => Err(format!("a rehearsal does not fit in phase {}", self.phase)),
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
                (self.ended, self.ended_seq) = (true, entry.seq);
                Ok(())
            }
            Record::Brokered { side, .. } => {
                self.brokered = Some(*side);
                Ok(())
            }
            // Of no run; taken in before.
            _ => Ok(()),
        }
    }

    /// What was only tried was never done: the copy comes next, then everything that was rehearsed.
    fn end_rehearsal(&mut self) {
        let tried = self.steps.iter_mut().filter(|(step, _)| REHEARSAL.contains(step) && **step > Step::Follow);
        for (_, state) in tried {
            *state = StepState { notes: std::mem::take(&mut state.notes), ..StepState::default() };
        }
        self.rehearsing = false;
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
        self.reopen(&book[from..])
    }

    fn reopen(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
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
        vec![Record::RunStarted { run: "0badcafe".into(), order, strict: false, reason: "test".into(), keeps: None }]
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
        for (order, steps) in [(Order::MigrateFirst, 5..=13), (Order::Documented, 5..=12)] {
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

    /// Up to this many steps of a rehearsal.
    fn rehearsed(order: Order, steps: usize) -> Vec<Record> {
        let mut records = begun(order);
        done(&mut records, &REHEARSAL[..5]);
        records.push(Record::RehearsalStarted);
        done(&mut records, &REHEARSAL[5..steps]);
        records
    }

    #[test]
    fn a_rehearsal_ends_as_if_nothing_had_been_tried() {
        for order in [Order::Documented, Order::MigrateFirst] {
            let mut records = rehearsed(order, 10);
            assert_eq!(play(records.clone()).unwrap().phase(), Phase::Migrating, "{order:?}");
            records.push(Record::Started { step: Step::Reset });
            let run = play(records.clone()).unwrap().run.unwrap();
            assert_eq!((run.phase, run.status(Step::Copy)), (Phase::Copying, Status::Lost));
            let output = serde_json::json!({
                "from": "1.0.0", "to": "1.3.1", "migration-seconds": 2.5, "serving-seconds": null, "rows-verified": 7,
            });
            records.push(Record::Done { step: Step::Reset, output });
            let run = play(records.clone()).unwrap().run.unwrap();
            assert_eq!((run.rehearsing, run.book()), (false, runbook(order, false)));
            assert!(REHEARSAL[5..].iter().all(|step| run.status(*step) == Status::Pending), "{run:?}");
            done(&mut records, &[Step::Copy, Step::Follow]);
            let state = play(records.clone()).unwrap();
            assert_eq!(state.phase(), Phase::Following);
            let found = state.rehearsed.unwrap();
            assert_eq!(
                (found.migration_seconds, found.rows_verified, found.run.as_str()),
                (Some(2.5), Some(7), "0badcafe")
            );
            // Once more, and then for good.
            records.push(Record::RehearsalStarted);
            play(records.clone()).unwrap();
            records.pop();
            done(&mut records, &runbook(order, false)[5..]);
            assert_eq!(play(records).unwrap().phase(), Phase::Finalized, "{order:?}");
        }
    }

    #[test]
    fn a_rehearsal_can_be_undone_and_lose_its_copy_at_every_step() {
        for order in [Order::Documented, Order::MigrateFirst] {
            for steps in 5..=10 {
                let mut records = rehearsed(order, steps);
                let mut back = records.clone();
                back.push(Record::RollbackStarted);
                for step in REHEARSAL[..steps].iter().rev().copied() {
                    back.extend([Record::UndoStarted { step }, Record::Undone { step }]);
                }
                back.push(Record::RunEnded);
                assert_eq!(play(back).unwrap().phase(), Phase::Idle, "{order:?} after {steps}");
                records.push(Record::Lost { step: Step::Copy, reason: "the slot is gone".into() });
                let ask = Record::Requested(Request::plain("replicate", Goal::Following));
                let state = play([records.clone(), vec![ask]].concat()).unwrap();
                assert_eq!(super::super::plan::next(&state), super::super::Next::Do(Step::Reset));
                // What is only known of an abandoned one is no measure.
                records.push(Record::Started { step: Step::Reset });
                records.push(Record::Done { step: Step::Reset, output: Value::Null });
                let state = play(records).unwrap();
                assert_eq!((state.phase(), state.rehearsed.is_none()), (Phase::Copying, true));
            }
        }
    }

    #[test]
    fn nothing_is_rehearsed_on_top_of_a_fence() {
        for order in [Order::Documented, Order::MigrateFirst] {
            let mut records = begun(order);
            done(&mut records, &REHEARSAL[..5]);
            for fence in
                [Record::Started { step: Step::Fence }, Record::Done { step: Step::Fence, output: Value::Null }]
            {
                records.push(fence);
                let mut beside = records.clone();
                beside.push(Record::RehearsalStarted);
                assert!(play(beside).is_err(), "{order:?}");
            }
            // Its lease over, nothing is left of it.
            records.extend([Record::Lifted { reason: "test".into() }, Record::RehearsalStarted]);
            assert!(play(records).unwrap().run.unwrap().rehearsing);
        }
    }

    #[test]
    fn what_was_migrated_for_good_is_not_rehearsed() {
        let mut records = begun(Order::MigrateFirst);
        done(&mut records, &runbook(Order::MigrateFirst, false)[..6]);
        records.push(Record::RehearsalStarted);
        assert!(play(records).is_err());
        assert!(play([begun(Order::Documented), vec![Record::RehearsalStarted]].concat()).is_err());
    }

    #[test]
    fn a_rollback_after_the_open_is_illegal() {
        let mut records = begun(Order::MigrateFirst);
        done(&mut records, &runbook(Order::MigrateFirst, false)[..14]);
        assert_eq!(play(records.clone()).unwrap().phase(), Phase::Opened);
        records.push(Record::RollbackStarted);
        assert!(play(records).is_err());
    }

    #[test]
    fn after_the_road_back_everything_can_be_undone() {
        for order in [Order::Documented, Order::MigrateFirst] {
            let mut records = begun(order);
            let book = runbook(order, false);
            done(&mut records, &book[..book.len() - 1]);
            done(&mut records, REVERSAL);
            assert_eq!(play(records.clone()).unwrap().phase(), Phase::Reversing, "{order:?}");
            records.push(Record::RollbackStarted);
            for step in book[..book.len() - 1].iter().rev().copied() {
                records.extend([Record::UndoStarted { step }, Record::Undone { step }]);
            }
            records.push(Record::RunEnded);
            assert_eq!(play(records).unwrap().phase(), Phase::Idle, "{order:?}");
        }
    }

    #[test]
    fn a_lease_of_the_target_that_ended_leads_back_to_where_users_are() {
        for (steps, phase) in [(14, Phase::Opened), (15, Phase::Flipped)] {
            let mut records = begun(Order::MigrateFirst);
            done(&mut records, &runbook(Order::MigrateFirst, false)[..steps]);
            done(&mut records, &REVERSAL[..2]);
            records.push(Record::Lifted { reason: "the lease ran out".into() });
            let run = play(records).unwrap().run.unwrap();
            assert_eq!((run.phase, run.status(Step::ReverseFence)), (phase, Status::Lost));
            assert!(run.is_done(Step::HandOver));
        }
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
    fn a_damaged_journal_knows_of_a_rollback_and_of_nothing_else() {
        let ask = |goal| Record::Requested(Request::plain("test", goal));
        let mut records = vec![ask(Goal::Drained)];
        records.extend(begun(Order::Documented));
        let mut state = play(records).unwrap();
        let take = |state: &mut State, record: Record| {
            let entry = Entry { seq: state.seq + 1, at: 0, record };
            state.apply(&entry).unwrap();
        };
        state.damage("3 of 9 records are gone");
        assert_eq!((state.active(), state.request.is_none()), (None, true));
        let cure = |state: &State| state.failure.clone().unwrap().action.unwrap();
        assert_eq!(cure(&state), "rollback");
        // What would not fit is taken for what it is: a remnant.
        take(&mut state, Record::Started { step: Step::Copy });
        take(&mut state, ask(Goal::Flipped));
        assert_eq!(state.request, None);
        take(&mut state, ask(Goal::RolledBack));
        assert_eq!(super::super::plan::next(&state), super::super::Next::Sweep);
        let mut other = state.clone();
        take(&mut state, Record::Void { reason: "records are gone".into(), side: Side::Source });
        assert_eq!((&state.damaged, state.void, &state.failure), (&None, Some(Side::Source), &None));
        assert_eq!(state.last_request.unwrap().goal, Goal::RolledBack);
        take(&mut other, Record::Void { reason: "records are gone".into(), side: Side::Target });
        assert_eq!(cure(&other), "show");
        take(&mut other, begun(Order::Documented).remove(0));
        assert_eq!(other.void, None);
    }

    #[test]
    fn records_survive_json() {
        let record = Record::Failed { step: Step::HandOver, failure: Failure::retry("x", "y") };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
