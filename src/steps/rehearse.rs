//! A rehearsal: the application's schema migration on the copy, timed and proven, and then taken back. Users notice
//! nothing of it. How it begins is how every schema migration begins, in `follow` and `migrate`; here are its proof and
//! its end.

use super::context::{Answer, Context, Outcome, wait};
use super::copy::SLOT_ENDS;
use super::prepare::{self, forward};
use super::{catch_up, follow, messages, migrate, observe, repair, verify};
use crate::apps::{self, Recognised, fills};
use crate::migration::{Failure, Run, Step};
use crate::postgres::reset::Rows;
use crate::postgres::{Error, Session, slot};
use serde_json::{Value, json};

/// Compares the migrated copy with the source while it follows, by the rules of the pair of releases.
///
/// # Errors
/// The servers'; rows that differ, or are not filled as the pair has it.
pub async fn prove(context: &mut Context<'_>) -> Answer {
    let (from, to) = catch_up::releases(context);
    if let Some(pair) = apps::pair(context.app(), &from, &to) {
        catch_up::refuse_unfilled(context, pair).await?;
    }
    context.progress.say("comparing every row with the source");
    let verdict = verify::online(context.world, context.run()?).await?;
    if verdict.rows_different > 0 {
        let cure = format!(
            "look at these rows on both sides, then run {}, which compares again, or {}, which makes the target anew",
            context.command("rehearse"),
            context.command("replicate")
        );
        return Err(Failure::operator("trust the migration", verify::describe(&verdict), cure));
    }
    Ok(Outcome::Done(json!({"rows-verified": verdict.rows_verified})))
}

/// Gives the target the source's schema back; its rows stay where they fit. Subscription and slot go: the copy, which
/// comes next, proves what is left of the rows in a new slot's snapshot and mends it, or copies everything anew.
///
/// # Errors
/// The servers'; a difference that cannot be taken back.
pub async fn reset(context: &mut Context<'_>) -> Answer {
    let (source, target) = (context.world.source("reset").await?, context.world.target("reset").await?);
    if !migrate::is_closed(context).await? {
        if migrate::is_running(context, &target).await? {
            return wait(
                "the target application's schema migration still runs; the target is reset when it has ended",
                "",
            );
        }
        prepare::close_target(context, Step::Migrate).await?;
    }
    messages::release(context, &target).await?;
    context.progress.say("giving the target the source's schema back");
    follow::drop_subscription(context).await?;
    slot::drop_slot(&source, &forward(context)?, SLOT_ENDS).await?;
    remove_fills(context, &source, &target).await?;
    let versions = observe::schema_versions(context.app(), &source).await?;
    if versions != observe::schema_versions(context.app(), &target).await? {
        give_back(context, &source, &target).await?;
    }
    Ok(Outcome::Done(measured(context.run()?)))
}

/// With the rows where they fit the old schema, else without.
async fn give_back(context: &mut Context<'_>, source: &Session, target: &Session) -> Result<(), Failure> {
    if repair::holds_whole(context.run()?) {
        match migrate::give_schema_back(context, source, target, Rows::Kept).await {
            Err(error) if is_about_rows(&error) => {
                log::info!("the rows do not fit the source's schema any more, so everything is copied anew: {error}");
            }
            ended => return Ok(ended?),
        }
        repair::forget_whole(context).await?;
    }
    Ok(migrate::give_schema_back(context, source, target, Rows::Emptied).await?)
}

/// What the server refuses for the rows' sake: values, constraints, what hangs on a column.
fn is_about_rows(error: &Error) -> bool {
    let of = |class: &str| error.sqlstate().is_some_and(|state| state.code().starts_with(class));
    ["22", "23", "2B", "42", "0A"].into_iter().any(of)
}

/// Removes the fills of every road that leads on from the source's release: which one was taken may be forgotten.
async fn remove_fills(context: &Context<'_>, source: &Session, target: &Session) -> Result<(), Failure> {
    let Recognised::Release(from) = observe::recognise(context.app(), source).await? else { return Ok(()) };
    let pairs = apps::earned_from(context.app(), &from);
    for statement in pairs.iter().flat_map(|pair| fills::remove(pair.fills, "public")) {
        let removed = target.batch_execute(&statement).await;
        removed.map_err(Error::doing(format!("remove a fill from {}", target.address)))?;
    }
    Ok(())
}

/// What the rehearsal tells from now on; null for one that did not pass the gates.
fn measured(run: &Run) -> Value {
    let gates = run.steps.get(&Step::Gates).and_then(|gates| gates.done);
    let proven = run.output(Step::Prove, "rows-verified");
    let fits = run.output(Step::Migrate, crate::migration::plan::LATE_ROWS_FIT).and_then(Value::as_bool);
    let Some(passed) = gates.filter(|_| proven.is_some() || fits == Some(false)) else { return Value::Null };
    let of = |name: &str| run.output(Step::Migrate, name).cloned().unwrap_or_default();
    let seconds = of("seconds").as_f64();
    let begun = run.note(Step::Migrate, migrate::BEGUN).and_then(Value::as_i64);
    let ended = run.steps.get(&Step::Migrate).and_then(|migrate| migrate.done);
    // One that was too short to be seen began as long before its end as it took.
    let begun = begun.or_else(|| Some(ended? - (seconds? * 1000.0) as i64));
    json!({
        "from": of("from"),
        "to": of("to"),
        "migration-seconds": seconds,
        "serving-seconds": begun.filter(|_| seconds.is_some()).map(|begun| (passed - begun).max(0) as f64 / 1000.0),
        "rows-verified": proven,
    })
}
