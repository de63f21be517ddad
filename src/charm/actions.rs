//! Actions: parameters become a request in the journal, or a refusal; the answer has the same shape
//! for all of them.

use super::desk::{Desk, Reply, command};
use super::event::Context;
use super::gather::{Gathered, Lacking};
use super::parameters::Parameters;
use super::relations::Side;
use super::relations::identity::is_anonymous;
use super::{
    Journal, back_up, broker, in_place, is_finalized, is_lost, keep_worker, local_charm, now_ms, relations, set_status,
    show, status, verify, watch,
};
use crate::failpoint;
use crate::juju::HookTools;
use crate::migration::journal::Request;
use crate::migration::{Engine, Goal, IN_PLACE, LocalCharm, Phase, Record, Settings, State, Step, Verification, plan};
use crate::steps::preflight::{End, Ends, Verdict};
use crate::steps::{begin, preflight, refresh, sweep};
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs one action and tells Juju how it ended.
///
/// # Errors
/// A hook tool's; refusals and failures are answers, so that results and databags are kept.
pub async fn run(name: &str, tools: &HookTools, context: &Context, gathered: &mut Gathered) -> anyhow::Result<()> {
    let given = tools.action_parameters()?;
    // A hook may not have come since we became the leader.
    if gathered.leader {
        relations::write_all(tools, &gathered.relations.requests)?;
    }
    let parameters = Parameters::read(name, &given);
    gathered.begins_in_place = match name {
        IN_PLACE => parameters.as_ref().is_ok_and(|given| given.flag("accept-outage")),
        // The backup before it looks at the one side, too.
        "back-up" => gathered.memory.in_place,
        _ => false,
    };
    let mut journal = Journal::open(context, gathered).await;
    if gathered.leader {
        gathered.memory.keep_place(tools, gathered.one_sided.is_some())?;
    }
    let desk = Desk { tools, context, gathered };
    let reply = match parameters {
        Err(sentence) => Reply::refused(sentence, ""),
        Ok(parameters) => answer(name, &parameters, &desk, &mut journal).await?,
    };
    tell_consumers(&desk, &mut journal).await?;
    let mut results = reply.more;
    let state = journal.as_ref().ok().map(|journal| &journal.state);
    let phase = match state {
        _ if is_finalized(gathered, state) => Phase::Finalized.name(),
        Some(state) if state.damaged.is_some() => "unknown",
        Some(state) => state.phase().name(),
        None => "unknown",
    };
    results.insert("outcome".into(), reply.outcome.into());
    results.insert("phase".into(), phase.into());
    results.insert("message".into(), reply.message.clone());
    results.insert("next".into(), reply.next);
    if let Some(run) = state.and_then(|state| state.run.as_ref()) {
        results.insert("run".into(), run.id.clone());
    }
    tools.set_results(&results)?;
    if matches!(reply.outcome, "refused" | "failed") {
        tools.fail_action(&reply.message)?;
    }
    set_status(tools, context, gathered, &journal)
}

/// What changed while the action ran reaches the consumers with it.
async fn tell_consumers(desk: &Desk<'_>, journal: &mut Result<Journal, String>) -> anyhow::Result<()> {
    if !desk.gathered.leader {
        return Ok(());
    }
    if let Ok(open) = journal
        && let Err(sentence) = open.refresh(desk.gathered).await
    {
        *journal = Err(sentence);
    }
    let record = broker::tell(desk.tools, desk.gathered, journal.as_ref().ok().map(|journal| &journal.state))?;
    if let (Some(record), Ok(open)) = (record, &mut *journal)
        && let Err(sentence) = open.append(desk.gathered, &record).await
    {
        *journal = Err(sentence);
    }
    Ok(())
}

async fn answer(
    name: &str,
    parameters: &Parameters,
    desk: &Desk<'_>,
    journal: &mut Result<Journal, String>,
) -> anyhow::Result<Reply> {
    let (context, gathered) = (desk.context, desk.gathered);
    if !gathered.leader {
        let sentence =
            format!("cannot {name}: {} does not lead (or the controller is away); run it on the leader", context.unit);
        return Ok(Reply::refused(sentence, command(context, name)));
    }
    if name == "show" {
        return Ok(show::reply(desk, journal, parameters).await);
    }
    if is_finalized(gathered, journal.as_ref().ok().map(|journal| &journal.state)) {
        return Ok(finalized(name, desk, journal));
    }
    if let Some(reply) = in_place::unfit(name, parameters, desk, journal.as_ref().ok().map(|open| &open.state)) {
        return Ok(reply);
    }
    // Without a place for the journal the other side may lack too: the first of them is named.
    if let (Err(lacking), Err(_)) = (&gathered.world, &gathered.journal) {
        return Ok(lacks(desk, name, lacking));
    }
    let journal = match journal {
        Ok(journal) => journal,
        Err(sentence) => return Ok(Reply::failed(sentence.clone(), command(context, name))),
    };
    if is_lost(gathered, Some(&journal.state)) && name != "preflight" {
        return Ok(lost(name, desk));
    }
    if let Some(failure) = journal.state.unreadable()
        && !["preflight", "rollback"].contains(&name)
    {
        return Ok(Reply::refused(failure.sentence, command(context, "rollback")));
    }
    if let Some(reply) = in_place::aside(name, desk, &journal.state) {
        return Ok(reply);
    }
    match name {
        "preflight" => Ok(check(desk, &journal.state).await),
        "back-up" => back_up::back_up(desk, parameters, journal).await,
        "verify" => Ok(verify::compare(desk, &journal.state, wait_of(parameters)).await),
        _ => ask(desk, name, parameters, journal).await,
    }
}

/// What lacks is named with its cure; what comes by itself only has to be waited for.
pub(super) fn lacks(desk: &Desk<'_>, name: &str, lacking: &Lacking) -> Reply {
    let next = if lacking.person { lacking.commands.join("\n") } else { desk.command(name) };
    Reply::refused(lacking.sentence.clone(), next)
}

/// The journal was lost after the flip: only looking is safe. A rollback that knows of no run, or a new migration,
/// would open the source while users write to the target.
fn lost(name: &str, desk: &Desk<'_>) -> Reply {
    Reply::refused(
        format!("cannot {name}: {}", status::journal_lost(desk.context, desk.gathered)),
        desk.command("show"),
    )
}

/// After `finalize` nothing is left to do: said again, and anything else is refused.
fn finalized(name: &str, desk: &Desk<'_>, journal: &Result<Journal, String>) -> Reply {
    if name == "finalize" {
        return watch::finalized(desk, journal.as_ref().ok());
    }
    let sentence =
        format!("cannot {name}: this migration is finalized; deploy another coordinator for another migration");
    Reply::refused(sentence, desk.command("show"))
}

/// Writes the request unless it is already the goal, and watches it.
async fn ask(desk: &Desk<'_>, name: &str, parameters: &Parameters, journal: &mut Journal) -> anyhow::Result<Reply> {
    let state = &journal.state;
    let mut request = request(name, parameters, desk.gathered, state);
    if parameters.flag("local") {
        match local_charm::asked(name, parameters, desk)? {
            Ok(local) => request.local = Some(local),
            Err(refused) => return Ok(refused),
        }
    }
    let request = request;
    let app = desk.gathered.applications.app;
    if let Some(reply) = in_place::refused(desk, &request, parameters, state, now_ms()) {
        return Ok(reply);
    }
    if request.abandon_messages && app.messages.is_none() {
        let sentence =
            format!("cannot {name}: {} sends no messages; run it without abandon-queued-messages", app.title);
        return Ok(Reply::refused(sentence, desk.command(name)));
    }
    if request.abandon_messages && request.goal != Goal::Flipped {
        let sentence = format!(
            "cannot {name}: it ends before the flip, and abandon-queued-messages belongs to that; give it to flip-traffic \
             or cut-over later"
        );
        return Ok(Reply::refused(sentence, desk.command(&Request { abandon_messages: false, ..request }.again(name))));
    }
    if let Err(refusal) = plan::admit(name, request.goal, state) {
        return Ok(Reply::refused(refusal.sentence, desk.command(&refusal.instead)));
    }
    if let Some(refusal) = plan::contradicts(name, &request, state) {
        return Ok(Reply::refused(refusal.sentence, desk.command(&refusal.instead)));
    }
    if let Some((sentence, channel)) = refresh::cannot_migrate(app, &request) {
        return Ok(Reply::refused(sentence, desk.command(&parameters.on_channel(name, channel))));
    }
    let nothing = state.active().is_none() && state.request.is_none() && state.damaged.is_none();
    if request.goal == Goal::RolledBack && nothing && !remains(desk, journal).await {
        return Ok(Reply {
            outcome: "done",
            message: watch::sentence(&request, state),
            next: desk.command(plan::usual_next(state)),
            more: BTreeMap::new(),
        });
    }
    if let Some(bad) = desk.gathered.config.bad_among(&needed_options(name, parameters, state)) {
        return Ok(lacks(desk, name, &Lacking::option(desk.context, bad)));
    }
    // What was begun goes back and ends with nothing but the databases.
    let lacking = match request.goal {
        Goal::RolledBack | Goal::Finalized | Goal::UpgradedInPlace => desk.gathered.world.as_ref().err().cloned(),
        _ => desk.gathered.unrelated(desk.context),
    };
    if let Some(lacking) = lacking {
        return Ok(lacks(desk, name, &lacking));
    }
    // A worker that was told something else must not take the request.
    keep_worker(desk.context, desk.gathered, Some(state))?;
    if state.request.as_ref() != Some(&request)
        && let Err(sentence) = journal.append(desk.gathered, &Record::Requested(request.clone())).await
    {
        return Ok(Reply::failed(sentence, desk.command(name)));
    }
    local_charm::keep(desk.tools, desk.context, &journal.state);
    failpoint::reach(failpoint::ACTION_WATCH);
    watch::watch(desk, &request, journal, wait_of(parameters)).await
}

/// True when a run stands that the journal does not know, and that no living coordinator works on.
async fn remains(desk: &Desk<'_>, journal: &Journal) -> bool {
    match &desk.gathered.world {
        // The worker says it better when a server does not answer.
        Ok(world) if journal.state.run.is_none() && !world.is_in_place() => {
            sweep::stands(world, &journal.store).await.unwrap_or(true)
        }
        _ => false,
    }
}

fn wait_of(parameters: &Parameters) -> Duration {
    Duration::from_secs(parameters.number("wait"))
}

/// The options whose values an action uses now. A run that is under way has its order.
fn needed_options(name: &str, parameters: &Parameters, state: &State) -> Vec<&'static str> {
    let outage = ["outage-limit", "max-lag-bytes", "lock-timeout-ms", "verification"];
    let copy = ["copy-jobs", "lock-timeout-ms", "max-kept-wal-bytes"];
    let mut needed = match (name, state.active()) {
        ("rollback" | "finalize" | "back-up" | "adopt" | IN_PLACE, _) => Vec::new(),
        (_, None) => [&outage[..], &copy, &["order", "backup-gates", "move-routes"]].concat(),
        ("migrate", Some(_)) => [&outage[..], &copy, &["backup-gates", "move-routes"]].concat(),
        ("replicate" | "rehearse", Some(_)) => copy.to_vec(),
        ("drain", Some(_)) => [&outage[..], &["backup-gates"]].concat(),
        ("cut-over", Some(_)) => [&outage[..], &["backup-gates", "move-routes"]].concat(),
        ("flip-traffic", Some(_)) => vec!["move-routes"],
        _ => Vec::new(),
    };
    needed.retain(|option| match *option {
        "outage-limit" => parameters.number("outage-limit") == 0,
        "copy-jobs" => parameters.number("jobs") == 0,
        "verification" => parameters.text("verification").is_empty(),
        _ => true,
    });
    needed
}

/// The request that an action's parameters make. The parameters are those of a known action.
fn request(name: &str, parameters: &Parameters, gathered: &Gathered, state: &State) -> Request {
    let goal = match name {
        "replicate" => Goal::Following,
        "drain" => Goal::Drained,
        "refresh" => Goal::Refreshed,
        "rehearse" => Goal::Rehearsed,
        "adopt" => Goal::Adopted,
        "run-migration" => Goal::Migrated,
        "rollback" => Goal::RolledBack,
        "finalize" => Goal::Finalized,
        IN_PLACE => Goal::UpgradedInPlace,
        _ => match parameters.text("until") {
            "following" => Goal::Following,
            "migrated" => Goal::Migrated,
            "drained" => Goal::Drained,
            _ => Goal::Flipped,
        },
    };
    let (channel, revision, local) = charm(parameters, state);
    Request {
        settings: settings(parameters, gathered, state),
        with_refresh: matches!(name, "refresh" | "rehearse" | "migrate" | IN_PLACE),
        channel,
        revision,
        local,
        keep_release: parameters.flag("keep-release"),
        migration_timeout: parameters.number("timeout"),
        keep_source_fenced: name != "finalize" || parameters.flag("keep-source-fenced"),
        accept_unverified: parameters.flag("accept-unverified"),
        accept_no_way_back: parameters.flag("accept-no-way-back"),
        abandon_messages: parameters.flag("abandon-queued-messages"),
        rehearse_again: parameters.flag("again"),
        undo: parameters.flag("undo"),
        accept_outage: parameters.flag("accept-outage"),
        accept_no_backup: parameters.flag("accept-no-backup"),
        ..Request::plain(name, goal)
    }
}

/// The charm to refresh to, by channel and revision. Asked for again without one, what was asked for stays until it is made.
fn charm(parameters: &Parameters, state: &State) -> (String, u64, Option<LocalCharm>) {
    let (channel, revision) = (parameters.text("channel").to_owned(), parameters.number("revision"));
    let none = channel.is_empty() && revision == 0 && !parameters.flag("local");
    let under_way = state.active().is_some_and(|run| !run.is_done(Step::Refresh));
    match state.request.as_ref().or(state.last_request.as_ref()) {
        Some(last) if none && under_way => (last.channel.clone(), last.revision, last.local.clone()),
        _ => (channel, revision, None),
    }
}

/// Config, and what the action's own parameters change in it. An option that cannot be used and is not needed
/// stays as the last request had it.
fn settings(parameters: &Parameters, gathered: &Gathered, state: &State) -> Settings {
    let mut settings = gathered.config.settings.clone();
    if let Some(last) = state.request.as_ref().or(state.last_request.as_ref()).map(|request| &request.settings) {
        for bad in &gathered.config.bad {
            match bad.option {
                "outage-limit" => settings.outage_limit = last.outage_limit,
                "max-lag-bytes" => settings.max_lag_bytes = last.max_lag_bytes,
                "max-kept-wal-bytes" => settings.max_kept_wal_bytes = last.max_kept_wal_bytes,
                "order" => settings.order = last.order,
                "copy-jobs" => settings.copy_jobs = last.copy_jobs,
                "lock-timeout-ms" => settings.lock_timeout_ms = last.lock_timeout_ms,
                "verification" => settings.verification = last.verification,
                "backup-gates" => settings.backup_gates = last.backup_gates,
                "move-routes" => settings.move_routes = last.move_routes,
                _ => {}
            }
        }
    }
    if let limit @ 1.. = parameters.number("outage-limit") {
        settings.outage_limit = limit;
    }
    if let jobs @ 1.. = parameters.number("jobs") {
        settings.copy_jobs = usize::try_from(jobs).unwrap_or(64);
    }
    if parameters.text("engine") == "native" {
        settings.engine = Engine::Native;
    }
    match parameters.text("verification") {
        "twin" => settings.verification = Verification::Twin,
        "strict" => settings.verification = Verification::Strict,
        "counts" => settings.verification = Verification::Counts,
        _ => {}
    }
    settings
}

/// `preflight`: every check, one verdict each.
async fn check(desk: &Desk<'_>, state: &State) -> Reply {
    if let Some(lacking) = desk.gathered.lacking(desk.context) {
        return propose(desk, lacks(desk, "preflight", &lacking)).await;
    }
    let world = match &desk.gathered.world {
        Ok(world) => world,
        Err(lacking) => return lacks(desk, "preflight", lacking),
    };
    if let Err(refusal) = plan::admit_unless_finalized("preflight", state) {
        return Reply::refused(refusal.sentence, desk.command(&refusal.instead));
    }
    let run = state.active().filter(|run| run.has_touched()).map(|run| run.id.clone());
    let mut look = begin::look(world, &desk.gathered.applications, &desk.gathered.config.settings, run);
    look.ends = ends(desk);
    look.controller = desk.gathered.controller.clone().into();
    look.rehearsed = state.rehearsed.clone();
    look.keep_release = state.active().is_some_and(|run| run.keeps.is_some());
    let findings = preflight::preflight(look).await;
    let (failed, warned) = (preflight::failed(&findings), preflight::warned(&findings));
    let mut reply = Reply {
        outcome: "done",
        message: preflight::summary(&findings),
        next: match state.active() {
            None => desk.next("refresh"),
            Some(_) => desk.next(plan::usual_next(state)),
        },
        more: BTreeMap::new(),
    };
    if let Some(nobody) = desk.tells_nobody() {
        reply.message.push_str(&nobody);
    }
    if let Some(first) = findings.iter().find(|finding| finding.verdict == Verdict::Fail) {
        let failed_ones = || findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
        let mut next = failed_ones().map(|f| f.commands.clone()).find(|c| !c.is_empty()).unwrap_or_default();
        // Charmed PostgreSQL 14 has an action for it, 16 an application secret.
        let asks = next.iter().any(|command| command.starts_with("juju ssh")).then_some(
            "; psql asks for the password of operator: juju run <PostgreSQL>/leader get-password on 14, \
             juju show-secret --reveal database-peers.<PostgreSQL>.app on 16",
        );
        next.push(desk.command("preflight"));
        reply = Reply::failed(
            format!(
                "cannot begin: {} ({failed} of {} checks failed); {}{}",
                first.found,
                findings.len(),
                first.cure,
                asks.unwrap_or_default()
            ),
            next.join("\n"),
        );
    }
    reply.more.insert("report".into(), preflight::report(&findings));
    reply.more.insert("checks-failed".into(), failed.to_string());
    reply.more.insert("checks-warned".into(), warned.to_string());
    reply
}

/// The commands for what is not related yet, with the names that the model shows in place of `<…>`.
async fn propose(desk: &Desk<'_>, reply: Reply) -> Reply {
    if !(reply.next.starts_with("juju integrate ") && reply.next.contains('<')) {
        return reply;
    }
    let commands =
        preflight::adoption::propose(&desk.gathered.controller.clone().into(), &desk.context.application).await;
    if commands.is_empty() { reply } else { Reply { next: commands.join("\n"), ..reply } }
}

/// Who is at the other ends, as far as commands typed in this model can name them.
fn ends(desk: &Desk<'_>) -> Ends {
    let end = |relation_id: &str, application: &str| {
        let model = desk.tools.remote_model(relation_id).ok();
        let here = model.as_ref().is_some_and(|model| *model == desk.context.model_uuid);
        let elsewhere = model.filter(|_| !here);
        let name = if is_anonymous(application) { String::new() } else { application.to_owned() };
        End { here: here && !name.is_empty(), name, elsewhere }
    };
    let relations = &desk.gathered.relations;
    let database = |side| relations.database(side).ready().map(|d| end(&d.relation_id, &d.application));
    let identity = |side| relations.identity(side).ready().map(|found| end(&found.relation_id, &found.application));
    Ends {
        source_database: database(Side::Source).unwrap_or_default(),
        target_database: database(Side::Target).unwrap_or_default(),
        source_identity: identity(Side::Source).unwrap_or_default(),
        target_identity: identity(Side::Target).unwrap_or_default(),
    }
}
