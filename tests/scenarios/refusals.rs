//! Every action in every phase it does not fit: refused with the command to run instead, nothing changed.

use super::rig::{self, End, refused};
use super::story::{expect, run};
use emulator::stage::Stage;

/// Actions and the action that they are told to run instead.
type Expected = [(&'static str, &'static str)];

/// Tries them all, with both databases, the journal and the consumers' databag compared before and after.
fn all_refused(stage: &Stage, expected: &Expected) {
    let before = rig::picture(stage);
    for (action, instead) in expected {
        refused(&stage.model, action, &[], instead);
        rig::assert_same(action, &before, &rig::picture(stage));
    }
}

#[test]
fn every_action_out_of_place_along_the_story() {
    let stage = rig::stage("refusals", 1);
    let model = &stage.model;
    eprintln!("-- idle");
    all_refused(
        &stage,
        &[
            ("verify", "replicate"),
            ("run-migration", "replicate"),
            ("drain", "replicate"),
            ("flip-traffic", "replicate"),
            ("cut-over", "replicate"),
            ("finalize", "preflight"),
        ],
    );
    eprintln!("-- refreshed, nothing replicated");
    rig::refresh(&stage);
    all_refused(&stage, &[("verify", "replicate"), ("drain", "replicate"), ("cut-over", "replicate")]);
    all_refused(&stage, &[("flip-traffic", "replicate"), ("run-migration", "replicate")]);
    eprintln!("-- following, not migrated");
    rig::follow(&stage);
    let not_migrated: &Expected = &[
        ("drain", "run-migration"),
        ("cut-over", "run-migration"),
        ("flip-traffic", "run-migration"),
        ("finalize", "run-migration"),
    ];
    all_refused(&stage, not_migrated);
    eprintln!("-- migrating");
    expect(model, "run-migration", &[], "waiting");
    all_refused(&stage, not_migrated);
    all_refused(&stage, &[("verify", "run-migration"), ("replicate", "run-migration")]);
    assert!(rig::writable(&stage.source, "iam_kratos"));
    eprintln!("-- following, migrated");
    rig::migrate_on(&stage);
    all_refused(&stage, &[("flip-traffic", "drain"), ("finalize", "cut-over")]);
    eprintln!("-- drained");
    expect(model, "drain", &[], "done");
    all_refused(&stage, &[("replicate", "flip-traffic"), ("verify", "flip-traffic"), ("finalize", "flip-traffic")]);
    let told = refused(model, "migrate", &[("until", "following")], "flip-traffic");
    assert!(told.message.contains("drained"), "{told:?}");
    eprintln!("-- flipped");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    all_refused(
        &stage,
        &[
            ("replicate", "finalize"),
            ("refresh", "finalize"),
            ("run-migration", "finalize"),
            ("drain", "finalize"),
            ("verify", "finalize"),
        ],
    );
    rig::close(&stage, End::Target);
    eprintln!("-- finalized");
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    all_refused(
        &stage,
        &[
            ("replicate", "show"),
            ("refresh", "show"),
            ("verify", "show"),
            ("run-migration", "show"),
            ("drain", "show"),
            ("flip-traffic", "show"),
            ("cut-over", "show"),
            ("migrate", "show"),
            ("rollback", "show"),
        ],
    );
    // Nobody may be led back to the source by a mistyped action.
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Both);
}

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
        let sentence =
            format!("cannot begin: nothing is related to {endpoint}; run juju integrate coordinator:{endpoint}");
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
