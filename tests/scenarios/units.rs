//! A target application of several units, driven through the controller: its refresh is over when every unit has gone
//! through it, and its schema migration is its leader's.

use super::closing::Played;
use super::controller::{arrives, given, hold_unit, modest, refresh};
use super::rig::{self, End, SOON};
use super::story::expect;
use emulator::Api;
use emulator::Model;
use std::sync::Arc;

/// A stage with credentials whose target has so many units, the last of which leads.
fn given_units(name: &str, units: usize) -> (Played, Arc<Api>) {
    let (stage, api) = given(name);
    let model = &stage.model;
    model.add_units("kratos-new", u32::try_from(units - 1).unwrap()).unwrap();
    model.set_leader(&format!("kratos-new/{}", units - 1)).unwrap();
    let serve = |model: &Model| {
        let all = model.units("kratos-new");
        all.len() == units && all.iter().all(|unit| model.status(unit).is_ok_and(|(word, _)| word == "active"))
    };
    model.wait_until("every unit to be active", SOON, serve).unwrap();
    model.wait_idle(SOON).unwrap();
    (stage, api)
}

/// The schema migrations that were asked for: of which unit, and how they ended.
fn migrations(model: &Model) -> Vec<(String, String)> {
    let tasks = model.tasks().into_iter().filter(|task| task.action == "run-migration");
    tasks.filter(|task| task.unit.starts_with("kratos-new/")).map(|task| (task.unit, task.status)).collect()
}

#[test]
fn a_refresh_is_over_when_every_unit_has_gone_through_it_and_the_leader_migrates() {
    let (stage, api) = given_units("units", 3);
    let model = &stage.model;
    // More than one hook may come of a refresh: on 4.0 the image is in use before the charm is.
    let upgraded = |unit: &str| model.hooks(unit).unwrap().iter().any(|hook| hook == "upgrade-charm");
    hold_unit(&stage, "kratos-new/1", "hooks/");
    refresh(&stage, "running", "kratos-new is being refreshed to ch:amd64/kratos-500: kratos-new/1");
    let others = |_: &Model| ["kratos-new/0", "kratos-new/2"].iter().all(|unit| upgraded(unit));
    model.wait_until("the other units' refresh", SOON, others).unwrap();
    model
        .wait_until("the other units to rest", SOON, |model| {
            ["kratos-new/0", "kratos-new/2"]
                .iter()
                .all(|unit| model.running(unit).is_ok_and(|running| running.is_none()))
        })
        .unwrap();
    // No server runs any more, and two of three units are through: that is no proof.
    refresh(&stage, "running", "kratos-new/1 has not begun to refresh");
    assert_eq!((upgraded("kratos-new/1"), migrations(model)), (false, Vec::new()));
    stage.controller.set_gate(None);
    model.update_status("kratos-new/1").unwrap();
    refresh(&stage, "done", "");
    assert!(upgraded("kratos-new/1"));

    arrives(&stage, &api, (1, 1));
    assert_eq!(migrations(model), [("kratos-new/2".to_owned(), "completed".to_owned())]);
}

#[test]
fn leadership_that_moves_before_the_migration_begins_has_the_new_leader_asked() {
    let (stage, api) = given_units("units-leader", 2);
    let model = &stage.model;
    expect(model, "migrate", &[("channel", "0.4/stable"), ("until", "following"), ("wait", "120")], "done");
    hold_unit(&stage, "kratos-new/1", "actions/");
    let waits = expect(model, "run-migration", &[("wait", "8")], "running");
    assert!(waits.result("message").contains("run-migration waits for its turn on kratos-new/1 (task "), "{waits:?}");
    model.set_leader("kratos-new/0").unwrap();
    model
        .wait_until("the new leader to rest", SOON, |model| {
            model.hooks("kratos-new/0").is_ok_and(|hooks| hooks.iter().any(|hook| hook == "leader-elected"))
        })
        .unwrap();
    stage.controller.set_gate(None);
    model.update_status("kratos-new/1").unwrap();
    // Nobody asks again: the worker has the new leader asked by itself.
    let told = |unit: &str, status: &str| (unit.to_owned(), status.to_owned());
    let both = [told("kratos-new/1", "failed"), told("kratos-new/0", "completed")];
    model.wait_until("the new leader's migration", SOON, |model| migrations(model) == both).unwrap();
    expect(model, "run-migration", &[("wait", "120")], "done");
    assert_eq!(migrations(model), both);
    modest(&api);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}
