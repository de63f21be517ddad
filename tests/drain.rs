//! The drain on real clusters: what counts as drained, how fast, and the position that is never confirmed.

use crate::fence::{DATABASE, SECOND, World, outcome};
use crate::postgres::{poll, server};
use coordinator::postgres::fence;
use coordinator::postgres::marker::{drain_point, drained, wait_drained};
use coordinator::postgres::{Session, sequences};
use peers::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio_postgres::types::PgLsn;

const SLOT: &str = "follow";
const PAGE: u64 = 8192;

/// A target that follows the world's database.
async fn follow(world: &World, major: u32) -> (Cluster, Session) {
    let target = Cluster::start(major).unwrap();
    target.create_database(DATABASE).unwrap();
    target
        .psql(
            DATABASE,
            "CREATE TABLE plain (id int PRIMARY KEY, note text); CREATE TABLE other (LIKE plain INCLUDING ALL)",
        )
        .unwrap();
    let session = server(&target).connect(DATABASE, "test").await.unwrap();
    fence::install(&session).await.unwrap();
    world
        .cluster
        .psql(
            DATABASE,
            &format!(
                "CREATE PUBLICATION p FOR TABLE plain, other, identity_migration.marker; TRUNCATE plain;
                 SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"
            ),
        )
        .unwrap();
    let (user, password) = world.cluster.superuser();
    let port = world.cluster.port();
    target
        .psql(
            DATABASE,
            &format!(
                "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={port} user={user} password={password} dbname={DATABASE}'
                 PUBLICATION p WITH (create_slot = false, copy_data = false, slot_name = '{SLOT}', synchronous_commit = on)"
            ),
        )
        .unwrap();
    (target, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_is_on_the_target_when_it_is_drained() {
    for (old, new) in [(14, 16), (16, 14)] {
        let world = World::start(old).await;
        let (target, to) = follow(&world, new).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for number in 0..4_i32 {
            let (client, stop) = (world.client("ordinary").await, Arc::clone(&stop));
            writers.push(tokio::spawn(async move {
                let mut acknowledged = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = number * 1_000_000 + acknowledged;
                    let sql =
                        format!("BEGIN; INSERT INTO plain VALUES ({id}); INSERT INTO other VALUES ({id}); COMMIT");
                    match outcome(&client, &sql).await.as_str() {
                        "done" => acknowledged += 1,
                        "25006" => break,
                        other => panic!("{other}"),
                    }
                }
                acknowledged
            }));
        }
        poll("some writes", async || {
            match world.cluster.psql(DATABASE, "SELECT count(*) > 500 FROM plain").unwrap().as_str() {
                "t" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        let closed = world.close_source("g1", 600 * SECOND).await;
        let began = Instant::now();
        let point = drain_point(&world.session, 5 * SECOND).await.unwrap();
        let state = wait_drained(&world.session, &to, SLOT, &point, 20 * SECOND).await.unwrap();
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = 0;
        for writer in writers {
            acknowledged += writer.await.unwrap();
        }
        for table in ["plain", "other"] {
            let there = target.psql(DATABASE, &format!("SELECT count(*) FROM {table}")).unwrap();
            assert_eq!(there, acknowledged.to_string());
        }
        assert!(state.drained() && state.worker_running && state.apply_errors == 0, "{state:?}");
        println!(
            "PostgreSQL {old} to {new}: {acknowledged} writes; {} tables fenced in {:?} ({} retries), drained in {took:?}",
            closed.table_count, closed.took, closed.retries
        );
        // Killed after it was drained, and started again: still drained.
        target.restart(peers::cluster::Mode::Immediate).unwrap();
        let to = server(&target).connect(DATABASE, "test").await.unwrap();
        wait_drained(&world.session, &to, SLOT, &point, 20 * SECOND).await.unwrap();
    }
}

/// Fills WAL so that its last record ends exactly with a page; the insert position then reads past the header of the
/// next page, where nothing is.
async fn fill_page(source: &Session) -> bool {
    for _ in 0..3 {
        let row = source.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await.unwrap();
        let rest = PAGE - u64::from(row.get::<_, PgLsn>(0)) % PAGE;
        // A message of n bytes makes a record of n + 57 bytes, as long as n needs the long form of its length.
        let size = i32::try_from(if rest > 400 { rest - 57 } else { 1000 }).unwrap();
        let emit = "SELECT pg_logical_emit_message(false, 'pad', repeat('x', $1)), pg_current_wal_insert_lsn()";
        source.query_one(emit, &[&size]).await.unwrap();
        let row = source.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await.unwrap();
        if past_header(u64::from(row.get::<_, PgLsn>(0))) {
            return true;
        }
    }
    false
}

fn past_header(position: u64) -> bool {
    matches!(position % PAGE, 24 | 40)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_point_past_a_page_header_is_reached() {
    for major in [14, 16] {
        let world = World::start(major).await;
        let (_target, to) = follow(&world, 16).await;
        world.close_source("g1", 600 * SECOND).await;
        let mut hits = 0;
        for _ in 0..50 {
            if !fill_page(&world.session).await {
                continue;
            }
            let point = drain_point(&world.session, 5 * SECOND).await.unwrap();
            if !past_header(u64::from(point.l0.parse::<PgLsn>().unwrap())) {
                continue;
            }
            let began = Instant::now();
            wait_drained(&world.session, &to, SLOT, &point, 3 * SECOND).await.unwrap();
            assert!(began.elapsed() < 2 * SECOND);
            hits += 1;
            if hits == 5 {
                break;
            }
        }
        assert_eq!(hits, 5, "the boundary was not met on {major}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_drained_says_so() {
    let world = World::start(14).await;
    let (target, to) = follow(&world, 16).await;
    let point = drain_point(&world.session, 5 * SECOND).await.unwrap();
    wait_drained(&world.session, &to, SLOT, &point, 20 * SECOND).await.unwrap();

    // Apply stops at a row that is there already; the count of errors says it at once.
    target.psql(DATABASE, "INSERT INTO plain VALUES (5, 'in the way')").unwrap();
    world.cluster.psql(DATABASE, "INSERT INTO plain VALUES (5, 'new')").unwrap();
    let point = drain_point(&world.session, 5 * SECOND).await.unwrap();
    let error = wait_drained(&world.session, &to, SLOT, &point, 10 * SECOND).await.unwrap_err().to_string();
    assert!(error.contains("apply met an error") || error.contains("marker_visible: false"), "{error}");
    target.psql(DATABASE, "DELETE FROM plain WHERE id = 5").unwrap();
    wait_drained(&world.session, &to, SLOT, &point, 30 * SECOND).await.unwrap();

    target.psql(DATABASE, "ALTER SUBSCRIPTION s DISABLE").unwrap();
    let point = drain_point(&world.session, 5 * SECOND).await.unwrap();
    let error = wait_drained(&world.session, &to, SLOT, &point, SECOND).await.unwrap_err().to_string();
    assert!(error.contains("the subscription is disabled"), "{error}");
    assert!(!drained(&world.session, &to, SLOT, &point).await.unwrap().drained());
    let error = drained(&world.session, &to, "another", &point).await.unwrap_err().to_string();
    assert!(error.contains("no slot another"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_move_once_and_never_back() {
    let world = World::start(14).await;
    let target = World::start(16).await;
    for side in [&world, &target] {
        side.cluster
            .psql(
                DATABASE,
                "CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -5; CREATE SEQUENCE \"Odd \"\"name\";
                 CREATE SEQUENCE small AS smallint MAXVALUE 100; CREATE TABLE counted (id bigserial)",
            )
            .unwrap();
    }
    world
        .cluster
        .psql(
            DATABASE,
            "CREATE SEQUENCE gone; SELECT setval('up', 500); SELECT setval('down', -50);
        SELECT setval('small', 60); INSERT INTO counted DEFAULT VALUES",
        )
        .unwrap();
    let states = sequences::read(&world.session).await.unwrap();
    assert_eq!(states.len(), 6);
    for _ in 0..2 {
        let done = sequences::set(&target.session, &states, 100).await.unwrap();
        assert_eq!((done.set, done.missing.len()), (5, 1));
        assert_eq!(done.missing[0].name, "gone");
        let values =
            "SELECT (SELECT last_value FROM up), (SELECT last_value FROM down), (SELECT last_value FROM small),
            (SELECT last_value FROM counted_id_seq)";
        assert_eq!(target.cluster.psql(DATABASE, values).unwrap(), "600|-550|100|101");
    }
    let there = sequences::read(&target.session).await.unwrap();
    let behind: Vec<String> = sequences::behind_source(&states, &there).into_iter().map(|s| s.name).collect();
    assert_eq!(behind, ["gone"]);
    target.cluster.psql(DATABASE, "SELECT setval('up', 5000)").unwrap();
    sequences::set(&target.session, &states, 100).await.unwrap();
    assert_eq!(target.cluster.psql(DATABASE, "SELECT last_value FROM up").unwrap(), "5000");
}
