//! A close of the target that was cut off between its row and its triggers is completed, not taken for a close.

use super::copy_kills::{arm, killed};
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};

/// Tables of the application that take writes.
const UNFENCED: &str = "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'schema_migration'
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_class.oid AND tgname LIKE 'identity_migration%'
        AND tgargs = (SELECT convert_to(generation, 'UTF8') || '\\000'::bytea FROM identity_migration.fence
            ORDER BY number DESC LIMIT 1))";

/// The worker dies in the middle of closing the target after its schema migration.
fn cut_off(rig: &mut Rig) {
    rig.reach(Goal::Following);
    rig.want(Goal::Migrated).unwrap();
    rig.asked();
    assert_eq!(rig.on_target(UNFENCED).unwrap(), "", "opened by its row, with the triggers in place");
    arm(rig, "fence-table/sessions", "kill");
    rig.run_migration().unwrap();
    killed(rig, "fence-table/sessions");
    assert!(rig.on_target(UNFENCED).unwrap().contains("sessions"));
}

#[test]
fn the_worker_that_takes_over_goes_on_closing() {
    let mut rig = Rig::new(14, 16, 40).unwrap();
    cut_off(&mut rig);
    rig.hook().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    assert_eq!(rig.on_target(UNFENCED).unwrap(), "");
    assert_eq!(rig.reach_with(Goal::Flipped, &Settings::default()).phase(), Phase::Flipped);
}

#[test]
fn a_rollback_closes_before_it_takes_the_schema_back() {
    let mut rig = Rig::new(14, 16, 40).unwrap();
    cut_off(&mut rig);
    rig.roll_back("the target half closed");
}
