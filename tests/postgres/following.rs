//! Slot, copy and subscription together: every write arrives exactly once, whatever is written meanwhile.

use super::{POLL_LIMIT, poll, server};
use coordinator::postgres::copy::{CopyProgress, build_definitions, copy_parts, hold_snapshot, plan_copy, truncate};
use coordinator::postgres::inspect::tables;
use coordinator::postgres::names::{RunId, TableName};
use coordinator::postgres::publication::{self, PublishedTable};
use coordinator::postgres::replication::create_slot_with_snapshot;
use coordinator::postgres::schema::{definitions, drop_definitions};
use coordinator::postgres::subscription::{self, SubscriptionSpec};
use coordinator::postgres::{Password, Server, leftovers, slot};
use peers::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::unbounded_channel;

const SCHEMA: &str = "
    CREATE TABLE identities (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), traits jsonb NOT NULL, changes int NOT NULL DEFAULT 0);
    CREATE TABLE sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), identity uuid NOT NULL REFERENCES identities ON DELETE CASCADE, note text);
    CREATE INDEX ON sessions (identity)";

/// Inserts, updates and deletes until told to stop; answers the number of transactions.
async fn write(cluster: &Cluster, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let client = cluster.connect("postgres").await.unwrap();
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            client
                .batch_execute(
                    "BEGIN;
                     WITH made AS (INSERT INTO identities (traits) VALUES (jsonb_build_object('n', random())) RETURNING id)
                     INSERT INTO sessions (identity, note) SELECT id, repeat('s', 3000) FROM made;
                     UPDATE identities SET changes = changes + 1
                     WHERE id = (SELECT id FROM identities ORDER BY random() LIMIT 1);
                     DELETE FROM identities WHERE id = (SELECT id FROM identities WHERE random() < 0.3 LIMIT 1 FOR UPDATE SKIP LOCKED);
                     COMMIT",
                )
                .await
                .unwrap();
            count += 1;
        }
        count
    })
}

fn content(cluster: &Cluster) -> String {
    cluster
        .psql(
            "postgres",
            "SELECT to_jsonb(t) FROM identities t ORDER BY id; SELECT id, identity, length(note) FROM sessions ORDER BY id",
        )
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_writes_every_row_arrives_exactly_once() {
    for (old, new) in [(14, 16), (16, 14)] {
        let (old, new) = (Cluster::start(old).unwrap(), Cluster::start(new).unwrap());
        old.psql("postgres", &format!("{SCHEMA}; INSERT INTO identities (traits) SELECT jsonb_build_object('i', i) FROM generate_series(1, 2000) i")).unwrap();
        new.psql("postgres", SCHEMA).unwrap();
        let (source, target) = (server(&old), server(&new));
        let (from, to) =
            (source.connect("postgres", "test").await.unwrap(), target.connect("postgres", "test").await.unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let writers = [write(&old, Arc::clone(&stop)).await, write(&old, Arc::clone(&stop)).await];

        let run = RunId::random().forward();
        let ours = tables(&from).await.unwrap();
        let names: Vec<TableName> = ours.iter().map(|table| table.name.clone()).collect();
        let published: Vec<_> = names.iter().cloned().map(PublishedTable::whole).collect();
        publication::create(&from, &run, &published).await.unwrap();
        let kept = definitions(&to, &names).await.unwrap();
        drop_definitions(&to, &kept).await.unwrap();
        truncate(&to, &names).await.unwrap();
        let made = create_slot_with_snapshot(&source, "postgres", &run, POLL_LIMIT).await.unwrap();
        let holder = hold_snapshot(&source, "postgres", &made.snapshot, &names).await.unwrap();
        let point = made.consistent_point;
        drop(made);
        let (done, finished) = unbounded_channel();
        let parts = plan_copy(&ours, &tables(&to).await.unwrap(), 2).unwrap();
        let progress = Arc::new(CopyProgress::default());
        tokio::try_join!(
            copy_parts((&source, "postgres"), (&target, "postgres"), &holder, parts, 2, Arc::clone(&progress), done),
            build_definitions(&target, "postgres", kept, finished, 2, progress),
        )
        .unwrap();
        drop(holder);

        follow(&source, &target, &run).await;
        let state = slot::observe(&from, &run).await.unwrap().unwrap();
        assert!(state.confirmed_flush_lsn.unwrap() >= point);
        poll("some changes to be applied", async || {
            let state = subscription::state(&to, &run).await.unwrap().unwrap();
            if state.origin_lsn.is_some_and(|lsn| lsn > point) { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        let mut written = 0;
        for writer in writers {
            written += writer.await.unwrap();
        }
        assert!(written > 20, "the writers wrote {written} transactions");
        drain(&old, &new).await;
        assert_eq!(content(&old), content(&new));
        unwind(&from, &to, &run).await;
    }
}

async fn follow(source: &Server, target: &Server, run: &str) {
    let spec = SubscriptionSpec {
        name: run.to_owned(),
        slot: run.to_owned(),
        publication: run.to_owned(),
        conninfo: source.conninfo("postgres", run),
        only_local_changes: false,
    };
    let session = target.connect("postgres", "test").await.unwrap();
    subscription::create(target, "postgres", &spec).await.unwrap();
    subscription::create(target, "postgres", &spec).await.unwrap();
    let state = subscription::state(&session, run).await.unwrap().unwrap();
    assert!(!state.enabled && state.worker_pid.is_none() && state.tables == 2, "{state:?}");
    assert_eq!((state.slot.as_deref(), state.tables_not_ready.len()), (Some(run), 0));
    let kept = session.query_one("SELECT subsynccommit FROM pg_subscription", &[]).await.unwrap();
    assert_eq!(kept.get::<_, &str>(0), "on");
    subscription::enable(&session, run).await.unwrap();
}

/// A last row stands for everything committed before it.
async fn drain(old: &Cluster, new: &Cluster) {
    let id = old.psql("postgres", "INSERT INTO identities (traits) VALUES ('{\"last\": true}') RETURNING id").unwrap();
    poll("the last row", async || {
        let seen = new.psql("postgres", &format!("SELECT count(*) FROM identities WHERE id = '{id}'")).unwrap();
        if seen == "1" { Ok(()) } else { Err(seen) }
    })
    .await;
}

async fn unwind(from: &coordinator::postgres::Session, to: &coordinator::postgres::Session, run: &str) {
    let running = subscription::state(to, run).await.unwrap().unwrap();
    assert!(
        running.enabled
            && running.worker_pid.is_some()
            && running.apply_errors.as_ref().is_none_or(|count| count.errors == 0),
        "{running:?}"
    );
    subscription::disable(to, run, POLL_LIMIT).await.unwrap();
    slot::wait_inactive(from, run, POLL_LIMIT).await.unwrap();
    assert_eq!(subscription::state(to, run).await.unwrap().unwrap().worker_pid, None);
    subscription::enable(to, run).await.unwrap();
    for session in [to, from] {
        let ours = leftovers::list(session).await.unwrap();
        assert_eq!(ours.len(), if std::ptr::eq(session, to) { 1 } else { 2 }, "{ours:?}");
        leftovers::sweep(session, &ours).await.unwrap();
        assert_eq!(leftovers::list(session).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_password_of_a_subscription_is_in_no_log_and_no_error() {
    let loud = |major: u32| {
        Cluster::builder(major)
            .setting("log_statement", "all")
            .setting("log_min_duration_statement", "0")
            .setting("log_min_error_statement", "debug5")
            .start()
            .unwrap()
    };
    for major in [14, 16] {
        let (old, new) = (loud(major), loud(major));
        old.psql("postgres", SCHEMA).unwrap();
        new.psql("postgres", SCHEMA).unwrap();
        // A secret of its own, since the logs show how the superuser's was set.
        old.psql("postgres", "SET log_statement = none; SET log_min_duration_statement = -1; CREATE ROLE follower SUPERUSER LOGIN PASSWORD 'it''s \\ very-secret'").unwrap();
        let source =
            Server { user: "follower".to_owned(), password: Password::new("it's \\ very-secret"), ..server(&old) };
        let target = server(&new);
        let from = source.connect("postgres", "test").await.unwrap();
        let names = tables(&from).await.unwrap().into_iter().map(|table| PublishedTable::whole(table.name));
        publication::create(&from, "ours", &names.collect::<Vec<_>>()).await.unwrap();
        drop(create_slot_with_snapshot(&source, "postgres", "ours", POLL_LIMIT).await.unwrap());
        let spec = SubscriptionSpec {
            name: "ours".to_owned(),
            slot: "ours".to_owned(),
            publication: "ours".to_owned(),
            conninfo: source.conninfo("postgres", "ours"),
            only_local_changes: true,
        };
        let wrong = Server { password: Password::new("not very-secret"), ..source.clone() };
        let refused = SubscriptionSpec { conninfo: wrong.conninfo("postgres", "ours"), ..spec.clone() };
        let error = subscription::create(&target, "postgres", &refused).await.unwrap_err().to_string();
        assert!(error.contains("could not connect to the publisher") && !error.contains("very-secret"), "{error}");
        subscription::create(&target, "postgres", &spec).await.unwrap();
        let session = target.connect("postgres", "test").await.unwrap();
        subscription::enable(&session, "ours").await.unwrap();
        drain(&old, &new).await;
        for cluster in [&old, &new] {
            let log = std::fs::read_to_string(cluster.log_path()).unwrap();
            assert!(log.contains("SELECT set_config"), "the log is loud");
            assert!(!log.contains("very-secret"), "{}", cluster.log_tail(50));
        }
        let visible = new
            .psql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%very-secr' || 'et%'")
            .unwrap();
        assert_eq!(visible, "0");
        subscription::drop_subscription(&session, "ours", POLL_LIMIT).await.unwrap();
        subscription::drop_subscription(&session, "ours", POLL_LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn an_apply_error_disables_the_subscription_and_is_counted() {
    let (old, new) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    old.psql("postgres", SCHEMA).unwrap();
    new.psql("postgres", SCHEMA).unwrap();
    let (source, target) = (server(&old), server(&new));
    let from = source.connect("postgres", "test").await.unwrap();
    let to = target.connect("postgres", "test").await.unwrap();
    let names = tables(&from).await.unwrap().into_iter().map(|table| PublishedTable::whole(table.name));
    publication::create(&from, "ours", &names.collect::<Vec<_>>()).await.unwrap();
    drop(create_slot_with_snapshot(&source, "postgres", "ours", POLL_LIMIT).await.unwrap());
    follow(&source, &target, "ours").await;
    new.psql("postgres", "INSERT INTO identities (id, traits) VALUES ('00000000-0000-0000-0000-000000000001', '{}')")
        .unwrap();
    old.psql("postgres", "INSERT INTO identities (id, traits) VALUES ('00000000-0000-0000-0000-000000000001', '{}')")
        .unwrap();
    poll("the error", async || {
        let state = subscription::state(&to, "ours").await.unwrap().unwrap();
        if !state.enabled && state.apply_errors.as_ref().is_some_and(|count| count.errors == 1) {
            Ok(())
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn publications_keep_to_their_tables_and_columns() {
    for major in [14, 16] {
        let cluster = Cluster::start(major).unwrap();
        cluster
            .psql(
                "postgres",
                &format!("{SCHEMA}; CREATE TABLE \"Ta\"\"b'le\" (\"i d\" int PRIMARY KEY, \"o,ther\" int, n int)"),
            )
            .unwrap();
        let session = server(&cluster).connect("postgres", "test").await.unwrap();
        let odd = TableName::new("public", "Ta\"b'le");
        let columns = PublishedTable { name: odd.clone(), columns: Some(vec!["o,ther".to_owned(), "i d".to_owned()]) };
        let list = [PublishedTable::whole(TableName::new("public", "sessions")), columns];
        let made = publication::create(&session, "ours", &list).await;
        if major == 14 {
            assert!(made.unwrap_err().to_string().contains("older than 15"));
            assert_eq!(publication::tables_of(&session, "ours").await.unwrap(), None);
            continue;
        }
        made.unwrap();
        publication::create(&session, "ours", &list).await.unwrap();
        let there = publication::tables_of(&session, "ours").await.unwrap().unwrap();
        assert_eq!(there.len(), 2);
        assert_eq!(there[0].columns, Some(vec!["i d".to_owned(), "o,ther".to_owned()]));
        let error = publication::create(&session, "ours", &list[..1]).await.unwrap_err().to_string();
        assert!(error.contains("publishes other tables"), "{error}");
        publication::drop_publication(&session, "ours").await.unwrap();
        publication::drop_publication(&session, "ours").await.unwrap();
        assert_eq!(publication::tables_of(&session, "ours").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_slot_that_is_being_read_is_freed_and_dropped() {
    let (old, new) = (Cluster::start(16).unwrap(), Cluster::start(16).unwrap());
    old.psql("postgres", SCHEMA).unwrap();
    new.psql("postgres", SCHEMA).unwrap();
    let (source, target) = (server(&old), server(&new));
    let from = source.connect("postgres", "test").await.unwrap();
    let names = tables(&from).await.unwrap().into_iter().map(|table| PublishedTable::whole(table.name));
    publication::create(&from, "ours", &names.collect::<Vec<_>>()).await.unwrap();
    drop(create_slot_with_snapshot(&source, "postgres", "ours", POLL_LIMIT).await.unwrap());
    follow(&source, &target, "ours").await;
    drain(&old, &new).await;
    let busy = slot::wait_inactive(&from, "ours", std::time::Duration::from_millis(100)).await.unwrap_err();
    assert!(busy.to_string().contains("walsender"), "{busy}");
    slot::drop_slot(&from, "ours", POLL_LIMIT).await.unwrap();
    assert_eq!(slot::observe(&from, "ours").await.unwrap(), None);
}
