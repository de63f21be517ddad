//! A slot that nobody reads keeps WAL without end: it is given up before the disk fills, while following and inside the
//! copy; that is said, and `replicate` makes it good.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::wait_for;
use serde_json::json;
use std::sync::Arc;

const LIMIT: u64 = 64 << 20;

fn settings() -> Settings {
    Settings { max_kept_wal_bytes: LIMIT, ..Settings::default() }
}

/// Keeps the apply worker from going on.
const HOLD: &str = "BEGIN; LOCK TABLE public.identities IN EXCLUSIVE MODE; SELECT pg_sleep(600)";

/// Lets it go on.
const RELEASE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()";

/// More WAL than is allowed, of which nothing is anybody's row.
pub fn write_much(psql: impl Fn(&str) -> anyhow::Result<String>) {
    let sql = "SELECT count(pg_logical_emit_message(false, 'noise', repeat('x', 1 << 20))) FROM generate_series(1, 80)";
    psql(sql).unwrap();
}

#[test]
fn while_following() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach_with(Goal::Following, &settings());
    let (target, database) = (Arc::clone(&rig.target), rig.target_database());
    let held = std::thread::spawn(move || target.psql(&database, HOLD));
    let holds =
        "SELECT count(*) FROM pg_locks WHERE relation = 'public.identities'::regclass AND mode = 'ExclusiveLock'";
    wait_for("the lock", LONG, || match rig.on_target(holds).unwrap().as_str() {
        "1" => Ok(()),
        seen => Err(seen.to_owned()),
    })
    .unwrap();
    rig.write_source().unwrap();
    write_much(|sql| rig.on_source(sql));
    let state = rig.until("the slot to be given up", LONG, |state, _| {
        state.active().is_some_and(|run| run.lost.as_ref().is_some_and(|why| why.contains("max-kept-wal-bytes")))
    });
    assert_eq!(state.unwrap().phase(), Phase::Following);
    assert_eq!(rig.on_source("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    rig.on_target(RELEASE).unwrap();
    held.join().unwrap().unwrap_err();
    rig.reach_with(Goal::Following, &settings());
    rig.migrate_schema(&settings());
    rig.reach_with(Goal::Flipped, &settings());
    rig.verified();
    rig.assert_equal();
}

#[test]
fn inside_the_copy() {
    let rig = Rig::new(15, 15, 300).unwrap();
    // The copy stands still at a table's lock.
    let (target, database) = (Arc::clone(&rig.target), rig.target_database());
    let slot = json!({"kind": "noted", "step": "copy", "name": "slot"});
    rig.stall_at(&slot).unwrap();
    rig.want_with(Goal::Following, settings()).unwrap();
    rig.stalled(&slot).unwrap();
    write_much(|sql| rig.on_source(sql));
    let held = std::thread::spawn(move || target.psql(&database, HOLD));
    rig.release().unwrap();
    let told = rig.refused();
    assert!(told.starts_with("cannot go on copying: ") && told.contains("max-kept-wal-bytes"), "{told}");
    assert_eq!(rig.on_source("SELECT count(*) FROM pg_replication_slots WHERE NOT temporary").unwrap(), "0");
    rig.on_target(RELEASE).unwrap();
    held.join().unwrap().unwrap_err();
    assert_eq!(rig.reach_with(Goal::Following, &settings()).phase(), Phase::Following);
    rig.assert_equal();
}
