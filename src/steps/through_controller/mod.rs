//! What the Juju controller does for us, where credentials were given, instead of a person at the command line.
//!
//! Whatever changes the model is in the journal before it is sent. After an answer that did not come the model is read
//! before anything is sent again, so that each change is made once. Where the controller cannot be asked, or refuses, the
//! step is guided as without credentials, and says why.

mod action;
mod adopt;
mod asked;
mod back_up;
mod conductor;
mod local;
mod moves;
mod refresh;
mod routes;
mod wake;

pub use action::{forget, task};
pub use adopt::{Between, adopt, between, consumers_elsewhere, consumers_of, moved};
pub use asked::{charm_before, is_asked, is_asked_local};
pub use back_up::{BackUp, BackUpKind, Ended, name as back_up_name};
pub use conductor::Conductor;
pub use moves::move_commands;
pub use routes::{exchange_commands, plan_routes, routes_by_hand, take_routes};
pub use wake::restore;

use super::context::{Answer, Context, Outcome, wait};
use crate::controller::{Error, ModelLogin};
use crate::migration::{Failure, Side, Step};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wake::Wanted;

/// What a unit of the target application may say of itself between its steps: a refreshed one waits for its schema
/// migration.
const FINE: [&str; 4] = ["active", "waiting", "blocked", "unknown"];

/// Between two looks at what the controller's model shows.
const LOOK: Duration = Duration::from_secs(1);

/// How we come into the model, as the hooks found it. Passed to the worker through a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    /// The operator gave none.
    #[default]
    NotGiven,
    /// Some were given and cannot be used: the sentence.
    Unusable(String),
    /// With these.
    Given(ModelLogin),
}

/// What became of a step that the controller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Through {
    /// No credentials, or nothing to do: the step goes on as if there were no controller.
    Guided,
    /// It cannot, and a person has to do it by hand: why.
    Cannot(String),
    /// It is at work: what is waited for.
    AtWork(String),
    /// Somebody has to look at the model first: at what, and the command that shows it.
    Person(String, String),
    /// It has done it.
    Done,
}

impl Through {
    /// The step's answer while the controller is at it; `None` where the step is a person's, with what to tell them.
    pub fn answer(self, context: &Context<'_>) -> Result<Answer, Option<String>> {
        match self {
            Through::Guided | Through::Done => Err(None),
            Through::Cannot(why) => Err(Some(why)),
            Through::AtWork(text) => {
                context.progress.say(text);
                Ok(Ok(Outcome::Again(LOOK)))
            }
            Through::Person(reason, next) => Ok(wait(reason, next)),
        }
    }
}

/// What shows of a refresh without asking the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    No,
    /// The server is down, as one is that was refreshed and waits; others are, too.
    Perhaps,
    /// Another release's server or schema.
    Yes,
}

/// What is asked of the controller.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// The target application's refresh.
    Refresh {
        /// Whether it shows from outside that one was made, or only seems so.
        shown: Shown,
    },
    /// The target application's `run-migration`, with so many seconds.
    Migrate {
        /// Seconds.
        timeout: u64,
    },
    /// A hook for a Kratos that waits for its next one before it starts its server.
    Wake,
    /// A hook for a Kratos whose server has to begin anew.
    Restart,
    /// The option that woke it gets its old value back.
    Restore,
    /// Consumers take their address from us, or from an identity application again.
    Adopt {
        /// Whether they go back.
        back: bool,
    },
    /// Nothing but a look: who has which place at an ingress.
    PlanRoutes,
    /// The side that users go to takes the other's place at its ingress.
    Routes {
        /// Who takes it.
        to: Side,
    },
    /// Nothing but a look: whether the application has the charm again that it had before its refresh.
    Return,
    /// A backup of one side's cluster.
    BackUp {
        /// Of which.
        side: Side,
        /// What it holds.
        kind: BackUpKind,
        /// Ask for one where none is under way.
        begin: bool,
    },
}

impl Work {
    /// Why the application that this changes is not ours to change.
    fn out_of_reach(self, context: &Context<'_>) -> Option<String> {
        let target = &context.applications.target;
        // Whose consumers these are called depends on what the model has of others.
        if let Work::Adopt { .. } = self {
            return None;
        }
        if let Work::BackUp { side, .. } = self {
            let name = context.postgresql(side);
            if context.side(side).postgresql_model.is_some() {
                return Some(format!("{name} is in another model, where nothing is asked for from here"));
            }
            let unknown = || format!("the PostgreSQL application of the {} is not known by a name here", side.name());
            return name.is_empty().then(unknown);
        }
        if let (Work::PlanRoutes | Work::Routes { .. }, Some(model)) = (self, &context.applications.source.model) {
            let source = &context.applications.source.name;
            return Some(format!("the coordinator may not change the model {model}, in which {source} is"));
        }
        if let Some(model) = &target.model {
            return Some(format!("the coordinator may not change the model {model}, in which {} is", target.name));
        }
        let same = target.name == context.applications.source.name && !context.world.is_in_place();
        let one = target.name.is_empty() || same;
        one.then(|| format!("source and target are both told to be the application {:?}", target.name))
    }
}

/// Why some work ends here.
enum Stop {
    /// The controller's answer.
    Controller(Error),
    /// The step's own end.
    Failure(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Controller(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failure(failure)
    }
}

/// Has the controller do the next thing of some work, or looks how far it is.
///
/// # Errors
/// The journal's; work that ended badly.
pub async fn attempt(context: &mut Context<'_>, work: Work) -> Result<Through, Failure> {
    let login = match context.controller {
        Credentials::NotGiven => return Ok(Through::Guided),
        Credentials::Unusable(why) => return Ok(Through::Cannot(why.clone())),
        Credentials::Given(login) => login,
    };
    if let Some(why) = work.out_of_reach(context) {
        return Ok(Through::Cannot(why));
    }
    let about = (std::mem::discriminant(&work), context.state.request_seq);
    let mut conductor = std::mem::take(&mut context.live.conductor);
    let answer = match conductor.begin(about) {
        Some(said) => Ok(said),
        None => match go_on(context, &mut conductor, login, work).await {
            Ok(through) => Ok(through),
            Err(Stop::Failure(failure)) => Err(failure),
            Err(Stop::Controller(error)) => Ok(conductor.trouble(&error)),
        },
    };
    context.live.conductor = conductor;
    answer
}

async fn go_on(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    work: Work,
) -> Result<Through, Stop> {
    match work {
        Work::Refresh { shown } => refresh::refresh(context, conductor, login, shown).await,
        Work::Migrate { timeout } => action::run_migration(context, conductor, login, timeout).await,
        Work::Wake => wake::wake(context, conductor, login, Wanted::Start).await,
        Work::Restart => wake::wake(context, conductor, login, Wanted::Restart).await,
        Work::Restore => wake::restored(context, conductor, login).await,
        Work::Adopt { back } => adopt::go_on(context, conductor, login, back).await,
        Work::PlanRoutes => routes::plan(context, conductor, login).await,
        Work::Routes { to } => routes::go_on(context, conductor, login, to).await,
        Work::Return => refresh::returned(context, conductor, login).await,
        Work::BackUp { side, kind, begin } => back_up::back_up(context, conductor, login, (side, kind, begin)).await,
    }
}

/// A note that we wrote, if it is one.
fn noted<T: DeserializeOwned>(context: &Context<'_>, step: Step, name: &str) -> Option<T> {
    let value = context.state.active()?.note(step, name)?;
    serde_json::from_value::<Option<T>>(value.clone()).ok().flatten()
}
