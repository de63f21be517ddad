//! After the flip: what users write on the new release comes back to the old one, under writers, in both orders; then
//! the whole migration again.

use super::copy_kills::arm;
use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, OrderChoice, Phase, Settings, Step};
use peers::seed::{self, Person};
use peers::writers::Writers;
use serde_json::{Value, json};

/// A kind of credential that Kratos 1.0.0 does not know and 1.3.1 does.
const ONLY_NEW: &str = "passkey";

fn settings(order: OrderChoice) -> Settings {
    Settings { order, outage_limit: 3600, ..Settings::default() }
}

/// From wherever a run may begin to the flip.
fn flip(rig: &mut Rig, settings: &Settings) {
    rig.reach_with(Goal::Following, settings);
    if settings.order == OrderChoice::Documented {
        rig.reach_with(Goal::Drained, settings);
    }
    rig.migrate_schema(settings);
    let state = rig.reach_with(Goal::Flipped, settings);
    assert_eq!(state.phase(), Phase::Flipped);
    assert_eq!(state.active().unwrap().way_back(), Ok(()));
    rig.write_source().unwrap_err();
    rig.write_target().unwrap();
}

/// What users do on the new release: new people, one with another password, one less; one with a credential of a kind
/// that only the new release knows, where there is such a kind.
pub fn live_on_the_target(rig: &Rig, people: &mut Vec<Person>, only_new: Option<&str>) -> Person {
    let client = rig.target_client();
    seed::check_people(&client, people).unwrap();
    people.extend(seed::people_named(&client, "later", 3).unwrap());
    let changed = people.first_mut().unwrap();
    changed.password = "another password, chosen on the target".to_owned();
    client.change_password(&changed.id, &changed.email, &changed.password).unwrap();
    let gone = people.remove(1);
    client.delete_identity(&gone.id).unwrap();
    let Some(kind) = only_new else { return gone };
    // The kind must come back with the credential.
    rig.on_target(&format!(
        "INSERT INTO public.identity_credentials
             (id, config, identity_credential_type_id, identity_id, created_at, updated_at, nid)
         SELECT gen_random_uuid(), '{{}}', t.id, i.id, now(), now(), i.nid
         FROM public.identities i, public.identity_credential_types t
         WHERE i.id = '{}' AND t.name = '{kind}'",
        people[0].id
    ))
    .unwrap();
    gone
}

/// Users are back on the old release, with everything, and nothing of ours is left.
pub fn assert_back(rig: &mut Rig, people: &[Person], gone: &Person, only_new: Option<&str>) {
    assert_eq!(rig.now().unwrap().0.phase(), Phase::Idle);
    rig.write_source().unwrap();
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    rig.assert_equal_schemas();
    let client = rig.source_client();
    seed::check_people(&client, people).unwrap();
    client.identity(&gone.id).unwrap_err();
    client.login(&gone.email, &gone.password).unwrap_err();
    if let Some(kind) = only_new {
        let kinds = format!(
            "SELECT count(*) FROM public.identity_credentials c
             JOIN public.identity_credential_types t ON t.id = c.identity_credential_type_id WHERE t.name = '{kind}'"
        );
        assert_eq!(rig.on_source(&kinds).unwrap(), "1");
    }
    rig.stop_target().unwrap();
}

fn under_writers(order: OrderChoice) {
    let mut rig = Rig::new(14, 16, 500).unwrap();
    let settings = settings(order);
    let wanted = peers::writers::Settings { connections: 4, rate: 80.0, oracle_file: rig.folder().join("oracle") };
    let writers = Writers::start(&rig.source_uri(), &wanted, "all").unwrap();
    // The writers know the identities from before: nobody whom they write for is deleted later.
    let mut people = seed::people(&rig.source_client(), 3).unwrap();
    let more = |what: &str| {
        let before = writers.acknowledged();
        peers::wait_for(what, LONG, || match writers.acknowledged() {
            now if now > before + 50 => Ok(()),
            now => Err(now),
        })
        .unwrap();
    };
    flip(&mut rig, &settings);
    writers.move_to(&rig.target_uri());
    more("writes on the target");
    let gone = live_on_the_target(&rig, &mut people, Some(ONLY_NEW));

    let both_closed = json!({"kind": "noted", "step": "reverse-hand-over", "name": "closing-target"});
    rig.stall_at(&both_closed).unwrap();
    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    rig.stalled(&both_closed).unwrap();
    rig.write_source().unwrap_err();
    rig.write_target().unwrap_err();
    rig.assert_equal();
    rig.release().unwrap();
    rig.until("the source to open", LONG, |state, _| {
        state.active().is_some_and(|run| run.is_done(Step::ReverseHandOver))
    })
    .unwrap();
    writers.move_to(&rig.source_uri());
    let run = rig.settled(LONG).unwrap().run.unwrap();
    eprintln!(
        "{order:?}: fence to drained back {} ms, fence to open on the source {} ms",
        run.output(Step::ReverseDrain, "drain-ms").unwrap(),
        run.output(Step::ReverseHandOver, "outage-ms").unwrap()
    );
    more("writes on the source");
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let verdict = record.oracle.check(&rig.source_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert_back(&mut rig, &people, &gone, Some(ONLY_NEW));

    flip(&mut rig, &settings);
    rig.verified();
    rig.assert_equal();
    seed::check_people(&rig.target_client(), &people).unwrap();
    assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
    rig.assert_no_secret();
}

#[test]
fn migrate_first_under_writers() {
    under_writers(OrderChoice::Auto);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_documented_order_under_writers() {
    under_writers(OrderChoice::Documented);
}

fn noted(step: &str, name: &str) -> Value {
    json!({"kind": "noted", "step": step, "name": name})
}

fn done(step: &str) -> Value {
    json!({"kind": "done", "step": step})
}

/// A lease of the target that ends before the source opened leaves users where they are, and the way back stands.
#[test]
fn a_lease_that_runs_out_on_the_road_back_leaves_users_on_the_target() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let usual = settings(OrderChoice::Auto);
    flip(&mut rig, &usual);
    let short = Settings { outage_limit: 3, ..Settings::default() };
    for pattern in [done("reverse-drain"), noted("reverse-hand-over", "closing-target")] {
        rig.stall_at(&pattern).unwrap();
        rig.want_with(Goal::RolledBack, short.clone()).unwrap();
        rig.stalled(&pattern).unwrap();
        rig.write_target().unwrap_err();
        peers::wait_for("writes to pass on the target", LONG, || rig.write_target()).unwrap();
        rig.release().unwrap();
        let said = rig.refused();
        assert!(said.contains("ran out") || said.contains("the target"), "{said}");
        rig.until("users to stay on the target", LONG, |state, _| state.phase() == Phase::Flipped).unwrap();
        rig.write_source().unwrap_err();
        rig.write_target().unwrap();
    }
    rig.want_with(Goal::RolledBack, usual).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    rig.write_source().unwrap();
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
}

/// A row that differs keeps users on the target; a lost slot is said, and then rollback is refused.
#[test]
fn what_does_not_come_back_is_found_and_what_cannot_is_said() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let settings = settings(OrderChoice::Auto);
    flip(&mut rig, &settings);
    let planted = "SET session_replication_role = replica; UPDATE public.identities SET state = 'inactive'
                   WHERE id = (SELECT min(id::text)::uuid FROM public.identities)";
    rig.on_source(planted).unwrap();
    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    let said = rig.refused();
    assert!(said.contains("1 rows differ") && said.contains("identities"), "{said}");
    rig.until("users to stay on the target", LONG, |state, _| state.phase() == Phase::Flipped).unwrap();
    rig.write_target().unwrap();

    let name = rig.on_target("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE '%reverse'").unwrap();
    rig.on_source(&format!("ALTER SUBSCRIPTION {name} DISABLE")).unwrap();
    rig.on_target(&format!(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{name}';
         SELECT pg_drop_replication_slot('{name}')"
    ))
    .unwrap();
    rig.until("the way back to be lost", LONG, |state, _| {
        state.active().is_some_and(|run| run.way_back().is_err_and(|reason| reason.contains("gone")))
    })
    .unwrap();
    rig.want_with(Goal::RolledBack, settings.clone()).unwrap();
    let said = rig.refused();
    assert!(said.contains("already took writes") && said.contains("is gone on"), "{said}");
    rig.verified();
    assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
}

/// From 15 on an error disables the subscription, a lost connection too: on the road back nobody watches it but the steps
/// that wait for it.
#[test]
fn a_way_back_that_is_cut_off_as_the_road_back_begins_goes_on() {
    let mut rig = Rig::new(16, 16, 150).unwrap();
    for place in ["record-after/started/reverse-fence", "record-before/done/reverse-fence"] {
        flip(&mut rig, &settings(OrderChoice::Auto));
        rig.verified();
        arm(&rig, place, "stop");
        rig.want(Goal::RolledBack).unwrap();
        rig.stopped_at(place).unwrap();
        rig.on_target("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
        peers::wait_for("the source's subscription to be disabled", LONG, || {
            let enabled =
                rig.on_source("SELECT subenabled FROM pg_subscription").map_err(|error| format!("{error:#}"))?;
            if enabled == "f" { Ok(()) } else { Err(enabled) }
        })
        .unwrap();
        rig.go_on().unwrap();
        assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle, "{place}");
        rig.write_source().unwrap();
        assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
        rig.stop_target().unwrap();
    }
}
