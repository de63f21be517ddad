//! What the worker does where the journal knows of no run: the databases are asked instead.

use super::{LOOK, Trouble, Turn};
use crate::migration::{Failure, Progress, Record, Settings, Side, State};
use crate::steps::sweep::{self, Found};
use crate::steps::{self, Live, Outcome};
use std::time::Duration;

impl<'a> Turn<'a> {
    /// Where the journal knows of no run, the databases are asked whether one stands: writes that it stopped pass again
    /// at once, and a side that users are on for good is noted.
    pub(super) async fn judge(
        &mut self,
        state: &mut State,
        trouble: &mut Trouble,
        judged: &mut bool,
    ) -> Result<Duration, Failure> {
        if let Some(failure) = state.unreadable() {
            log::warn!("{failure}");
            self.waker.want();
        }
        match sweep::relieve(&self.ground(state)).await {
            Ok(Found::Decided(side)) if state.void != Some(side) => self.give_up(state, side).await?,
            Ok(_) => {}
            Err(failure) => return self.failed(state, None, failure, trouble).await,
        }
        *judged = true;
        self.goes_on(None, trouble);
        Ok(Duration::ZERO)
    }

    /// A rollback that knows of no run.
    pub(super) async fn sweep(&mut self, state: &mut State, trouble: &mut Trouble) -> Result<Duration, Failure> {
        // In place nothing of ours is in the database: what is there belongs to another coordinator.
        if self.handover.world.is_in_place() {
            match state.damaged.is_some() {
                true => self.give_up(state, Side::Source).await?,
                false => self.record(state, Record::Settled { request: state.request_seq, failure: None }).await?,
            }
            return Ok(Duration::ZERO);
        }
        self.sink.update(|p| {
            let (text, trouble) = ("removing everything of ours".to_owned(), p.trouble.take());
            *p = Progress { text, trouble, ..Progress::default() };
        });
        match sweep::perform(&self.ground(state)).await {
            Ok(Found::Nothing) if state.damaged.is_none() => {
                self.goes_on(None, trouble);
                self.record(state, Record::Settled { request: state.request_seq, failure: None }).await?;
            }
            Ok(Found::Decided(side)) => self.give_up(state, side).await?,
            Ok(Found::Nothing | Found::Remains) => self.give_up(state, Side::Source).await?,
            Err(failure) => return self.failed(state, None, failure, trouble).await,
        }
        Ok(Duration::ZERO)
    }

    /// An upgrade in place is taken back only where nothing is left to be undone; until then it may still go on.
    pub(super) async fn leave_in_place(
        &mut self,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        let answer = match self.context(state, live) {
            Some(mut context) => steps::in_place::back(&mut context).await,
            None => Ok(Outcome::Again(LOOK)),
        };
        if let Some(pause) = self.beside(answer, state, trouble).await? {
            return Ok(pause);
        }
        self.record(state, Record::RollbackStarted).await.map(|()| Duration::ZERO)
    }

    /// The journal begins anew.
    async fn give_up(&mut self, state: &mut State, side: Side) -> Result<(), Failure> {
        let lost = || "the journal that knew of the run was lost".to_owned();
        let reason = state.damaged.clone().unwrap_or_else(lost);
        self.sink.update(|p| *p = Progress::default());
        self.record(state, Record::Void { reason, side }).await
    }

    fn ground(&self, state: &State) -> sweep::Ground<'a> {
        let request = state.request.as_ref().or(state.last_request.as_ref());
        let settings = request.map_or_else(Settings::default, |request| request.settings.clone());
        sweep::Ground {
            world: &self.handover.world,
            applications: self.applications,
            store: self.store,
            epoch: self.epoch,
            lock_timeout: Duration::from_millis(settings.lock_timeout_ms),
        }
    }
}
