//! What happens to the target application, its controller or its model in the middle of a step that the coordinator drives
//! itself: it is told, nothing is asked for twice, and where it passes the step goes on without a person.

use super::closing::Played;
use super::controller::{arrives, given, given_by, hold_unit, migrate, modest, refresh};
use super::rig::{self, End, SOON};
use super::story::{expect, run};
use controller_peer::{BlockKind, Fault, Mode};
use emulator::{ActionResult, Api, Model};
use std::sync::Arc;
use std::time::Duration;

/// Cuts the connection at the next look, so that a controller's state is met by a login, too.
fn cut(api: &Api) {
    api.plan_fault("Client.FullStatus", Fault::CutBefore);
}

/// What is asked of a controller in the middle of something, what is said then, and whether it lets anybody in.
fn troubles() -> [(Mode, &'static str); 4] {
    [
        (Mode::Upgrading(false), "upgrade"),
        (Mode::Upgrading(true), "upgrade is over"),
        (Mode::Migrating, "waiting until the model's migration is over"),
        (Mode::Importing, "model's migration is over"),
    ]
}

/// `run-migration`, asked for again until it is running and its message says this.
fn migration_says(stage: &Played, says: &str) -> ActionResult {
    let ask = || run(&stage.model, "run-migration", &[("wait", "5")]);
    let mut last = ask();
    for _ in 0..20 {
        if last.result("message").contains(says) {
            return last;
        }
        last = ask();
    }
    panic!("run-migration does not say {says:?}: {last:?}");
}

#[test]
fn a_controller_that_is_upgraded_and_a_model_that_moves_are_waited_for_in_a_refresh_and_in_a_migration() {
    busy_in_both(given("interrupted"));
}

fn busy_in_both((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    hold_unit(&stage, "kratos-new/0", "hooks/");
    refresh(&stage, "running", "kratos-new is being refreshed to ch:amd64/kratos-500: kratos-new/0");
    for (mode, says) in troubles() {
        api.set_mode(mode);
        cut(&api);
        refresh(&stage, "running", says);
    }
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    // The units go on meanwhile; what they did is seen when the controller is back.
    let waits = |model: &Model| model.status("kratos-new/0").is_ok_and(|(word, _)| word == "waiting");
    model.wait_until("the refreshed unit to wait for its migration", SOON, waits).unwrap();
    api.set_mode(Mode::Normal);
    refresh(&stage, "done", "");
    rig::follow(&stage);

    hold_unit(&stage, "kratos-new/0", "actions/");
    migration_says(&stage, "run-migration waits for its turn on kratos-new/0 (task ");
    for (mode, says) in troubles() {
        api.set_mode(mode);
        cut(&api);
        migration_says(&stage, says);
    }
    api.set_mode(Mode::Normal);
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    arrives(&stage, &api, (1, 1));
}

#[test]
fn what_is_blocked_in_the_middle_is_told_in_the_administrators_words_and_goes_on_without_the_block() {
    blocked_in_a_migration(given("interrupted-block"));
}

fn blocked_in_a_migration((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "following"), ("wait", "120")], "done");
    hold_unit(&stage, "kratos-new/0", "actions/");
    migration_says(&stage, "run-migration waits for its turn on kratos-new/0 (task ");
    api.set_block(BlockKind::BlockChange, Some("freeze until Monday"));
    stage.controller.set_gate(None);
    // The action is none of what is blocked; the option that is touched then is.
    let ended = |model: &Model| model.tasks().iter().any(|task| task.unit == "kratos-new/0" && task.ended());
    model.wait_until("the migration to end", SOON, ended).unwrap();
    let waits = run(model, "run-migration", &[("wait", "30")]);
    assert_eq!(waits.result("outcome"), "waiting", "{waits:?}");
    assert!(waits.result("message").contains("freeze until Monday"), "{waits:?}");
    assert_eq!((api.times_done("Action.EnqueueOperation"), api.times_done("Application.SetConfigs")), (1, 0));
    api.set_block(BlockKind::BlockChange, None);
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    assert_eq!(model.options("kratos-new").unwrap()["log_level"], "info");
    modest(&api);
    rig::close(&stage, End::Target);
}

#[test]
fn a_unit_in_error_in_a_refresh_is_named_and_its_cure_is_all_that_is_needed() {
    in_error_in_a_refresh(given("interrupted-error"));
}

fn in_error_in_a_refresh((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    hold_unit(&stage, "kratos-new/0", "hooks/");
    refresh(&stage, "running", "kratos-new/0 has not begun to refresh");
    // It may not read its database's secret any more.
    model.withhold_grants("postgresql-new", "kratos-new").unwrap();
    stage.controller.set_gate(None);
    model.update_status("kratos-new/0").unwrap();
    let stuck = refresh(&stage, "waiting", "stands still: kratos-new/0 is in error: hook failed: ");
    assert_eq!(stuck.result("next"), "juju status kratos-new");
    model.release_grants("postgresql-new", "kratos-new").unwrap();
    model.resolved("kratos-new/0", true).unwrap();
    refresh(&stage, "done", "");
    assert_eq!(api.times_done("Application.SetCharm"), 1);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close_but_one_hook(&stage, End::Source);
}

#[test]
fn a_lost_agent_is_named_in_a_refresh_and_in_a_migration_and_both_go_on_when_it_is_back() {
    let (stage, api) = given("interrupted-lost");
    let model = &stage.model;
    hold_unit(&stage, "kratos-new/0", "");
    refresh(&stage, "running", "kratos-new/0 has not begun to refresh");
    model.lose_agent("kratos-new/0").unwrap();
    refresh(&stage, "running", "the agent of kratos-new/0 is lost: agent is not communicating with the server");
    stage.controller.set_gate(None);
    refresh(&stage, "done", "");
    rig::follow(&stage);
    hold_unit(&stage, "kratos-new/0", "");
    migration_says(&stage, "run-migration waits for its turn on kratos-new/0 (task ");
    model.lose_agent("kratos-new/0").unwrap();
    let lost = migration_says(&stage, "run-migration waits for the agent of kratos-new/0, which is lost (task ");
    assert_eq!((lost.result("outcome").as_str(), lost.result("next").as_str()), ("waiting", "juju status kratos-new"));
    stage.controller.set_gate(None);
    expect(model, "run-migration", &[("wait", "120")], "done");
    assert_eq!((api.times_done("Application.SetCharm"), api.times_done("Action.EnqueueOperation")), (1, 1));
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn what_is_blocked_before_the_switch_is_told_in_the_administrators_words_and_goes_on_without_the_block() {
    blocked_before_the_switch(given("interrupted-freeze"));
}

/// The charm is in the model by then, and on 4.0 its image is in use.
fn blocked_before_the_switch((stage, api): (Played, Arc<Api>)) {
    let model = &stage.model;
    api.freeze_before("Application.SetCharm", "freeze until Monday");
    let blocked = refresh(&stage, "waiting", "freeze until Monday");
    assert!(blocked.result("next").starts_with("juju refresh kratos-new --channel 0.4/stable"), "{blocked:?}");
    model.update_status("coordinator/0").unwrap();
    rig::status_says(model, "coordinator/0", "freeze until Monday");
    assert_eq!(api.times_done("Application.SetCharm"), 0);
    let asked_for = api.received().iter().filter(|received| received.call == "Charms.AddCharm").count();
    assert!(asked_for > 0, "{:?}", api.received());
    api.set_block(BlockKind::BlockChange, None);
    refresh(&stage, "done", "");
    assert_eq!(api.times_done("Application.SetCharm"), 1);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn a_refresh_that_does_not_settle_is_told_when_its_time_is_over_and_goes_on_when_it_does() {
    let (stage, api) = given("interrupted-limit");
    let model = &stage.model;
    hold_unit(&stage, "kratos-new/0", "");
    refresh(&stage, "running", "kratos-new/0 has not begun to refresh");
    api.set_clock_ahead(Duration::from_secs(901));
    let says = "the refresh to ch:amd64/kratos-500 has not settled for 900 s: kratos-new/0 has not begun to refresh";
    let late = refresh(&stage, "waiting", says);
    assert_eq!(late.result("next"), "juju status kratos-new");
    model.update_status("coordinator/0").unwrap();
    let (word, shown) = rig::status_says(model, "coordinator/0", says);
    assert_eq!(word, "blocked");
    assert!(shown.ends_with("juju status kratos-new"), "{shown}");
    model.lose_agent("kratos-new/0").unwrap();
    refresh(&stage, "waiting", "has not settled for 900 s: the agent of kratos-new/0 is lost");
    stage.controller.set_gate(None);
    refresh(&stage, "done", "");
    api.set_clock_ahead(Duration::ZERO);
    assert_eq!(api.times_done("Application.SetCharm"), 1);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

/// A stage whose controller is of 3.6.
fn given_3_6(name: &str) -> (Played, Arc<Api>) {
    given_by(name, Some("3.6.12"))
}

#[test]
#[ignore = "slow: make test-all"]
fn on_3_6_what_is_busy_is_waited_for_in_a_refresh_and_in_a_migration() {
    busy_in_both(given_3_6("interrupted-3"));
}

#[test]
#[ignore = "slow: make test-all"]
fn on_3_6_what_is_blocked_in_the_middle_goes_on_without_the_block() {
    blocked_in_a_migration(given_3_6("interrupted-block-3"));
}

#[test]
fn on_3_6_what_is_blocked_before_the_switch_goes_on_without_the_block() {
    blocked_before_the_switch(given_3_6("interrupted-freeze-3"));
}

#[test]
#[ignore = "slow: make test-all"]
fn on_3_6_a_unit_in_error_in_a_refresh_is_named() {
    in_error_in_a_refresh(given_3_6("interrupted-error-3"));
}
