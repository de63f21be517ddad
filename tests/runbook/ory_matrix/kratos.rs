//! What users of a Kratos have and do: before, while and after they are moved.

use super::line::Played;
use super::{flip, roll_back};
use crate::runbook::rig::Rig;
use crate::runbook::servers::Program;
use crate::runbook::way_back::{assert_back, live_on_the_target};
use coordinator::migration::Settings;
use peers::kratos::Methods;
use peers::seed::members::{
    ENDED, Member, PROVED, check_members, check_queued, check_verified, end_pending, members_named,
};
use peers::seed::{check_people, people_named, rare};

/// There with everything that users have, back with what they did there, and there again.
pub fn play(rig: &mut Rig, settings: &Settings) -> Played {
    let Program::Kratos(_, peers::kratos::Settings { methods, .. }) = rig.new else { panic!("a Hydra is there") };
    let mut people = people_named(&rig.source_client(), "early", 3).unwrap();
    let mut early = members(rig, methods, "early", 2);
    rare(&rig.source, &rig.source_database(), 1).unwrap();
    let (mut lot, mut late) = (1, Vec::new());
    let outage_ms = flip(rig, settings, |rig| {
        lot += 1;
        rare(&rig.source, &rig.source_database(), lot).unwrap();
        people.extend(people_named(&rig.source_client(), &format!("late-{lot}"), 2).unwrap());
        late.extend(members(rig, methods, &format!("late-{lot}"), 1));
    });

    let (source, target) = (rig.source_client(), rig.target_client());
    for members in [&mut early, &mut late] {
        check_queued(&target, members).unwrap();
        check_members(&target, members).unwrap();
    }
    end_pending(&target, &mut early).unwrap();
    // Made where keys need more than a row: without one.
    let mut new = members_named(&target, None, methods, "new", 1).unwrap();
    let gone = live_on_the_target(rig, &mut people, None);
    let back_outage_ms = roll_back(rig, settings);

    assert_back(rig, &people, &gone, None);
    for members in [&mut early, &mut late, &mut new] {
        check_members(&source, members).unwrap();
    }
    check_verified(&source, &early).unwrap();
    // Begun on the old release and ended on it; begun on the new one and ended on the old one.
    for members in [&mut late, &mut new] {
        end_pending(&source, members).unwrap();
    }

    flip(rig, settings, |_| {});
    check_people(&target, &people).unwrap();
    for members in [&mut early, &mut late, &mut new] {
        check_members(&target, members).unwrap();
        check_verified(&target, members).unwrap();
    }
    rig.finalize();
    rig.assert_no_secret();
    Played { outage_ms, back_outage_ms, checks: checks(methods), ..Played::default() }
}

fn members(rig: &Rig, methods: Methods, name: &str, count: u32) -> Vec<Member> {
    let place = (&*rig.source, rig.source_database());
    members_named(&rig.source_client(), Some((place.0, &place.1)), methods, name, count).unwrap()
}

/// What was proved on the target, on the source after the way back, and on the target again.
fn checks(methods: Methods) -> Vec<String> {
    let ended = ENDED.iter().filter(|check| methods == Methods::Codes || !check.starts_with("login code"));
    let others = ["messages wait unsent", "people came, changed and went on the new release", "every row compared"];
    PROVED.iter().chain(ended).chain(&others).map(|check| (*check).to_owned()).collect()
}
