//! The connection to the controller that the worker keeps, and what it last showed.

use super::{LOOK, Through};
use crate::controller::{Error, FullStatus, ModelLogin, Reaction, Result, Session, Timing};
use std::time::{Duration, Instant};

/// Users may be waiting: nothing hangs for long on a controller that does not answer.
const TIMING: Timing = Timing {
    stagger: Duration::from_millis(50),
    connect: Duration::from_secs(10),
    call: Duration::from_secs(30),
    ping_every: Duration::from_secs(60),
    ping_answer: Duration::from_secs(30),
};

/// Nothing is asked for this long after trouble that passes by itself.
const SOON: Duration = Duration::from_secs(1);

/// And after what a person or time must mend first.
const LATER: Duration = Duration::from_secs(10);

/// A controller that does not answer for this long is not waited for alone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session, kept from one look to the next.
#[derive(Default)]
pub struct Conductor {
    session: Option<Session>,
    status: Option<(Instant, FullStatus)>,
    /// What is being done, and for which request: what is said of one is no answer to another.
    about: Option<About>,
    /// Until when nothing is asked about this, and what is said meanwhile.
    pause: Option<(Instant, About, Through)>,
    /// Since when nothing but trouble that passes was met.
    troubled: Option<Instant>,
    /// The relation whose removal the controller took last.
    removed: Option<i64>,
}

/// A kind of work, and the request that wants it.
pub(super) type About = (std::mem::Discriminant<super::Work>, i64);

impl Conductor {
    /// Begins to work on something; answers what was said last of it, while nothing is asked.
    pub(super) fn begin(&mut self, about: About) -> Option<Through> {
        self.about = Some(about);
        self.pause = self.pause.take().filter(|(until, of, _)| *of == about && Instant::now() < *until);
        self.pause.as_ref().map(|(_, _, said)| said.clone())
    }

    /// What an error comes to, and for how long.
    pub(super) fn trouble(&mut self, error: &Error) -> Through {
        log::warn!("{error}");
        // What the model showed before is not believed after an outcome that is unknown.
        self.status = None;
        if matches!(error, Error::Login { .. }) {
            self.session = None;
        }
        if error.reaction() != Reaction::Retry {
            self.troubled = None;
        }
        match error.reaction() {
            // A person may do it meanwhile.
            Reaction::Retry if self.troubled.get_or_insert_with(Instant::now).elapsed() > PATIENCE => {
                self.pause(LATER, Through::Cannot(error.to_string()))
            }
            Reaction::Retry => self.pause(SOON, Through::AtWork(error.to_string())),
            Reaction::Pause => self.pause(LATER, Through::AtWork(error.to_string())),
            Reaction::Person | Reaction::Stop => self.pause(LATER, Through::Cannot(error.to_string())),
        }
    }

    /// Asks nothing for a while.
    fn pause(&mut self, how_long: Duration, said: Through) -> Through {
        self.pause = self.about.map(|about| (Instant::now() + how_long, about, said.clone()));
        said
    }

    /// What a person has to do by hand, said without asking again at each look.
    pub(super) fn cannot(&mut self, why: String) -> Through {
        self.pause(LATER, Through::Cannot(why))
    }

    /// True when the controller took the removal of this relation.
    pub(super) fn has_removed(&self, relation: i64) -> bool {
        self.removed == Some(relation)
    }

    /// The controller took the removal of this relation.
    pub(super) fn removed(&mut self, relation: i64) {
        self.removed = Some(relation);
    }

    /// The session; a new one where the last has ended.
    pub(super) async fn session(&mut self, login: &ModelLogin) -> Result<&Session> {
        let session = match self.session.take().filter(|session| session.connection().is_open()) {
            Some(session) => session,
            None => login.open(TIMING).await?,
        };
        Ok(self.session.insert(session))
    }

    /// The model, not older than a look.
    pub(super) async fn status(&mut self, login: &ModelLogin) -> Result<FullStatus> {
        if let Some((at, status)) = &self.status
            && at.elapsed() < LOOK
        {
            return Ok(status.clone());
        }
        let status = self.session(login).await?.full_status().await?;
        self.status = Some((Instant::now(), status.clone()));
        self.troubled = None;
        Ok(status)
    }

    /// The model as it is now, whatever was seen before.
    pub(super) async fn status_now(&mut self, login: &ModelLogin) -> Result<FullStatus> {
        self.status = None;
        self.status(login).await
    }
}
