//! The coordinator dies and nobody comes: with writes stopped they pass again at the deadline, measured; between the two
//! commits of the flip both sides stay closed until a hook comes, also past the deadline, and then the target opens,
//! measured. README has the figures.

use super::copy_kills::{arm, killed};
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::wait_for;
use std::time::Instant;

/// Seconds of the lease.
const LEASE: u64 = 8;

fn lease() -> Settings {
    Settings { outage_limit: LEASE, ..Settings::default() }
}

/// Milliseconds from the lease's end to now, by the source's clock; negative before it.
fn past_the_deadline(rig: &Rig) -> f64 {
    let sql = "SELECT extract(epoch FROM clock_timestamp() - until) * 1000 FROM identity_migration.fence
               WHERE until IS NOT NULL ORDER BY number DESC LIMIT 1";
    rig.on_source(sql).unwrap().parse().unwrap()
}

/// Tries to write again and again, as users do; answers how long after the deadline the first try was begun that passed.
fn first_write(rig: &Rig) -> f64 {
    let began = Instant::now();
    loop {
        let before = past_the_deadline(rig);
        match rig.write_source() {
            Ok(()) => return before,
            Err(error) => {
                assert!(format!("{error:#}").contains("writes are closed while the database moves"), "{error:#}");
                assert!(began.elapsed() < LONG, "{before} ms past the deadline: {error:#}");
            }
        }
    }
}

#[test]
fn writes_pass_at_the_deadline_and_a_half_done_flip_stays_closed_until_a_hook_comes() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    let mut late = Vec::new();
    for _ in 0..3 {
        arm(&rig, "record-after/done/drain", "kill");
        rig.want_with(Goal::Drained, lease()).unwrap();
        killed(&rig, "record-after/done/drain");
        rig.write_source().unwrap_err();
        late.push(first_write(&rig).round());
        // A try that was begun before the deadline may pass after it.
        assert!(late.iter().all(|late| *late > -1000.0), "{late:?}");
        rig.write_target().unwrap_err();
        rig.hook().unwrap();
        rig.until("the lift", LONG, |state, _| state.phase() == Phase::Following).unwrap();
    }
    eprintln!("coordinator dead, lease of {LEASE} s: the first write passed {late:?} ms after the deadline");

    let place = "record-after/noted/hand-over/source-closed";
    arm(&rig, place, "kill");
    rig.want_with(Goal::Flipped, lease()).unwrap();
    killed(&rig, place);
    let both_closed = || {
        rig.write_source().unwrap_err();
        rig.write_target().unwrap_err();
    };
    both_closed();
    let permanent = "SELECT count(*) FROM identity_migration.fence WHERE state = 'permanent'";
    assert_eq!(rig.on_source(permanent).unwrap(), "1");
    wait_for("the deadline to pass", LONG, || match past_the_deadline(&rig) {
        past if past > 0.0 => Ok(()),
        past => Err(format!("{past} ms")),
    })
    .unwrap();
    both_closed();
    let hook = Instant::now();
    rig.hook().unwrap();
    wait_for("the target to open", LONG, || rig.write_target()).unwrap();
    eprintln!(
        "killed between the two commits: the target takes writes {} ms after the hook",
        hook.elapsed().as_millis()
    );
    rig.write_source().unwrap_err();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Flipped);
    wait_for("the source to have everything", LONG, || rig.is_equal()).unwrap();
    rig.finalize();
}
