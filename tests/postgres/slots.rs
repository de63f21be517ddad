//! Slots with an exported snapshot, their deadline and their removal.

use super::{poll, server};
use coordinator::postgres::replication::create_slot_with_snapshot;
use coordinator::postgres::{Error, slot};
use peers::cluster::Cluster;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_snapshot_lives_as_long_as_its_value_and_the_slot_longer() {
    let cluster = Cluster::start(14).unwrap();
    cluster.psql("postgres", "CREATE TABLE seen (n int); INSERT INTO seen VALUES (1)").unwrap();
    let source = server(&cluster);
    let made = create_slot_with_snapshot(&source, "postgres", "ours", SOON).await.unwrap();
    cluster.psql("postgres", "INSERT INTO seen VALUES (2)").unwrap();

    let session = source.connect("postgres", "test").await.unwrap();
    let import =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'", made.snapshot);
    session.batch_execute(&import).await.unwrap();
    let count: i64 = session.query_one("SELECT count(*) FROM public.seen", &[]).await.unwrap().get(0);
    assert_eq!(count, 1, "the later row is the slot's to deliver");
    session.batch_execute("COMMIT").await.unwrap();

    let state = slot::observe(&session, "ours").await.unwrap().unwrap();
    assert_eq!(state.plugin.as_deref(), Some("pgoutput"));
    assert_eq!(state.confirmed_flush_lsn, Some(made.consistent_point));
    assert_eq!((state.wal_status.as_deref(), state.active_pid), (Some("reserved"), None));
    assert!(state.lag_bytes.unwrap() > 0);

    let again = create_slot_with_snapshot(&source, "postgres", "ours", SOON).await.unwrap_err();
    assert!(again.to_string().contains("already exists"), "{again}");
    assert!(slot::observe(&session, "ours").await.unwrap().is_some(), "a refusal leaves the first slot alone");

    drop(made);
    for _ in 0..200 {
        if session.batch_execute(&import).await.is_err() {
            session.batch_execute("ROLLBACK").await.unwrap();
            slot::drop_slot(&session, "ours", SOON).await.unwrap();
            slot::drop_slot(&session, "ours", SOON).await.unwrap();
            assert_eq!(slot::observe(&session, "ours").await.unwrap(), None);
            return;
        }
        session.batch_execute("ROLLBACK").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the snapshot outlived its value");
}

#[tokio::test]
async fn a_blocked_slot_ends_at_its_deadline_names_the_blocker_and_leaves_nothing() {
    let cluster = Cluster::start(16).unwrap();
    cluster.psql("postgres", "CREATE TABLE held (n int)").unwrap();
    let mut blocker = cluster.connect("postgres").await.unwrap();
    blocker.batch_execute("SET application_name = 'kratos'").await.unwrap();
    let pid: i32 = blocker.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let open = blocker.transaction().await.unwrap();
    open.execute("INSERT INTO held VALUES (1)", &[]).await.unwrap();

    let source = server(&cluster);
    let limit = Duration::from_millis(700);
    let error = create_slot_with_snapshot(&source, "postgres", "blocked", limit).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&pid.to_string()) && text.contains("kratos") && text.contains("idle in transaction"),
        "{text}"
    );
    let watcher = source.connect("postgres", "test").await.unwrap();
    assert_eq!(slot::observe(&watcher, "blocked").await.unwrap(), None);
    open.rollback().await.unwrap();

    cluster.psql("postgres", "BEGIN; INSERT INTO held VALUES (2); PREPARE TRANSACTION 'forgotten'").unwrap();
    let error = create_slot_with_snapshot(&source, "postgres", "blocked", limit).await.unwrap_err();
    assert!(error.to_string().contains("prepared transaction forgotten"), "{error}");
    cluster.psql("postgres", "ROLLBACK PREPARED 'forgotten'").unwrap();
    create_slot_with_snapshot(&source, "postgres", "blocked", SOON).await.unwrap();
}

#[tokio::test]
async fn a_blocked_slot_goes_with_a_coordinator_that_goes() {
    let cluster = Cluster::start(14).unwrap();
    cluster.psql("postgres", "CREATE TABLE held (n int)").unwrap();
    let mut blocker = cluster.connect("postgres").await.unwrap();
    let open = blocker.transaction().await.unwrap();
    open.execute("INSERT INTO held VALUES (1)", &[]).await.unwrap();
    let source = server(&cluster);
    let watcher = source.connect("postgres", "test").await.unwrap();
    let creating = tokio::spawn(async move { create_slot_with_snapshot(&source, "postgres", "orphan", SOON).await });
    poll("the slot to be half made", async || {
        let state = slot::observe(&watcher, "orphan").await.unwrap();
        if state.as_ref().is_some_and(|state| state.active_pid.is_some()) { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
    creating.abort();
    assert!(creating.await.unwrap_err().is_cancelled());
    poll("the half-made slot to go", async || match slot::observe(&watcher, "orphan").await.unwrap() {
        None => Ok(()),
        Some(state) => Err(format!("{state:?}")),
    })
    .await;
    open.rollback().await.unwrap();
}
