//! Consumers that take their address from an identity application itself are moved to the coordinator, so that a flip
//! reaches them, or back, one consumer after the other.

use super::super::context::{Answer, Context, Outcome, wait};
use super::moves::{self, Move, Stepped};
use super::{Conductor, LOOK, Stop, Through, Work, attempt};
use crate::controller::{FullStatus, ModelLogin, RelationStatus};
use crate::migration::{Failure, Side, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the journal calls it.
const ADOPTION: &str = "adoption";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Adoption {
    /// Position of the request that wanted it.
    request: i64,
    /// Whether it leads away from us.
    back: bool,
    moves: Vec<Move>,
}

/// Consumers that have their address from this application itself, each as `<application>:<endpoint>`.
pub fn consumers_of(status: &FullStatus, provider: &str, ours: &str) -> Vec<String> {
    let other = |relation: &RelationStatus| {
        let is_provider = |end: &&_| -> bool {
            let end: &crate::controller::RelationEndpointStatus = end;
            format!("{}:{}", end.application, end.name) == provider
        };
        relation.endpoints.iter().find(is_provider)?;
        let consumer = relation.endpoints.iter().find(|end| !is_provider(end))?;
        // From another model it shows as an application that is not in this one.
        let here = consumer.application != ours && status.applications.contains_key(&consumer.application);
        here.then(|| format!("{}:{}", consumer.application, consumer.name))
    };
    let mut found: Vec<String> = status.relations.iter().filter_map(other).collect();
    found.sort();
    found
}

/// Moves the consumers; answers as a step does.
///
/// # Errors
/// The journal's; a move that was refused.
pub async fn adopt(context: &mut Context<'_>) -> Answer {
    let back = context.request.undo;
    match attempt(context, Work::Adopt { back }).await? {
        Through::Done => Ok(Outcome::Done(Value::Null)),
        Through::AtWork(text) => {
            context.progress.say(text);
            Ok(Outcome::Again(LOOK))
        }
        Through::Person(reason, next) => wait(reason, next),
        Through::Guided => Err(cannot(context, "controller-credentials are not set", "move them by hand")),
        Through::Cannot(why) => match between(context.state) {
            // Nobody else knows of one that has no relation.
            Some(Between { consumer, to, .. }) => {
                wait(format!("{consumer} is between two relations: {why}"), format!("juju integrate {consumer} {to}"))
            }
            None => Err(cannot(context, why, "mend that and run it again, or move them by hand")),
        },
    }
}

fn cannot(context: &Context<'_>, why: impl std::fmt::Display, cure: &str) -> Failure {
    let (from, to) = (provider(context, Side::Source), ours(context));
    let (from, to) = if context.request.undo { (to, from) } else { (from, to) };
    let endpoint = context.app().consumers_endpoint;
    let by_hand = format!(
        "for each that juju status --relations shows beside {from}, juju remove-relation <consumer>:{endpoint} {from} and then \
         juju integrate <consumer>:{endpoint} {to}"
    );
    let half = between(context.state).map(|Between { consumer, to, .. }| {
        format!("; {consumer} is between two relations: juju integrate {consumer} {to}")
    });
    let found = format!("{why}{}", half.unwrap_or_default());
    Failure::operator("move the consumers", found, format!("{cure}: {by_hand}"))
        .cured_by(context.request.again("adopt"))
}

/// The consumers that were moved last.
pub fn moved(state: &State) -> Vec<String> {
    let known = known(state).filter(|adoption| adoption.request == state.request_seq);
    known.unwrap_or_default().moves.into_iter().map(|one| one.end).collect()
}

/// A consumer whose old relation went, or goes, and whose new one is not there yet.
pub struct Between {
    /// Its end, `<application>:<endpoint>`.
    pub consumer: String,
    /// The end that it is going to be related to.
    pub to: String,
    /// The action that goes on with it.
    pub action: &'static str,
}

/// The consumer that is between two relations, if one is.
pub fn between(state: &State) -> Option<Between> {
    let Adoption { back, moves, .. } = known(state)?;
    let one = moves.into_iter().find(|one| one.lacks().is_some())?;
    let to = one.lacks()?.to_owned();
    Some(Between { consumer: one.end, to, action: if back { "adopt undo=true" } else { "adopt" } })
}

fn known(state: &State) -> Option<Adoption> {
    serde_json::from_value(state.errands.get(ADOPTION)?.value.clone()).ok()
}

pub(super) async fn go_on(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    back: bool,
) -> Result<Through, Stop> {
    let status = conductor.status_now(login).await?;
    let request = context.state.request_seq;
    let mut adoption = known(context.state).unwrap_or_default();
    let begun = adoption.moves.iter().any(|one| one.lacks().is_some());
    // What was begun is brought to its end before anything else is.
    if adoption.request != request && !begun {
        let moves = wanted(context, &status, back);
        if let Some(why) = moves::hindrance(context, conductor, login, &status, &moves).await? {
            return Ok(why);
        }
        adoption = Adoption { request, back, moves };
        keep(context, &adoption).await?;
    }
    while let Some(one) = adoption.moves.iter_mut().find(|one| !one.done) {
        match moves::step(conductor, login, &status, one).await? {
            Stepped::Noted => keep(context, &adoption).await?,
            Stepped::AtWork(text) => return Ok(Through::AtWork(text)),
            Stepped::Person(why, command) => return Ok(Through::Person(why, command)),
            // What was moved before stays.
            Stepped::TakenBack(why) => {
                keep(context, &Adoption::default()).await?;
                return Err(cannot(context, why, "mend that and run it again, or move them by hand").into());
            }
        }
    }
    Ok(Through::Done)
}

async fn keep(context: &mut Context<'_>, adoption: &Adoption) -> Result<(), Failure> {
    context.errand(ADOPTION, json!(adoption)).await.map(drop)
}

/// The end at which an identity application tells its consumers.
fn provider(context: &Context<'_>, side: Side) -> String {
    let application = match side {
        Side::Source => &context.applications.source,
        Side::Target => &context.applications.target,
    };
    // Where a run keeps what is not related any more, its own name is known.
    let here = application.called.is_empty() && application.model.is_none();
    let name = if here { &application.name } else { &application.called };
    format!("{name}:{}", context.app().consumers_endpoint)
}

fn ours(context: &Context<'_>) -> String {
    format!("{}:{}", context.applications.coordinator, context.app().consumers_endpoint)
}

/// From source and target to us, or from us to the side that users are on.
fn wanted(context: &Context<'_>, status: &FullStatus, back: bool) -> Vec<Move> {
    let coordinator = &context.applications.coordinator;
    let ours = ours(context);
    let (from, to) = match back {
        true => {
            let side = context.state.active().and_then(|run| run.brokered).unwrap_or(Side::Source);
            (vec![ours], provider(context, side))
        }
        false => (vec![provider(context, Side::Source), provider(context, Side::Target)], ours),
    };
    let of = |from: String| {
        let to = to.clone();
        consumers_of(status, &from, coordinator).into_iter().map(move |consumer| Move::new(consumer, &from, &to))
    };
    from.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ApplicationStatus, RelationEndpointStatus};

    #[test]
    fn consumers_are_those_of_this_model_that_are_not_us() {
        let end = |text: &str| {
            let (application, name) = text.split_once(':').unwrap();
            RelationEndpointStatus { application: application.into(), name: name.into(), ..Default::default() }
        };
        let relation = |id, one: &str, other: &str| RelationStatus {
            id,
            endpoints: vec![end(one), end(other)],
            ..Default::default()
        };
        let here = ["kratos", "login-ui", "coordinator", "hydra"];
        let status = FullStatus {
            applications: here.map(|name| (name.to_owned(), ApplicationStatus::default())).into(),
            relations: vec![
                relation(7, "kratos:kratos-info", "login-ui:kratos-info"),
                relation(8, "coordinator:source-kratos", "kratos:kratos-info"),
                relation(9, "kratos:kratos-info", "remote-5:kratos-info"),
                relation(10, "kratos:hydra-endpoint-info", "hydra:hydra-endpoint-info"),
            ],
            ..Default::default()
        };
        let found = consumers_of(&status, "kratos:kratos-info", "coordinator");
        assert_eq!(found, ["login-ui:kratos-info"]);
    }
}
