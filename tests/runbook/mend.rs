//! A way back that was lost after the flip is made anew by `replicate`: under live writers, with rows that the source
//! lacks, has too many or has otherwise, killed at every place; then users go back to the source with everything.

use super::copy_kills::{arm, killed};
use super::failover::{heard, users_return};
use super::repair::plant;
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings, State, Step, plan};
use peers::wait_for;
use peers::writers::{Settings as Pace, Writers};

fn settings() -> Settings {
    Settings { outage_limit: 600, ..Settings::default() }
}

/// Drops the slot that keeps what the source has to get.
fn drop_slot(rig: &Rig) {
    let slot = rig.on_target("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE '%reverse'").unwrap();
    wait_for("the slot to be dropped", LONG, || {
        rig.on_target(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;
             SELECT pg_drop_replication_slot('{slot}')"
        ))
    })
    .unwrap();
}

/// The same, and waits until that is said.
fn lose(rig: &Rig) -> State {
    drop_slot(rig);
    let lost = rig.until("the way back to be lost", LONG, |state, _| {
        state.active().is_some_and(|run| run.way_back().is_err_and(|why| why.contains("gone")))
    });
    lost.unwrap()
}

/// The way back stands again, and the source gets what is written.
fn stands(rig: &Rig, state: &State) {
    assert_eq!(state.phase(), Phase::Flipped);
    let run = state.active().unwrap();
    assert_eq!(run.way_back(), Ok(()));
    assert!(run.note(Step::WayBack, "mended").unwrap()["rows-copied"].as_u64().unwrap() > 0);
    assert_eq!(plan::usual_next(state), "finalize");
    // Users never came near it meanwhile.
    rig.write_source().unwrap_err();
    rig.write_target().unwrap();
}

#[test]
fn a_way_back_that_was_lost_is_made_anew_and_leads_back() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let pace = Pace { connections: 4, rate: 60.0, oracle_file: rig.folder().join("oracle") };
    let writers = Writers::start(&rig.source_uri(), &pace, "all").unwrap();
    rig.reach_with(Goal::Following, &settings());
    rig.migrate_schema(&settings());
    rig.reach_with(Goal::Flipped, &settings());
    writers.move_to(&rig.target_uri());
    heard(&writers);
    rig.verified();

    let lost = lose(&rig);
    assert_eq!(plan::usual_next(&lost), "replicate");
    rig.want_with(Goal::RolledBack, settings()).unwrap();
    let told = rig.refused();
    assert!(told.contains("there is no way back") && told.contains("run replicate"), "{told}");
    heard(&writers);
    // What a failover of the source may do to it.
    plant(|sql| rig.on_source(sql));
    let places = [
        "mend-slot",
        "repair-found",
        "repair-deleted/sessions",
        "repair-table/sessions",
        "record-before/noted/way-back/clusters",
        "mend-subscription",
        "record-before/noted/way-back/lost",
        "record-after/noted/way-back/lost",
        "record-before/done/follow-back",
    ];
    arm(&rig, places[0], "kill");
    rig.want_with(Goal::Following, settings()).unwrap();
    for (index, place) in places.iter().enumerate() {
        killed(&rig, place);
        heard(&writers);
        if let Some(next) = places.get(index + 1) {
            arm(&rig, next, "kill");
        }
        rig.hook().unwrap();
    }
    stands(&rig, &rig.settled(LONG).unwrap());
    // Asked for again, nothing is done again.
    assert_eq!(rig.reach_with(Goal::Following, &settings()).phase(), Phase::Flipped);

    // And once more, for it may be lost more than once.
    lose(&rig);
    heard(&writers);
    stands(&rig, &rig.reach_with(Goal::Following, &settings()));

    // On the road back too, before writes stop and when nobody can write any more: users go on at once, and the same leads
    // back.
    for place in
        ["record-after/started/reverse-fence", "record-after/done/reverse-fence", "record-before/done/reverse-drain"]
    {
        rig.stop_at(place).unwrap();
        rig.want_with(Goal::RolledBack, settings()).unwrap();
        rig.stopped_at(place).unwrap();
        drop_slot(&rig);
        rig.go_on().unwrap();
        if place.starts_with("record-before") {
            // Everything was brought back before: the slot is needed no more.
            break;
        }
        let told = rig.refused();
        assert!(told.contains("is gone on") && told.contains("run replicate, which makes the way back anew"), "{told}");
        heard(&writers);
        stands(&rig, &rig.reach_with(Goal::Following, &settings()));
    }
    users_return(&rig, writers, &settings());
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    rig.assert_equal_schemas();
    rig.assert_no_secret();
}
