//! The lease and the hand-over: late writers against the coordinator, at every isolation level.

use crate::fence::{DATABASE, LEVELS, MAJORS, SECOND, World, outcome};
use crate::postgres::poll;
use coordinator::postgres::fence::{self, Close, FenceState, OpenOnlyIf, Opening, Permanent};
use coordinator::postgres::marker;
use peers::places::postgresql_program;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const WRITE: &str = "UPDATE plain SET note = 'late'";
const SHORT: Duration = Duration::from_millis(1200);

/// A whole transaction at this level that writes once.
fn transaction(level: &str) -> String {
    format!("BEGIN ISOLATION LEVEL {level}; {WRITE}; COMMIT")
}

async fn try_write(client: &Client, level: &str) -> String {
    let result = outcome(client, &transaction(level)).await;
    if result != "done" {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    result
}

async fn wait_for_deadline(world: &World, generation: &str) {
    poll("the lease to run out", async || match fence::state(&world.session, generation).await.unwrap().unwrap() {
        row if row.remaining_ms.is_some_and(|left| left < -20) => Ok(()),
        row => Err(format!("{row:?}")),
    })
    .await;
}

fn each() -> impl Iterator<Item = (u32, &'static str)> {
    MAJORS.into_iter().flat_map(|major| LEVELS.map(|level| (major, level)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nobody_there_writes_reopen_at_the_deadline_by_themselves() {
    for (major, level) in each() {
        let world = World::start(major).await;
        for (generation, role) in [("g1", "ordinary"), ("g2", "boss")] {
            world.close_source(generation, SHORT).await;
            let client = world.client(role).await;
            let old = world.client(role).await;
            old.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT * FROM plain")).await.unwrap();
            assert_eq!(try_write(&client, level).await, "25006");
            wait_for_deadline(&world, generation).await;
            // Reading changes nothing, and a transaction from before the deadline stays refused.
            assert_eq!(world.state(generation).await, FenceState::Leased);
            assert_eq!(outcome(&old, WRITE).await, "25006", "{major} {level} {role}");
            old.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(try_write(&client, level).await, "done", "{major} {level} {role}");
            assert_eq!(world.state(generation).await, FenceState::Expired);
            assert!(matches!(world.permanent(generation).await, Permanent::Lost(Some(_))));
            assert_eq!(outcome(&client, "CREATE TABLE later (id int); DROP TABLE later").await, "done");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ddl_alone_may_be_the_first_after_the_deadline() {
    for major in MAJORS {
        let world = World::start(major).await;
        world.close_source("g1", SHORT).await;
        let client = world.client("boss").await;
        assert_eq!(outcome(&client, "CREATE TABLE later (id int)").await, "25006");
        wait_for_deadline(&world, "g1").await;
        assert_eq!(outcome(&client, "CREATE TABLE later (id int)").await, "done");
        assert_eq!(world.state("g1").await, FenceState::Expired);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_never_writes_past_permanent() {
    for (major, level) in each() {
        let world = World::start(major).await;
        let before_fence = world.client("ordinary").await;
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT * FROM schema_migration");
        before_fence.batch_execute(&begin).await.unwrap();
        world.close_source("g1", SHORT).await;
        let before_permanent = world.client("ordinary").await;
        before_permanent.batch_execute(&begin).await.unwrap();
        assert!(matches!(world.permanent("g1").await, Permanent::Committed(_)));
        wait_for_deadline(&world, "g1").await;
        for old in [&before_fence, &before_permanent] {
            let result = outcome(old, WRITE).await;
            assert!(result == "25006" || result == "40001", "{major} {level}: {result}");
            old.batch_execute("ROLLBACK").await.unwrap();
        }
        assert_eq!(try_write(&before_fence, level).await, "25006", "{major} {level}");
        // Permanent stays: nothing gives it back.
        fence::lift(&world.session, "g1", 0, SECOND).await.unwrap();
        assert_eq!(world.state("g1").await, FenceState::Permanent);
    }
}

/// A snapshot taken before the hand-over and a transaction that began after the deadline cannot meet by waiting
/// (one statement before the other), except through an imported snapshot: the worst case of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_old_snapshot_fails_with_40001() {
    for (major, level) in each().filter(|(_, level)| *level != "READ COMMITTED") {
        let world = World::start(major).await;
        world.close_source("g1", SHORT).await;
        let holder = world.client("ordinary").await;
        holder.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await.unwrap();
        let snapshot: String = holder.query_one("SELECT pg_export_snapshot()", &[]).await.unwrap().get(0);
        assert!(matches!(world.permanent("g1").await, Permanent::Committed(_)));
        wait_for_deadline(&world, "g1").await;
        let late = world.client("ordinary").await;
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SET TRANSACTION SNAPSHOT '{snapshot}'");
        late.batch_execute(&begin).await.unwrap();
        assert_eq!(outcome(&late, WRITE).await, "40001", "{major} {level}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passer_in_flight_or_prepared_holds_the_row() {
    for (major, level) in each() {
        let world = World::start(major).await;
        for (generation, end) in
            [("g1", "COMMIT"), ("g2", "ROLLBACK"), ("g3", "COMMIT PREPARED 'p'"), ("g4", "ROLLBACK PREPARED 'p'")]
        {
            let what = format!("{major} {level} {end}");
            world.close_source(generation, Duration::from_millis(400)).await;
            wait_for_deadline(&world, generation).await;
            let passer = world.client("ordinary").await;
            let begin = format!("BEGIN ISOLATION LEVEL {level}; UPDATE other SET note = 'passed'");
            passer.batch_execute(&begin).await.unwrap();
            if end.contains("PREPARED") {
                passer.batch_execute("PREPARE TRANSACTION 'p'").await.unwrap();
            }
            // Nobody decides anything while the passer is undecided.
            assert!(matches!(world.permanent(generation).await, Permanent::Lost(Some(_))), "{what}");
            let lift = fence::lift(&world.session, generation, 0, Duration::from_millis(100)).await.unwrap_err();
            assert!(lift.to_string().contains("55P03"), "{lift}");
            let second = world.client("ordinary").await;
            second.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
            assert_eq!(try_write(&second, level).await, "55P03", "{what}");
            passer.batch_execute(end).await.unwrap();
            // Rolled back: still undecided, and the next writer decides.
            let rolled_back = end.starts_with("ROLLBACK");
            let expected = if rolled_back { FenceState::Leased } else { FenceState::Expired };
            assert_eq!(world.state(generation).await, expected, "{what}");
            assert_eq!(try_write(&second, level).await, "done", "{what}");
            assert_eq!(world.state(generation).await, FenceState::Expired, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_wait_behind_a_hand_over_that_hangs_on_its_standby() {
    for (major, level) in each() {
        let world = World::start(major).await;
        world.close_source("g1", SHORT).await;
        let set = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
        world.cluster.psql("postgres", set).unwrap();
        world.cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        poll("the setting", async || {
            match world.cluster.psql("postgres", "SHOW synchronous_standby_names").unwrap().as_str() {
                "nobody" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        let wait = Duration::from_millis(300);
        let hung = fence::make_permanent(&world.server, DATABASE, "g1", 0, SECOND, wait).await.unwrap();
        assert!(matches!(&hung, Permanent::Unknown(why) if why.contains("waits")), "{hung:?}");
        wait_for_deadline(&world, "g1").await;
        let late = world.client("ordinary").await;
        late.batch_execute("SET synchronous_commit = local; SET lock_timeout = '200ms'").await.unwrap();
        assert_eq!(world.state("g1").await, FenceState::Leased);
        assert_eq!(try_write(&late, level).await, "55P03", "{major} {level}");
        // A cancelled wait ends in a mere warning, and is then visible: still nobody writes.
        world
            .cluster
            .psql("postgres", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            .unwrap();
        poll("the commit to be visible", async || match world.state("g1").await {
            FenceState::Permanent => Ok(()),
            other => Err(other),
        })
        .await;
        assert_eq!(try_write(&late, level).await, "25006", "{major} {level}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_with_a_warning_is_not_taken_for_done() {
    for major in MAJORS {
        let world = World::start(major).await;
        world.close_source("g1", 600 * SECOND).await;
        world.cluster.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
        world.cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        let server = world.server.clone();
        let handing_over = tokio::spawn(async move {
            fence::make_permanent(&server, DATABASE, "g1", 0, SECOND, 30 * SECOND).await.unwrap()
        });
        poll("the cancelled wait", async || {
            let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            match world.cluster.psql("postgres", cancel).unwrap().as_str() {
                "t" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
        let answer = handing_over.await.unwrap();
        assert!(matches!(&answer, Permanent::Unknown(why) if why.contains("standby")), "{answer:?}");
        let marker = marker::drain_point(&world.session, Duration::from_millis(300)).await.unwrap_err();
        assert!(marker.to_string().contains("standby"), "{marker}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_not_the_hand_over_holds_it_up() {
    for major in MAJORS {
        let world = World::start(major).await;
        world.close_source("g1", 600 * SECOND).await;
        let Permanent::Committed(position) = world.permanent("g1").await else { panic!("not committed") };
        let alone = fence::wait_flushed_by_standbys(&world.session, position, SECOND).await.unwrap();
        assert!(alone.behind.is_empty() && alone.flushed.is_empty());
        world.session.query("SELECT pg_create_physical_replication_slot('member_1', true)", &[]).await.unwrap();
        let wait = Duration::from_millis(200);
        let error = fence::wait_flushed_by_standbys(&world.session, position, wait).await.unwrap_err().to_string();
        assert!(error.contains("member_1 (not connected)"), "{error}");
        let folder = std::env::temp_dir().join(format!("member-{}-{major}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (user, password) = world.cluster.superuser();
        let mut member = std::process::Command::new(postgresql_program(major, "pg_receivewal").unwrap())
            .args(["--synchronous", "--slot", "member_1", "--host", "127.0.0.1", "--username", user, "--directory"])
            .arg(&folder)
            .args(["--port", &world.cluster.port().to_string()])
            .env("PGPASSWORD", password)
            .spawn()
            .unwrap();
        let there = fence::wait_flushed_by_standbys(&world.session, position, 20 * SECOND).await;
        member.kill().unwrap();
        member.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(there.unwrap().flushed, ["pg_receivewal"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_worker_changes_nothing() {
    for major in MAJORS {
        let world = World::start(major).await;
        world.close_source("g1", 600 * SECOND).await;
        let newer = |error: coordinator::postgres::Error| {
            let text = error.to_string();
            assert!(text.contains("a newer worker has taken over"), "{text}");
        };
        fence::bump_epoch(&world.session, 7, SECOND).await.unwrap();
        fence::bump_epoch(&world.session, 7, SECOND).await.unwrap();
        assert_eq!(fence::epoch(&world.session).await.unwrap(), 7);
        newer(fence::bump_epoch(&world.session, 6, SECOND).await.unwrap_err());
        assert!(matches!(world.permanent("g1").await, Permanent::Lost(Some(row)) if row.epoch == 7));
        newer(fence::lift(&world.session, "g1", 0, SECOND).await.unwrap_err());
        newer(fence::close_source(&world.session, &world.close("g2", 0), 600 * SECOND).await.unwrap_err());
        newer(fence::close_target(&world.session, &world.close("g2", 0)).await.unwrap_err());
        let rows = fence::latest(&world.session).await.unwrap();
        assert_eq!((rows.len(), rows[0].state), (1, FenceState::Leased));
        assert_eq!(fence::unfenced_tables(&world.session, "g1").await.unwrap(), []);

        // Overtaken in the middle of a close: what is left of it fails, and its lease still ends by itself.
        let writer = world.client("ordinary").await;
        fence::lift(&world.session, "g1", 7, SECOND).await.unwrap();
        writer.batch_execute("BEGIN; UPDATE parted_low SET note = 'w'").await.unwrap();
        let session = world.server.connect(DATABASE, "test").await.unwrap();
        let tables = world.tables.clone();
        let zombie = tokio::spawn(async move {
            let lock_timeout = Duration::from_millis(100);
            let close = Close { generation: "g3", tables: &tables, epoch: 7, lock_timeout, give_up: 30 * SECOND };
            fence::close_source(&session, &close, 2 * SECOND).await.unwrap_err()
        });
        poll("the close to begin", async || match fence::state(&world.session, "g3").await.unwrap() {
            Some(_) => Ok(()),
            None => Err("no row"),
        })
        .await;
        fence::bump_epoch(&world.session, 8, 5 * SECOND).await.unwrap();
        newer(zombie.await.unwrap());
        writer.batch_execute("COMMIT").await.unwrap();
        wait_for_deadline(&world, "g3").await;
        assert_eq!(outcome(&writer, WRITE).await, "done");

        // The target: not opened by a zombie.
        let close = Close { epoch: 8, ..world.close("t1", 8) };
        fence::close_target(&world.session, &close).await.unwrap();
        newer(fence::open_target(&world.session, "t1", 7, &OpenOnlyIf::default()).await.unwrap_err());
        assert_eq!(outcome(&writer, WRITE).await, "25006");
        let opened = fence::open_target(&world.session, "t1", 8, &OpenOnlyIf::default()).await.unwrap();
        assert_eq!(opened, Opening::Open);
        assert_eq!(outcome(&writer, WRITE).await, "done");
    }
}

/// Writes at this level until told to stop; counts what was committed, and keeps every unexpected answer.
fn hammer(
    client: Client,
    level: &'static str,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> tokio::task::JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut odd = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match try_write(&client, level).await.as_str() {
                "done" => drop(done.fetch_add(1, Ordering::SeqCst)),
                "25006" | "40001" => {}
                other => odd.push(other.to_owned()),
            }
        }
        odd
    })
}

/// Closes under a lease as short as this machine can close within: a busy one may need longer than it lasts.
async fn closed_for_a_moment(world: &World, race: u32) -> (String, Duration) {
    let mut lease = Duration::from_millis(250);
    loop {
        let generation = format!("g{race}-{}", lease.as_millis());
        match fence::close_source(&world.session, &world.close(&generation, 0), lease).await {
            Ok(_) => return (generation, lease),
            Err(error) if error.to_string().contains("ran out") && lease < Duration::from_secs(20) => lease *= 2,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_races_between_late_writers_and_permanent_have_one_winner_each() {
    for major in MAJORS {
        let world = World::start(major).await;
        let (mut won, mut lost) = (0, 0);
        for race in 0..20 {
            let (generation, lease) = closed_for_a_moment(&world, race).await;
            let began = Instant::now();
            let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let mut writers = Vec::new();
            for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"] {
                writers.push(hammer(world.client("ordinary").await, level, Arc::clone(&stop), Arc::clone(&done)));
            }
            let moment = lease.saturating_sub(Duration::from_millis(rand::rng().random_range(0..50)));
            tokio::time::sleep(moment.saturating_sub(began.elapsed())).await;
            let answer = world.permanent(&generation).await;
            wait_for_deadline(&world, &generation).await;
            match answer {
                Permanent::Committed(_) => {
                    won += 1;
                    // Well past the deadline, with everybody trying.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    assert_eq!(done.load(Ordering::SeqCst), 0, "{major} race {race}");
                    assert_eq!(world.state(&generation).await, FenceState::Permanent);
                }
                Permanent::Lost(_) => {
                    lost += 1;
                    poll("a late writer to pass", async || match done.load(Ordering::SeqCst) {
                        0 => Err("none"),
                        _ => Ok(()),
                    })
                    .await;
                }
                other => panic!("{other:?}"),
            }
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                let odd = writer.await.unwrap();
                // Writers meet each other on the same rows, too.
                assert!(odd.iter().all(|state| state == "40P01"), "{odd:?}");
            }
        }
        println!("PostgreSQL {major}: {won} races won by the coordinator, {lost} by late writers");
    }
}
