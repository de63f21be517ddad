//! Somebody changes the source's tables while the target follows: `juju status` names the change and the cure, no action
//! goes on to where rows would be lost, and when the change is undone the migration goes on.

use super::rig::{self, End};
use super::story::{expect, run};

#[test]
fn a_column_is_added_while_following() {
    let stage = rig::stage("altered", 1);
    let model = &stage.model;
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    let on_source = |sql: &str| stage.source.psql("iam_kratos", sql).unwrap();
    on_source("ALTER TABLE identities ADD COLUMN by_hand text");
    let found = "column by_hand of table public.identities is new";
    let (word, message) = rig::status_says(model, "coordinator/0", found);
    assert!(message.contains("undo it on ") && message.contains("juju run coordinator/leader rollback"), "{message}");
    assert_eq!(word, "blocked", "{message}");
    for action in ["drain", "cut-over"] {
        let told = run(model, action, &[]);
        assert_eq!(
            (told.result("outcome").as_str(), told.result("phase").as_str()),
            ("failed", "following"),
            "{told:?}"
        );
        // The watch finds it, or the step before it stops writes.
        let begins = ["cannot go on: ", "cannot stop writes: "].iter().any(|begins| told.message.starts_with(begins));
        assert!(begins && told.message.contains(found), "{told:?}");
        assert!(rig::writable(&stage.source, "iam_kratos"));
    }
    on_source("ALTER TABLE identities DROP COLUMN by_hand");
    expect(model, "cut-over", &[], "done");
    rig::close(&stage, End::Target);
}
