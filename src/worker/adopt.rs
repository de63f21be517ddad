//! Consumers are moved beside any run.

use super::{Trouble, Turn};
use crate::migration::{Failure, Record, State};
use crate::steps::{Live, Outcome, through_controller};
use std::time::Duration;

impl Turn<'_> {
    /// Goes on to move consumers, as `adopt` asked.
    pub(super) async fn adopt(
        &mut self,
        state: &mut State,
        live: &mut Live,
        trouble: &mut Trouble,
    ) -> Result<Duration, Failure> {
        let answer = self.run(false, state, live, |context| Box::pin(through_controller::adopt(context))).await?;
        match answer {
            Ok(Outcome::Done(_)) => {
                self.goes_on(None, trouble);
                self.record(state, Record::Settled { request: state.request_seq, failure: None }).await?;
                Ok(Duration::ZERO)
            }
            Ok(Outcome::Again(pause)) => {
                self.goes_on(None, trouble);
                Ok(pause)
            }
            Ok(Outcome::Wait(waiting)) => {
                self.goes_on(Some(waiting), trouble);
                Ok(super::LOOK)
            }
            Err(failure) => self.failed(state, None, failure, trouble).await,
        }
    }
}
