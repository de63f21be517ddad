//! The writers and their oracle: nothing is forgotten, and planted losses are found.

use peers::cluster::{Cluster, Mode};
use peers::kratos::Release;
use peers::seed;
use peers::writers::{Habits, KEYLESS_TABLE, Place, Settings, Writers, both_open};
use std::time::Duration;

fn kratos_database(identities: u32) -> Cluster {
    let cluster = Cluster::builder(14).setting("track_commit_timestamp", "on").start().unwrap();
    cluster.create_database("kratos").unwrap();
    Release::find("1.0.0").unwrap().migrate(&cluster.uri("kratos")).unwrap();
    cluster.psql("kratos", KEYLESS_TABLE).unwrap();
    seed::rows(&cluster, "kratos", identities).unwrap();
    cluster
}

fn settings(name: &str) -> Settings {
    Settings::new(std::env::temp_dir().join(format!("oracle-{name}-{}", std::process::id())))
}

fn wait_until(writers: &Writers, acknowledged: u64) {
    peers::wait_for("acknowledged writes", Duration::from_secs(60), || match writers.acknowledged() {
        count if count >= acknowledged => Ok(()),
        count => Err(count),
    })
    .unwrap();
}

#[test]
fn writers_survive_restarts_read_only_times_and_a_move() {
    let (source, target) = (kratos_database(500), kratos_database(500));
    let settings = settings("move");
    let writers = Writers::start(&source.uri("kratos"), &settings, "open").unwrap();
    wait_until(&writers, 200);
    writers.mark_phase("restarts");
    for mode in [Mode::Fast, Mode::Immediate] {
        source.restart(mode).unwrap();
        let before = writers.acknowledged();
        wait_until(&writers, before + 100);
    }
    writers.mark_phase("read-only");
    source.psql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()").unwrap();
    let before = writers.acknowledged();
    std::thread::sleep(Duration::from_millis(300));
    source.psql("postgres", "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()").unwrap();
    wait_until(&writers, before + 100);
    writers.mark_phase("moved");
    // The source closes first, and nothing is in flight there any more.
    source.psql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
    source.restart(Mode::Fast).unwrap();
    writers.move_to(&target.uri("kratos"));
    let before = writers.acknowledged();
    wait_until(&writers, before + 200);
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let names: Vec<&str> = record.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["open", "restarts", "read-only", "moved"]);
    assert!(record.phases[2].refused > 0, "{:?}", record.phases);
    assert_eq!(record.phases.iter().map(|phase| phase.acknowledged).sum::<u64>(), record.oracle.acknowledged());
    eprintln!("{:?}, {} unknown commits settled", record.phases, record.unknown_settled);
    // Nothing was replicated here, so each side lacks what the other has: the oracle must say so.
    for side in [&source, &target] {
        assert!(record.oracle.check(&side.uri("kratos")).unwrap().lost > 100);
    }
    let accepted = record.oracle.accepted(&[&source.uri("kratos"), &target.uri("kratos")]).unwrap();
    assert_eq!(accepted.len() as u64, record.oracle.acknowledged());
    assert_eq!(both_open(&accepted, &[0, 1]), Vec::<String>::new());
    assert!(both_open(&accepted, &[0]).len() > 100);
    std::fs::remove_file(settings.oracle_file).unwrap();
}

/// Nobody closes either side here: clients that try both are taken by both, and the proof must fail.
#[test]
fn sides_that_are_both_open_are_found() {
    let (source, target) = (kratos_database(100), kratos_database(100));
    let settings = settings("both");
    let uris = [source.uri("kratos"), target.uri("kratos")];
    let places = [Place::at(&uris[0]), Place { uri: uris[1].clone(), only_while_fenced: true }];
    let habits = Habits { keyless: true, restless: 4 };
    let writers = Writers::start_among(&places, &settings, habits, "both").unwrap();
    // Nothing is fenced there, so nothing is tried.
    wait_until(&writers, 100);
    writers.move_among(&[Place::at(&uris[0]), Place::at(&uris[1])]);
    wait_until(&writers, 300);
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    let accepted = record.oracle.accepted(&[&uris[0], &uris[1]]).unwrap();
    assert!(accepted.iter().any(|write| write.side == 1));
    assert!(both_open(&accepted, &[0, 1]).len() > 10);
    assert!(both_open(&accepted, &[0, 1, 0]).len() > 10);
    std::fs::remove_file(settings.oracle_file).unwrap();
}

#[test]
fn the_oracle_passes_a_true_database_and_finds_what_is_planted() {
    let cluster = kratos_database(500);
    let settings = settings("planted");
    let uri = cluster.uri("kratos");
    let habits = Habits { keyless: true, restless: 0 };
    let writers = Writers::start_among(&[Place::at(&uri)], &settings, habits, "only").unwrap();
    wait_until(&writers, 300);
    cluster.restart(Mode::Immediate).unwrap();
    wait_until(&writers, 600);
    let record = writers.stop().unwrap();
    let verdict = record.oracle.check(&uri).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged >= 600);
    let lines = std::fs::read_to_string(record.oracle.path()).unwrap().lines().count();
    assert_eq!(lines as u64, verdict.acknowledged);

    let session = "id = (SELECT session_id FROM session_devices WHERE user_agent LIKE 'writers-%' ORDER BY id LIMIT 1)";
    // Many identities were written more than once: what is planted counts as one only for one written once.
    let identity = "id = (SELECT id FROM identities, jsonb_each_text(metadata_admin) WHERE key LIKE 'writers-%' \
                    AND value = '1' LIMIT 1)";
    let count = "(SELECT jsonb_object_agg(key, value::int + 1) FROM jsonb_each_text(metadata_admin))";
    let plants = [
        (format!("DELETE FROM sessions WHERE {session}"), (1, 0)),
        (format!("UPDATE sessions SET active = NOT active WHERE {session}"), (1, 0)),
        (format!("UPDATE identities SET metadata_admin = {count} WHERE {identity}"), (0, 1)),
        (format!("UPDATE identities SET metadata_admin = NULL WHERE {identity}"), (1, 0)),
        ("DELETE FROM chaos_keyless WHERE ctid = (SELECT min(ctid) FROM chaos_keyless)".to_owned(), (1, 0)),
        ("INSERT INTO chaos_keyless SELECT * FROM chaos_keyless LIMIT 1".to_owned(), (0, 1)),
        ("DELETE FROM selfservice_login_flows WHERE request_url LIKE 'https://writers.example/%'".to_owned(), (8, 0)),
        (
            "INSERT INTO sessions (id, expires_at, authenticated_at, identity_id, created_at, updated_at, nid, \
             authentication_methods) SELECT overlay(id::text placing 'ffffffff' from 29)::uuid, expires_at, \
             authenticated_at, identity_id, created_at, updated_at, nid, authentication_methods FROM sessions \
             WHERE id IN (SELECT session_id FROM session_devices WHERE user_agent LIKE 'writers-%') LIMIT 1"
                .to_owned(),
            (0, 1),
        ),
    ];
    for (index, (sql, (lost, duplicated))) in plants.into_iter().enumerate() {
        let copy = format!("planted_{index}");
        cluster.psql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE kratos")).unwrap();
        cluster.psql(&copy, &sql).unwrap();
        let verdict = record.oracle.check(&cluster.uri(&copy)).unwrap();
        assert_eq!((verdict.lost, verdict.duplicated), (lost, duplicated), "{sql}: {verdict:?}");
    }
    std::fs::remove_file(settings.oracle_file).unwrap();
}
