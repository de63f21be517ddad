//! Status is a pure function of journal and facts, computed last.

use super::gather::Lacking;
use crate::juju::StatusKind;
use crate::migration::{Order, Phase, Progress, Run, State, Step, plan};
use crate::steps::observe::human_bytes;

/// What a status is made of.
pub struct View<'a> {
    /// Whether this unit leads.
    pub leader: bool,
    /// Our application's name.
    pub application: &'a str,
    /// What the migration lacks, if anything.
    pub lacking: Option<&'a Lacking>,
    /// Journal and progress, or why they could not be read.
    pub journal: Result<(&'a State, &'a Progress), &'a str>,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// The status to show.
pub fn status(view: &View<'_>) -> (StatusKind, String) {
    if let Some(lacking) = view.lacking {
        let kind = if lacking.person { StatusKind::Blocked } else { StatusKind::Waiting };
        return (kind, lacking.sentence.clone());
    }
    if !view.leader {
        return (StatusKind::Active, "standing by; the leader coordinates".to_owned());
    }
    match view.journal {
        Err(sentence) => (StatusKind::Waiting, sentence.to_owned()),
        Ok((state, progress)) if state.request.is_some() => working(view, state, progress),
        Ok((state, progress)) => resting(view, state, progress),
    }
}

/// While a request is worked on.
fn working(view: &View<'_>, state: &State, progress: &Progress) -> (StatusKind, String) {
    if let Some(waiting) = &progress.waiting {
        return match waiting.next.as_str() {
            "" => (StatusKind::Waiting, format!("{}{}", waiting.reason, lease(view, progress))),
            next => (StatusKind::Blocked, format!("{}{}; run {next}", waiting.reason, lease(view, progress))),
        };
    }
    if let Some(trouble) = &progress.trouble {
        return (StatusKind::Waiting, trouble.clone());
    }
    let phase = state.phase();
    let text = if progress.text.is_empty() { progress.step.as_str() } else { progress.text.as_str() };
    let text = if text.is_empty() { "starting" } else { text };
    (StatusKind::Maintenance, format!("{phase}: {text}{}", lease(view, progress)))
}

/// Between requests.
fn resting(view: &View<'_>, state: &State, progress: &Progress) -> (StatusKind, String) {
    if let Some(failure) = &state.failure {
        return (StatusKind::Blocked, failure.sentence.clone());
    }
    let command = |action: &str| format!("juju run {}/leader {action}", view.application);
    let next = match plan::usual_next(state) {
        "" => String::new(),
        action => format!("; run {}", command(action)),
    };
    let Some(run) = state.active() else {
        let text = match state.phase() {
            Phase::Finalized => {
                "finalized: consumers use the target, nothing of ours is left in the databases".to_owned()
            }
            _ => format!("ready{next}"),
        };
        return (StatusKind::Active, text);
    };
    if let Some(reason) = lost(run) {
        return (StatusKind::Blocked, format!("{reason}; run {}", command("replicate")));
    }
    if let Some(trouble) = &progress.trouble {
        return (StatusKind::Blocked, trouble.clone());
    }
    if let Some(found) = differing(run) {
        return (StatusKind::Blocked, found);
    }
    let detail = match run.phase {
        Phase::Following => {
            let lifted =
                run.lifted.as_ref().map(|reason| format!(", the fence was lifted: {reason}")).unwrap_or_default();
            let lag = progress.lag_bytes.map(|lag| format!(", {} behind", human_bytes(lag))).unwrap_or_default();
            let migrated = if run.is_done(Step::Gates) { ", schema migrated" } else { "" };
            format!("{lag}{migrated}{lifted}")
        }
        Phase::Opened => ": the target takes writes".to_owned(),
        Phase::Flipped => ": consumers use the target".to_owned(),
        _ => lease(view, progress),
    };
    (StatusKind::Active, format!("{}{detail}{next}", run.phase))
}

/// What was lost and not yet made good.
pub fn lost(run: &Run) -> Option<&str> {
    let follows_no_more = run.phase == Phase::Following && !run.follows();
    run.lost.as_deref().filter(|_| follows_no_more)
}

/// Rows that the comparison found to differ, if it found any.
pub fn differing(run: &Run) -> Option<String> {
    let different = run.output(Step::Verify, "rows-different")?.as_u64()?;
    (different > 0).then(|| {
        let found = run.output(Step::Verify, "found").and_then(|f| f.as_str()).unwrap_or("rows differ");
        format!("cannot finalize: {found}; look at these rows on both sides")
    })
}

/// How much longer writes may stay stopped.
fn lease(view: &View<'_>, progress: &Progress) -> String {
    match progress.lease_until {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Waiting;
    use crate::migration::{Entry, Failure, Record};

    fn state(records: Vec<Record>) -> State {
        let entries: Vec<Entry> =
            records.into_iter().enumerate().map(|(i, record)| Entry { seq: i as i64, at: 0, record }).collect();
        State::replay(&entries).unwrap()
    }

    fn view<'a>(state: &'a State, progress: &'a Progress) -> View<'a> {
        View { leader: true, application: "coordinator", lacking: None, journal: Ok((state, progress)), now: 1000 }
    }

    #[test]
    fn nothing_begun_is_ready_and_names_the_first_action() {
        let (kind, message) = status(&view(&State::default(), &Progress::default()));
        assert_eq!(kind, StatusKind::Active);
        assert_eq!(message, "ready; run juju run coordinator/leader preflight");
    }

    #[test]
    fn a_failed_request_is_blocked_with_its_sentence() {
        let failure = Failure::operator("drain", "the source is gone", "bring it back");
        let state = state(vec![Record::Settled { request: 0, failure: Some(failure) }]);
        let (kind, message) = status(&view(&state, &Progress::default()));
        assert_eq!((kind, message.as_str()), (StatusKind::Blocked, "cannot drain: the source is gone; bring it back"));
    }

    #[test]
    fn lacking_comes_before_everything() {
        let (state, progress) = (State::default(), Progress::default());
        let lacking = Lacking { sentence: "cannot begin".into(), person: false };
        let mut view = view(&state, &progress);
        view.lacking = Some(&lacking);
        assert_eq!(status(&view), (StatusKind::Waiting, "cannot begin".to_owned()));
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
        assert_eq!(shown, (StatusKind::Blocked, "old release; run juju refresh kratos-new".to_owned()));
    }
}
