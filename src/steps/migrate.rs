//! The target application migrates its schema. Guided: the operator runs the application's own
//! action; its end is read from the database, never from the action's success.

use super::context::{Answer, Context, Outcome, wait};
use super::through_controller::{self, Work};
use super::{follow, messages, observe, prepare};
use crate::apps::{self, Health, Kind, Recognised};
use crate::migration::plan::LATE_ROWS_FIT;
use crate::migration::{Failure, Order, Record, Rehearsed, Run, Status, Step};
use crate::postgres::fence::{self, FenceState, OpenOnlyIf, Opening};
use crate::postgres::reset::{self, Rows};
use crate::postgres::{Error, Session, inspect};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks that must agree before the migration counts as ended.
const SETTLES: Duration = Duration::from_millis(500);

/// The note of when the application's migration was first seen to run, in milliseconds since 1970.
pub const BEGUN: &str = "begun-at";

/// What the target's schema was when its migration counted as ended, in words, in the step's output.
const SCHEMA: &str = "schema";

/// Opens the target for the application's migration, watches for its end, closes the target again.
///
/// # Errors
/// The servers'.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let before = observe::recognise(context.app(), &context.world.source("migrate").await?).await?;
    let Recognised::Release(from) = before else {
        return Err(Failure::operator(
            "migrate the target's schema",
            format!("the source has {before}"),
            "finish the source application's own migration first",
        ));
    };
    // The database moves, the release stays: nothing is migrated, as long as nobody refreshed the target meanwhile.
    if super::refresh::kept_release(context).is_some() {
        return match super::refresh::keepable(context).await? {
            Ok(release) => Ok(Outcome::Done(json!({"from": release, "to": release}))),
            Err(found) => Err(super::refresh::unlike(context, found)),
        };
    }
    let looked = now_ms();
    if let Some(to) = ended(context, &from).await? {
        let seconds = begun_at(context)?.map(|begun| (looked - begun).max(0) as f64 / 1000.0);
        if !is_closed(context).await? {
            context.progress.say("closing the target again");
            prepare::close_target(context, Step::Migrate).await?;
        }
        messages::release(context, &context.world.target("migrate").await?).await?;
        let fits = from == to || apps::pair(context.app(), &from, &to).is_some_and(|pair| pair.earned);
        let schema = observe::recognise(context.app(), &context.world.target("migrate").await?).await?.to_string();
        return Ok(Outcome::Done(
            json!({"from": from, "to": to, SCHEMA: schema, "seconds": seconds, LATE_ROWS_FIT: fits}),
        ));
    }
    if !is_open(context).await? {
        if let Some(waiting) = not_quiet(context).await? {
            return waiting;
        }
        if context.run()?.order == Order::Documented {
            // No apply worker may hold a table while the application alters it.
            follow::stop(context).await?;
        }
        through_controller::forget(context).await?;
        let target = context.world.target("migrate").await?;
        context.live.unmigrated_at = None;
        let begins = observe::recognise(context.app(), &target).await? == Recognised::Release(from.clone());
        // What goes on after it was cut off cannot be measured as a whole.
        let begun = if begins { Value::Null } else { json!("before") };
        if begun != noted_begin(context)? {
            context.note(Step::Migrate, BEGUN, begun).await?;
        }
        let generation = open_generation(context).await?;
        // A subscription that is still enabled here would be a defect of the runbook: then it is refused.
        let only_if = OpenOnlyIf { first: messages::holding(context)?, ..OpenOnlyIf::default() };
        match fence::open_target(&target, &generation, context.epoch, &only_if).await? {
            Opening::Open => {}
            Opening::Refused(found) => return Err(Failure::retry("open the target for its migration", found)),
        }
        context.note(Step::Migrate, "opened-at", json!(now_ms())).await?;
    }
    let seconds = timeout(context, &from).await?;
    let command = command(context, seconds);
    let target = context.world.target("migrate").await?;
    let runs = is_running(context, &target).await?;
    if !runs && observe::recognise(context.app(), &target).await? == Recognised::Release(from.clone()) {
        context.live.unmigrated_at = Some(looked);
    } else if noted_begin(context)?.is_null() {
        context.note(Step::Migrate, BEGUN, json!(looked)).await?;
    }
    // Also while somebody else is connected, who looks like a migration that runs: the unit tells better what it does.
    let through = through_controller::attempt(context, Work::Migrate { timeout: seconds }).await?;
    let refused = match through.answer(context) {
        Ok(answer) => return answer,
        Err(why) => why.map(|why| format!("; {why}")).unwrap_or_default(),
    };
    if runs {
        context.progress.say("the target application's schema migration is running");
        return Ok(Outcome::Again(Duration::from_millis(250)));
    }
    // What could not be seen then shows now.
    let unseen = context.run()?.output(Step::Refresh, super::refresh::UNSEEN).is_some();
    let unseen = match unseen {
        true => {
            format!("; where that changes nothing, it lacks its new revision: {}", super::refresh::command(context))
        }
        false => String::new(),
    };
    let name = &context.applications.target.name;
    let took = context.state.rehearsed.as_ref().and_then(|rehearsed| rehearsed.measured_from(&from));
    let took = took.map(|seconds| format!(" (in the rehearsal that took {seconds:.1} s)")).unwrap_or_default();
    wait(format!("the target application {name} has to migrate its schema{took}{refused}{unseen}"), command)
}

fn noted_begin(context: &Context<'_>) -> Result<Value, Failure> {
    Ok(context.run()?.note(Step::Migrate, BEGUN).cloned().unwrap_or_default())
}

/// When the migration that has ended began: when it was first seen, or, where it was too short for that, when it was seen
/// not to have begun. `None` when nobody looked then.
fn begun_at(context: &Context<'_>) -> Result<Option<i64>, Failure> {
    match noted_begin(context)? {
        Value::Null => Ok(context.live.unmigrated_at),
        noted => Ok(noted.as_i64()),
    }
}

/// Has the target application migrate its schema within so many seconds.
pub(super) fn command(context: &Context<'_>, timeout: u64) -> String {
    let target = &context.applications.target;
    let (flag, name, wait) = (target.model_flag(), &target.name, timeout + 60);
    format!("juju run {flag}{name}/leader run-migration timeout={timeout} --wait={wait}s")
}

/// The release whose schema the target has now, once its migration ended: the versions are a known
/// release's (or the new server serves), and nobody migrates any more.
pub(super) async fn ended(context: &mut Context<'_>, from: &str) -> Result<Option<String>, Failure> {
    let session = context.world.target("migrate").await?;
    let first = observe::schema_versions(context.app(), &session).await?;
    let Recognised::Release(to) = context.app().recognise(&first) else {
        // A release that we do not know counts as reached only when its own server says so.
        return Ok(match observe::target_health(context).await {
            Health::Ready { version } if version != from => Some(version),
            _ => None,
        });
    };
    if to == from {
        return Ok(None);
    }
    // The person who was waited for has done it.
    context.progress.update(|p| {
        p.waiting = None;
        p.text = "looking whether the schema migration has ended".to_owned();
    });
    // A task of ours that ended well tells more than who is connected.
    if context.live.looks_after_task == 0 && is_running(context, &session).await? {
        return Ok(None);
    }
    tokio::time::sleep(SETTLES).await;
    let settled = observe::schema_versions(context.app(), &session).await? == first;
    Ok(settled.then_some(to))
}

/// True while the application's migration runs: somebody is connected, and it is not the application's server, for
/// nobody answers there. A server that waits on the old schema is connected too, and would be waited for in vain.
///
/// # Errors
/// The server's.
pub async fn is_running(context: &Context<'_>, target: &Session) -> Result<bool, Failure> {
    Ok(observe::others_connected(target).await? && matches!(observe::target_health(context).await, Health::Down(_)))
}

/// Closes a target that was opened for a migration which has ended since.
///
/// # Errors
/// The servers'.
pub async fn close_if_ended(context: &mut Context<'_>) -> Result<(), Failure> {
    if let Recognised::Release(from) =
        observe::recognise(context.app(), &context.world.source("migrate").await?).await?
        && !is_closed(context).await?
        && ended(context, &from).await?.is_some()
    {
        prepare::close_target(context, Step::Migrate).await?;
    }
    Ok(())
}

/// A migration that was cut off exactly at a release on its way looks like one that ended there. Run again, it is known
/// by the schema, which went on: the target opens for it once more.
///
/// # Errors
/// The server's.
pub async fn went_on(context: &Context<'_>, run: &Run, target: &Session) -> Result<Option<Record>, Failure> {
    // Once the new server passed, nothing is left to migrate; before it, only what ended can go on.
    if !run.is_done(Step::Migrate) || run.is_done(Step::Gates) || run.keeps.is_some() {
        return Ok(None);
    }
    let found = observe::recognise(context.app(), target).await?.to_string();
    let Some(before) = run.output(Step::Migrate, SCHEMA).and_then(Value::as_str).filter(|before| *before != found)
    else {
        return Ok(None);
    };
    let step = match run.order {
        Order::Documented if !run.rehearsing => Step::Migrate,
        // The subscription runs again by now.
        Order::Documented | Order::MigrateFirst | Order::InPlace => Step::Pause,
    };
    let reason = format!("the target had {before} when its schema migration seemed to have ended, and has {found}");
    Ok(Some(Record::Lost { step, reason }))
}

/// What else may be the cause where the target's server does not come: nothing tells a migration that was cut off at a
/// release on its way from one that ends there.
pub fn perhaps_cut_off(context: &Context<'_>, reached: &str) -> String {
    let newest = context.app().releases().last().is_some_and(|newest| newest.is(reached));
    let kept = super::refresh::kept_release(context).is_some();
    match newest || kept || context.app().release_of(reached).is_none() {
        true => String::new(),
        false => {
            format!("; only if its new release is later than {reached}, its run-migration was cut off: run it again")
        }
    }
}

/// Before the target follows again after a fence that was lifted in the documented order: its own migration must
/// have ended, the target must be closed, and late rows must be known to fit the new schema.
///
/// # Errors
/// The servers'; a pair of releases whose late rows are not known to fit.
pub async fn settle(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    if context.run()?.status(Step::Migrate) != Status::Lost {
        return Ok(None);
    }
    close_if_ended(context).await?;
    let source = context.world.source("follow").await?;
    let target = context.world.target("follow").await?;
    let (from, to) =
        (observe::recognise(context.app(), &source).await?, observe::recognise(context.app(), &target).await?);
    if !is_closed(context).await? {
        if observe::schema_versions(context.app(), &source).await?
            != observe::schema_versions(context.app(), &target).await?
            || is_running(context, &target).await?
        {
            // Whoever else is connected looks like a migration that runs; run to its end, it is known to be over.
            let next = match &from {
                Recognised::Release(from) => command(context, timeout(context, from).await?),
                _ => String::new(),
            };
            return Ok(Some(wait("the target application has not ended its schema migration", next)));
        }
        prepare::close_target(context, Step::Migrate).await?;
    }
    messages::release(context, &target).await?;
    match (from, to) {
        (Recognised::Release(from), Recognised::Release(to)) if from != to => {
            super::catch_up::install_fills(context, &from, &to).await.map(|()| None)
        }
        (Recognised::Release(_), Recognised::Release(_)) => Ok(None),
        (from, to) => Err(Failure::operator(
            "follow on",
            format!("the source has {from}, the target {to}, and late rows are not known to fit"),
            format!("run {}, then start again", context.command("rollback")),
        )),
    }
}

/// The target's server may still run as before a rollback or a rehearsal's end. Known before the fence, that is no matter
/// for an outage.
///
/// # Errors
/// The journal's.
pub async fn must_restart(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    let version = match observe::target_health(context).await {
        Health::Ready { version } if serves_new_release(context, &version).await => version,
        _ => return Ok(None),
    };
    let through = match context.app().kind {
        Kind::Kratos => through_controller::attempt(context, Work::Restart).await?.answer(context),
        Kind::Hydra => Err(None),
    };
    let typed = |why: Option<String>| {
        let refused = why.map(|why| format!("; {why}")).unwrap_or_default();
        let reason = format!(
            "the target's server still runs as before a rollback or a rehearsal's end (release {version}) and could write; \
             restart it, so that it finds its schema old and waits{refused}"
        );
        wait(reason, observe::restart_command(context))
    };
    Ok(Some(through.unwrap_or_else(typed)))
}

/// The target may be opened only while its own server cannot write.
async fn not_quiet(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    if let Some(waiting) = must_restart(context).await? {
        return Ok(Some(waiting));
    }
    Ok(match observe::target_health(context).await {
        Health::Down(_) | Health::NotReady { .. } => None,
        Health::Ready { version } => Some(wait(
            format!("the target application {} still serves release {version}", context.applications.target.name),
            super::refresh::command(context),
        )),
    })
}

/// The refresh was made already: another one would change nothing.
async fn serves_new_release(context: &Context<'_>, version: &str) -> bool {
    let Ok(source) = context.world.source("migrate").await else { return false };
    let app = context.app();
    match observe::recognise(app, &source).await {
        Ok(Recognised::Release(from)) => app.release_of(version).is_some() && !app.serves(version, &from),
        _ => false,
    }
}

/// True when every table of the target refuses writes. A close that was cut off is not one: its row says closed
/// before its triggers are there.
pub(super) async fn is_closed(context: &Context<'_>) -> Result<bool, Failure> {
    let target = context.world.target("migrate").await?;
    Ok(!is_open(context).await? && observe::unfenced_target(&target).await?.is_empty())
}

async fn is_open(context: &Context<'_>) -> Result<bool, Failure> {
    let target = context.world.target("migrate").await?;
    Ok(fence::latest(&target).await?.first().is_some_and(|latest| latest.state == FenceState::Open))
}

async fn open_generation(context: &Context<'_>) -> Result<String, Failure> {
    let target = context.world.target("migrate").await?;
    fence::latest(&target).await?.into_iter().next().map(|latest| latest.generation).ok_or_else(|| {
        Failure::operator(
            "open the target for its migration",
            "the target was never closed",
            "run rollback and start again",
        )
    })
}

/// What the operator asked for, else what a rehearsal measured, else the estimate from the data.
pub async fn timeout(context: &Context<'_>, from: &str) -> Result<u64, Failure> {
    if context.request.migration_timeout > 0 {
        return Ok(context.request.migration_timeout);
    }
    let source = context.world.source("estimate").await?;
    let tables = inspect::tables(&source).await?;
    let rows =
        |name: &str| tables.iter().filter(|t| t.name.name == name).map(|t| t.estimated_rows.unwrap_or(0)).sum::<u64>();
    let all = tables.iter().map(|t| t.estimated_rows.unwrap_or(0)).sum();
    // Where to is not known before it is there: the longest road.
    let to = apps::earned_from(context.app(), from).last().map_or("", |pair| pair.to);
    let estimate = context.app().migration_seconds(from, to, rows, all);
    let run = context.state.active().map(|run| run.id.as_str());
    Ok(granted(context.state.rehearsed.as_ref(), from, run, estimate))
}

/// Seconds to give the schema migration: what this very run measured in a rehearsal; what another one did may only make
/// the estimate longer, for it may have gone to another release, or had fewer rows.
pub fn granted(rehearsed: Option<&Rehearsed>, from: &str, run: Option<&str>, estimate: u64) -> u64 {
    let measured = rehearsed.and_then(|rehearsed| rehearsed.measured_from(from)).map(apps::granted_seconds);
    match measured {
        Some(measured) if rehearsed.is_some_and(|rehearsed| rehearsed.is_of(run)) => measured,
        Some(measured) => measured.max(estimate),
        None => estimate,
    }
}

/// Gives the target the source's schema back: emptied by then or soon, it is altered, not refilled.
///
/// # Errors
/// The servers'; a difference that cannot be taken back.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    let source = context.world.source("undo").await?;
    let target = context.world.target("undo").await?;
    if observe::schema_versions(context.app(), &source).await?
        == observe::schema_versions(context.app(), &target).await?
    {
        return Ok(Outcome::Done(serde_json::Value::Null));
    }
    follow::drop_subscription(context).await?;
    if !is_closed(context).await? {
        if is_running(context, &target).await? {
            return wait("the target application's schema migration is still running", "");
        }
        prepare::close_target(context, Step::Migrate).await?;
    }
    context.progress.say("giving the target the source's schema back");
    give_schema_back(context, &source, &target, Rows::Emptied).await?;
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// Has the target's schema be the source's again.
///
/// # Errors
/// The servers'; a difference that cannot be taken back; with [`Rows::Kept`] rows that do not fit.
pub(super) async fn give_schema_back(
    context: &Context<'_>,
    source: &Session,
    target: &Session,
    rows: Rows,
) -> Result<(), Error> {
    let (app, definitions) = (context.app(), super::copy::noted_definitions(context).unwrap_or_default());
    reset::make_like(source, target, &definitions, (app.migration_table, app.seeded_tables), rows).await
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
