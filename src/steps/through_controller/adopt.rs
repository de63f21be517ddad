//! Consumers that take their address from an identity application itself are moved to the coordinator, so that a flip
//! reaches them, or back. A relation is removed and made, one consumer after the other, each waited for until it is truly
//! gone and truly there; where the new one is refused, the old one is made again.

use super::super::context::{Answer, Context, Outcome, wait};
use super::super::world::Application;
use super::{Conductor, FINE, LOOK, Stop, Through, Work, attempt};
use crate::controller::settled::{Settled, related, relation_between, relation_gone, resting};
use crate::controller::{
    Change, FullStatus, ModelLogin, Reaction, RelationEndpointStatus, RelationStatus, RemoteApplicationStatus, blocking,
};
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

/// One consumer's relation; ends are `<application>:<endpoint>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    consumer: String,
    from: String,
    to: String,
    /// The number of the relation that goes.
    relation: i64,
    /// Its removal was asked for, or is about to be.
    removing: bool,
    /// The new one was asked for, or is about to be.
    making: bool,
    /// Why the new one was refused: the old one is made again.
    refused: Option<String>,
    done: bool,
}

/// Consumers that have their address from this application itself, each as `<application>:<endpoint>` with the number of
/// its relation.
pub fn consumers_of(status: &FullStatus, provider: &str, ours: &str) -> Vec<(String, i64)> {
    let other = |relation: &RelationStatus| {
        let is_provider = |end: &&RelationEndpointStatus| format!("{}:{}", end.application, end.name) == provider;
        relation.endpoints.iter().find(is_provider)?;
        let consumer = relation.endpoints.iter().find(|end| !is_provider(end))?;
        // From another model it shows as an application that is not in this one.
        let here = consumer.application != ours && status.applications.contains_key(&consumer.application);
        here.then(|| (format!("{}:{}", consumer.application, consumer.name), relation.id))
    };
    let mut found: Vec<(String, i64)> = status.relations.iter().filter_map(other).collect();
    found.sort();
    found
}

/// How many take their address from this application itself and live in other models: they show as applications that are
/// not in this one, and only there they can be moved.
pub fn consumers_elsewhere(status: &FullStatus, provider: &str) -> usize {
    let is_provider = |end: &RelationEndpointStatus| format!("{}:{}", end.application, end.name) == provider;
    let is_here = |end: &RelationEndpointStatus| status.applications.contains_key(&end.application);
    let crosses = |relation: &&RelationStatus| {
        relation.endpoints.iter().any(|end| is_provider(end) && is_here(end))
            && relation.endpoints.iter().any(|end| !is_provider(end) && !is_here(end))
    };
    status.relations.iter().filter(crosses).count()
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
    known.unwrap_or_default().moves.into_iter().map(|one| one.consumer).collect()
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
    let one = moves.into_iter().find(|one| one.removing && !one.done)?;
    let to = if one.refused.is_some() { one.from } else { one.to };
    Some(Between { consumer: one.consumer, to, action: if back { "adopt undo=true" } else { "adopt" } })
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
    let begun = adoption.moves.iter().any(|one| !one.done && one.removing);
    // What was begun is brought to its end before anything else is.
    if adoption.request != request && !begun {
        let moves = match wanted(context, &status, back) {
            Ok(moves) => moves,
            Err(nameless) => return Ok(nameless),
        };
        if let Some(why) = hindrance(context, conductor, login, &status, &moves).await? {
            return Ok(why);
        }
        adoption = Adoption { request, back, moves };
        keep(context, &adoption).await?;
    }
    match adoption.moves.iter().position(|one| !one.done) {
        Some(place) => step(context, conductor, login, &status, (&mut adoption, place)).await,
        None => Ok(Through::Done),
    }
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
    let made = |(consumer, relation): (String, i64), from: &str, to: &str| Move {
        consumer,
        from: from.to_owned(),
        to: to.to_owned(),
        relation,
        ..Move::default()
    };
    if back {
        let (found, side) = (of(&ours), users_are_on(context));
        return match provider(context, status, side) {
            Some(to) => Ok(found.into_iter().map(|one| made(one, &ours, &to)).collect()),
            None if found.is_empty() => Ok(Vec::new()),
            None => Err(nameless(context, side)),
        };
    }
    let sides = [Side::Source, Side::Target].map(|side| provider(context, status, side));
    // Nobody here is related to what is known to be elsewhere and has no name here.
    if sides[0].is_none() && context.side(Side::Source).model.is_none() {
        return Err(nameless(context, Side::Source));
    }
    let moves = |from: &String| of(from).into_iter().map(|one| made(one, from, &ours)).collect::<Vec<_>>();
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

/// What would stop a move half way is found before the first relation goes.
async fn hindrance(
    context: &Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    moves: &[Move],
) -> Result<Option<Through>, Stop> {
    if moves.is_empty() {
        return Ok(None);
    }
    let blocks = conductor.session(login).await?.blocks().await?;
    for change in [Change::Alter, Change::Remove] {
        if let Some(block) = blocking(&blocks, change) {
            let why = format!("juju disable-command stops changes of the model (\"{}\")", block.message);
            return Ok(Some(conductor.cannot(why)));
        }
    }
    for one in moves {
        for end in [&one.consumer, &one.from, &one.to] {
            let application = end.split(':').next().unwrap_or_default();
            if let Some(why) = absent(status, application) {
                return Ok(Some(conductor.cannot(why)));
            }
            // We ourselves are at work while our own action runs; the units of another model are not seen.
            if application == context.applications.coordinator || !status.applications.contains_key(application) {
                continue;
            }
            match resting(status, application, &FINE) {
                Settled::Yes => {}
                Settled::NotYet(why) => return Ok(Some(Through::AtWork(format!("before consumers are moved: {why}")))),
                Settled::Stuck(why) => return Ok(Some(conductor.cannot(why))),
            }
        }
    }
    Ok(None)
}

/// Why nobody can be related to an application, where it is gone from this model or from the one that offers it.
fn absent(status: &FullStatus, application: &str) -> Option<String> {
    if status.applications.contains_key(application) {
        return None;
    }
    let Some(remote) = status.remote_applications.get(application) else {
        return Some(format!("{application} is not in this model"));
    };
    let is_there = ["", "alive"].contains(&remote.life.as_str()) && remote.status.status != "terminated";
    (!is_there).then(|| {
        let url = &remote.offer_url;
        format!(
            "the offer {url}, which {application} is here, is gone; have it offered again, then juju remove-saas \
             {application} and juju consume {url} {application}"
        )
    })
}

/// The next thing about one consumer, by what the model shows.
async fn step(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    (adoption, place): (&mut Adoption, usize),
) -> Result<Through, Stop> {
    let Move { consumer, from, to, relation, removing, making, refused, .. } = adoption.moves[place].clone();
    if let Some(why) = refused {
        return take_back(context, conductor, login, status, (adoption, place, &why)).await;
    }
    if status.relations.iter().any(|found| found.id == relation) {
        if !removing {
            adoption.moves[place].removing = true;
            keep(context, adoption).await?;
        }
        if let Settled::Stuck(why) = relation_gone(status, relation) {
            return Ok(Through::Person(why, "juju status --relations".to_owned()));
        }
        // Asking once more for what goes already is a success.
        if !conductor.has_removed(relation) {
            conductor.session(login).await?.destroy_relation_by_id(relation).await?;
            conductor.removed(relation);
        }
        return Ok(Through::AtWork(format!("the relation of {consumer} with {from} goes")));
    }
    if relation_between(status, &consumer, &to).is_some() {
        return Ok(match related(status, &consumer, &to) {
            Settled::Yes => {
                log::info!("{consumer} is related to {to}");
                adoption.moves[place].done = true;
                keep(context, adoption).await?;
                Through::AtWork(format!("{consumer} was moved to {to}"))
            }
            Settled::NotYet(why) => Through::AtWork(format!("{consumer} is moved to {to}: {why}")),
            Settled::Stuck(why) => Through::Person(why, "juju status --relations".to_owned()),
        });
    }
    if !making {
        adoption.moves[place].making = true;
        keep(context, adoption).await?;
    }
    match conductor.session(login).await?.add_relation(&consumer, &to).await {
        Ok(_) => Ok(Through::AtWork(format!("{consumer} is moved to {to}"))),
        Err(error) if error.reaction() == Reaction::Stop => {
            adoption.moves[place].refused = Some(error.to_string());
            keep(context, adoption).await?;
            Ok(Through::AtWork(format!("{consumer} goes back to {from}: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The old relation once more; what was moved before stays.
async fn take_back(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    (adoption, place, why): (&mut Adoption, usize, &str),
) -> Result<Through, Stop> {
    let Move { consumer, from, .. } = adoption.moves[place].clone();
    if relation_between(status, &consumer, &from).is_none() {
        conductor.session(login).await?.add_relation(&consumer, &from).await?;
        return Ok(Through::AtWork(format!("{consumer} goes back to {from}")));
    }
    if let Settled::NotYet(still) = related(status, &consumer, &from) {
        return Ok(Through::AtWork(format!("{consumer} goes back to {from}: {still}")));
    }
    keep(context, &Adoption::default()).await?;
    let found = format!("{why}, so {consumer} is related to {from} again");
    Err(cannot(context, found, "mend that and run it again, or move them by hand").into())
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
        assert_eq!(found, [("login-ui:kratos-info".to_owned(), 7)]);
        assert_eq!(consumers_elsewhere(&status, "kratos:kratos-info"), 1);
        assert_eq!(consumers_elsewhere(&status, "remote-5:kratos-info"), 0);
    }

    #[test]
    fn what_is_gone_from_its_model_is_told_before_anything_goes() {
        let remote = |status: &str| {
            let mut remote = RemoteApplicationStatus {
                offer_url: "admin/iam.kratos".into(),
                life: "alive".into(),
                ..Default::default()
            };
            remote.status.status = status.into();
            remote
        };
        let remotes = [("there", remote("active")), ("gone", remote("terminated"))];
        let status = FullStatus {
            applications: [("here".to_owned(), ApplicationStatus::default())].into(),
            remote_applications: remotes.map(|(name, remote)| (name.to_owned(), remote)).into(),
            ..Default::default()
        };
        assert_eq!((absent(&status, "here"), absent(&status, "there")), (None, None));
        assert_eq!(absent(&status, "nowhere").unwrap(), "nowhere is not in this model");
        assert!(absent(&status, "gone").unwrap().ends_with("juju consume admin/iam.kratos gone"));
        assert_eq!(status.remote_applications["there"].model(), "iam");
    }
}
