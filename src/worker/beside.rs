//! What the worker does beside the steps of a run.

use super::{LOOK, Trouble, Turn};
use crate::migration::{Failure, Record, State, Status, Step};
use crate::steps::{self, Answer, Live, Outcome, through_controller};
use std::time::Duration;

impl Turn<'_> {
    /// How long to pause for what is no step; `None` when it is done.
    pub(super) async fn beside(
        &mut self,
        answer: Answer,
        state: &mut State,
        trouble: &mut Trouble,
    ) -> Result<Option<Duration>, Failure> {
        match answer {
            Ok(Outcome::Done(_)) => {
                self.goes_on(None, trouble);
                Ok(None)
            }
            Ok(Outcome::Again(pause)) => {
                self.goes_on(None, trouble);
                Ok(Some(pause))
            }
            Ok(Outcome::Wait(waiting)) => {
                self.goes_on(Some(waiting), trouble);
                Ok(Some(LOOK))
            }
            Err(failure) => self.failed(state, None, failure, trouble).await.map(Some),
        }
    }

    /// Declares the rollback, unless a hand-over that was cut off turns out to have opened the target.
    pub(super) async fn roll_back(
        &mut self,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        let begun = state.active().is_some_and(|run| run.status(Step::HandOver) != Status::Pending);
        let opened = match self.context(state, live).filter(|_| begun) {
            Some(context) => steps::hand_over::has_opened(&context).await,
            None => Ok(false),
        };
        match opened {
            Ok(true) => self.step(Step::HandOver, state, live, trouble).await,
            Ok(false) => self.record(state, Record::RollbackStarted).await.map(|()| Duration::ZERO),
            Err(failure) => self.failed(state, None, failure, trouble).await,
        }
    }

    /// Goes on to move consumers, as `adopt` asked.
    pub(super) async fn adopt(
        &mut self,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        let answer = self.run(false, state, live, |context| Box::pin(through_controller::adopt(context))).await?;
        if let Some(pause) = self.beside(answer, state, trouble).await? {
            return Ok(pause);
        }
        self.record(state, Record::Settled { request: state.request_seq, failure: None }).await?;
        Ok(Duration::ZERO)
    }
}
