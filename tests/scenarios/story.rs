//! README's story, action by action.

use super::rig::{self, End};
use emulator::stage::charm_folder;
use emulator::{ActionResult, Model};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The charm as it was built for this test run, or the one that DISPATCH names.
pub fn charm(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("coordinator-charm-{}-{name}", std::process::id()));
    let built =
        std::env::var_os("DISPATCH").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_dispatch")), PathBuf::from);
    charm_folder(Path::new(env!("CARGO_MANIFEST_DIR")), &built, &folder).unwrap();
    folder
}

/// Runs an action on the coordinator's leader.
pub fn run(model: &Model, action: &str, parameters: &[(&str, &str)]) -> ActionResult {
    let result = model.run("coordinator/leader", action, parameters).unwrap();
    eprintln!(
        "{action}: {} — {}\n   next: {}",
        result.result("outcome"),
        result.result("message"),
        result.result("next")
    );
    result
}

/// Runs an action that must end with this outcome.
pub fn expect(model: &Model, action: &str, parameters: &[(&str, &str)], outcome: &str) -> ActionResult {
    let result = run(model, action, parameters);
    assert_eq!(result.result("outcome"), outcome, "{action}: {result:?}\n{}", model.unit_log("coordinator/0"));
    result
}

#[test]
fn the_story_in_migrate_first_order() {
    let stage = rig::stage("story", 1);
    let model = &stage.model;
    let people = peers::seed::people(&stage.kratos.client(), 3).unwrap();
    assert_eq!(stage.consumer.current().unwrap().admin_endpoint, stage.kratos.ports().admin_url());
    expect(model, "preflight", &[], "done");
    let asked = expect(model, "refresh", &[("channel", "0.4/stable")], "waiting");
    assert_eq!(asked.result("next"), "juju refresh kratos-new --channel 0.4/stable");
    model.refresh("kratos-new", None, Some("0.4/stable"), None).unwrap();
    expect(model, "refresh", &[], "done");
    expect(model, "replicate", &[("wait", "120")], "done");
    expect(model, "verify", &[], "done");
    let asked = expect(model, "run-migration", &[], "waiting");
    assert!(asked.result("next").starts_with("juju run kratos-new/leader run-migration timeout="), "{asked:?}");
    model.run("kratos-new/leader", "run-migration", &[("timeout", "120")]).unwrap();
    expect(model, "run-migration", &[], "done");
    let drained = expect(model, "drain", &[], "done");
    assert_eq!(drained.result("rows-different"), "0");
    assert_eq!(drained.result("phase"), "drained");
    let flipped = expect(model, "flip-traffic", &[], "done");
    assert_eq!(flipped.result("phase"), "flipped");
    model
        .wait_until("the consumer to use the target", Duration::from_secs(30), |_| {
            stage.consumer.current().is_some_and(|seen| seen.admin_endpoint == stage.kratos_new.ports().admin_url())
        })
        .unwrap();
    peers::seed::check_people(&stage.kratos_new.client(), &people).unwrap();
    rig::close(&stage, End::Target);
    let finalized = expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    assert!(finalized.result("next").contains("juju remove-application kratos"), "{finalized:?}");
    rig::close(&stage, End::Both);
}
