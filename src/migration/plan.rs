//! What comes next: pure functions of the journal. Refusals are decided here and nowhere else.

use super::goal::Goal;
use super::journal::{IN_PLACE, Request};
use super::phase::Phase;
use super::replay::{Run, State};
use super::runbook::{Order, REHEARSAL, REVERSAL, Step};
use super::step_state::Status;

/// What the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin a run.
    Begin,
    /// Do this step.
    Do(Step),
    /// Declare a rehearsal.
    Rehearse,
    /// Declare the rollback.
    RollBack,
    /// Undo this step.
    Undo(Step),
    /// Close the run.
    End,
    /// Nothing is known of a run: remove what the databases show of one that was ours.
    Sweep,
    /// The goal is reached.
    Reached,
    /// A rollback was asked for, but the target already took writes.
    TooLate,
    /// A rehearsal was asked for when another action had begun what rules it out; [`admit`] says what.
    NoRehearsal,
    /// Consumers are moved.
    Adopt,
    /// Nothing was asked for.
    Rest,
}

/// The next thing to do for the current request.
pub fn next(state: &State) -> Next {
    let Some(request) = &state.request else { return Next::Rest };
    if request.goal == Goal::Adopted {
        return Next::Adopt;
    }
    let Some(run) = state.active() else {
        return match request.goal {
            Goal::RolledBack if state.run.is_none() => Next::Sweep,
            Goal::RolledBack | Goal::Finalized => Next::Reached,
            Goal::UpgradedInPlace if state.has_upgraded() => Next::Reached,
            _ => Next::Begin,
        };
    };
    if run.phase == Phase::RollingBack {
        return next_undo(run);
    }
    if run.phase == Phase::Reversing {
        return next_reversal(run);
    }
    if request.goal == Goal::RolledBack {
        return match (run.phase.may_roll_back(), run.way_back()) {
            (true, _) => Next::RollBack,
            (false, Ok(())) => next_reversal(run),
            (false, Err(_)) => Next::TooLate,
        };
    }
    if run.rehearsing {
        return Next::Do(next_of_rehearsal(run, request.goal));
    }
    if request.goal == Goal::Following && run.may_mend() {
        // Rows that the comparison misses on the target are on the source, and nowhere else.
        let compared = run.is_done(Step::Verify);
        return Next::Do(if compared { Step::FollowBack } else { Step::Verify });
    }
    if compares_first(run, request.goal) {
        return Next::Do(Step::Verify);
    }
    match run.book().iter().copied().find(|s| wanted(run, *s, request.goal, request.with_refresh) && !run.is_done(*s)) {
        Some(step) => Next::Do(step),
        None if request.goal == Goal::Finalized || run.is_in_place() => Next::End,
        None if request.goal == Goal::Rehearsed && !state.has_rehearsed() => match run.may_rehearse() {
            true => Next::Rehearse,
            false => Next::NoRehearsal,
        },
        None => Next::Reached,
    }
}

/// A rehearsal goes on to its end; where its copy is lost, or it is wanted no more, its end is next.
fn next_of_rehearsal(run: &Run, goal: Goal) -> Step {
    // Without knowing that late rows fit, the target cannot follow in its new schema; migrate-first would stop there too.
    let known = run.output(Step::Migrate, LATE_ROWS_FIT).and_then(serde_json::Value::as_bool) != Some(false);
    let fits = known || run.order == Order::MigrateFirst;
    let left = |step: &Step| !run.is_done(*step) && (fits || !matches!(step, Step::CatchUp | Step::Prove));
    let goes_on = goal == Goal::Rehearsed && run.is_done(Step::Copy);
    REHEARSAL.iter().copied().find(left).filter(|_| goes_on).unwrap_or(Step::Reset)
}

/// A field of the schema migration's output: whether late rows of the old release are known to fit the new schema.
pub const LATE_ROWS_FIT: &str = "late-rows-fit";

/// Twin snapshots stand, and the last comparison failed or found differences: this one is waited for.
fn compares_first(run: &Run, goal: Goal) -> bool {
    let failed = run.status(Step::Verify) == Status::Failed || run.must_compare();
    let onwards = matches!(goal, Goal::Drained | Goal::Migrated | Goal::Flipped);
    failed && onwards && run.is_done(Step::Snapshot) && !run.is_done(Step::Verify) && !run.is_done(Step::HandOver)
}

/// What a request asks for against what the run that is under way was begun for.
pub fn contradicts(action: &str, request: &Request, state: &State) -> Option<Refusal> {
    if request.goal == Goal::UpgradedInPlace {
        return refreshed_to_another(action, request, state);
    }
    let asks_for_another = request.names_charm();
    let found = match &state.active()?.keeps {
        Some(release) if asks_for_another => format!("keeps the source's release, {release}"),
        None if request.keep_release => "was begun for another release".to_owned(),
        _ => return None,
    };
    let sentence = format!("cannot {action}: the run that is under way {found}; run rollback, then this action again");
    Some(Refusal { sentence, instead: "rollback".to_owned() })
}

/// The field of an in-place refresh's output: the channel and the revision that were asked for.
pub const WISH: &str = "wish";

/// An application that was refreshed already goes on with the release that it has.
fn refreshed_to_another(action: &str, request: &Request, state: &State) -> Option<Refusal> {
    let wish = state.active()?.output(Step::Refresh, WISH)?;
    let other = request.names_charm() && *wish != request.wish();
    let sentence = format!(
        "cannot {action}: the application was refreshed to another charm already; run it without channel, revision and \
         local, which goes on with what it has"
    );
    let plain = Request { channel: String::new(), revision: 0, local: None, ..request.clone() };
    other.then(|| Refusal { sentence, instead: plain.again(IN_PLACE) })
}

/// Users go back to the source first; then everything is undone.
fn next_reversal(run: &Run) -> Next {
    match REVERSAL.iter().copied().find(|step| !run.is_done(*step)) {
        Some(step) => Next::Do(step),
        None => Next::RollBack,
    }
}

/// The last step begun is undone first.
fn next_undo(run: &Run) -> Next {
    match run.book().iter().rev().copied().find(|s| run.status(*s) != Status::Pending) {
        Some(step) => Next::Undo(step),
        None => Next::End,
    }
}

/// True when the step belongs to the road to the goal.
fn wanted(run: &Run, step: Step, goal: Goal, with_refresh: bool) -> bool {
    if run.is_in_place() || goal == Goal::UpgradedInPlace {
        return run.is_in_place() && goal == Goal::UpgradedInPlace;
    }
    if goal == Goal::Refreshed {
        return step == Step::Refresh;
    }
    let book = run.book();
    let place = |s: Step| book.iter().position(|b| *b == s);
    let last = match goal {
        Goal::Refreshed | Goal::Adopted => Step::Refresh,
        // A lost way back was made anew.
        Goal::Following if run.phase == Phase::Flipped => Step::FollowBack,
        // What is following was lost after the schema migration: catching up makes it good.
        Goal::Following if run.order == Order::MigrateFirst && run.is_done(Step::Migrate) => Step::CatchUp,
        Goal::Following | Goal::Rehearsed => Step::Follow,
        Goal::Migrated => Step::Gates,
        Goal::Drained if place(Step::Verify) < place(Step::HandOver) => Step::Verify,
        Goal::Drained | Goal::RolledBack => Step::Snapshot,
        Goal::Flipped => Step::FollowBack,
        Goal::Finalized => Step::Finalize,
        Goal::UpgradedInPlace => Step::Gates,
    };
    if place(step) > place(last) {
        return false;
    }
    // In the documented order the refresh may come as late as the migration itself.
    step != Step::Refresh || with_refresh || place(Step::Migrate) <= place(last)
}

/// Why an action does not fit, and what to run instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sentence.
    pub sentence: String,
    /// The action to run instead, with parameters; empty when there is none.
    pub instead: String,
}

/// Decides whether an action fits the phase. `Ok` means that the goal may be requested (again).
///
/// # Errors
/// [`Refusal`] with the sentence and the action to run instead.
pub fn admit(action: &str, goal: Goal, state: &State) -> Result<(), Refusal> {
    let phase = state.phase();
    let refuse = |why: &str, instead: &str| {
        Err(Refusal {
            sentence: format!("cannot {action}: {why}; run {}", if instead.is_empty() { "show" } else { instead }),
            instead: instead.to_owned(),
        })
    };
    let run = state.active();
    let migrated = run.is_some_and(|r| r.is_done(Step::Gates));
    let order = run.map(|r| r.order);
    let past = |p: Phase| matches!(p, Phase::Opened | Phase::Flipped);
    let lost = phase == Phase::Following && run.is_some_and(|r| !r.follows());
    if matches!(phase, Phase::Reversing | Phase::RollingBack) && goal != Goal::RolledBack {
        return refuse("a rollback is under way", "rollback");
    }
    if goal != Goal::Finalized {
        admit_unless_finalized(action, state)?;
    }
    // A consumer may be between two relations.
    if state.request.as_ref().is_some_and(|request| request.goal == Goal::Adopted)
        && !(goal == Goal::Adopted || (goal == Goal::RolledBack && run.is_some()))
    {
        return refuse("consumers are being moved", "adopt");
    }
    match (run.map(Run::is_in_place), goal) {
        (Some(true), Goal::UpgradedInPlace | Goal::RolledBack) => return Ok(()),
        (Some(true), _) => return refuse("an upgrade in place is under way", usual_next(state)),
        (Some(false), Goal::UpgradedInPlace) => {
            return refuse("a migration to another application is under way", usual_next(state));
        }
        (Some(false) | None, _) => {}
    }
    if run.is_some_and(|run| run.rehearsing) && !matches!(goal, Goal::Rehearsed | Goal::Following | Goal::RolledBack) {
        return refuse("a rehearsal is under way", usual_next(state));
    }
    // A goal that lies behind would take the place of the one that is worked on, and leave writes stopped, the copy
    // without a follower or the schema migration without a watcher.
    let behind = matches!(goal, Goal::Refreshed | Goal::Migrated);
    let other = state.request.as_ref().is_some_and(|request| request.goal != goal);
    match phase {
        Phase::Copying if goal == Goal::Refreshed && other => return refuse("the copy is under way", "replicate"),
        Phase::Migrating if goal == Goal::Refreshed => {
            return refuse("the target's schema migration is under way", "run-migration");
        }
        Phase::Fenced if behind => return refuse("writes are stopped and the target is not drained yet", "drain"),
        Phase::Drained if behind && migrated && other => {
            return refuse("writes are stopped and the target is ready to take over", "flip-traffic");
        }
        _ => {}
    }
    // The whole runbook may be asked for from anywhere before its goal.
    if action == "migrate" && goal != Goal::Following && !past(phase) {
        return Ok(());
    }
    if lost && matches!(goal, Goal::Rehearsed | Goal::Migrated | Goal::Drained | Goal::Flipped) {
        return refuse("the target does not follow the source any more", "replicate");
    }
    match goal {
        Goal::Adopted => match (&state.request, phase) {
            (Some(other), _) if other.goal != Goal::Adopted => refuse("another action is at work", &other.action),
            (_, Phase::Fenced | Phase::Drained | Phase::Opened | Phase::Reversing | Phase::RollingBack) => {
                refuse("users are waiting", usual_next(state))
            }
            _ => Ok(()),
        },
        Goal::Refreshed if past(phase) => refuse("users are already on the target", usual_next(state)),
        Goal::Refreshed => Ok(()),
        Goal::Rehearsed => match phase {
            _ if run.is_some_and(|run| run.rehearsing) => Ok(()),
            Phase::Opened | Phase::Flipped => refuse("users are already on the target", usual_next(state)),
            Phase::Fenced | Phase::Drained => {
                refuse("writes are stopped, and no rehearsal is worth that", usual_next(state))
            }
            Phase::Migrating => {
                refuse("the target's schema migration is under way, and is no rehearsal", "run-migration")
            }
            _ if run.is_some_and(|run| run.keeps.is_some()) => {
                refuse("the target keeps the source's release, so no schema is migrated", usual_next(state))
            }
            _ if run.is_some_and(Run::has_begun_to_migrate) => {
                refuse("the target's schema is migrated already", usual_next(state))
            }
            _ if run.is_some_and(Run::stops_writes) => {
                refuse("writes are being stopped, and no rehearsal is worth that", "drain")
            }
            _ => Ok(()),
        },
        // What was rehearsed is taken back, and the target follows again.
        Goal::Following if run.is_some_and(|run| run.rehearsing) => Ok(()),
        Goal::Following if matches!(phase, Phase::Fenced | Phase::Drained) => {
            refuse(&format!("the migration is {phase}, past following"), usual_next(state))
        }
        Goal::Following if phase == Phase::Migrating => {
            refuse("the target's schema migration is under way", "run-migration")
        }
        // What was lost is the way back.
        Goal::Following if run.is_some_and(Run::may_mend) => Ok(()),
        Goal::Following if matches!(phase, Phase::Opened | Phase::Flipped) => {
            refuse("users are already on the target", if phase == Phase::Opened { "flip-traffic" } else { "finalize" })
        }
        Goal::Following => Ok(()),
        Goal::Migrated => match (phase, order) {
            (Phase::Following | Phase::Migrating, Some(Order::MigrateFirst)) => Ok(()),
            (Phase::Drained | Phase::Migrating, Some(Order::Documented)) => Ok(()),
            (Phase::Drained, Some(Order::MigrateFirst)) => Ok(()),
            (Phase::Opened, _) => refuse("users are already on the target", "flip-traffic"),
            (Phase::Flipped, _) => refuse("users are already on the target", "finalize"),
            (Phase::Following, _) => {
                refuse("in the documented order the schema migration comes after the drain", "drain")
            }
            _ => refuse("the target does not follow the source yet", "replicate"),
        },
        Goal::Drained => match phase {
            Phase::Fenced | Phase::Drained => Ok(()),
            Phase::Following if order == Some(Order::MigrateFirst) && !migrated => {
                refuse("the target's schema has not been migrated yet", "run-migration")
            }
            Phase::Following => Ok(()),
            Phase::Migrating => refuse("the target's schema migration is under way", "run-migration"),
            Phase::Opened => refuse("users are already on the target", "flip-traffic"),
            Phase::Flipped => refuse("users are already on the target", "finalize"),
            _ => refuse("nothing is being replicated", "replicate"),
        },
        Goal::Flipped if action == "flip-traffic" => match phase {
            Phase::Drained | Phase::Opened | Phase::Flipped => Ok(()),
            Phase::Migrating if order == Some(Order::Documented) => Ok(()),
            Phase::Following if order == Some(Order::MigrateFirst) && !migrated => {
                refuse("the target's schema has not been migrated yet", "run-migration")
            }
            Phase::Fenced | Phase::Following => refuse("the source is not drained", "drain"),
            Phase::Migrating => refuse("the target's schema migration is under way", "run-migration"),
            _ => refuse("nothing is being replicated", "replicate"),
        },
        Goal::Flipped => match phase {
            _ if action == "migrate" => Ok(()),
            Phase::Following if order == Some(Order::MigrateFirst) && !migrated => {
                refuse("the target's schema has not been migrated yet", "run-migration")
            }
            Phase::Following | Phase::Fenced | Phase::Drained | Phase::Opened | Phase::Flipped => Ok(()),
            Phase::Migrating if order == Some(Order::Documented) => Ok(()),
            Phase::Migrating => refuse("the target's schema migration is under way", "run-migration"),
            _ => refuse("nothing is being replicated", "replicate"),
        },
        Goal::RolledBack => match run.filter(|_| past(phase)) {
            Some(run) if run.way_back().is_err() => {
                Err(Refusal { sentence: too_late(run), instead: usual_next(state).to_owned() })
            }
            _ => Ok(()),
        },
        Goal::UpgradedInPlace => Ok(()),
        Goal::Finalized => match phase {
            Phase::Flipped | Phase::Finalized => Ok(()),
            Phase::Idle => refuse("there is nothing to finalize", "preflight"),
            _ => refuse(&format!("consumers still use the source (phase {phase})"), usual_next(state)),
        },
    }
}

/// Decides whether anything but `finalize` and `show` still makes sense: a new run would lead the consumers back to
/// the source and copy over what the target took since.
///
/// # Errors
/// [`Refusal`] when the migration is finalized.
pub fn admit_unless_finalized(action: &str, state: &State) -> Result<(), Refusal> {
    if state.phase() != Phase::Finalized {
        return Ok(());
    }
    Err(Refusal {
        sentence: format!(
            "cannot {action}: this migration is finalized; deploy another coordinator for another migration"
        ),
        instead: "show".to_owned(),
    })
}

/// Decides whether the target can be compared while it follows.
///
/// # Errors
/// [`Refusal`] when it does not follow, or when writes are stopped and the drain compares by itself.
pub fn admit_verify(state: &State) -> Result<&Run, Refusal> {
    let refuse = |why: String, instead: &str| {
        Err(Refusal { sentence: format!("cannot verify: {why}; run {instead}"), instead: instead.to_owned() })
    };
    match (state.active(), state.phase()) {
        (Some(run), Phase::Following) if !run.rehearsing => Ok(run),
        (_, Phase::Idle | Phase::Prepared | Phase::Copying) => {
            refuse("the target does not follow yet".into(), "replicate")
        }
        (Some(run), Phase::Following | Phase::Migrating) if run.rehearsing => {
            refuse("a rehearsal is under way".into(), usual_next(state))
        }
        (_, Phase::Migrating) => refuse("the target's schema migration is under way".into(), "run-migration"),
        (_, Phase::Reversing | Phase::RollingBack) => refuse("a rollback is under way".into(), "rollback"),
        (_, Phase::Finalized) => refuse("the migration is finalized".into(), "show"),
        (_, phase) => refuse(format!("in phase {phase} the runbook compares by itself"), usual_next(state)),
    }
}

/// The sentence for a rollback after the open where no way back exists.
pub fn too_late(run: &Run) -> String {
    let cure = if run.may_mend() { "run replicate, which makes it anew, or stay" } else { "stay" };
    format!(
        "cannot roll back: the target already took writes (phase {}), and there is no way back for them: {}; {cure} on \
         the target",
        run.phase,
        run.way_back().err().unwrap_or_default()
    )
}

/// The action that usually comes next, with its parameters; empty when there is none.
pub fn usual_next(state: &State) -> &'static str {
    let Some(run) = state.active() else {
        return match state.phase() {
            Phase::Finalized => "",
            _ if state.run.as_ref().is_some_and(|run| run.upgraded().is_some()) => "show",
            _ => "preflight",
        };
    };
    if run.is_in_place() && run.phase != Phase::RollingBack {
        return "upgrade-in-place accept-outage=true";
    }
    let migrated = run.is_done(Step::Gates);
    match run.phase {
        Phase::Following | Phase::Migrating if run.rehearsing && run.is_done(Step::Copy) => "rehearse",
        Phase::Following | Phase::Migrating if run.rehearsing => "replicate",
        Phase::Idle | Phase::Prepared | Phase::Copying => "replicate",
        Phase::Following if !run.follows() => "replicate",
        Phase::Following if run.order == Order::MigrateFirst && !run.is_done(Step::Refresh) => "refresh",
        Phase::Following if run.order == Order::MigrateFirst && !migrated => "run-migration",
        Phase::Following => "cut-over",
        Phase::Migrating => "run-migration",
        Phase::Fenced => "drain",
        Phase::Drained if run.order == Order::Documented && !run.is_done(Step::Refresh) => "refresh",
        Phase::Drained if run.order == Order::Documented && !migrated => "run-migration",
        Phase::Drained | Phase::Opened => "flip-traffic",
        Phase::Flipped if run.may_mend() && run.differing().is_none() => "replicate",
        Phase::Flipped => "finalize",
        Phase::Reversing | Phase::RollingBack => "rollback",
        Phase::Finalized => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::{Entry, Record};

    /// A run in this order with these records, and this asked for.
    fn asked(order: Order, records: impl IntoIterator<Item = Record>, goal: Goal) -> State {
        let begun =
            Record::RunStarted { run: "0badcafe".into(), order, strict: false, reason: "test".into(), keeps: None };
        let records = [begun].into_iter().chain(records).chain([Record::Requested(Request::plain("test", goal))]);
        let entry = |(seq, record)| Entry { seq: seq as i64 + 1, at: 0, record };
        State::replay(&records.enumerate().map(entry).collect::<Vec<_>>()).unwrap()
    }

    fn done(steps: &[Step], output: &serde_json::Value) -> Vec<Record> {
        let both = |&step| [Record::Started { step }, Record::Done { step, output: output.clone() }];
        steps.iter().flat_map(both).collect()
    }

    /// A run of a rehearsal with these steps done, the schema migration with this output, and this asked for.
    fn rehearsing(steps: &[Step], fits: bool, goal: Goal) -> State {
        let output = serde_json::json!({LATE_ROWS_FIT: fits});
        let (common, tried) = steps.split_at(5);
        let declared = (!tried.is_empty()).then_some(Record::RehearsalStarted);
        let records = done(common, &output).into_iter().chain(declared).chain(done(tried, &output));
        asked(Order::Documented, records, goal)
    }

    #[test]
    fn a_rehearsal_catches_up_and_compares_only_where_late_rows_fit() {
        let migrated = &REHEARSAL[..7];
        let wanted = Goal::Rehearsed;
        assert_eq!(next(&rehearsing(migrated, true, wanted)), Next::Do(Step::CatchUp));
        assert_eq!(next(&rehearsing(migrated, false, wanted)), Next::Do(Step::Gates));
        let passed = [migrated, &[Step::Gates]].concat();
        assert_eq!(next(&rehearsing(&passed, false, wanted)), Next::Do(Step::Reset));
        // Wanted no more, it is taken back at once; before its declaration nothing is.
        assert_eq!(next(&rehearsing(migrated, true, Goal::Following)), Next::Do(Step::Reset));
        assert_eq!(next(&rehearsing(&REHEARSAL[..5], true, Goal::Following)), Next::Reached);
        assert_eq!(next(&rehearsing(&REHEARSAL[..5], true, wanted)), Next::Rehearse);
        assert_eq!(next(&rehearsing(migrated, true, Goal::RolledBack)), Next::RollBack);
    }

    #[test]
    fn a_rehearsal_that_is_asked_for_beside_what_rules_it_out_is_none() {
        let common = done(&REHEARSAL[..5], &serde_json::Value::Null);
        for (order, begins, instead) in [
            (Order::Documented, Step::Fence, "drain"),
            (Order::MigrateFirst, Step::Fence, "drain"),
            (Order::MigrateFirst, Step::Pause, "run-migration"),
        ] {
            let records = common.iter().cloned().chain([Record::Started { step: begins }]);
            let state = asked(order, records, Goal::Rehearsed);
            assert_eq!(next(&state), Next::NoRehearsal, "{order:?} {begins:?}");
            assert_eq!(
                admit("rehearse", Goal::Rehearsed, &state).unwrap_err().instead,
                instead,
                "{order:?} {begins:?}"
            );
        }
    }

    #[test]
    fn an_upgrade_in_place_ends_with_its_gates_and_another_may_begin() {
        let book = super::super::runbook::runbook(Order::InPlace, false);
        let wanted = Goal::UpgradedInPlace;
        let after = |steps: &[Step]| asked(Order::InPlace, done(steps, &serde_json::Value::Null), wanted);
        for (at, step) in book.iter().enumerate() {
            assert_eq!(next(&after(&book[..at])), Next::Do(*step));
        }
        assert_eq!(next(&after(book)), Next::End);
        assert_eq!(next(&asked(Order::InPlace, [], Goal::RolledBack)), Next::RollBack);
        let output = serde_json::json!({"from": "1.0.0", "to": "1.3.1"});
        let ask = || Record::Requested(Request::plain(IN_PLACE, wanted));
        let begun = Record::RunStarted {
            run: "0badcafe".into(),
            order: Order::InPlace,
            strict: false,
            reason: "test".into(),
            keeps: None,
        };
        let mut records = vec![ask(), begun];
        records.extend(done(book, &output));
        records.push(Record::RunEnded);
        let play = |records: &[Record]| {
            let entry = |(seq, record): (usize, &Record)| Entry { seq: seq as i64 + 1, at: 0, record: record.clone() };
            State::replay(&records.iter().enumerate().map(entry).collect::<Vec<_>>()).unwrap()
        };
        let state = play(&records);
        assert_eq!((next(&state), state.phase()), (Next::Reached, Phase::Idle));
        assert_eq!(state.run.as_ref().and_then(Run::upgraded), Some(("1.0.0", "1.3.1")));
        records.extend([Record::Settled { request: 1, failure: None }, ask()]);
        assert_eq!(next(&play(&records)), Next::Begin);
    }

    #[test]
    fn beside_an_upgrade_in_place_nothing_is_admitted_and_it_not_beside_anything() {
        let under_way = asked(Order::InPlace, [], Goal::UpgradedInPlace);
        for goal in [Goal::UpgradedInPlace, Goal::RolledBack] {
            assert_eq!(admit("test", goal, &under_way), Ok(()), "{goal:?}");
        }
        for goal in [Goal::Refreshed, Goal::Following, Goal::Rehearsed, Goal::Migrated, Goal::Flipped, Goal::Finalized]
        {
            let refusal = admit("test", goal, &under_way).unwrap_err();
            assert_eq!(refusal.instead, "upgrade-in-place accept-outage=true", "{goal:?}");
        }
        let other = asked(Order::MigrateFirst, [], Goal::Following);
        let refusal = admit("upgrade-in-place", Goal::UpgradedInPlace, &other).unwrap_err();
        assert!(refusal.sentence.contains("a migration to another application is under way"), "{refusal:?}");
        assert_eq!(next(&asked(Order::MigrateFirst, [], Goal::UpgradedInPlace)), Next::Reached);
    }

    #[test]
    fn while_consumers_are_moved_nothing_else_begins_and_they_are_not_moved_beside_other_work() {
        let moving = asked(Order::MigrateFirst, [], Goal::Adopted);
        assert_eq!(next(&moving), Next::Adopt);
        for goal in [Goal::Adopted, Goal::RolledBack] {
            assert_eq!(admit("test", goal, &moving), Ok(()), "{goal:?}");
        }
        for goal in [Goal::Refreshed, Goal::Following, Goal::Flipped, Goal::UpgradedInPlace] {
            let refusal = admit("migrate", goal, &moving).unwrap_err();
            assert_eq!(refusal.sentence, "cannot migrate: consumers are being moved; run adopt", "{goal:?}");
        }
        let other = asked(Order::MigrateFirst, [], Goal::Following);
        assert_eq!(admit("adopt", Goal::Adopted, &other).unwrap_err().instead, "test");
        let in_place = asked(Order::InPlace, [], Goal::UpgradedInPlace);
        assert!(admit("adopt", Goal::Adopted, &in_place).is_err());
    }

    #[test]
    fn what_was_refreshed_is_not_refreshed_to_something_else_in_the_same_run() {
        let wish = serde_json::json!({WISH: ["0.4/stable", 0]});
        let state = asked(Order::InPlace, done(&[Step::Preflight, Step::Refresh], &wish), Goal::UpgradedInPlace);
        let plain = Request { accept_outage: true, ..Request::plain(IN_PLACE, Goal::UpgradedInPlace) };
        let to = |channel: &str| Request { channel: channel.to_owned(), ..plain.clone() };
        for request in [plain.clone(), to("0.4/stable")] {
            assert_eq!(contradicts(IN_PLACE, &request, &state), None);
        }
        let refusal = contradicts(IN_PLACE, &to("0.6/stable"), &state).unwrap();
        assert_eq!(refusal.instead, "upgrade-in-place accept-outage=true");
    }

    #[test]
    fn beside_a_rehearsal_nothing_is_admitted_but_its_end() {
        let state = rehearsing(&REHEARSAL[..7], true, Goal::Rehearsed);
        for goal in [Goal::Rehearsed, Goal::Following, Goal::RolledBack] {
            assert_eq!(admit("test", goal, &state), Ok(()), "{goal:?}");
        }
        for goal in [Goal::Refreshed, Goal::Migrated, Goal::Drained, Goal::Flipped, Goal::Finalized] {
            let refusal = admit("migrate", goal, &state).unwrap_err();
            assert_eq!(refusal.sentence, "cannot migrate: a rehearsal is under way; run rehearse");
        }
        assert_eq!(admit_verify(&state).unwrap_err().instead, "rehearse");
    }

    #[test]
    fn a_run_keeps_the_release_or_moves_to_another_to_its_end() {
        let begun = |keeps: Option<&str>| {
            let record = Record::RunStarted {
                run: "0badcafe".into(),
                order: Order::MigrateFirst,
                strict: false,
                reason: "test".into(),
                keeps: keeps.map(str::to_owned),
            };
            State::replay(&[Entry { seq: 1, at: 0, record }]).unwrap()
        };
        let plain = Request::plain("migrate", Goal::Flipped);
        let keeping = Request { keep_release: true, ..plain.clone() };
        let moving = Request { channel: "1.3/stable".into(), ..plain.clone() };
        let refused =
            |request: &Request, state: &State| contradicts("migrate", request, state).map(|found| found.sentence);
        for request in [&plain, &keeping, &moving] {
            assert_eq!(refused(request, &State::default()), None);
        }
        let (kept, other) = (begun(Some("2.3.0")), begun(None));
        assert!(refused(&moving, &kept).unwrap().contains("keeps the source's release, 2.3.0; run rollback"));
        assert!(refused(&keeping, &other).unwrap().contains("was begun for another release; run rollback"));
        for (request, state) in [(&plain, &kept), (&keeping, &kept), (&plain, &other), (&moving, &other)] {
            assert_eq!(refused(request, state), None);
        }
    }
}
