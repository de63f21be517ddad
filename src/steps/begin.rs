//! How a run begins: the order is chosen, then everything is checked before anything is touched.

use super::context::{Answer, BY_ITSELF, Context, Outcome};
use super::observe;
use super::preflight::{self, ChosenOrder, Ends, Finding, Look, Verdict};
use super::through_controller::Credentials;
use super::world::{Application, Applications, World};
use crate::apps::{Health, Recognised};
use crate::migration::{Class, Failure, Goal, Order, OrderChoice, Record, Settings, Verification};
use crate::postgres::UNREACHABLE_CURE;
use crate::postgres::names::RunId;
use crate::postgres::patroni::PORT;
use serde_json::json;

/// Chooses the order and names the run.
///
/// # Errors
/// The servers'; an order that the source's release does not allow.
pub async fn begin(context: &mut Context<'_>) -> Result<Record, Failure> {
    if context.request.goal == Goal::UpgradedInPlace {
        return Ok(Record::RunStarted {
            run: RunId::random().as_str().to_owned(),
            order: Order::InPlace,
            strict: false,
            reason: "the one application there is keeps its database".to_owned(),
            keeps: None,
        });
    }
    let order = context.settings().order;
    let (chosen, keeps) = if context.request.keep_release {
        let release =
            super::refresh::keepable(context).await?.map_err(|found| super::refresh::unlike(context, found))?;
        (preflight::keeping(order), Some(release))
    } else {
        (choose(context, order).await?, None)
    };
    Ok(Record::RunStarted {
        run: RunId::random().as_str().to_owned(),
        order: chosen.order,
        strict: context.settings().verification == Verification::Strict,
        reason: chosen.reason,
        keeps,
    })
}

/// The order between the source's release and what the target's server runs.
async fn choose(context: &Context<'_>, order: OrderChoice) -> Result<ChosenOrder, Failure> {
    let from = match observe::recognise(context.app(), &context.world.source("begin").await?).await? {
        Recognised::Release(name) => Some(name),
        _ => None,
    };
    let to = match observe::target_health(context).await {
        Health::Ready { version } => Some(version),
        _ => None,
    };
    preflight::choose(context.app(), order, from.as_deref(), to.as_deref()).map_err(|found| {
        Failure::operator("begin in the migrate-first order", found, "set the option order to auto or documented")
    })
}

/// Where `preflight` looks.
pub fn look(world: &World, applications: &Applications, settings: &Settings, run: Option<String>) -> Look {
    let server = |application: &Application| {
        (!application.admin_endpoint.is_empty()).then(|| observe::server(world.app, application))
    };
    Look {
        app: world.app,
        source: world.source.clone(),
        source_database: world.source_database.clone(),
        target: world.target.clone(),
        target_database: world.target_database.clone(),
        source_app: server(&applications.source),
        target_app: server(&applications.target),
        source_patroni: PORT,
        target_patroni: PORT,
        settings: settings.clone(),
        keep_release: false,
        rehearsed: None,
        run,
        coordinator: applications.coordinator.clone(),
        target_application: format!("{}{}", applications.target.model_flag(), applications.target.name),
        ends: Ends::default(),
        controller: Credentials::NotGiven,
    }
}

/// The checks of `preflight`, before anything is touched.
///
/// # Errors
/// The first check that failed, with its cure.
pub async fn check(context: &mut Context<'_>) -> Answer {
    context.progress.say("checking both sides");
    let run = Some(context.run()?).filter(|run| run.has_touched()).map(|run| run.id.clone());
    let keep_release = super::refresh::kept_release(context).is_some();
    let rehearsed = context.state.rehearsed.clone();
    let look = Look { keep_release, rehearsed, ..look(context.world, context.applications, context.settings(), run) };
    let findings = &preflight::preflight(look).await;
    judged(context, findings)
}

/// The first check that failed ends what was begun.
///
/// # Errors
/// That check, with its cure.
pub(super) fn judged(context: &Context<'_>, findings: &[Finding]) -> Answer {
    if let Some(first) = findings.iter().find(|finding| finding.verdict == Verdict::Fail) {
        let failed = preflight::failed(findings);
        if findings.iter().filter(|finding| finding.verdict == Verdict::Fail).all(|finding| finding.heals) {
            let sentence = format!("cannot begin: {}; {UNREACHABLE_CURE}{BY_ITSELF}", first.found);
            return Err(Failure::new(sentence, Class::Retry));
        }
        return Err(Failure::operator(
            "begin",
            format!("{} ({failed} of {} checks failed)", first.found, findings.len()),
            format!("{}; see {} for all", first.cure, context.command("preflight")),
        )
        .cured_by("preflight"));
    }
    Ok(Outcome::Done(json!({"checks": findings.len(), "checks-warned": preflight::warned(findings)})))
}
