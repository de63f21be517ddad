//! The journal is lost after the flip: users write to the target, so nothing may lead them or their applications back,
//! and what is printed leads to an end without the coordinator.

use super::retire::{JOURNAL, type_all};
use super::rig::{self, End};
use super::story::{expect, run};

#[test]
fn lost_after_the_flip_nothing_leads_back_and_the_coordinator_can_go() {
    let stage = rig::stage("lost-journal", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    let seen = || run(model, "show", &[]).result("rows-different");
    model.wait_until("the comparison", rig::SOON, |_| seen() == "0").unwrap();

    // Gone, with its database.
    stage.target.psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", stage.own_database())).unwrap();
    rig::status_says(model, "coordinator/0", "cannot connect to database iam_coordinator");
    let shown = expect(model, "show", &[], "done");
    assert_eq!(shown.result("phase"), "unknown");
    let known = "the journal cannot be read, so the phase is unknown; consumers were last given the target's address";
    assert!(shown.result("report").contains(known), "{shown:?}");
    rig::consumer_uses(&stage, &stage.kratos_new);

    // Empty, in a database made anew.
    model.remove_relation("coordinator:target-database", "postgresql-new:database").unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    let made = |_: &emulator::Model| stage.target.psql(&stage.own_database(), JOURNAL).is_ok();
    model.wait_until("the new journal", rig::SOON, made).unwrap();
    let (word, message) = rig::status_says(model, "coordinator/0", "iam_coordinator holds no migration any more");
    assert_eq!(word, "blocked");
    assert!(message.ends_with("; next: juju run coordinator/leader show"), "{message}");
    let before = rig::databases(&stage);
    for action in ["refresh", "replicate", "run-migration", "drain", "migrate", "rollback", "finalize", "verify"] {
        let refused = rig::refused(model, action, &[], "show");
        assert!(refused.message.contains("consumers use kratos-new"), "{}", refused.message);
    }
    rig::assert_same("what was refused", &before, &rig::databases(&stage));
    rig::consumer_uses(&stage, &stage.kratos_new);
    rig::close(&stage, End::Target);
    let shown = expect(model, "show", &[], "done");
    let last = "juju remove-relation coordinator:kratos-info login-ui\n\
                juju integrate kratos-new:kratos-info login-ui\n\
                juju remove-application coordinator";
    assert_eq!((shown.result("next"), shown.result("remove-coordinator")), (last.to_owned(), last.to_owned()));
    type_all(&stage, last);
    assert!(model.status("coordinator").is_err(), "the coordinator is still there");
}
