//! What people do behind the worker's back while it copies, while following rests, while writes are stopped, inside the
//! hand-over and on the road back: it is found before anything is concluded from it.

use super::by_hand::{drop_subscription, looked_again, make_slot_anew, unpublish_a_table};
use super::copy_kills::arm;
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};

/// What drops a trigger of ours behind the event trigger that would refuse it.
const DROP_TRIGGER: &str = "SET session_replication_role = replica;
    DROP EVENT TRIGGER IF EXISTS identity_migration_refuse_ddl;
    DROP TRIGGER identity_migration_fence ON public.identities";

type ByHand = (&'static str, fn(&Rig));

const CASES: [ByHand; 3] = [
    ("replication slot", make_slot_anew),
    ("subscription", drop_subscription),
    ("does not publish table public.sessions", unpublish_a_table),
];

/// What was lost last, or why the fence was lifted last, once it says this.
fn told(rig: &Rig, word: &str) {
    rig.until(&format!("{word} to be told"), LONG, |state, _| {
        let run = state.run.as_ref();
        let said = run.map(|run| [run.lost.clone(), run.lifted.clone()].map(Option::unwrap_or_default).join(" "));
        said.is_some_and(|said| said.contains(word))
    })
    .unwrap();
}

/// Stops the worker at a place on the way to a goal.
fn stopped_on_the_way(rig: &Rig, goal: Goal, settings: &Settings, place: &str) {
    arm(rig, place, "stop");
    rig.want_with(goal, settings.clone()).unwrap();
    rig.stopped_at(place).unwrap();
}

/// Drained, in the documented order, where a new copy makes it good.
#[test]
#[ignore = "slow: make test-all"]
fn while_drained() {
    let mut rig = Rig::new(14, 16, 150).unwrap();
    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    for (word, by_hand) in CASES {
        rig.reach_with(Goal::Following, &settings);
        assert_eq!(rig.reach_with(Goal::Drained, &settings).phase(), Phase::Drained);
        // A slot that was never seen to decode anything is not known from one that was made anew, nor lacks anything.
        looked_again(&rig);
        by_hand(&rig);
        told(&rig, word);
        rig.until("writes to pass", LONG, |state, _| state.phase() == Phase::Following).unwrap();
        rig.write_source().unwrap();
        rig.write_target().unwrap_err();
    }
    rig.reach_with(Goal::Following, &settings);
    rig.reach_with(Goal::Drained, &settings);
    rig.migrate_schema(&settings);
    assert_eq!(rig.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    rig.finalize();
}

/// In the copy, and while following rests for the schema migration: the copy is made anew, by itself.
#[test]
#[ignore = "slow: make test-all"]
fn while_copying_and_while_paused() {
    let mut rig = Rig::new(14, 16, 150).unwrap();
    let settings = Settings::default();
    stopped_on_the_way(&rig, Goal::Following, &settings, "record-before/done/copy");
    let name = rig.on_source("SELECT pubname FROM pg_publication WHERE pubname LIKE 'identity%'").unwrap();
    rig.on_source(&format!("ALTER PUBLICATION {name} DROP TABLE public.sessions")).unwrap();
    rig.go_on().unwrap();
    told(&rig, "does not publish table public.sessions");
    rig.reach(Goal::Following);
    for (word, by_hand) in CASES {
        stopped_on_the_way(&rig, Goal::Migrated, &settings, "record-after/done/pause");
        by_hand(&rig);
        rig.go_on().unwrap();
        told(&rig, word);
        rig.want(Goal::Following).unwrap();
        rig.settled(LONG).unwrap();
    }
    rig.migrate_schema(&settings);
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    rig.finalize();
}

/// Between the last look at the fence and the moment the target would open: the source opens again instead.
#[test]
#[ignore = "slow: make test-all"]
fn a_trigger_dropped_inside_the_hand_over_is_found_before_the_target_opens() {
    let mut rig = Rig::new(14, 16, 150).unwrap();
    let settings = Settings::default();
    rig.reach(Goal::Following);
    rig.migrate_schema(&settings);
    for place in ["fence-commit", "record-after/noted/hand-over/source-closed"] {
        stopped_on_the_way(&rig, Goal::Flipped, &settings, place);
        rig.on_source(DROP_TRIGGER).unwrap();
        rig.go_on().unwrap();
        let refused = rig.refused();
        assert!(refused.contains("identities"), "{place}: {refused}");
        rig.until("writes to pass", LONG, |state, _| state.phase() == Phase::Following).unwrap();
        rig.write_source().unwrap();
        rig.write_target().unwrap_err();
    }
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    on_the_road_back(&rig);
    assert_eq!(rig.reach(Goal::RolledBack).phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}

/// Users stay on the target, whose fence did not hold.
fn on_the_road_back(rig: &Rig) {
    for place in ["record-after/done/reverse-fence", "record-after/noted/reverse-hand-over/closing-target"] {
        stopped_on_the_way(rig, Goal::RolledBack, &Settings::default(), place);
        rig.on_target(DROP_TRIGGER).unwrap();
        rig.go_on().unwrap();
        let refused = rig.refused();
        assert!(refused.contains("writes go on on the target"), "{place}: {refused}");
        rig.until("users to stay", LONG, |state, _| state.phase() == Phase::Flipped).unwrap();
        rig.write_source().unwrap_err();
        rig.write_target().unwrap();
    }
}
