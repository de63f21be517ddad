//! What users and applications of a Hydra hold: before, while and after they are moved.

use super::line::Played;
use super::{flip, roll_back};
use crate::runbook::rig::Rig;
use coordinator::migration::Settings;
use peers::seed::hydra::{check_grants, grants_named, renew_grants};

/// What is proved on the target, and on the source after the way back.
const CHECKS: [&str; 8] = [
    "signing keys",
    "clients",
    "introspection of authorization-code, refresh and client-credentials tokens",
    "refresh",
    "consent sessions",
    "remembered login and consent",
    "applications came and went on the new release",
    "every row compared",
];

/// There with everything that users hold, and back with what the new release gave them.
pub fn play(rig: &mut Rig, settings: &Settings) -> Played {
    let [source, target] = rig.hydra_clients();
    let mut early = grants_named(&source, "early", 2).unwrap();
    let keys = source.key_ids().unwrap();
    let (mut late, mut lot) = (Vec::new(), 0);
    let outage_ms = flip(rig, settings, |_| {
        lot += 1;
        late.extend(grants_named(&source, &format!("late-{lot}"), 2).unwrap());
        renew_grants(&source, &mut early).unwrap();
    });
    assert_eq!(target.key_ids().unwrap(), keys);
    for grants in [&mut early, &mut late] {
        check_grants(&target, grants).unwrap();
        renew_grants(&target, grants).unwrap();
    }
    let mut new = grants_named(&target, "new", 2).unwrap();
    target.delete_client(&late.remove(1).application.id).unwrap();

    let back_outage_ms = roll_back(rig, settings);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    rig.assert_equal_schemas();
    assert_eq!(source.key_ids().unwrap(), keys);
    for grants in [&mut early, &mut late, &mut new] {
        check_grants(&source, grants).unwrap();
        renew_grants(&source, grants).unwrap();
    }
    rig.assert_no_secret();
    Played { outage_ms, back_outage_ms, checks: CHECKS.map(str::to_owned).to_vec(), ..Played::default() }
}
