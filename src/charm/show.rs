//! `show`: the runbook as a person would want to read it, or the same as data.

use super::desk::{Desk, Reply};
use super::parameters::Parameters;
use super::relations::Side;
use super::{Journal, in_place, is_finalized, is_lost, retire, status, watch};
use crate::migration;
use crate::migration::runbook::REVERSAL;
use crate::migration::{Order, Progress, Run, State, Status, Step, Traffic, plan};
use crate::steps::through_controller::BackUp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Answers `show`, with what is known where the journal cannot be read.
pub async fn reply(desk: &Desk<'_>, journal: &Result<Journal, String>, parameters: &Parameters) -> Reply {
    let gathered = desk.gathered;
    let opened = journal.as_ref().ok().map(|journal| &journal.state);
    let lacking = in_place::lacking(desk.context, gathered, opened).unwrap_or_else(|| gathered.lacking(desk.context));
    let nothing = (State::default(), Progress::default());
    let (state, progress) = match journal {
        Ok(journal) => (&journal.state, &journal.progress),
        Err(_) => (&nothing.0, &nothing.1),
    };
    let finalized = is_finalized(gathered, journal.as_ref().ok().map(|_| state));
    let lost = is_lost(gathered, journal.as_ref().ok().map(|_| state));
    let found = match (journal, &lacking) {
        _ if finalized => None,
        _ if lost => Some(status::journal_lost(desk.context, gathered)),
        (_, Some(lacking)) => Some(lacking.sentence.clone()),
        (Err(sentence), None) => Some(sentence.clone()),
        (Ok(_), None) => None,
    };
    // What is shown beside the rest is not worth a failure.
    let traffic = match journal {
        Ok(journal) => journal.store.traffic().await.unwrap_or_default(),
        Err(_) => Traffic::default(),
    };
    let order = state.run.as_ref().map_or(Order::MigrateFirst, |run| run.order);
    let rehearsed = state.rehearsed.as_ref().map(|rehearsed| rehearsed.describe(order, &traffic));
    let traffic = traffic.describe();
    let report = if parameters.text("format") == "json" {
        let mut data = data(state, progress);
        data["lacking"] = json!(found);
        data["traffic"] = json!(traffic);
        data["rehearsed"] = json!(state.rehearsed);
        data["consumers-use"] = json!(consumers_use(desk).name());
        if journal.is_err() || state.damaged.is_some() {
            data["phase"] = json!("unknown");
        }
        data.to_string()
    } else {
        let mut text = text(desk, journal.as_ref().ok(), state, progress);
        if let Some(rehearsed) = &rehearsed {
            let _ = writeln!(text, "\nrehearsed: {rehearsed}");
        }
        if !traffic.is_empty() {
            let _ = writeln!(text, "\ntraffic: {traffic}");
        }
        if let Some(found) = &found {
            let _ = writeln!(text, "\nlacking: {found}");
        }
        text
    };
    let mut more: BTreeMap<String, String> = watch::figures(state, progress);
    more.insert("report".into(), report);
    if finalized {
        let done = watch::finalized(desk, journal.as_ref().ok());
        more.extend(done.more);
        return Reply { outcome: "done", message: done.message, next: done.next, more };
    }
    let message = match (&state.failure, &progress.waiting, found) {
        (_, _, Some(found)) => found,
        (Some(failure), ..) => failure.sentence.clone(),
        (None, Some(waiting), _) if state.request.is_some() => waiting.reason.clone(),
        _ => format!("phase {}", state.phase()),
    };
    if lost {
        let commands = retire::coordinator(desk.tools, desk.context, gathered).join("\n");
        more.insert("remove-coordinator".to_owned(), commands.clone());
        return Reply { outcome: "done", message, next: commands, more };
    }
    if let Some(cure) = lacking.map(|lacking| lacking.commands.join("\n")).filter(|cure| !cure.is_empty()) {
        return Reply { outcome: "done", message, next: cure, more };
    }
    let waited = progress.waiting.as_ref().filter(|_| state.request.is_some()).map(|w| w.next.clone());
    let usual = || match journal {
        Ok(_) if state.damaged.is_some() => desk.command("rollback"),
        Ok(_) => desk.command(plan::usual_next(state)),
        Err(_) => desk.command("show"),
    };
    let next = waited.filter(|next| !next.is_empty()).unwrap_or_else(usual);
    Reply { outcome: "done", message, next, more }
}

/// The side that consumers were given last, as the leader remembers it.
fn consumers_use(desk: &Desk<'_>) -> Side {
    if desk.gathered.memory.flipped { Side::Target } else { Side::Source }
}

fn data(state: &State, progress: &Progress) -> Value {
    let steps: Vec<Value> = state
        .run
        .iter()
        .flat_map(|run| {
            shown(run).map(|step| {
                let known = run.steps.get(&step).cloned().unwrap_or_default();
                json!({
                    "step": step.name(), "what": step.describe_in(run.order), "status": known.status,
                    "started": known.started, "done": known.done, "output": known.output,
                    "failure": known.failure.map(|f| f.sentence),
                })
            })
        })
        .collect();
    json!({
        "phase": state.phase().name(),
        "run": state.run.as_ref().map(|run| run.id.clone()),
        "order": state.run.as_ref().map(|run| run.order.name()),
        "order-reason": state.run.as_ref().map(|run| run.reason.clone()),
        "request": state.request.as_ref().map(|request| request.action.clone()),
        "failure": state.failure.as_ref().map(|failure| failure.sentence.clone()),
        "lifted": state.run.as_ref().and_then(|run| run.lifted.clone()),
        "lost": state.run.as_ref().and_then(|run| run.lost.clone()),
        "progress": progress,
        "steps": steps,
    })
}

fn text(desk: &Desk<'_>, journal: Option<&Journal>, state: &State, progress: &Progress) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = match (&state.run, journal) {
        (Some(run), _) => {
            writeln!(out, "run {}, phase {}, order {}", run.id, watch::place(state), status::order_in_words(run.order))
        }
        (None, Some(_)) => writeln!(out, "no run yet, phase {}", state.phase()),
        (None, None) => writeln!(
            out,
            "the journal cannot be read, so the phase is unknown; consumers were last given the {}'s address",
            consumers_use(desk).name()
        ),
    };
    let (gathered, applications) = (desk.gathered, &desk.gathered.applications);
    for (label, side, application) in
        [("source", Side::Source, &applications.source), ("target", Side::Target, &applications.target)]
    {
        if side == Side::Target && state.is_in_place() {
            continue;
        }
        let none = format!("no {}", applications.app.title);
        let name = if application.name.is_empty() { &none } else { &application.name };
        let database = if application.database.is_empty() { "not known yet" } else { &application.database };
        let server = gathered.relations.database(side).ready();
        let server = server.map_or_else(|| "a server not known yet".to_owned(), |found| found.server.address());
        let _ = writeln!(out, "{label}  {name:<16} database {database} on {server}");
    }
    if let Some(run) = &state.run {
        let _ = writeln!(out);
        for step in shown(run) {
            let _ = writeln!(out, "{}", step_line(run, step, progress));
        }
        for warning in watch::warnings(run) {
            let _ = writeln!(out, "mind: {warning}");
        }
        for (label, reason) in [("fence lifted", &run.lifted), ("lost", &run.lost)] {
            if let Some(reason) = reason {
                let _ = writeln!(out, "{label}: {reason}");
            }
        }
    }
    for side in [migration::Side::Source, migration::Side::Target] {
        if let Some(known) = BackUp::known(state, side) {
            let _ = writeln!(out, "\nbackup of the {}: {}", side.name(), known.describe());
        }
    }
    if let Some(failure) = &state.failure {
        let _ = writeln!(out, "\nblocked: {failure}");
    }
    if let (Some(waiting), true) = (&progress.waiting, state.request.is_some()) {
        let _ = writeln!(out, "\nwaiting: {}", waiting.reason);
    }
    out
}

/// The runbook, with the road back where it was taken.
fn shown(run: &Run) -> impl Iterator<Item = Step> + '_ {
    let taken = REVERSAL.iter().any(|step| run.status(*step) != Status::Pending);
    run.book().iter().chain(if taken { REVERSAL } else { &[] }).copied()
}

/// One step: a mark, its name, what it does, how long it took or what it is doing.
fn step_line(run: &Run, step: Step, progress: &Progress) -> String {
    let known = run.steps.get(&step).cloned().unwrap_or_default();
    let mark = match known.status {
        Status::Pending | Status::Lost => "[ ]",
        Status::Doing => "[>]",
        Status::Done => "[x]",
        Status::Failed => "[!]",
        Status::Undoing => "[<]",
    };
    let detail = match (known.status, known.started, known.done) {
        (Status::Done, Some(from), Some(to)) => {
            let choice = run.output(step, "choice").and_then(Value::as_str).map(|said| format!(", {said}"));
            format!("{:.1} s{}", (to - from) as f64 / 1000.0, choice.unwrap_or_default())
        }
        (Status::Doing, ..) if progress.step == step.name() => progress.text.clone(),
        (Status::Failed, ..) => known.failure.map(|f| f.sentence).unwrap_or_default(),
        _ => String::new(),
    };
    format!("{mark} {:<17} {:<58} {detail}", step.name(), step.describe_in(run.order)).trim_end().to_owned()
}
