//! The detached process that does the long work. Started and restarted by any hook; single by an
//! advisory lock in the journal's database; killed at any time without harm, because it goes on
//! from what is true in the databases.

mod beside;
pub mod control;
mod lost;
mod trouble;
pub mod wake;

use crate::juju::logging;
use crate::migration::{
    Class, Entry, Failure, Goal, Next, Phase, Progress, Record, State, Status, Step, Waiting, plan,
};
use crate::postgres::UNREACHABLE_CURE;
use crate::steps::{self, Answer, Applications, Context, Live, Outcome, ProgressSink, Store, World};
use control::Handover;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trouble::{Trouble, mend_first, no_rehearsal, since, stops_the_request};
use wake::Waker;

/// How often requests, relations and the state of replication are looked at while nothing runs.
const LOOK: Duration = Duration::from_millis(250);

/// How often progress is written while a step runs.
const FLUSH: Duration = Duration::from_millis(500);

/// How often the charm is woken for nothing but new figures.
const FIGURES: Duration = Duration::from_secs(10);

/// Runs until killed, or until the charm's files are gone.
///
/// # Errors
/// When what the hook tells cannot be read; trouble with the databases never ends the worker.
pub fn main() -> anyhow::Result<()> {
    // Out of the agent's session, so that the end of a hook or a cancelled action does not reach us.
    // It fails only for a process that leads a group already: then that is done.
    if rustix::process::setsid().is_err() {
        log::debug!("already in a session of its own");
    }
    let mut told = String::new();
    std::io::stdin().read_to_string(&mut told)?;
    let handover: Handover = serde_json::from_str(&told)?;
    drop(told);
    let level = handover.log_level.parse().unwrap_or(log::LevelFilter::Info);
    logging::start_in_worker(&control::log_path(&handover.charm_dir), level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    runtime.block_on(run(handover));
    Ok(())
}

async fn run(handover: Handover) {
    let mut waker = Waker::new(handover.unit.clone(), handover.charm_dir.clone());
    log::info!("worker of {} began, pid {}", handover.unit, std::process::id());
    while in_place(&handover.charm_dir) {
        control::beat(&handover.charm_dir);
        if let Err(failure) = serve(&handover, &mut waker).await {
            log::warn!("{failure}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    log::info!("the charm's files are gone, or another worker took our place; the worker ends");
}

/// False once the unit was removed under us, or hooks know another worker or none.
fn in_place(charm_dir: &Path) -> bool {
    charm_dir.join("dispatch").exists() && control::is_named(charm_dir)
}

/// Waits for the lock of the one worker that acts; false when we are not wanted any more. A worker elsewhere that
/// does not move (its machine is frozen, or gone without a word) is put out of its sessions: what it still tries when
/// it wakes up fails on them, or on our higher epoch.
async fn become_the_one(handover: &Handover, store: &Store) -> Result<bool, Failure> {
    let mut moved = (store.progress().await?.at, Instant::now());
    while !store.try_lock().await? {
        if !in_place(&handover.charm_dir) {
            return Ok(false);
        }
        control::beat(&handover.charm_dir);
        let at = store.progress().await?.at;
        if at != moved.0 {
            moved = (at, Instant::now());
        } else if moved.1.elapsed() > control::FROZEN {
            log::warn!("the worker that acts has not moved for {} s; ending its sessions", control::FROZEN.as_secs());
            steps::end_other_workers(&handover.world).await?;
            moved.1 = Instant::now();
        }
        log::info!("another worker acts; waiting for its end");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(true)
}

/// One life of the journal's session.
async fn serve(handover: &Handover, waker: &mut Waker) -> Result<(), Failure> {
    let world = &handover.world;
    let store = Store::open(&world.target, &world.journal_database, "worker").await?;
    if !become_the_one(handover, &store).await? {
        return Ok(());
    }
    let mut state = store.load().await?;
    let epoch = match take_over(world, &store, &state).await {
        Ok(epoch) => epoch,
        Err(failure) => {
            // The journal answers, so it is one of the identity databases that does not.
            let mut progress = store.progress().await?;
            let sentence = world.with_side(&failure.sentence);
            // Every attempt to begin meets the same: since when is told by the first.
            if !progress.trouble.as_ref().is_some_and(|before| before.starts_with(&sentence)) {
                progress.trouble = Some(since(&sentence, SystemTime::now()));
                store.write_progress(&progress).await?;
                waker.want();
                waker.turn();
            }
            return Err(failure);
        }
    };
    log::info!("acting as the worker, epoch {epoch}, phase {}", state.phase());
    // What was in the way of beginning is over.
    waker.want();
    let sink = ProgressSink::default();
    let mut live = Live::default();
    let mut trouble = Trouble::default();
    let mut judged = false;
    while in_place(&handover.charm_dir) {
        let pause = {
            let applications = store.applications().await?.unwrap_or_default();
            store.refresh(&mut state).await?;
            let mut turn = Turn { handover, store: &store, applications: &applications, epoch, sink: &sink, waker };
            if state.run.is_some() || world.is_in_place() {
                judged = false;
                turn.take(&mut state, &mut live, &mut trouble).await?
            } else if judged {
                turn.take(&mut state, &mut live, &mut trouble).await?
            } else {
                live = Live::default();
                turn.judge(&mut state, &mut trouble, &mut judged).await?
            }
        };
        flush(handover, &store, &sink, waker).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Becomes the one whose writes to fence rows count, and has replication go on with today's credentials.
async fn take_over(world: &World, store: &Store, state: &State) -> Result<i64, Failure> {
    let epoch = store.next_epoch(steps::highest_epoch(world).await? + 1).await?;
    steps::take_over(world, state, epoch).await?;
    steps::follow::reconnect(world, state).await?;
    Ok(epoch)
}

/// One look at the journal and one thing done.
struct Turn<'a> {
    handover: &'a Handover,
    store: &'a Store,
    applications: &'a Applications,
    epoch: i64,
    sink: &'a ProgressSink,
    waker: &'a mut Waker,
}

impl<'a> Turn<'a> {
    /// Does the next thing; answers how long to pause.
    async fn take(&mut self, state: &mut State, live: &mut Live, trouble: &mut Trouble) -> Result<Duration, Failure> {
        if live.watched_for != state.request_seq {
            live.watched_for = state.request_seq;
            live.watched = None;
        }
        let looked = live.watched;
        let watched = match self.context(state, live) {
            Some(mut context) => steps::watch(&mut context).await,
            None => Ok(None),
        };
        match watched {
            Ok(Some(record)) => {
                log::warn!("{}", steps::explain(&record));
                // After an outage that ended too late, following goes on when it is asked for: that is no surprise.
                let rests = state.active().is_some_and(steps::guard::rests_after_lift);
                let rehearsing = state.active().is_some_and(|run| run.rehearsing);
                let failure = stops_the_request(&record, rehearsing)
                    .filter(|_| !rests || matches!(record, Record::Lifted { .. }));
                // An undo goes on whatever is lost meanwhile; a road back whose lease ran out is asked for again.
                let undoes = state.phase() != Phase::Reversing;
                self.record(state, record.clone()).await?;
                let goes_on = state.request.as_ref().is_none_or(|request| undoes && request.goal == Goal::RolledBack);
                if let Some(failure) = mend_first(&record, state).or(failure).filter(|_| !goes_on) {
                    self.record(state, Record::Settled { request: state.request_seq, failure: Some(failure) }).await?;
                }
                return Ok(Duration::ZERO);
            }
            // At rest no step says that it is over.
            Ok(None) if live.watched != looked && state.request.is_none() => {
                let said = live.altered.clone().or_else(|| live.open_for.clone());
                if self.sink.read().trouble != said {
                    self.waker.want();
                }
                self.sink.update(|p| p.trouble = said);
                *trouble = Trouble::default();
            }
            Ok(None) => {}
            Err(failure) => return self.failed(state, None, failure, trouble).await,
        }
        let compared = live.comparison.as_ref().is_some_and(|task| task.is_finished());
        if compared && state.active().is_some_and(|run| run.awaits_comparison()) {
            return self.step(Step::Verify, state, live, trouble).await;
        }
        match plan::next(state) {
            Next::Rest => Ok(LOOK),
            Next::Begin => {
                let begun = match self.context(state, live) {
                    Some(mut context) => steps::begin(&mut context).await,
                    None => return Ok(LOOK),
                };
                match begun {
                    Ok(record) => self.record(state, record).await.map(|()| Duration::ZERO),
                    Err(failure) => self.failed(state, None, failure, trouble).await,
                }
            }
            Next::Do(step) => self.step(step, state, live, trouble).await,
            Next::Rehearse => self.record(state, Record::RehearsalStarted).await.map(|()| Duration::ZERO),
            Next::RollBack if self.handover.world.is_in_place() => self.leave_in_place(state, live, trouble).await,
            Next::RollBack => self.roll_back(state, live, trouble).await,
            Next::TooLate => {
                let sentence = state.active().map(plan::too_late).unwrap_or_default();
                let failure = Failure::new(sentence, Class::Operator);
                self.record(state, Record::Settled { request: state.request_seq, failure: Some(failure) })
                    .await
                    .map(|()| LOOK)
            }
            Next::NoRehearsal => {
                let failure = Some(no_rehearsal(state));
                self.record(state, Record::Settled { request: state.request_seq, failure }).await.map(|()| LOOK)
            }
            Next::Undo(step) => self.undo(step, state, live, trouble).await,
            Next::Adopt => self.adopt(state, live, trouble).await,
            Next::Sweep => self.sweep(state, trouble).await,
            Next::End => self.record(state, Record::RunEnded).await.map(|()| Duration::ZERO),
            Next::Reached => {
                self.record(state, Record::Settled { request: state.request_seq, failure: None }).await.map(|()| LOOK)
            }
        }
    }

    /// What steps are given; `None` when nothing was ever asked for.
    fn context<'c>(&self, state: &'c mut State, live: &'c mut Live) -> Option<Context<'c>>
    where
        'a: 'c,
    {
        let request = state.request.clone().or_else(|| state.last_request.clone())?;
        Some(Context {
            world: &self.handover.world,
            applications: self.applications,
            controller: &self.handover.controller,
            charm_file: steps::local_charm::file(&self.handover.charm_dir),
            store: self.store,
            state,
            request,
            epoch: self.epoch,
            progress: self.sink,
            live,
        })
    }

    async fn record(&mut self, state: &mut State, record: Record) -> Result<(), Failure> {
        log::info!("{}", steps::explain(&record));
        // A record that does not fit would make the journal unreadable for good.
        let entry = Entry { seq: state.seq + 1, at: 0, record };
        state.clone().apply(&entry).map_err(|illegal| {
            Failure::operator("write the journal", illegal, "report this as a defect, with the output of show")
        })?;
        self.store.append(&entry.record).await?;
        self.store.refresh(state).await?;
        self.waker.want();
        Ok(())
    }

    async fn step(
        &mut self,
        step: Step,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        let begun = state.active().is_some_and(|run| run.status(step) == Status::Doing);
        if !begun {
            // A step that waits for a backup has not begun.
            let gate = self.run(false, state, live, |context| Box::pin(steps::back_up::gate(step, context))).await?;
            if let Some(pause) = self.beside(gate, state, trouble).await? {
                return Ok(pause);
            }
            self.sink.update(|p| {
                *p = Progress { lag_bytes: p.lag_bytes, lease_until: p.lease_until, ..Progress::default() }
            });
            self.record(state, Record::Started { step }).await?;
        }
        self.sink.update(|p| p.step = step.name().to_owned());
        let long = matches!(step, Step::Copy | Step::Prove);
        let answer = self.run(long, state, live, |context| Box::pin(steps::perform(step, context))).await?;
        self.answered(step, answer, state, trouble, |output| Record::Done { step, output }).await
    }

    async fn undo(
        &mut self,
        step: Step,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        if state.active().is_some_and(|run| run.status(step) != Status::Undoing) {
            self.sink.update(|p| *p = Progress::default());
            self.record(state, Record::UndoStarted { step }).await?;
        }
        // What is in the way stays told while it is tried again: that may take longer than the pause before.
        self.sink.update(|p| p.step = step.name().to_owned());
        let answer = self.run(false, state, live, |context| Box::pin(steps::undo(step, context))).await?;
        self.answered(step, answer, state, trouble, |_| Record::Undone { step }).await
    }

    /// Runs a step's future while progress is flushed beside it. A step that may take hours is dropped when a
    /// rollback is asked for; as after a kill, its undo observes.
    async fn run<F>(&mut self, long: bool, state: &mut State, live: &mut Live, make: F) -> Result<Answer, Failure>
    where
        F: for<'c, 'd> FnOnce(&'c mut Context<'d>) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send + 'c>>,
    {
        let mut later = state.clone();
        let Some(mut context) = self.context(state, live) else { return Ok(Ok(Outcome::Again(LOOK))) };
        let mut future = make(&mut context);
        let mut ticks = tokio::time::interval(FLUSH);
        ticks.tick().await;
        loop {
            tokio::select! {
                answer = &mut future => return Ok(answer),
                _ = ticks.tick() => {
                    flush(self.handover, self.store, self.sink, self.waker).await?;
                    self.store.refresh(&mut later).await?;
                    let rolls_back = later.request.as_ref().is_some_and(|request| request.goal == Goal::RolledBack);
                    // Nothing goes on for a journal that lost its records.
                    if later.damaged.is_some() || (long && rolls_back) {
                        return Ok(Ok(Outcome::Again(Duration::ZERO)));
                    }
                }
            }
        }
    }

    async fn answered(
        &mut self,
        step: Step,
        answer: Answer,
        state: &mut State,
        trouble: &mut Trouble,
        done: impl FnOnce(serde_json::Value) -> Record,
    ) -> Result<Duration, Failure> {
        match answer {
            Ok(Outcome::Done(output)) => {
                self.goes_on(None, trouble);
                self.record(state, done(output)).await?;
                Ok(Duration::ZERO)
            }
            Ok(Outcome::Again(pause)) => {
                self.goes_on(None, trouble);
                Ok(pause)
            }
            Ok(Outcome::Wait(waiting)) => {
                self.goes_on(Some(waiting), trouble);
                Ok(LOOK)
            }
            Err(failure) => self.failed(state, Some(step), failure, trouble).await,
        }
    }

    /// Nothing is in the way any more, but what is waited for.
    fn goes_on(&mut self, waiting: Option<Waiting>, trouble: &mut Trouble) {
        *trouble = Trouble::default();
        let before = self.sink.read();
        if waiting.is_some() && before.waiting != waiting {
            log::info!("waiting: {}", waiting.as_ref().map_or("", |waiting| &waiting.reason));
        }
        if before.waiting != waiting || before.trouble.is_some() {
            self.waker.want();
        }
        self.sink.update(|p| {
            p.waiting = waiting;
            p.trouble = None;
        });
    }

    async fn failed(
        &mut self,
        state: &mut State,
        step: Option<Step>,
        failure: Failure,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        log::warn!("{failure}");
        if failure.class == Class::Retry {
            trouble.times = (trouble.times + 1).min(8);
            let began = *trouble.since.get_or_insert_with(SystemTime::now);
            let said = since(&self.handover.world.with_side(&failure.sentence), began);
            if self.sink.read().trouble.as_ref() != Some(&said) {
                self.waker.want();
            }
            self.sink.update(|p| {
                // What was waited for before matters less than a server that cannot be reached.
                if said.contains(UNREACHABLE_CURE) {
                    p.waiting = None;
                }
                p.trouble = Some(said);
            });
            return Ok(LOOK * trouble.times);
        }
        if let (Some(step), Some(run)) = (step, state.active())
            && run.status(step) == Status::Doing
        {
            self.record(state, Record::Failed { step, failure: failure.clone() }).await?;
        }
        if state.request.is_some() {
            self.record(state, Record::Settled { request: state.request_seq, failure: Some(failure) }).await?;
        }
        Ok(LOOK)
    }
}

/// Writes the progress and lets a waiting wake-up go.
async fn flush(handover: &Handover, store: &Store, sink: &ProgressSink, waker: &mut Waker) -> Result<(), Failure> {
    control::beat(&handover.charm_dir);
    if !in_place(&handover.charm_dir) {
        // In the middle of a step too: another worker may begin it any moment.
        let sentence = "cannot go on: this worker's file in the charm directory is gone; the next hook starts another";
        return Err(Failure::new(sentence.to_owned(), Class::Retry));
    }
    let mut progress = sink.read();
    progress.at = now_ms();
    store.write_progress(&progress).await?;
    if !progress.text.is_empty() && waker.idle() > FIGURES {
        waker.want();
    }
    waker.turn();
    Ok(())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
