//! What counts as settled, case by case, in statuses as a controller writes them.

use super::*;
use serde_json::{Value, json};

const BEFORE: &str = "2026-11-23T19:06:05.683780922Z";
const ASKED: &str = "2026-11-23T19:06:06Z";
const AFTER: &str = "2026-11-23T19:06:07.774868362Z";

fn unit(agent: &str, since: &str, workload: &str) -> Value {
    json!({
        "agent-status": {"status": agent, "info": "", "since": since},
        "workload-status": {"status": workload, "info": "", "since": BEFORE},
        "workload-version": "1.3.1",
        "charm": "",
    })
}

fn model(application: Value) -> FullStatus {
    serde_json::from_value(json!({"applications": {"kratos": application}, "relations": null})).unwrap()
}

fn with_units(units: &[Value]) -> Value {
    let units: serde_json::Map<String, Value> =
        units.iter().enumerate().map(|(number, unit)| (format!("kratos/{number}"), unit.clone())).collect();
    json!({"charm": "ch:amd64/kratos-567", "charm-channel": "1.0/stable", "life": "alive", "units": units})
}

fn goal() -> RefreshGoal<'static> {
    RefreshGoal {
        application: "kratos",
        charm_url: "ch:amd64/kratos-567",
        channel: Some("1.0/stable"),
        asked_at: Some(Time(Some(ASKED.parse().unwrap()))),
        units: 1,
        workload_version: Some("1.3.1"),
        fine: &["active", "waiting"],
    }
}

fn not_yet(look: &Settled) -> &str {
    match look {
        Settled::NotYet(why) => why,
        other => panic!("{other:?}"),
    }
}

fn stuck(look: &Settled) -> &str {
    match look {
        Settled::Stuck(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refresh_that_is_through() {
    let status = model(with_units(&[unit("idle", AFTER, "active")]));
    assert_eq!(refreshed(&status, &goal()), Settled::Yes);
    let status = model(with_units(&[unit("idle", AFTER, "waiting")]));
    assert_eq!(refreshed(&status, &goal()), Settled::Yes);
    // No hook runs when nothing changed.
    let status = model(with_units(&[unit("idle", BEFORE, "active")]));
    assert_eq!(refreshed(&status, &RefreshGoal { asked_at: None, ..goal() }), Settled::Yes);
}

#[test]
fn the_moment_after_the_switch_is_no_end() {
    // As recorded: the application shows the new charm, its unit is idle and active on the old code.
    let status = model(with_units(&[unit("idle", BEFORE, "active")]));
    assert_eq!(not_yet(&refreshed(&status, &goal())), "kratos/0 has not begun to refresh");
    // An unrelated hook ran in between: only the version tells.
    let mut old = unit("idle", AFTER, "active");
    old["workload-version"] = json!("1.0.0");
    assert_eq!(not_yet(&refreshed(&model(with_units(&[old])), &goal())), "kratos/0 runs version 1.0.0");
}

#[test]
fn what_is_missing_is_named() {
    let mut application = with_units(&[unit("idle", AFTER, "active")]);
    application["charm"] = json!("ch:amd64/kratos-512");
    assert_eq!(not_yet(&refreshed(&model(application), &goal())), "kratos has the charm ch:amd64/kratos-512");
    let mut application = with_units(&[unit("idle", AFTER, "active")]);
    application["charm-channel"] = json!("latest/edge");
    assert_eq!(not_yet(&refreshed(&model(application), &goal())), "kratos follows the channel latest/edge");
    let mut application = with_units(&[unit("idle", AFTER, "active")]);
    application["int"] = json!(2);
    assert_eq!(not_yet(&refreshed(&model(application), &goal())), "kratos has 1 of 2 units");
    let status = model(with_units(&[unit("executing", AFTER, "active")]));
    assert_eq!(not_yet(&refreshed(&status, &goal())), "the agent of kratos/0 is executing");
    let status = model(with_units(&[unit("lost", AFTER, "unknown")]));
    assert_eq!(not_yet(&refreshed(&status, &goal())), "the agent of kratos/0 is lost");
    let mut old = unit("idle", AFTER, "active");
    old["charm"] = json!("ch:amd64/kratos-512");
    let look = refreshed(&model(with_units(&[old])), &goal());
    assert_eq!(not_yet(&look), "kratos/0 still has the charm ch:amd64/kratos-512");
    let mut broken = with_units(&[]);
    broken["err"] = json!({"Code": "x"});
    assert_eq!(not_yet(&refreshed(&model(broken), &goal())), "the controller cannot tell the status of kratos");
}

#[test]
fn what_does_not_pass_by_itself_is_stuck() {
    // The second unit is in error: that is said, not that the first one is still at work.
    let mut failed = unit("idle", AFTER, "error");
    failed["workload-status"]["info"] = json!("hook failed: \"upgrade-charm\"");
    let status = model(with_units(&[unit("executing", AFTER, "active"), failed]));
    let two = RefreshGoal { units: 2, ..goal() };
    assert_eq!(stuck(&refreshed(&status, &two)), "kratos/1 is in error: hook failed: \"upgrade-charm\"");
    let mut blocked = unit("idle", AFTER, "blocked");
    blocked["workload-status"]["info"] = json!("missing relation");
    assert_eq!(stuck(&refreshed(&model(with_units(&[blocked])), &goal())), "kratos/0 is blocked: missing relation");
    let mut dying = with_units(&[unit("idle", AFTER, "active")]);
    dying["life"] = json!("dying");
    assert_eq!(stuck(&refreshed(&model(dying), &goal())), "application kratos is being removed");
    let gone = RefreshGoal { application: "hydra", ..goal() };
    let status = model(with_units(&[]));
    assert_eq!(stuck(&refreshed(&status, &gone)), "application hydra is not in the model");
    assert_eq!(stuck(&resting(&status, "hydra", &["active"])), "application hydra is not in the model");
    assert_eq!(not_yet(&resting(&status, "kratos", &["active"])), "kratos has no unit");
}

#[test]
fn charm_urls_with_and_without_architecture() {
    assert!(same_charm("local:probe-2", "local:amd64/probe-2"));
    assert!(same_charm("ch:amd64/jammy/kratos-567", "ch:amd64/kratos-567"));
    assert!(!same_charm("local:probe-2", "ch:amd64/probe-2"));
    assert!(!same_charm("ch:amd64/kratos-56", "ch:amd64/kratos-567"));
}

fn related_model(relation_status: &str, agent: &str, workload: &str) -> FullStatus {
    serde_json::from_value(json!({
        "applications": {"kratos": with_units(&[unit(agent, AFTER, workload)])},
        "relations": [
            {"id": 0, "endpoints": [{"application": "kratos", "name": "peers", "role": "peer"}]},
            {"id": 7, "status": {"status": relation_status}, "endpoints": [
                {"application": "pg", "name": "database", "role": "provider"},
                {"application": "kratos", "name": "pg-database", "role": "requirer"},
            ]},
        ],
    }))
    .unwrap()
}

#[test]
fn relations_come_and_go() {
    let (one, other) = ("kratos:pg-database", "pg:database");
    let joined = related_model("joined", "idle", "active");
    assert_eq!(relation_between(&joined, one, other).map(|relation| relation.id), Some(7));
    assert!(relation_between(&joined, one, "pg:replica").is_none());
    assert!(relation_between(&joined, "kratos:peers", "kratos:peers").is_none());
    assert_eq!(related(&joined, one, other), Settled::Yes);
    assert_eq!(not_yet(&related(&related_model("joining", "idle", "active"), one, other)), "relation 7 is joining");
    assert_eq!(stuck(&related(&related_model("error", "idle", "active"), one, other)), "relation 7 is in error");
    let look = related(&related_model("joined", "executing", "active"), one, other);
    assert_eq!(not_yet(&look), "kratos/0 is at work: ");
    assert_eq!(not_yet(&related(&joined, one, "pg:replica")), "kratos:pg-database and pg:replica are not related");
    assert_eq!(relation_gone(&joined, 8), Settled::Yes);
    assert_eq!(not_yet(&relation_gone(&joined, 7)), "relation 7 is still there");
    let failed = related_model("joined", "idle", "error");
    assert_eq!(stuck(&relation_gone(&failed, 7)), "relation 7 cannot go while kratos/0 is in error ()");
}
