//! Watching a request for a while. The work goes on in the worker; killing the action harms nothing,
//! and running it again goes on watching.

use super::desk::{Desk, Reply};
use super::{Journal, broker, keep_worker, retire, status};
use crate::migration::journal::Request;
use crate::migration::{Goal, IN_PLACE, Order, Phase, Progress, Run, State, Step, Traffic, plan};
use crate::postgres::UNREACHABLE_CURE;
use crate::steps::gates::WARNINGS;
use crate::steps::mend::MENDED;
use crate::steps::refresh::UNSEEN;
use crate::steps::through_controller::{Between, between, moved, routes_by_hand};
use crate::worker::control;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How often a new progress line is shown.
const LINES: Duration = Duration::from_secs(2);

/// Without a wait a request is watched this long, so that what is already true, or waits for a person, is said
/// at once.
const AT_LEAST: Duration = Duration::from_secs(4);

/// How often the worker is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// By then what the progress says is about this request, and not about what was true before it.
const CURRENT: Duration = Duration::from_secs(2);

/// A server that does not answer for this long is told, and the action ends; the worker goes on trying.
const UNREACHABLE: Duration = Duration::from_secs(4);

/// Watches until the request is settled, waits for a person, or the time is over.
///
/// # Errors
/// A hook tool's.
pub async fn watch(desk: &Desk<'_>, request: &Request, journal: &mut Journal, wait: Duration) -> anyhow::Result<Reply> {
    let began = Instant::now();
    let wait = match (request.action.as_str(), wait.as_secs()) {
        ("run-migration" | IN_PLACE, 0) if request.migration_timeout > 0 => {
            Duration::from_secs(request.migration_timeout + 300)
        }
        ("run-migration" | IN_PLACE, 0) => Duration::from_secs(1200),
        (_, 0) => AT_LEAST,
        _ => wait,
    };
    let mut looked_after = began;
    // What was said before this request is not about it.
    let mut shown = line(&journal.state, &journal.progress);
    let mut shown_at = began.checked_sub(LINES).unwrap_or(began);
    let mut unreachable = None;
    loop {
        if let Err(sentence) = journal.refresh(desk.gathered).await {
            // The request stands; only this look at it is over.
            let next = desk.command(&request.again(&request.action));
            return Ok(Reply { outcome: "waiting", message: sentence, next, more: BTreeMap::new() });
        }
        let state = &journal.state;
        let wanted = broker::wanted(&desk.gathered.memory, Some(state));
        if wanted.is_some_and(|side| state.active().is_some_and(|run| broker::is_news(run, side)))
            && let Some(record) = broker::tell(desk.tools, desk.gathered, Some(state))?
            && journal.append(desk.gathered, &record).await.is_ok()
        {
            continue;
        }
        let (state, progress) = (&journal.state, &journal.progress);
        if state.request.is_none() && (settled(request, state) || state.failure.is_some()) {
            // What is told beside the rest is not worth a failure.
            let traffic = journal.store.traffic().await.unwrap_or_default();
            return Ok(ended(desk, request, journal, &traffic));
        }
        if let Some(waiting) = &progress.waiting
            && state.request.is_some()
            && !waiting.next.is_empty()
            && began.elapsed() > CURRENT
        {
            return Ok(Reply {
                outcome: "waiting",
                message: waiting.reason.clone(),
                next: waiting.next.clone(),
                more: figures(state, progress),
            });
        }
        // No hook comes while an action runs: what hooks do for the worker is done here.
        if looked_after.elapsed() >= LOOK_AFTER {
            looked_after = Instant::now();
            if !desk.tools.is_leader()? {
                control::stop(&desk.context.charm_dir)?;
                let sentence = format!(
                    "cannot watch {}: {} does not lead any more; run it again, on the new leader",
                    request.action, desk.context.unit
                );
                return Ok(Reply::failed(sentence, desk.command(&request.action)));
            }
            keep_worker(desk.context, desk.gathered, Some(&journal.state))?;
        }
        let line = line(state, progress);
        if line != shown && shown_at.elapsed() >= LINES {
            desk.tools.log_progress(&line)?;
            shown = line;
            shown_at = Instant::now();
        }
        let since = match &progress.trouble {
            Some(trouble) if trouble.contains(UNREACHABLE_CURE) => *unreachable.get_or_insert_with(Instant::now),
            _ => {
                unreachable = None;
                Instant::now()
            }
        };
        if began.elapsed() >= wait || since.elapsed() >= UNREACHABLE {
            return Ok(still(desk, request, state, progress));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Settled, and what the action promised beside it is there too.
fn settled(request: &Request, state: &State) -> bool {
    // The comparison runs beside the hand-over; drain promises its result.
    let compares = request.goal == Goal::Drained
        && state.active().is_some_and(|run| run.is_done(Step::Snapshot) && !run.is_done(Step::Verify));
    !compares
}

/// The phase, and whether what goes on there is only tried.
pub fn place(state: &State) -> String {
    match state.active().is_some_and(|run| run.rehearsing) {
        true => format!("{}, a rehearsal", state.phase()),
        false => state.phase().to_string(),
    }
}

/// A line of progress.
fn line(state: &State, progress: &Progress) -> String {
    let text = match (&progress.waiting, &progress.trouble) {
        (Some(waiting), _) => &waiting.reason,
        (None, Some(trouble)) => trouble,
        (None, None) => &progress.text,
    };
    let text = if text.is_empty() { &progress.step } else { text };
    format!("{}: {}", place(state), if text.is_empty() { "starting" } else { text })
}

/// The request came to its end.
fn ended(desk: &Desk<'_>, request: &Request, journal: &Journal, traffic: &Traffic) -> Reply {
    let state = &journal.state;
    if request.goal == Goal::Finalized && state.failure.is_none() {
        return finalized(desk, Some(journal));
    }
    let mut more = figures(state, &journal.progress);
    if let Some(failure) = &state.failure {
        let next = desk.command(&status::after_failure(Some(request), state));
        return Reply { more, ..Reply::failed(failure.sentence.clone(), next) };
    }
    let nobody = desk.tells_nobody().filter(|_| request.goal == Goal::Flipped).unwrap_or_default();
    let mut message = format!("{}{nobody}", sentence(request, state));
    if request.goal == Goal::Rehearsed
        && let (Some(run), Some(rehearsed)) = (state.active(), &state.rehearsed)
    {
        message = format!("{message}: {}", rehearsed.describe(run.order, traffic));
        more.extend(rehearsed.figures(run.order, traffic));
    }
    if let Some(commands) = state.run.as_ref().and_then(routes_by_hand).filter(|_| is_flip(request.goal)) {
        message =
            format!("{message}; then type what routes-by-hand has, so that users who come through an ingress follow");
        more.insert("routes-by-hand".to_owned(), commands.to_owned());
    }
    // A move of consumers that a rollback took the place of.
    if let Some(Between { consumer, action, .. }) = between(state) {
        let next = desk.command(action);
        message = format!("{message}; mind: {consumer} is between two relations, as adopt left it");
        return Reply { outcome: "done", message, next, more };
    }
    Reply { outcome: "done", message, next: desk.next(plan::usual_next(state)), more }
}

/// Whether users are on another side afterwards.
fn is_flip(goal: Goal) -> bool {
    matches!(goal, Goal::Flipped | Goal::RolledBack)
}

/// Everything is done: what is left is for a person, first to take the source away, and later the coordinator.
pub fn finalized(desk: &Desk<'_>, journal: Option<&Journal>) -> Reply {
    let mut more = journal.map(|journal| figures(&journal.state, &journal.progress)).unwrap_or_default();
    let source = retire::source(desk.context, desk.gathered);
    let coordinator = retire::coordinator(desk.tools, desk.context, desk.gathered);
    more.insert("remove-coordinator".to_owned(), coordinator.join("\n"));
    let kept = if more.contains_key("remove-source-fence") {
        "; the source stays closed: only the statements in remove-source-fence, run there, would open it again"
    } else {
        ""
    };
    Reply {
        outcome: "done",
        message: format!("nothing of ours is left and the way back is closed{kept}"),
        next: if source.is_empty() { coordinator } else { source }.join("\n"),
        more,
    }
}

/// The time is over; the work is not.
fn still(desk: &Desk<'_>, request: &Request, state: &State, progress: &Progress) -> Reply {
    let (outcome, message) = match (&progress.waiting, &progress.trouble) {
        (Some(waiting), _) => ("waiting", waiting.reason.clone()),
        (None, Some(trouble)) => ("waiting", trouble.clone()),
        (None, None) => ("running", line(state, progress)),
    };
    let next = progress.waiting.as_ref().map(|w| w.next.clone()).filter(|next| !next.is_empty());
    Reply {
        outcome,
        message,
        next: next.unwrap_or_else(|| desk.command(&request.again(&request.action))),
        more: figures(state, progress),
    }
}

/// What was reached, in one sentence.
pub fn sentence(request: &Request, state: &State) -> String {
    let run = state.run.as_ref();
    let kept = run.and_then(|run| run.keeps.as_deref());
    match request.goal {
        Goal::Refreshed => match kept {
            Some(release) => format!("the target application keeps the source's release, {release}"),
            None if run.is_some_and(|run| run.output(Step::Refresh, UNSEEN).is_some()) => {
                "the target application is down, as a Hydra is until it has a public-route and a login UI, so nothing tells \
                 whether it has its new revision; refresh it before its run-migration, which does nothing at the old one"
                    .into()
            }
            None => "the target application has its new revision".into(),
        },
        Goal::Following if run.is_some_and(|run| run.phase == Phase::Flipped) => {
            let mended = run.and_then(|run| run.note(Step::WayBack, MENDED));
            let rows = |name: &str| mended.and_then(|mended| mended.get(name)).and_then(Value::as_u64).unwrap_or(0);
            format!(
                "new writes flow back to the source again ({} rows were deleted there and {} written); rollback leads \
                 back until finalize",
                rows("rows-deleted"),
                rows("rows-copied")
            )
        }
        Goal::Following => "the target follows the source".into(),
        Goal::Adopted => match (moved(state).as_slice(), request.undo) {
            ([], false) => "every consumer in this model takes its address from here already".into(),
            ([], true) => "no consumer takes its address from here".into(),
            (moved, false) => format!("{} take their address from here now, so that a flip reaches them", moved.join(", ")),
            (moved, true) => format!("{} take their address from the identity application itself again", moved.join(", ")),
        },
        Goal::Rehearsed => "the upgrade was rehearsed, and the target follows the source again as before".into(),
        Goal::Migrated => {
            let schema = match kept {
                Some(_) => "the target keeps the source's schema, and",
                None => "the target's schema is migrated and",
            };
            let mind = match run.map(warnings).unwrap_or_default().as_slice() {
                [] => String::new(),
                [one] => format!("; mind: {one}"),
                [first, rest @ ..] => format!("; mind: {first}; and {} more in warnings", rest.len()),
            };
            format!("{schema} its server passed every gate{mind}")
        }
        Goal::Drained if run.is_some_and(|r| r.order == Order::Documented && !r.is_done(Step::Migrate)) => {
            "writes are stopped and the target has everything; migrate its schema within the lease".into()
        }
        Goal::Drained => "writes are stopped and the target has everything".into(),
        Goal::Flipped => match run.map(Run::way_back) {
            Some(Err(reason)) => {
                format!("the target takes writes and consumers are pointed at it; there is no way back: {reason}")
            }
            _ => "the target takes writes and consumers are pointed at it; rollback leads back until finalize".into(),
        },
        Goal::RolledBack if run.is_some_and(|run| run.is_done(Step::ReverseFlip)) => {
            "users are back on the source with everything they wrote on the target, nothing of ours is left in either \
             database"
                .into()
        }
        Goal::RolledBack if run.is_some_and(|run| run.is_in_place() && run.upgraded().is_none()) => {
            "the application serves the release that it had, and its schema was not touched".into()
        }
        Goal::RolledBack if state.void.is_some() => {
            "the source takes writes, nothing of ours is left in either database; the journal was lost and begins anew"
                .into()
        }
        Goal::RolledBack if run.is_none() => "nothing was begun here, so there is nothing to undo".into(),
        Goal::RolledBack => "the source takes writes, nothing of ours is left in either database".into(),
        Goal::Finalized => "nothing of ours is left; the way back is closed".into(),
        Goal::UpgradedInPlace => match run.and_then(Run::upgraded) {
            Some((from, to)) => {
                let task = run.and_then(|run| run.output(Step::Migrate, "task")).and_then(Value::as_str);
                let task = task.map(|task| format!("; {task} tells of its run-migration")).unwrap_or_default();
                format!("the application was upgraded in place from {from} to {to}, and its server passed every gate{task}")
            }
            None => "the application has its new release".into(),
        },
    }
}

/// What the gates let pass and a person should know.
pub fn warnings(run: &Run) -> Vec<&str> {
    let told = run.output(Step::Gates, WARNINGS).and_then(Value::as_array);
    told.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Figures for results, where they exist.
pub fn figures(state: &State, progress: &Progress) -> BTreeMap<String, String> {
    let mut more = BTreeMap::new();
    let Some(run) = &state.run else { return more };
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            more.insert(name.to_owned(), value);
        }
    };
    let of = |step: Step, name: &str| output(run, step, name);
    let engine = || run.note(Step::Copy, "engine").and_then(Value::as_str).map(str::to_owned);
    put("engine", of(Step::Copy, "engine").or_else(engine));
    put("choice", of(Step::Copy, "choice"));
    put("bytes-copied", of(Step::Copy, "bytes-copied").or(progress.bytes_copied.map(|n| n.to_string())));
    put("rows-copied", of(Step::Copy, "rows-copied").or(progress.rows_copied.map(|n| n.to_string())));
    put("warnings", Some(warnings(run).join("\n")).filter(|told| !told.is_empty()));
    put("drain-ms", of(Step::Drain, "drain-ms"));
    put("outage-ms", of(Step::HandOver, "outage-ms"));
    put("outage-ms", of(Step::Gates, "outage-ms"));
    put("messages-abandoned", of(Step::HandOver, "messages-abandoned"));
    put("rows-verified", of(Step::Verify, "rows-verified"));
    put("rows-different", of(Step::Verify, "rows-different"));
    // After the road back the figures are those of the road back.
    put("drain-ms", of(Step::ReverseDrain, "drain-ms"));
    put("outage-ms", of(Step::ReverseHandOver, "outage-ms"));
    put("rows-verified", of(Step::ReverseVerify, "rows-verified"));
    put("rows-different", of(Step::ReverseVerify, "rows-different"));
    let replicates =
        [Phase::Following, Phase::Copying, Phase::Migrating, Phase::Opened, Phase::Flipped].contains(&run.phase);
    if replicates {
        put("lag-bytes", progress.lag_bytes.map(|lag| lag.to_string()));
        put("eta-seconds", progress.eta_seconds.map(|eta| eta.to_string()));
    }
    if let Some(statements) = run.output(Step::Finalize, "remove-source-fence").and_then(Value::as_array)
        && !statements.is_empty()
    {
        let text: Vec<&str> = statements.iter().filter_map(Value::as_str).collect();
        put("remove-source-fence", Some(text.join("\n")));
    }
    more
}

fn output(run: &Run, step: Step, name: &str) -> Option<String> {
    run.output(step, name).filter(|value| !value.is_null()).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}
