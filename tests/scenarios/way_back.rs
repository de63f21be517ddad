//! After the flip: `rollback` brings users and consumers back to the old release, with everything that was written on
//! the new one; then they may leave again.

use super::rig::{self, End};
use super::story::{expect, run};
use peers::seed;

#[test]
fn users_and_consumers_return_to_the_source_and_leave_again() {
    let stage = rig::stage("way-back", 1);
    let model = &stage.model;
    let mut people = seed::people(&stage.kratos.client(), 2).unwrap();
    rig::refresh(&stage);
    rig::follow(&stage);
    rig::migrate(&stage);
    let flipped = expect(model, "cut-over", &[], "done");
    assert!(flipped.result("message").ends_with("rollback leads back until finalize"), "{flipped:?}");
    rig::consumer_uses(&stage, &stage.kratos_new);
    let (word, _) = rig::status_says(model, "coordinator/0", "flipped: consumers use the target, rollback is possible");
    assert_eq!(word, "active");
    people.extend(seed::people_named(&stage.kratos_new.client(), "later", 2).unwrap());

    let back = expect(model, "rollback", &[], "done");
    assert!(back.result("message").starts_with("users are back on the source"), "{back:?}");
    assert_eq!((back.result("phase").as_str(), back.result("rows-different").as_str()), ("idle", "0"));
    assert!(back.result("rows-verified").parse::<u64>().unwrap() > 1000, "{back:?}");
    eprintln!("writes stopped for {} ms", back.result("outage-ms"));
    rig::consumer_uses(&stage, &stage.kratos);
    seed::check_people(&stage.kratos.client(), &people).unwrap();
    rig::close(&stage, End::Source);
    // Once more, and from nowhere: nothing is there to undo.
    expect(model, "rollback", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos);

    stage.kratos_new.kill_servers();
    rig::follow(&stage);
    // One that a hook started before the copy was there knows another network.
    stage.kratos_new.kill_servers();
    rig::migrate(&stage);
    expect(model, "cut-over", &[], "done");
    rig::consumer_uses(&stage, &stage.kratos_new);
    seed::check_people(&stage.kratos_new.client(), &people).unwrap();
    let seen = || run(model, "show", &[]).result("rows-different");
    model.wait_until("the comparison", rig::SOON, |_| seen() == "0").unwrap();
    expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(&stage, End::Both);
    rig::refused(model, "rollback", &[], "show");
}
