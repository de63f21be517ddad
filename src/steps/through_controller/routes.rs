//! The place at an ingress: where the operator wants it (option `move-routes`), a flip has source and target exchange their
//! partners at the endpoints that ask for a public address, and a way back has them exchange again. The target goes first,
//! so that there is always one of them at the source's ingress.

use super::super::context::{Answer, Context, Outcome, wait};
use super::super::observe;
use super::super::world::Application;
use super::moves::{self, Move, Stepped};
use super::{Conductor, Stop, Through, Work, attempt, noted};
use crate::apps::{App, Health};
use crate::controller::settled::partners;
use crate::controller::{FullStatus, ModelLogin};
use crate::migration::{Failure, Run, Side, Step};
use serde_json::{Value, json};

/// The note of the fence, which holds the plan, and note and output of either flip: its moves.
const ROUTES: &str = "routes";

/// The output of a flip that leaves the routes to a person: what to type.
const BY_HAND: &str = "routes-by-hand";

/// An exchange as commands, for a person.
pub fn exchange_commands(status: &FullStatus, app: &App, source: &str, target: &str) -> Vec<String> {
    exchange(status, app, source, target).iter().flat_map(Move::commands).collect()
}

/// What makes the target take the source's places; nothing where the source has none.
fn exchange(status: &FullStatus, app: &App, source: &str, target: &str) -> Vec<Move> {
    let mut moves = Vec::new();
    for endpoint in app.route_endpoints {
        let [ours, theirs] = [source, target].map(|name| format!("{name}:{endpoint}"));
        let of = |end: &str| partners(status, end).into_iter().next().unwrap_or_default();
        let (place, other) = (of(&ours), of(&theirs));
        if place.is_empty() {
            continue;
        }
        // Both at one ingress have the same rules, of which either may win.
        let shared = place == other;
        if !shared {
            moves.push(Move::new(&theirs, &other, &place));
        }
        moves.push(Move::new(&ours, &place, if shared { "" } else { &other }));
    }
    moves
}

/// Before writes stop, where the operator wants the routes moved: who has which place is noted, and what would hold the
/// exchange up is told while nobody waits. `None` when the fence may go on. Without credentials nothing is known, and a
/// person is told what to type after the flip.
///
/// # Errors
/// The journal's.
pub async fn plan_routes(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    if !context.settings().move_routes {
        return Ok(None);
    }
    Ok(match attempt(context, Work::PlanRoutes).await?.answer(context) {
        Ok(answer) => Some(answer),
        Err(None) => None,
        Err(Some(why)) => {
            let without = format!("juju config {} move-routes=false", context.applications.coordinator);
            let again = context.command(&context.request.again(&context.request.action));
            Some(wait(
                format!(
                    "before writes stop: routes cannot be moved after the flip: {why}; or {without} and this action again"
                ),
                [without, again].join("\n"),
            ))
        }
    })
}

pub(super) async fn plan(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
) -> Result<Through, Stop> {
    let status = conductor.status_now(login).await?;
    let names = &context.applications;
    let routes = exchange(&status, context.app(), &names.source.name, &names.target.name);
    if let Some(why) = moves::hindrance(context, conductor, login, &status, &routes).await? {
        return Ok(why);
    }
    context.note(Step::Fence, ROUTES, json!(routes)).await?;
    Ok(Through::Done)
}

/// Has the side that users go to take the place at the ingress; answers as a step does.
///
/// # Errors
/// The journal's; a move that was refused.
pub async fn take_routes(context: &mut Context<'_>, to: Side) -> Answer {
    let wanted = match to {
        Side::Target => context.settings().move_routes,
        Side::Source => routes(context, to).is_some() || routes_by_hand(context.run()?).is_some(),
    };
    if !wanted {
        return Ok(Outcome::Done(Value::Null));
    }
    if routes(context, to).is_none() {
        // Who had which place before a person moved something cannot be seen any more.
        return Ok(Outcome::Done(told(context, to)));
    }
    match attempt(context, Work::Routes { to }).await? {
        Through::Done => serves(context, to).await,
        Through::Guided => Ok(Outcome::Done(told(context, to))),
        through => {
            let why = match through.answer(context) {
                Ok(answer) => return answer,
                Err(why) => why.unwrap_or_default(),
            };
            let commands = by_hand(context, to);
            let reason = format!(
                "routes to the {} wait: {why}; juju config {} --reset controller-credentials leaves them to you; by hand: {}",
                to.name(),
                context.applications.coordinator,
                commands.join(" and then ")
            );
            wait(reason, commands.join("\n"))
        }
    }
}

/// What a person has to type after this flip, where it was left to them.
pub fn routes_by_hand(run: &Run) -> Option<&str> {
    let of = |step| run.output(step, BY_HAND).and_then(Value::as_str);
    of(Step::ReverseFlip).or_else(|| of(Step::Flip).filter(|_| !run.is_done(Step::ReverseFlip)))
}

fn told(context: &Context<'_>, to: Side) -> Value {
    json!({BY_HAND: by_hand(context, to).join("\n")})
}

/// A server learns of its new address by a hook, with which it begins anew.
async fn serves(context: &Context<'_>, to: Side) -> Answer {
    let application = match to {
        Side::Source => &context.applications.source,
        Side::Target => &context.applications.target,
    };
    match observe::server(context.app(), application).health().await {
        Health::Ready { .. } => {
            let ends: Vec<String> = routes(context, to).into_iter().flatten().map(|one| one.end).collect();
            Ok(Outcome::Done(json!({ROUTES: ends})))
        }
        other => wait(format!("the {}'s server is not ready at its new place: {other}", to.name()), ""),
    }
}

fn step(to: Side) -> Step {
    match to {
        Side::Source => Step::ReverseFlip,
        Side::Target => Step::Flip,
    }
}

/// The moves as far as they are: those that go on, else those of the plan, and on the way back from those of the flip that
/// were begun, last to first.
fn routes(context: &Context<'_>, to: Side) -> Option<Vec<Move>> {
    let known = |step| noted::<Vec<Move>>(context, step, ROUTES);
    known(step(to)).or_else(|| match to {
        Side::Target => known(Step::Fence),
        Side::Source => {
            let begun = known(Step::Flip)?.into_iter().rev().filter(Move::is_begun);
            Some(begun.map(|one| one.reversed()).collect())
        }
    })
}

/// As far as is known here.
fn by_hand(context: &Context<'_>, to: Side) -> Vec<String> {
    let moves = routes(context, to).unwrap_or_else(|| {
        let (source, target) = (&context.applications.source.name, &context.applications.target.name);
        // Who comes to it, and who leaves it.
        let (comes, leaves) = if to == Side::Target { (target, source) } else { (source, target) };
        let [own, place] = [comes, leaves].map(|name| format!("<ingress of {name}>"));
        let endpoint = context.app().route_endpoints.first().copied().unwrap_or_default();
        let [comes, leaves] = [comes, leaves].map(|name| format!("{name}:{endpoint}"));
        vec![Move::new(comes, &own, &place), Move::new(leaves, &place, &own)]
    });
    moves.iter().filter(|one| !one.done).flat_map(Move::commands).collect()
}

pub(super) async fn go_on(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    to: Side,
) -> Result<Through, Stop> {
    let status = conductor.status_now(login).await?;
    let mut routes = routes(context, to).unwrap_or_default();
    let begun = routes.iter().any(Move::is_begun) || routes.iter().all(|one| one.stands(&status));
    // Users are with one side already: it does not wait for the other.
    let comes: Vec<Move> = routes.iter().filter(|one| is_of(context.side(to), one)).cloned().collect();
    if !begun && let Some(why) = moves::hindrance(context, conductor, login, &status, &comes).await? {
        return Ok(why);
    }
    while let Some(one) = routes.iter_mut().find(|one| !one.done) {
        if !is_of(context.side(to), one) && moves::absent(&status, one.application()).is_some() {
            log::warn!("{} is gone, and its place with it", one.application());
            one.done = true;
            context.note(step(to), ROUTES, json!(routes)).await?;
            continue;
        }
        match moves::step(conductor, login, &status, one).await? {
            Stepped::Noted => context.note(step(to), ROUTES, json!(routes)).await?,
            Stepped::AtWork(text) => return Ok(Through::AtWork(text)),
            Stepped::Person(why, command) => return Ok(Through::Person(why, command)),
            Stepped::TakenBack(why) => {
                // Begun anew when it is asked for again; what was moved before stays known.
                *one = Move::new(&one.end, &one.from, &one.to);
                context.note(step(to), ROUTES, json!(routes)).await?;
                return Err(refused(context, to, &why).into());
            }
        }
    }
    Ok(Through::Done)
}

/// Whether it is this application that moves.
fn is_of(application: &Application, one: &Move) -> bool {
    one.application() == application.name
}

fn refused(context: &Context<'_>, to: Side, why: &str) -> Failure {
    let action = match to {
        Side::Source => "rollback",
        Side::Target => "flip-traffic",
    };
    let cure = format!("mend that and run {}", context.command(action));
    Failure::operator("move the routes", why, cure).cured_by(context.request.again(action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::KRATOS;

    fn model(relations: &[[&str; 2]]) -> FullStatus {
        let end = |text: &str| {
            let (application, name) = text.split_once(':').unwrap();
            json!({"application": application, "name": name})
        };
        let relations: Vec<Value> = relations.iter().map(|ends| json!({"id": 1, "endpoints": ends.map(end)})).collect();
        serde_json::from_value(json!({"applications": {}, "relations": relations})).unwrap()
    }

    fn commands(relations: &[[&str; 2]]) -> Vec<String> {
        exchange_commands(&model(relations), &KRATOS, "kratos", "green")
    }

    #[test]
    fn both_exchange_their_ingresses_and_the_target_goes_first() {
        let found =
            commands(&[["public:traefik-route", "kratos:public-route"], ["green:public-route", "new:traefik-route"]]);
        let wanted = [
            "juju remove-relation green:public-route new:traefik-route",
            "juju integrate green:public-route public:traefik-route",
            "juju remove-relation kratos:public-route public:traefik-route",
            "juju integrate kratos:public-route new:traefik-route",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn who_has_no_ingress_only_takes_or_leaves_a_place() {
        assert_eq!(commands(&[["green:public-route", "new:traefik-route"]]), Vec::<String>::new());
        let alone = commands(&[["kratos:public-route", "public:traefik-route"]]);
        let wanted = [
            "juju integrate green:public-route public:traefik-route",
            "juju remove-relation kratos:public-route public:traefik-route",
        ];
        assert_eq!(alone, wanted);
        let shared = commands(&[
            ["kratos:public-route", "public:traefik-route"],
            ["green:public-route", "public:traefik-route"],
        ]);
        assert_eq!(shared, wanted[1..]);
    }
}
