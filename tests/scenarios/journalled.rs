//! What the coordinator is about to change in the model stands in its journal before the controller hears of it.

use super::adopt::{done, unadopt};
use super::back_up::give_bucket;
use super::controller::{given, migrate, modest};
use super::rig::{self, End, SOON};
use super::story::expect;
use serde_json::Value;
use std::sync::{Arc, Mutex};

/// The calls of a refresh, of which one record tells; each other change has a record of its own.
const REFRESH: [&str; 3] = ["Charms.AddCharm", "Resources.AddPendingResources", "Application.SetCharm"];

/// What a record about this change must name; `None` for a call that only looks.
fn named(call: &str, params: &Value) -> Option<Vec<String>> {
    let texts = |values: Vec<&Value>| values.into_iter().map(|value| value.as_str().unwrap().to_owned()).collect();
    Some(match call {
        "Charms.AddCharm" => texts(vec![&params["url"]]),
        "Resources.AddPendingResources" => texts(vec![&params["url"]]),
        "Application.SetCharm" => texts(vec![&params["charm-url"]]),
        "Application.SetConfigs" => Vec::new(),
        "Action.EnqueueOperation" => match params["actions"][0]["name"].as_str().unwrap() {
            "create-backup" => vec!["back-up/source".to_owned()],
            "list-backups" => vec!["\"listed\": \"".to_owned()],
            other => vec![other.to_owned()],
        },
        "Application.AddRelation" => texts(params["endpoints"].as_array().unwrap().iter().collect()),
        "Application.DestroyRelation" => vec![format!("\"removing\": {}", params["relation-id"])],
        _ => return None,
    })
}

/// A change, and what the journal lacked of it when it was asked for.
type Change = (String, Vec<String>);

#[test]
fn every_change_is_in_the_journal_before_it_is_asked_for() {
    // Nothing but the coordinator's touch starts a migrated Kratos here.
    let (stage, api) = given("journalled");
    let model = &stage.model;
    unadopt(&stage);
    give_bucket(&stage);
    model.config("coordinator", &[("move-routes", "true"), ("backup-gates", "start")]).unwrap();
    model.wait_idle(SOON).unwrap();
    let seen: Arc<Mutex<(usize, Vec<Change>)>> = Arc::default();
    let (cluster, database, sees) = (Arc::clone(&stage.target), stage.own_database(), Arc::clone(&seen));
    api.observe(move |call, params| {
        let Some(words) = named(call, params) else { return };
        let records = cluster.psql(&database, "SELECT record FROM identity_migration_journal.entry").unwrap();
        let mut missing: Vec<String> = words.into_iter().filter(|word| !records.contains(word)).collect();
        let mut seen = sees.lock().unwrap();
        let length = records.lines().count();
        if length == seen.0 && !REFRESH.contains(&call) {
            missing.push("a record since the last change".to_owned());
        }
        seen.0 = length;
        seen.1.push((call.to_owned(), missing));
    });
    done(model, &[], "");
    let migrated = migrate(&stage);
    assert_eq!(migrated.result("phase"), "flipped", "{migrated:?}\n{}", model.unit_log("coordinator/0"));
    expect(model, "rollback", &[("wait", "300")], "done");
    done(model, &[("undo", "true")], "");
    let seen = seen.lock().unwrap().1.clone();
    let unknown: Vec<&Change> = seen.iter().filter(|(_, missing)| !missing.is_empty()).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {seen:?}");
    // Nothing was changed that was not looked at here, and everything that can be was.
    let changes: Vec<&str> = seen.iter().map(|(call, _)| call.as_str()).filter(|call| *call != REFRESH[0]).collect();
    assert_eq!(changes, api.changes());
    for call in REFRESH.iter().chain(&["Application.SetConfigs", "Action.EnqueueOperation"]) {
        assert!(seen.iter().any(|(seen, _)| seen == call), "{call} is not among {seen:?}");
    }
    modest(&api);
    rig::close(&stage, End::Source);
}
