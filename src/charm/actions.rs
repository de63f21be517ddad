//! Actions: parameters become a request in the journal, or a refusal; the answer has the same shape
//! for all of them.

use super::event::Context;
use super::gather::Gathered;
use super::{broker, keep_worker, read_journal, relations, set_status, show, watch};
use crate::juju::HookTools;
use crate::migration::journal::Request;
use crate::migration::{Engine, Failure, Goal, Progress, Record, Settings, State, Verification, plan};
use crate::steps::preflight::Verdict;
use crate::steps::{Store, begin, preflight, verify};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What an action answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `done`, `running`, `waiting`, `refused` or `failed`.
    pub outcome: &'static str,
    /// One sentence.
    pub message: String,
    /// The exact command to run next, or empty.
    pub next: String,
    /// Figures and reports beside them.
    pub more: BTreeMap<String, String>,
}

impl Reply {
    /// Refused: nothing was done.
    pub fn refused(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: "refused", message: message.into(), next: next.into(), more: BTreeMap::new() }
    }

    /// Failed: it was tried.
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { outcome: "failed", message: message.into(), next: next.into(), more: BTreeMap::new() }
    }
}

/// Everything an action works with.
pub struct Desk<'a> {
    /// Juju.
    pub tools: &'a HookTools,
    /// Who we are.
    pub context: &'a Context,
    /// What Juju says.
    pub gathered: &'a Gathered,
    /// The journal.
    pub store: &'a Store,
}

impl Desk<'_> {
    /// `juju run <coordinator>/leader <action>`.
    pub fn command(&self, action: &str) -> String {
        command(self.context, action)
    }
}

/// `juju run <coordinator>/leader <action>`, or nothing for no action.
pub fn command(context: &Context, action: &str) -> String {
    if action.is_empty() { String::new() } else { format!("juju run {}/leader {action}", context.application) }
}

/// Runs one action and tells Juju how it ended.
///
/// # Errors
/// A hook tool's; refusals and failures are answers, so that results and databags are kept.
pub async fn run(name: &str, tools: &HookTools, context: &Context, gathered: &Gathered) -> anyhow::Result<()> {
    let parameters = tools.action_parameters()?;
    let (reply, state, progress) = answer(name, &parameters, tools, context, gathered).await?;
    let mut results = reply.more;
    results.insert("outcome".into(), reply.outcome.into());
    results.insert("phase".into(), state.phase().name().into());
    results.insert("message".into(), reply.message.clone());
    results.insert("next".into(), reply.next);
    if let Some(run) = &state.run {
        results.insert("run".into(), run.id.clone());
    }
    tools.set_results(&results)?;
    if matches!(reply.outcome, "refused" | "failed") {
        tools.fail_action(&reply.message)?;
    }
    set_status(tools, context, gathered, Ok((&state, &progress)))
}

async fn answer(
    name: &str,
    parameters: &Map<String, Value>,
    tools: &HookTools,
    context: &Context,
    gathered: &Gathered,
) -> anyhow::Result<(Reply, State, Progress)> {
    let nothing = |reply| Ok((reply, State::default(), Progress::default()));
    if !gathered.leader {
        let sentence =
            format!("cannot {name}: {} does not lead (or the controller is away); run it on the leader", context.unit);
        return nothing(Reply::refused(sentence, command(context, name)));
    }
    // A hook may not have come since we became the leader.
    relations::write_all(tools, &gathered.relations.requests)?;
    if let Err(lacking) = &gathered.world {
        // What comes by itself only has to be waited for.
        let next = if lacking.person { String::new() } else { command(context, name) };
        return nothing(Reply::refused(lacking.sentence.clone(), next));
    }
    let (store, mut state, mut progress) = match read_journal(gathered).await {
        Ok(read) => read,
        Err(sentence) => return nothing(Reply::failed(sentence, command(context, name))),
    };
    let desk = Desk { tools, context, gathered, store: &store };
    let reply = match name {
        "preflight" => check(&desk, &state).await,
        "show" => show::reply(&desk, &state, &progress, parameters),
        "verify" => compare(&desk, &state, wait_of(parameters)).await,
        _ => match request(name, parameters, gathered) {
            Err(reply) => reply,
            Ok(request) => ask(&desk, request, &mut state, wait_of(parameters)).await?,
        },
    };
    store.refresh(&mut state).await?;
    progress = store.progress().await.unwrap_or(progress);
    if let Some(record) = broker::tell(tools, gathered, &state)? {
        store.append(&record).await?;
        store.refresh(&mut state).await?;
    }
    Ok((reply, state, progress))
}

/// Writes the request unless it is already the goal, and watches it.
async fn ask(desk: &Desk<'_>, request: Request, state: &mut State, wait: Duration) -> anyhow::Result<Reply> {
    if let Err(refusal) = plan::admit(&request.action, request.goal, state) {
        return Ok(Reply::refused(refusal.sentence, desk.command(&refusal.instead)));
    }
    if state.request.as_ref() != Some(&request) {
        desk.store.append(&Record::Requested(request.clone())).await?;
        desk.store.refresh(state).await?;
    }
    keep_worker(desk.context, desk.gathered)?;
    watch::watch(desk, &request, state, wait).await
}

/// An integer parameter; Juju may send numbers as floats.
fn number(parameters: &Map<String, Value>, name: &str) -> u64 {
    parameters
        .get(name)
        .and_then(|value| value.as_u64().or_else(|| value.as_f64().map(|float| float.max(0.0) as u64)))
        .unwrap_or(0)
}

fn text<'a>(parameters: &'a Map<String, Value>, name: &str) -> &'a str {
    parameters.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(parameters: &Map<String, Value>, name: &str, default: bool) -> bool {
    parameters.get(name).and_then(Value::as_bool).unwrap_or(default)
}

fn wait_of(parameters: &Map<String, Value>) -> Duration {
    Duration::from_secs(number(parameters, "wait"))
}

/// The request that an action's parameters make.
fn request(name: &str, parameters: &Map<String, Value>, gathered: &Gathered) -> Result<Request, Reply> {
    let goal = match name {
        "replicate" => Goal::Following,
        "drain" => Goal::Drained,
        "refresh" => Goal::Refreshed,
        "run-migration" => Goal::Migrated,
        "flip-traffic" | "cut-over" => Goal::Flipped,
        "rollback" => Goal::RolledBack,
        "finalize" => Goal::Finalized,
        "migrate" => match text(parameters, "until") {
            "following" => Goal::Following,
            "migrated" => Goal::Migrated,
            "drained" => Goal::Drained,
            _ => Goal::Flipped,
        },
        _ => return Err(Reply::refused(format!("cannot {name}: this charm has no such action; run show"), "")),
    };
    let settings = settings(name, parameters, gathered)?;
    Ok(Request {
        settings,
        with_refresh: matches!(name, "refresh" | "migrate"),
        channel: text(parameters, "channel").to_owned(),
        revision: number(parameters, "revision"),
        migration_timeout: number(parameters, "timeout"),
        keep_source_fenced: flag(parameters, "keep-source-fenced", true),
        accept_unverified: flag(parameters, "accept-unverified", false),
        ..Request::plain(name, goal)
    })
}

/// Config, and what the action's own parameters change in it.
fn settings(name: &str, parameters: &Map<String, Value>, gathered: &Gathered) -> Result<Settings, Reply> {
    let mut settings = match &gathered.config {
        Ok(config) => config.settings.clone(),
        Err(bad) => return Err(Reply::refused(bad.to_string(), "")),
    };
    match number(parameters, "outage-limit") {
        0 => {}
        limit @ 1..30 => {
            let sentence = format!(
                "cannot {name}: the parameter outage-limit is {limit}; give at least 30 seconds, or 0 for the option's"
            );
            return Err(Reply::refused(sentence, ""));
        }
        limit => settings.outage_limit = limit,
    }
    if let jobs @ 1.. = number(parameters, "jobs") {
        settings.copy_jobs = usize::try_from(jobs).unwrap_or(64);
    }
    if text(parameters, "engine") == "native" {
        settings.engine = Engine::Native;
    }
    match text(parameters, "verification") {
        "twin" => settings.verification = Verification::Twin,
        "strict" => settings.verification = Verification::Strict,
        "counts" => settings.verification = Verification::Counts,
        _ => {}
    }
    Ok(settings)
}

/// `preflight`: every check, one verdict each.
async fn check(desk: &Desk<'_>, state: &State) -> Reply {
    let (Ok(world), Ok(config)) = (&desk.gathered.world, &desk.gathered.config) else {
        return Reply::refused("cannot check: the relations are not complete; see juju status", "");
    };
    let run = state.active().filter(|run| run.has_touched()).map(|run| run.id.clone());
    let look = begin::look(world, &desk.gathered.applications, &config.settings, run);
    let findings = preflight::preflight(look).await;
    let (failed, warned) = (preflight::failed(&findings), preflight::warned(&findings));
    let mut reply = Reply {
        outcome: "done",
        message: preflight::summary(&findings),
        next: match state.active() {
            None => desk.command("refresh"),
            Some(_) => desk.command(plan::usual_next(state)),
        },
        more: BTreeMap::new(),
    };
    if let Some(first) = findings.iter().find(|finding| finding.verdict == Verdict::Fail) {
        reply = Reply::failed(
            format!("cannot begin: {} ({failed} of {} checks failed); {}", first.found, findings.len(), first.cure),
            desk.command("preflight"),
        );
    }
    reply.more.insert("report".into(), preflight::report(&findings));
    reply.more.insert("checks-failed".into(), failed.to_string());
    reply.more.insert("checks-warned".into(), warned.to_string());
    reply
}

/// `verify`: compares while the target follows. Only reads, so it runs here and not in the worker.
async fn compare(desk: &Desk<'_>, state: &State, wait: Duration) -> Reply {
    let Ok(world) = &desk.gathered.world else {
        return Reply::refused("cannot verify: the relations are not complete; see juju status", "");
    };
    let run = match plan::admit_verify(state) {
        Ok(run) => run,
        Err(refusal) => return Reply::refused(refusal.sentence, desk.command(&refusal.instead)),
    };
    let compared = tokio::time::timeout(wait.max(Duration::from_secs(1)), verify::online(world, run)).await;
    match compared {
        Err(_) => Reply::failed(
            format!("cannot verify: the comparison needs more than {} s; give it a longer wait", wait.as_secs()),
            desk.command(&format!("verify wait={}", wait.as_secs() * 4)),
        ),
        Ok(Err(Failure { sentence, .. })) => Reply::failed(sentence, desk.command("verify")),
        Ok(Ok(verdict)) => {
            let more = BTreeMap::from([
                ("rows-verified".to_owned(), verdict.rows_verified.to_string()),
                ("rows-different".to_owned(), verdict.rows_different.to_string()),
            ]);
            if verdict.rows_different > 0 {
                let sentence =
                    format!("cannot trust the copy: {}; run {}", verify::describe(&verdict), desk.command("rollback"));
                return Reply { more, ..Reply::failed(sentence, desk.command("rollback")) };
            }
            Reply {
                outcome: "done",
                message: format!("{} rows compared while following, none differs", verdict.rows_verified),
                next: desk.command(plan::usual_next(state)),
                more,
            }
        }
    }
}
