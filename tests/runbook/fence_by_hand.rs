//! People touch the fence's triggers, rows and tables: it is noticed, writes never pass unsaid, and no fence stays for
//! good without a word.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::wait_for;

const DROP_TRIGGER: &str = "DROP TRIGGER identity_migration_fence ON public.identities";
/// What a superuser needs who changes the fence's own tables: nothing refuses it.
const DELETE_ROWS: &str = "DELETE FROM identity_migration.fence";
const DELETE_OWNER: &str = "DELETE FROM identity_migration.owner";
const DROP_ALL: &str = "SET session_replication_role = replica; DROP SCHEMA identity_migration CASCADE;
    DROP EVENT TRIGGER IF EXISTS identity_migration_refuse_ddl";

fn target_closes(rig: &Rig) {
    wait_for("the target to be closed again", LONG, || match rig.write_target() {
        Ok(()) => Err("writes pass".to_owned()),
        Err(error) if format!("{error:#}").contains("writes are closed") => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    })
    .unwrap();
    wait_for("the log to say so", LONG, || {
        let log = rig.worker_log();
        if log.contains("by hand") { Ok(()) } else { Err(log) }
    })
    .unwrap();
}

fn has_owner(rig: &Rig) {
    let count = "SELECT count(*) FROM identity_migration.owner";
    wait_for("both owner rows", LONG, || match (rig.on_source(count), rig.on_target(count)) {
        (Ok(source), Ok(target)) if source == "1" && target == "1" => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .unwrap();
}

/// The fence was lifted: it is said, writes pass on the source and not on the target.
fn lifted(rig: &Rig, word: &str) {
    let state = rig.until("the fence to be lifted", LONG, |state, _| state.phase() == Phase::Following).unwrap();
    let said = state.active().unwrap().lifted.clone().unwrap();
    assert!(said.contains(word), "{word}: {said}");
    rig.write_source().unwrap();
    rig.write_target().unwrap_err();
}

#[test]
fn each_is_found_and_mended_or_the_fence_is_lifted() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    for sql in [DROP_TRIGGER, DELETE_ROWS] {
        rig.on_target(sql).unwrap();
        target_closes(&rig);
    }
    rig.on_target(DELETE_OWNER).unwrap();
    rig.on_source(DELETE_OWNER).unwrap();
    has_owner(&rig);
    rig.migrate_schema(&Settings::default());

    // Fenced and drained.
    let cases = [(DROP_TRIGGER, "identities"), (DELETE_ROWS, "deleted by hand")];
    for (sql, word) in cases {
        assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
        rig.write_source().unwrap_err();
        rig.on_source(&format!(
            "SET session_replication_role = replica; DROP EVENT TRIGGER identity_migration_refuse_ddl; {sql}"
        ))
        .unwrap();
        lifted(&rig, word);
    }
    // The worker is dead meanwhile, the request stands: it is not carried over the hole.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    rig.kill_worker().unwrap();
    rig.on_source(&format!("SET session_replication_role = replica; {DELETE_ROWS}")).unwrap();
    rig.write_source().unwrap_err();
    rig.want(Goal::Flipped).unwrap();
    let refused = rig.refused();
    assert!(refused.contains("deleted by hand"), "{refused}");
    lifted(&rig, "deleted by hand");

    // The owner's row: put back, and the hand-over goes on.
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    rig.on_source(DELETE_OWNER).unwrap();
    rig.on_target(DELETE_OWNER).unwrap();
    has_owner(&rig);
    rig.write_source().unwrap_err();

    // Everything at once: the way back is a rollback, and then the whole migration again.
    rig.on_source(DROP_ALL).unwrap();
    rig.write_source().unwrap();
    lifted(&rig, "dropped by hand");
    rig.roll_back("the fence was dropped by hand");
    rig.reach(Goal::Following);
    rig.on_source(DROP_ALL).unwrap();
    rig.until("the loss to be noticed", LONG, |state, _| state.active().is_some_and(|run| !run.follows())).unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
}
