//! `show`: the runbook as a person would want to read it, or the same as data.

use super::actions::{Desk, Reply};
use super::{status, watch};
use crate::migration::{Progress, Run, State, Status, plan};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Answers `show`.
pub fn reply(desk: &Desk<'_>, state: &State, progress: &Progress, parameters: &Map<String, Value>) -> Reply {
    let as_json = parameters.get("format").and_then(Value::as_str) == Some("json");
    let report = if as_json { data(state, progress).to_string() } else { text(desk, state, progress) };
    let mut more: BTreeMap<String, String> = watch::figures(state, progress);
    more.insert("report".into(), report);
    let message = match (&state.failure, &progress.waiting) {
        (Some(failure), _) => failure.sentence.clone(),
        (None, Some(waiting)) if state.request.is_some() => waiting.reason.clone(),
        _ => format!("phase {}", state.phase()),
    };
    let waited = progress.waiting.as_ref().filter(|_| state.request.is_some()).map(|w| w.next.clone());
    let next = waited.filter(|next| !next.is_empty()).unwrap_or_else(|| desk.command(plan::usual_next(state)));
    Reply { outcome: "done", message, next, more }
}

fn data(state: &State, progress: &Progress) -> Value {
    let steps: Vec<Value> = state
        .run
        .iter()
        .flat_map(|run| {
            run.book().iter().map(|step| {
                let known = run.steps.get(step).cloned().unwrap_or_default();
                json!({
                    "step": step.name(), "what": step.describe(), "status": known.status,
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

fn text(desk: &Desk<'_>, state: &State, progress: &Progress) -> String {
    let mut out = String::new();
    let world = desk.gathered.world.as_ref();
    let applications = &desk.gathered.applications;
    // Writing to a String cannot fail.
    let _ = match &state.run {
        Some(run) => writeln!(out, "run {}, phase {}, order {}", run.id, run.phase, status::order_in_words(run.order)),
        None => writeln!(out, "no run yet, phase {}", state.phase()),
    };
    if let Ok(world) = world {
        let _ = writeln!(
            out,
            "source  {:<16} database {} on {}",
            applications.source.name,
            world.source_database,
            world.source.address()
        );
        let _ = writeln!(
            out,
            "target  {:<16} database {} on {}",
            applications.target.name,
            world.target_database,
            world.target.address()
        );
    }
    if let Some(run) = &state.run {
        let _ = writeln!(out);
        for step in run.book() {
            let _ = writeln!(out, "{}", step_line(run, *step, progress));
        }
        for (label, reason) in [("fence lifted", &run.lifted), ("lost", &run.lost)] {
            if let Some(reason) = reason {
                let _ = writeln!(out, "{label}: {reason}");
            }
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

/// One step: a mark, its name, what it does, how long it took or what it is doing.
fn step_line(run: &Run, step: crate::migration::Step, progress: &Progress) -> String {
    let known = run.steps.get(&step).cloned().unwrap_or_default();
    let mark = match known.status {
        Status::Pending | Status::Lost => "[ ]",
        Status::Doing => "[>]",
        Status::Done => "[x]",
        Status::Failed => "[!]",
        Status::Undoing => "[<]",
    };
    let detail = match (known.status, known.started, known.done) {
        (Status::Done, Some(from), Some(to)) => format!("{:.1} s", (to - from) as f64 / 1000.0),
        (Status::Doing, ..) if progress.step == step.name() => progress.text.clone(),
        (Status::Failed, ..) => known.failure.map(|f| f.sentence).unwrap_or_default(),
        _ => String::new(),
    };
    format!("{mark} {:<10} {:<58} {detail}", step.name(), step.describe()).trim_end().to_owned()
}
