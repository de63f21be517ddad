//! Status is a pure function of journal and facts, computed last.

use super::event::Context;
use super::gather::{Gathered, Lacking};
use super::relations::Side;
use crate::juju::StatusKind;
use crate::migration::{Goal, Order, Phase, Progress, Request, Run, State, Step, plan};
use crate::steps::observe::human_bytes;
use crate::steps::way_back::STOPPED;

/// What a status is made of.
pub struct View<'a> {
    /// Whether this unit leads.
    pub leader: bool,
    /// Our application's name.
    pub application: &'a str,
    /// Set once everything is done.
    pub finalized: Option<&'a Finalized>,
    /// What to say where the journal was lost after the flip.
    pub journal_lost: Option<&'a str>,
    /// What the migration lacks, if anything.
    pub lacking: Option<&'a Lacking>,
    /// Journal and progress, or why they could not be read.
    pub journal: Result<(&'a State, &'a Progress), &'a str>,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// What is still of interest after `finalize`: the way of the target's facts to the consumers.
#[derive(Clone, Debug)]
pub struct Finalized {
    /// The target application, or why its facts do not come.
    pub target: Result<String, Lacking>,
    /// How many consumers take them from us.
    pub consumers: usize,
    /// Whether something of the source is still related.
    pub source_related: bool,
    /// Whether the journal is gone.
    pub journal_gone: bool,
}

/// The status to show.
pub fn status(view: &View<'_>) -> (StatusKind, String) {
    if !view.leader {
        return (StatusKind::Active, "standing by; the leader coordinates".to_owned());
    }
    if let Some(finalized) = view.finalized {
        return done(view, finalized);
    }
    if let Some(lost) = view.journal_lost {
        return (StatusKind::Blocked, next(lost, &command(view, "show")));
    }
    if let Some(lacking) = view.lacking {
        let kind = if lacking.person { StatusKind::Blocked } else { StatusKind::Waiting };
        let message = format!("{}{}", lacking.sentence, meanwhile(view));
        // In an outage what ends it comes before what is lacking.
        let cure = if message.contains("; next: ") { String::new() } else { cure(view, lacking) };
        return (kind, next(message, &cure));
    }
    match view.journal {
        Err(sentence) => (StatusKind::Waiting, sentence.to_owned()),
        Ok((state, progress)) if state.request.is_some() => working(view, state, progress),
        Ok((state, progress)) => resting(view, state, progress),
    }
}

/// Every status that names a command ends like this.
fn next(message: impl std::fmt::Display, command: &str) -> String {
    if command.is_empty() { message.to_string() } else { format!("{message}; next: {command}") }
}

/// What cures what is lacking, unless the sentence ends with it; what takes several commands is shown one by one.
fn cure(view: &View<'_>, lacking: &Lacking) -> String {
    match lacking.commands.as_slice() {
        [] => String::new(),
        [one] if lacking.sentence.ends_with(one.as_str()) => String::new(),
        [one] => one.clone(),
        _ => command(view, "show"),
    }
}

/// The same for a sentence that may name its own command.
fn next_unless_named(sentence: &str, command: &str) -> String {
    if sentence.contains("juju ") { sentence.to_owned() } else { next(sentence, command) }
}

/// Whether the only action of ours that a sentence names is the way back: nothing else would lead on.
fn leads_back(sentence: &str) -> bool {
    let mut named = sentence.split("/leader ").skip(1).filter_map(|rest| rest.split([' ', ';', ',']).next()).peekable();
    named.peek().is_some() && named.all(|action| action == "rollback")
}

/// What is run after a failure: the way back and the end are asked for again, and so is what ends before the flip, where
/// it can be: what usually comes next may go on to it. Anything else goes on where it stands.
pub fn after_failure(request: Option<&Request>, state: &State) -> String {
    if let Some(failure) = &state.failure {
        if let Some(cure) = &failure.action {
            return cure.clone();
        }
        if leads_back(&failure.sentence) {
            return "rollback".to_owned();
        }
    }
    let usual = plan::usual_next(state);
    let Some(request) = request else { return usual.to_owned() };
    let action = &request.action;
    match request.goal {
        // Nobody comes back before the way back is made anew.
        Goal::RolledBack if state.active().is_some_and(Run::may_mend) => usual.to_owned(),
        Goal::RolledBack | Goal::Finalized => action.clone(),
        Goal::UpgradedInPlace => request.again(action),
        goal @ (Goal::Drained | Goal::Migrated) if plan::admit(action, goal, state).is_ok() => request.again(action),
        // In the documented order the schema is migrated while writes are stopped.
        Goal::Migrated if usual == "cut-over" => request.again("drain"),
        _ => request.again(usual),
    }
}

/// What is true when the journal was lost after the flip, and how to go on without it.
pub fn journal_lost(context: &Context, gathered: &Gathered) -> String {
    let (target, ours) = (Side::Target.endpoint_for(gathered.applications.app), &context.application);
    let name = gathered.relations.target_identity.ready().map_or(target, |info| info.application.clone());
    let database = gathered.journal.as_ref().map_or("the journal's database", |place| place.database.as_str());
    format!(
        "{database} holds no migration any more, but consumers use {name}, so nothing is undone or begun; stay on \
         {name}: show names the commands that take {ours} away, preflight what it left in the databases"
    )
}

/// `juju run <coordinator>/leader <action>`, or nothing for no action.
fn command(view: &View<'_>, action: &str) -> String {
    if action.is_empty() { String::new() } else { format!("juju run {}/leader {action}", view.application) }
}

/// After `finalize`: at rest as long as the target's facts reach the consumers.
fn done(view: &View<'_>, finalized: &Finalized) -> (StatusKind, String) {
    let Finalized { target, consumers, source_related, journal_gone } = finalized;
    let target = match target {
        Ok(target) => target,
        Err(Lacking { sentence, person, .. }) if *consumers > 0 => {
            let kind = if *person { StatusKind::Blocked } else { StatusKind::Waiting };
            return (
                kind,
                format!("finalized: consumers keep the target's address, but get no change of it; {sentence}"),
            );
        }
        Err(_) => {
            let remove = format!("juju remove-application {}", view.application);
            return (StatusKind::Active, next("finalized: nothing is left to do here", &remove));
        }
    };
    let journal = if *journal_gone { ", the journal is gone" } else { "" };
    let text = match (source_related, consumers) {
        (true, _) => format!("finalized: consumers use {target}, the source can go{journal}"),
        (false, 0) => format!("finalized: nobody takes the address of {target} from here{journal}"),
        (false, _) => format!("finalized: consumers use {target}{journal}"),
    };
    (StatusKind::Active, next(text, &command(view, "show")))
}

/// What must be seen even while an option or a relation is in disorder: the lease, and whom the outage waits for.
fn meanwhile(view: &View<'_>) -> String {
    let Ok((state, progress)) = view.journal else { return String::new() };
    if state.active().is_none() {
        return String::new();
    }
    let waited = progress.waiting.as_ref().filter(|_| state.request.is_some()).map_or("", |waiting| &waiting.next);
    next(lease(view, progress), &one_line(view, waited))
}

/// A status has one line: what takes several commands is shown by `show`.
fn one_line(view: &View<'_>, commands: &str) -> String {
    if commands.contains('\n') { command(view, "show") } else { commands.to_owned() }
}

/// While a request is worked on.
fn working(view: &View<'_>, state: &State, progress: &Progress) -> (StatusKind, String) {
    if let Some(waiting) = &progress.waiting {
        return match waiting.next.as_str() {
            "" => (StatusKind::Waiting, format!("{}{}", waiting.reason, lease(view, progress))),
            commands => {
                let message = format!("{}{}", waiting.reason, lease(view, progress));
                (StatusKind::Blocked, next(message, &one_line(view, commands)))
            }
        };
    }
    if let Some(trouble) = &progress.trouble {
        return (StatusKind::Waiting, format!("{trouble}{}", lease(view, progress)));
    }
    let phase = super::watch::place(state);
    let text = if progress.text.is_empty() { progress.step.as_str() } else { progress.text.as_str() };
    let text = if text.is_empty() { "starting" } else { text };
    (StatusKind::Maintenance, format!("{phase}: {text}{}", lease(view, progress)))
}

/// Between requests.
fn resting(view: &View<'_>, state: &State, progress: &Progress) -> (StatusKind, String) {
    if let Some(failure) = &state.failure {
        let again = after_failure(state.last_request.as_ref(), state);
        return (StatusKind::Blocked, next_unless_named(&failure.sentence, &command(view, &again)));
    }
    let usual = command(view, plan::usual_next(state));
    let Some(run) = state.active() else {
        if let Some((from, to)) = state.run.as_ref().and_then(Run::upgraded) {
            return (StatusKind::Active, next(format!("upgraded in place from {from} to {to}"), &usual));
        }
        return (StatusKind::Active, next("ready", &usual));
    };
    if let Some(reason) = lost(run) {
        return (StatusKind::Blocked, next(reason, &command(view, "replicate")));
    }
    if let Some(trouble) = &progress.trouble {
        return (
            StatusKind::Blocked,
            next_unless_named(&format!("{trouble}{}", lease(view, progress)), &command(view, "show")),
        );
    }
    if let Some(found) = differing(run) {
        return (StatusKind::Blocked, next(found, &command(view, "show")));
    }
    if let Some(failure) = run.steps.get(&Step::Verify).and_then(|verify| verify.failure.as_ref()) {
        return (StatusKind::Blocked, failure.sentence.clone());
    }
    if let Some(stopped) = flows_back_no_more(run) {
        return (StatusKind::Blocked, stopped);
    }
    let detail = match run.phase {
        Phase::Following => {
            let lifted =
                run.lifted.as_ref().map(|reason| format!(", the fence was lifted: {reason}")).unwrap_or_default();
            let lag = progress.lag_bytes.map(|lag| format!(", {} behind", human_bytes(lag))).unwrap_or_default();
            let migrated = if run.is_done(Step::Gates) { ", schema migrated" } else { "" };
            format!("{lag}{migrated}{lifted}")
        }
        Phase::Opened => format!(": the target takes writes{}", way_back(run, progress)),
        Phase::Flipped => format!(": consumers use the target{}", way_back(run, progress)),
        _ => lease(view, progress),
    };
    (StatusKind::Active, next(format!("{}{detail}", run.phase), &usual))
}

/// What was lost and not yet made good.
pub fn lost(run: &Run) -> Option<&str> {
    let follows_no_more = run.phase == Phase::Following && !run.follows();
    run.lost.as_deref().filter(|_| follows_no_more)
}

/// Whether users can still return to the source, and how far behind it is.
fn way_back(run: &Run, progress: &Progress) -> String {
    match run.way_back() {
        Err(reason) => format!(", no way back: {reason}"),
        Ok(()) if run.is_done(Step::FollowBack) => {
            let lag = progress.lag_bytes.map(|lag| format!(", the source is {} behind", human_bytes(lag)));
            format!(", rollback is possible{}", lag.unwrap_or_default())
        }
        Ok(()) => String::new(),
    }
}

/// Why new writes do not reach the source at present, where that needs a person.
fn flows_back_no_more(run: &Run) -> Option<String> {
    let open = matches!(run.phase, Phase::Opened | Phase::Flipped) && run.way_back().is_ok();
    let stopped = run.note(Step::WayBack, STOPPED).and_then(|reason| reason.as_str()).filter(|_| open)?;
    Some(format!(
        "cannot bring new writes back to the source: {stopped}; mend that and enable the subscription, or go on with \
         finalize"
    ))
}

/// Rows that the comparison found to differ, if it found any.
pub fn differing(run: &Run) -> Option<String> {
    run.differing().map(|found| format!("cannot finalize: {found}; look at these rows on both sides"))
}

/// How much longer writes may stay stopped.
fn lease(view: &View<'_>, progress: &Progress) -> String {
    let open = view.journal.is_ok_and(|(state, _)| matches!(state.phase(), Phase::Opened | Phase::Flipped));
    match progress.lease_until.filter(|_| !open) {
        Some(until) if until > view.now => {
            format!(", writes stopped, at most {} s more", (until - view.now) / 1000)
        }
        _ => String::new(),
    }
}

/// The order in words, for reports.
pub fn order_in_words(order: Order) -> &'static str {
    match order {
        Order::Documented => "documented (the schema migration inside the outage)",
        Order::MigrateFirst => "migrate-first (the schema migration before the outage)",
        Order::InPlace => "in-place (one application on one database, users wait meanwhile)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Waiting;
    use crate::migration::{Entry, Failure, Record};

    #[test]
    fn a_sentence_that_names_nothing_but_the_way_back_leads_there() {
        let back = "cannot copy: nothing fits; run juju run iam/leader rollback, then start again";
        assert!(leads_back(back) && leads_back("run juju run iam/leader rollback"));
        assert!(!leads_back("run juju run iam/leader replicate, or juju run iam/leader rollback"));
        assert!(!leads_back("run show, then the action again"));
    }

    fn state(records: Vec<Record>) -> State {
        let entries: Vec<Entry> =
            records.into_iter().enumerate().map(|(i, record)| Entry { seq: i as i64, at: 0, record }).collect();
        State::replay(&entries).unwrap()
    }

    /// Following, with everything done that comes before the fence in this order.
    fn following(order: Order) -> Vec<Record> {
        let mut records = vec![Record::RunStarted {
            run: "0badcafe".into(),
            order,
            strict: false,
            reason: "test".into(),
            keeps: None,
        }];
        let before = crate::migration::runbook::runbook(order, false).iter().take_while(|step| **step != Step::Fence);
        for step in before.copied() {
            records.extend([Record::Started { step }, Record::Done { step, output: serde_json::Value::Null }]);
        }
        records
    }

    #[test]
    fn what_failed_before_the_flip_is_never_followed_by_it() {
        for (order, action, goal, next) in [
            (Order::Documented, "drain", Goal::Drained, "drain"),
            (Order::Documented, "run-migration", Goal::Migrated, "drain"),
            (Order::MigrateFirst, "run-migration", Goal::Migrated, "run-migration"),
            (Order::MigrateFirst, "drain", Goal::Drained, "drain"),
            (Order::Documented, "cut-over", Goal::Flipped, "cut-over"),
        ] {
            let state = state(following(order));
            assert_eq!(plan::usual_next(&state), "cut-over");
            assert_eq!(after_failure(Some(&Request::plain(action, goal)), &state), next, "{order:?} {action}");
        }
    }

    fn view<'a>(state: &'a State, progress: &'a Progress) -> View<'a> {
        View {
            leader: true,
            application: "coordinator",
            finalized: None,
            journal_lost: None,
            lacking: None,
            journal: Ok((state, progress)),
            now: 1000,
        }
    }

    #[test]
    fn nothing_begun_is_ready_and_names_the_first_action() {
        let (kind, message) = status(&view(&State::default(), &Progress::default()));
        assert_eq!(kind, StatusKind::Active);
        assert_eq!(message, "ready; next: juju run coordinator/leader preflight");
    }

    #[test]
    fn a_failed_request_is_blocked_with_its_sentence() {
        let failure = Failure::operator("drain", "the source is gone", "bring it back");
        let state = state(vec![Record::Settled { request: 0, failure: Some(failure) }]);
        let (kind, message) = status(&view(&state, &Progress::default()));
        assert_eq!(
            (kind, message.as_str()),
            (
                StatusKind::Blocked,
                "cannot drain: the source is gone; bring it back; next: juju run coordinator/leader preflight"
            )
        );
    }

    #[test]
    fn lacking_comes_before_everything() {
        let (state, progress) = (State::default(), Progress::default());
        let lacking = Lacking::passing("cannot begin");
        let mut view = view(&state, &progress);
        view.lacking = Some(&lacking);
        assert_eq!(status(&view), (StatusKind::Waiting, "cannot begin".to_owned()));
    }

    #[test]
    fn what_is_lacking_ends_with_its_cure_once() {
        let (state, progress) = (State::default(), Progress::default());
        let shown = |sentence: &str, commands: &[&str]| {
            let commands = commands.iter().map(|command| (*command).to_owned()).collect();
            let lacking = Lacking { commands, ..Lacking::person(sentence) };
            status(&View { lacking: Some(&lacking), ..view(&state, &progress) }).1
        };
        assert_eq!(shown("cannot go", &["juju a"]), "cannot go; next: juju a");
        assert_eq!(shown("cannot go; run juju a", &["juju a"]), "cannot go; run juju a");
        assert_eq!(shown("cannot go", &["juju a", "juju b"]), "cannot go; next: juju run coordinator/leader show");
    }

    #[test]
    fn a_bad_option_does_not_hide_the_lease() {
        let order = Order::MigrateFirst;
        let state = state(vec![Record::RunStarted {
            run: "r".into(),
            order,
            strict: false,
            reason: "test".into(),
            keeps: None,
        }]);
        let progress = Progress { lease_until: Some(61_000), ..Progress::default() };
        let lacking = Lacking::person("cannot use the option order: …");
        let mut view = view(&state, &progress);
        view.lacking = Some(&lacking);
        let shown = "cannot use the option order: …, writes stopped, at most 60 s more";
        assert_eq!(status(&view), (StatusKind::Blocked, shown.to_owned()));
    }

    #[test]
    fn finalized_is_at_rest_while_the_facts_reach_the_consumers() {
        let (state, progress) = (State::default(), Progress::default());
        let lacking = Lacking::person("cannot begin: nothing is related to source-database; …");
        let shown = |target: Result<String, Lacking>, consumers, source_related| {
            let finalized = Finalized { target, consumers, source_related, journal_gone: false };
            status(&View { finalized: Some(&finalized), lacking: Some(&lacking), ..view(&state, &progress) })
        };
        let active = |text: &str| (StatusKind::Active, text.to_owned());
        let target = || Ok("kratos-new".to_owned());
        let show = "; next: juju run coordinator/leader show";
        let text = format!("finalized: consumers use kratos-new, the source can go{show}");
        assert_eq!(shown(target(), 1, true), active(&text));
        assert_eq!(shown(target(), 1, false), active(&format!("finalized: consumers use kratos-new{show}")));
        let gone = || Err(Lacking::person("nothing is related to target-kratos"));
        assert_eq!(shown(gone(), 1, false).0, StatusKind::Blocked);
        let remove = "finalized: nothing is left to do here; next: juju remove-application coordinator";
        assert_eq!(shown(gone(), 0, false), active(remove));
    }

    #[test]
    fn a_lease_is_counted_down() {
        let progress = Progress { lease_until: Some(61_000), ..Progress::default() };
        assert_eq!(lease(&view(&State::default(), &progress), &progress), ", writes stopped, at most 60 s more");
    }

    #[test]
    fn a_person_waited_for_is_blocked_with_the_command() {
        let request = crate::migration::Request::plain("refresh", crate::migration::Goal::Refreshed);
        let state = state(vec![Record::Requested(request)]);
        let waiting = Waiting { reason: "old release".into(), next: "juju refresh kratos-new".into() };
        let progress = Progress { waiting: Some(waiting), ..Progress::default() };
        let shown = status(&view(&state, &progress));
        assert_eq!(shown, (StatusKind::Blocked, "old release; next: juju refresh kratos-new".to_owned()));
    }
}
