//! What is found under a known name may be another: a slot that was made anew, a cluster that a backup was restored
//! into. Changes in between may be missing, so it is said, and nobody follows on as if nothing had happened.

use super::by_hand::{assert_follows, looked_again, lost, make_slot_anew};
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::wait_for;

/// Writes of which the slot that is there now knows nothing.
fn missed(rig: &Rig) {
    rig.on_source("UPDATE public.sessions SET active = NOT active").unwrap();
}

#[test]
fn what_has_the_same_name_is_not_the_same() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    assert_follows(&rig);
    looked_again(&rig);
    missed(&rig);
    make_slot_anew(&rig);
    let said = lost(&rig);
    assert!(said.contains("was made anew by hand"), "{said}");
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert_follows(&rig);
    rig.assert_equal();

    // The source comes back from a backup.
    let of = |sql: &str| rig.on_source(sql).unwrap();
    let before = of("SELECT system_identifier FROM pg_control_system()");
    rig.source.restore_anew(&[&rig.source_database()]).unwrap();
    assert_ne!(of("SELECT system_identifier FROM pg_control_system()"), before);
    let client = rig.source_client();
    wait_for("the source's server to be ready again", LONG, || client.ready()).unwrap();
    missed(&rig);
    let said = lost(&rig);
    assert!(said.contains("the source at") && said.contains("is another cluster than the copy's"), "{said}");
    rig.write_target().unwrap_err();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    assert_follows(&rig);
    rig.assert_equal();

    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
}
