//! Backups at the critical points of a run, where the operator demands them (option `backup-gates`).

use super::context::{Answer, Context, Outcome, wait};
use super::through_controller::{BackUp, BackUpKind, Through, Work, attempt};
use crate::migration::{BackupGates, Failure, Order, Run, Side, Step};
use serde_json::Value;
use std::time::Duration;

/// A backup that was begun this long before is new enough to begin with, in milliseconds.
pub(super) const NEW_ENOUGH: i64 = 24 * 3600 * 1000;

/// The backup that must stand before this step: of which side, and begun since when, in milliseconds since 1970.
fn due(step: Step, run: &Run, gates: BackupGates) -> Option<(Side, i64)> {
    let done = |step: Step| run.steps.get(&step).and_then(|state| state.done).unwrap_or(run.started);
    // In place the action itself asks for one, and takes the operator's word that none is needed.
    if run.rehearsing || run.is_in_place() || gates == BackupGates::Off {
        return None;
    }
    match (step, run.order) {
        (Step::Preflight, _) => Some((Side::Source, run.started - NEW_ENOUGH)),
        _ if gates == BackupGates::Start => None,
        // The source as it was left.
        (Step::Migrate, Order::Documented) | (Step::HandOver, Order::MigrateFirst) => {
            Some((Side::Source, done(Step::Drain)))
        }
        // The target as it is before users come. Before the fence nobody waits for it.
        (Step::WayBack, Order::MigrateFirst) | (Step::HandOver, Order::Documented) => {
            Some((Side::Target, done(Step::Gates)))
        }
        _ => None,
    }
}

/// Whether the backup stands that a step must have before it begins: done when it does, or none is wanted.
///
/// # Errors
/// The journal's; a backup that failed.
pub async fn gate(step: Step, context: &mut Context<'_>) -> Answer {
    let stands = Ok(Outcome::Done(Value::Null));
    let Some((side, since)) = due(step, context.run()?, context.settings().backup_gates) else { return stands };
    let known = BackUp::known(context.state, side);
    if known.as_ref().is_some_and(|known| known.stands() && known.begun >= since) {
        return stands;
    }
    let failed = known.as_ref().filter(|known| known.request >= context.state.request_seq);
    if let Some(why) = failed.and_then(|known| known.ended.as_ref()?.failure.clone()) {
        let again = context.command(&context.request.again(&context.request.action));
        let cure = format!("mend that, then run {again}, or set backup-gates=off");
        return Err(Failure::operator(format!("{} without a backup", step.describe()), why, cure));
    }
    let begin = known.is_none_or(|known| !known.is_under_way());
    let why = match attempt(context, Work::BackUp { side, kind: BackUpKind::Full, begin }).await? {
        Through::AtWork(text) => {
            context.progress.say(format!("before the next step: {text}"));
            return Ok(Outcome::Again(Duration::from_secs(1)));
        }
        Through::Done => return Ok(Outcome::Again(Duration::ZERO)),
        Through::Person(reason, next) => return wait(reason, next),
        Through::Guided => String::new(),
        Through::Cannot(why) => format!("; {why}"),
    };
    let reason = format!("a backup of the {} is wanted before the next step ({}){why}", side.name(), step.describe());
    wait(reason, by_hand(context, side))
}

/// What a person types where the controller is not asked.
pub fn by_hand(context: &Context<'_>, side: Side) -> String {
    // Of another model we know the name that it has here, which no unit has there.
    let postgresql = match (context.postgresql(side), &context.side(side).postgresql_model) {
        (_, Some(model)) => format!("-m {model} <PostgreSQL>"),
        ("", None) => "<PostgreSQL>".to_owned(),
        (name, None) => name.to_owned(),
    };
    let taken = context.command(&format!("back-up side={} taken=true", side.name()));
    format!("juju run {postgresql}/<unit, on 16 and with TLS not the primary> create-backup type=full\n{taken}")
}
