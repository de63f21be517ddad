//! Bad options, missing relations, wrong parameters, and units that do not lead: refused with a sentence, nothing
//! changed. Actions that do not fit the phase are in `matrix`.

use super::rig::{self, End};
use super::story::{expect, run};

#[test]
fn bad_options_missing_relations_and_units_that_do_not_lead() {
    let stage = rig::empty_stage("lacking");
    let model = &stage.model;
    let options = emulator::DeployOptions { units: 2, ..Default::default() };
    let charm = emulator::Charm::Folder(super::story::charm("lacking"));
    model.deploy_with(charm, "coordinator", &options).unwrap();
    for (endpoint, other) in [
        ("source-database", "postgresql-k8s:database"),
        ("target-database", "postgresql-new:database"),
        ("source-kratos", "kratos:kratos-info"),
        ("target-kratos", "kratos-new:kratos-info"),
    ] {
        // Only a relation tells which app it is.
        let told = if endpoint == "source-kratos" { "source-kratos or source-hydra" } else { endpoint };
        let sentence = format!("cannot begin: nothing is related to {told}; run juju integrate coordinator:{endpoint}");
        let (word, _) = rig::status_says(model, "coordinator/0", &sentence);
        assert_eq!(word, "blocked");
        for action in ["preflight", "replicate", "migrate"] {
            let result = run(model, action, &[]);
            assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("refused", "failed"));
            assert!(result.message.starts_with(&sentence), "{result:?}");
        }
        let shown = expect(model, "show", &[], "done");
        assert!(shown.result("message").starts_with(&sentence) && shown.result("report").contains(&sentence));
        model.integrate(&format!("coordinator:{endpoint}"), other).unwrap();
    }
    rig::status_says(model, "coordinator/0", "ready");
    for (option, bad, accepted) in [
        ("outage-limit", "5", "a whole number from 30 to 86400"),
        ("order", "sideways", "one of auto, documented, migrate-first"),
        ("verification", "none", "one of twin, strict, counts"),
        ("source-application", "No Such Name", "an application's name"),
        ("target-application", "9", "an application's name"),
        ("target-database-name", " x", "a database's name"),
        ("max-lag-bytes", "-1", "a whole number"),
        ("copy-jobs", "1000", "a whole number"),
    ] {
        model.config("coordinator", &[(option, bad)]).unwrap();
        let (word, message) = rig::status_says(model, "coordinator/0", option);
        assert_eq!(word, "blocked");
        assert!(message.contains(bad) && message.contains(accepted), "{message}");
        let result = run(model, "replicate", &[]);
        assert!(result.message.contains(option) && result.status == "failed", "{result:?}");
        model.reset_config("coordinator", &[option]).unwrap();
        rig::status_says(model, "coordinator/0", "ready");
    }
    let unknown = model.run("coordinator/leader", "drain", &[("speed", "5")]).unwrap();
    assert_eq!(unknown.status, "error", "{unknown:?}");
    rig::refused(model, "drain", &[("outage-limit", "5")], "");
    for (action, instead) in [("refresh", "refresh channel=0.4/stable"), ("migrate", "migrate channel=0.4/stable")] {
        let unfit = rig::refused(model, action, &[("channel", "0.5/stable")], instead);
        assert!(
            unfit.message.contains("the Kratos charm of channel 0.5/stable runs its run-migration only"),
            "{unfit:?}"
        );
    }
    let follower =
        model.units("coordinator").into_iter().find(|unit| model.leader("coordinator") != Some(unit.clone()));
    let follower = follower.unwrap();
    rig::status_says(model, &follower, "standing by");
    let before = rig::picture(&stage);
    for action in ["preflight", "replicate", "drain", "rollback", "finalize", "show"] {
        let result = model.run(&follower, action, &[]).unwrap();
        assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("refused", "failed"));
        assert_eq!(result.result("next"), format!("juju run coordinator/leader {action}"));
    }
    rig::assert_same("an action on a unit that does not lead", &before, &rig::picture(&stage));
    rig::close(&stage, End::Source);
}
