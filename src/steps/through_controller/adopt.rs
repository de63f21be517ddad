//! Consumers that take their address from an identity application itself are moved to the coordinator, so that a flip
//! reaches them, or back, one consumer after the other.

use super::super::context::{Answer, Context, Outcome, wait};
use super::super::world::Application;
use super::moves::{self, Move, Stepped};
use super::{Conductor, Stop, Through, Work, attempt};
use crate::controller::settled::partners;
use crate::controller::{FullStatus, ModelLogin, RemoteApplicationStatus};
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
    let mut found = partners(status, provider);
    found.retain(|end| is_here(status, end) && application(end) != ours);
    found.sort();
    found
}

/// How many take their address from this application itself and live in other models: they show as applications that are
/// not in this one, and only there they can be moved.
pub fn consumers_elsewhere(status: &FullStatus, provider: &str) -> usize {
    let crosses = |end: &&String| is_here(status, provider) && !is_here(status, end);
    partners(status, provider).iter().filter(crosses).count()
}

fn application(end: &str) -> &str {
    end.split(':').next().unwrap_or_default()
}

fn is_here(status: &FullStatus, end: &str) -> bool {
    status.applications.contains_key(application(end))
}

/// Moves the consumers; answers as a step does.
///
/// # Errors
/// The journal's; a move that was refused.
pub async fn adopt(context: &mut Context<'_>) -> Answer {
    let back = context.request.undo;
    match attempt(context, Work::Adopt { back }).await? {
        Through::Done => Ok(Outcome::Done(Value::Null)),
        Through::Guided => Err(cannot(context, "controller-credentials are not set", "move them by hand")),
        through => match (through.answer(context), between(context.state)) {
            (Ok(answer), _) => answer,
            // Nobody else knows of one that has no relation.
            (Err(why), Some(Between { consumer, to, .. })) => {
                let why = why.unwrap_or_default();
                wait(format!("{consumer} is between two relations: {why}"), format!("juju integrate {consumer} {to}"))
            }
            (Err(why), None) => {
                Err(cannot(context, why.unwrap_or_default(), "mend that and run it again, or move them by hand"))
            }
        },
    }
}

fn cannot(context: &Context<'_>, why: impl std::fmt::Display, cure: &str) -> Failure {
    let endpoint = context.app().consumers_endpoint;
    let itself = format!("{}:{endpoint}", told(context.side(users_are_on(context))));
    let (from, to) = match context.request.undo {
        true => (ours(context), itself),
        false => (itself, ours(context)),
    };
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
        let moves = match wanted(context, &status, back) {
            Ok(moves) => moves,
            Err(nameless) => return Ok(nameless),
        };
        if let Some(why) = moves::hindrance(context, conductor, login, &status, &moves).await? {
            return Ok(why);
        }
        adoption = Adoption { request, back, moves };
        keep(context, &adoption).await?;
    }
    while let Some(one) = adoption.moves.iter_mut().find(|one| !one.done) {
        // Of what another request wanted, only what was begun comes to its end.
        if adoption.request != request && one.lacks().is_none() {
            return Ok(Through::AtWork("what was begun before has come to its end".to_owned()));
        }
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

/// The side whose identity application users are with.
fn users_are_on(context: &Context<'_>) -> Side {
    context.state.active().and_then(|run| run.brokered).unwrap_or(Side::Source)
}

/// What this model calls an identity application. Where a run keeps what is not related any more, its own name is known.
fn called(application: &Application) -> Option<&str> {
    let own = application.model.is_none().then_some(application.name.as_str());
    [Some(application.called.as_str()), own].into_iter().flatten().find(|name| !name.is_empty())
}

/// The same in a sentence.
fn told(application: &Application) -> String {
    called(application).map_or_else(|| format!("<{}>", application.name), str::to_owned)
}

/// The end at which an identity application tells its consumers, if it has a name here: its relation gives it one, or
/// what was consumed of its model does.
fn provider(context: &Context<'_>, status: &FullStatus, side: Side) -> Option<String> {
    let (application, endpoint) = (context.side(side), context.app().consumers_endpoint);
    let offers = |remote: &RemoteApplicationStatus| {
        application.model.as_deref() == Some(remote.model())
            && remote.endpoints.iter().any(|offered| offered.name == endpoint)
    };
    let mut remotes = status.remote_applications.iter().filter(|(_, remote)| offers(remote)).map(|(name, _)| name);
    // Of two nobody knows which one it is.
    let consumed = remotes.next().filter(|_| remotes.next().is_none()).map(String::as_str);
    called(application).or(consumed).map(|name| format!("{name}:{endpoint}"))
}

fn ours(context: &Context<'_>) -> String {
    format!("{}:{}", context.applications.coordinator, context.app().consumers_endpoint)
}

/// From source and target to us, or from us to the side that users are on.
fn wanted(context: &Context<'_>, status: &FullStatus, back: bool) -> Result<Vec<Move>, Through> {
    let ours = ours(context);
    let of = |from: &str| consumers_of(status, from, &context.applications.coordinator);
    if back {
        let (found, side) = (of(&ours), users_are_on(context));
        return match provider(context, status, side) {
            Some(to) => Ok(found.into_iter().map(|one| Move::new(one, &ours, &to)).collect()),
            None if found.is_empty() => Ok(Vec::new()),
            None => Err(nameless(context, side)),
        };
    }
    let sides = [Side::Source, Side::Target].map(|side| provider(context, status, side));
    // Nobody here is related to what is known to be elsewhere and has no name here.
    if sides[0].is_none() && context.side(Side::Source).model.is_none() {
        return Err(nameless(context, Side::Source));
    }
    let moves = |from: &String| of(from).into_iter().map(|one| Move::new(one, from, &ours)).collect::<Vec<_>>();
    Ok(sides.iter().flatten().flat_map(moves).collect())
}

/// What a person does so that somebody here can be related to an application of another model.
fn nameless(context: &Context<'_>, side: Side) -> Through {
    let application = context.side(side);
    let Some((commands, _)) = application.introduced(context.app().consumers_endpoint, side) else {
        return Through::Cannot(format!("the {} application has no name in this model", side.name()));
    };
    let (name, model) = (&application.name, application.model.as_deref().unwrap_or_default());
    Through::Person(
        format!("{name} of the model {model} is not consumed here, so nobody here can be related to it"),
        commands.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ApplicationStatus, RelationEndpointStatus, RelationStatus};

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
        assert_eq!(consumers_elsewhere(&status, "kratos:kratos-info"), 1);
        assert_eq!(consumers_elsewhere(&status, "remote-5:kratos-info"), 0);
    }
}
