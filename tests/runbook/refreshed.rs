//! A refreshed charm's worker takes the place of the one before.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase};
use serde_json::json;

#[test]
fn a_refreshed_charm_takes_over_in_the_copy_and_while_following() {
    let rig = Rig::new(14, 16, 300).unwrap();
    let copied = json!({"kind": "done", "step": "copy"});
    rig.stall_at(&copied).unwrap();
    rig.want(Goal::Following).unwrap();
    rig.stalled(&copied).unwrap();
    let replaced = |rig: &Rig| {
        let old = rig.worker().unwrap();
        rig.hook().unwrap();
        assert_eq!(rig.worker(), Some(old), "a hook of the same charm leaves the worker alone");
        rig.refresh_charm().unwrap();
        rig.hook().unwrap();
        let new = rig.worker().unwrap();
        assert_ne!(old, new);
        let stat = std::fs::read_to_string(format!("/proc/{old}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "the old worker lives: {stat}");
    };
    replaced(&rig);
    rig.release().unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    replaced(&rig);
    rig.write_source().unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
    let lag = rig.until("the figures of the new worker", LONG, |_, progress| progress.lag_bytes == Some(0));
    lag.unwrap();
}
