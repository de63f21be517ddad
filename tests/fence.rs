//! The fence on real clusters: what it refuses, whom it waits for, who passes.

use crate::postgres::server;
use coordinator::postgres::fence::{self, Close, Closed, FenceState, OpenOnlyIf, Opening, Permanent};
use coordinator::postgres::names::TableName;
use coordinator::postgres::{Password, Server, Session};
use peers::cluster::{Cluster, connect};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

pub(crate) const DATABASE: &str = "app";
pub(crate) const MAJORS: [u32; 2] = [14, 16];
pub(crate) const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
pub(crate) const SECOND: Duration = Duration::from_secs(1);

const SCHEMA: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, note text);
    CREATE TABLE other (id int PRIMARY KEY, note text);
    CREATE TABLE "Hostile""; DROP TABLE other; --" (id int PRIMARY KEY, note text);
    CREATE TABLE parted (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted DEFAULT;
    CREATE TABLE schema_migration (version text);
    INSERT INTO plain VALUES (1, 'a'), (2, 'b'); INSERT INTO parted VALUES (1, 'a'), (200, 'b')"#;

/// A cluster with a database whose tables belong to the ordinary role `ordinary`; `boss` is a second superuser.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) server: Server,
    pub(crate) session: Session,
    pub(crate) tables: Vec<TableName>,
}

impl World {
    pub(crate) async fn start(major: u32) -> Self {
        Self::of(Cluster::builder(major).setting("max_prepared_transactions", "10").start().unwrap()).await
    }

    pub(crate) async fn of(cluster: Cluster) -> Self {
        cluster
            .psql(
                "postgres",
                "CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'; CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss'",
            )
            .unwrap();
        cluster.psql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER ordinary")).unwrap();
        cluster.psql(DATABASE, "GRANT ALL ON SCHEMA public TO ordinary").unwrap();
        cluster.psql_as("ordinary", "ordinary", DATABASE, SCHEMA).unwrap();
        let server = server(&cluster);
        let session = server.connect(DATABASE, "test").await.unwrap();
        fence::install(&session).await.unwrap();
        let tables = fence::user_tables(&session).await.unwrap();
        Self { cluster, server, session, tables }
    }

    pub(crate) async fn client(&self, role: &str) -> Client {
        let port = self.cluster.port();
        connect(&format!("postgres://{role}:{role}@127.0.0.1:{port}/{DATABASE}")).await.unwrap()
    }

    pub(crate) fn close<'a>(&'a self, generation: &'a str, epoch: i64) -> Close<'a> {
        Close {
            generation,
            tables: &self.tables,
            epoch,
            lock_timeout: Duration::from_millis(300),
            give_up: Duration::from_secs(10),
        }
    }

    pub(crate) async fn close_source(&self, generation: &str, lease: Duration) -> Closed {
        fence::close_source(&self.session, &self.close(generation, 0), lease).await.unwrap()
    }

    pub(crate) async fn state(&self, generation: &str) -> FenceState {
        fence::state(&self.session, generation).await.unwrap().unwrap().state
    }

    pub(crate) async fn permanent(&self, generation: &str) -> Permanent {
        fence::make_permanent(&self.server, DATABASE, generation, 0, SECOND, 5 * SECOND).await.unwrap()
    }
}

/// The SQLSTATE of a failed batch, or `done`.
pub(crate) async fn outcome(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => "done".to_owned(),
        Err(error) => match error.code() {
            Some(code) => code.code().to_owned(),
            None => error.to_string(),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_source_refuses_every_kind_of_write_and_serves_reads() {
    for major in MAJORS {
        let world = World::start(major).await;
        let closed = world.close_source("g1", 600 * SECOND).await;
        assert_eq!(closed.table_count, world.tables.len());
        assert!(closed.remaining_ms.unwrap() > 500_000);
        println!("PostgreSQL {major}: {} tables closed in {:?}", closed.table_count, closed.took);
        assert_eq!(fence::unfenced_tables(&world.session, "g1").await.unwrap(), []);
        for role in ["ordinary", "boss"] {
            let client = world.client(role).await;
            let mut writes = vec![
                "INSERT INTO plain VALUES (9, 'x')",
                "INSERT INTO plain VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = 'x'",
                "INSERT INTO plain VALUES (1, 'x') ON CONFLICT DO NOTHING",
                "UPDATE plain SET note = 'x' WHERE false",
                "DELETE FROM other",
                "TRUNCATE plain",
                "TRUNCATE plain, other CASCADE",
                "COPY plain FROM PROGRAM 'echo 7'",
                "WITH gone AS (DELETE FROM plain RETURNING id) SELECT count(*) FROM gone",
                "INSERT INTO \"Hostile\"\"; DROP TABLE other; --\" VALUES (1, 'x')",
                "INSERT INTO parted VALUES (3, 'x')",
                "INSERT INTO parted_low VALUES (3, 'x')",
                "UPDATE parted_high SET note = 'x'",
                "CREATE TABLE later (id int)",
                "ALTER TABLE plain DISABLE TRIGGER ALL",
                "DROP TRIGGER identity_migration_fence ON plain",
                "CREATE TEMP TABLE scratch (id int)",
            ];
            if major >= 15 {
                writes.push("MERGE INTO plain USING other ON false WHEN NOT MATCHED THEN INSERT VALUES (7, 'x')");
            }
            for write in writes {
                // An ordinary role may not run programs on the server at all.
                if role == "ordinary" && write.starts_with("COPY") {
                    continue;
                }
                assert_eq!(outcome(&client, write).await, "25006", "{major} {role}: {write}");
            }
            assert_eq!(
                outcome(&client, "SELECT * FROM plain; INSERT INTO schema_migration VALUES ('1')").await,
                "done"
            );
        }
        // The charm's own role may change what it must; an apply worker (here: its role setting) may write.
        let operator = world.cluster.connect(DATABASE).await.unwrap();
        assert_eq!(outcome(&operator, "CREATE EXTENSION pg_trgm").await, "done");
        let boss = world.client("boss").await;
        let replica = "SET session_replication_role = replica; INSERT INTO plain VALUES (50, 'applied')";
        assert_eq!(outcome(&boss, replica).await, "done");
        // So may a session of ours, whatever its role.
        let ours = Server { user: "boss".to_owned(), password: Password::new("boss"), ..world.server.clone() };
        let ours = ours.connect(DATABASE, "test").await.unwrap();
        ours.batch_execute("CREATE PUBLICATION p FOR TABLE public.plain; DROP PUBLICATION p").await.unwrap();
        world.cluster.restart(peers::cluster::Mode::Immediate).unwrap();
        let client = world.client("ordinary").await;
        assert_eq!(outcome(&client, "INSERT INTO plain VALUES (9, 'x')").await, "25006");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_writers_in_flight_and_names_those_who_stay() {
    for major in MAJORS {
        let world = World::start(major).await;
        let writer = world.client("ordinary").await;
        writer.batch_execute("SET application_name = 'slow one'; BEGIN; UPDATE other SET note = 'x'").await.unwrap();
        let prepared = world.client("ordinary").await;
        prepared.batch_execute("BEGIN; UPDATE plain SET note = 'p'; PREPARE TRANSACTION 'left over'").await.unwrap();

        let impatient = Close { give_up: 2 * SECOND, ..world.close("g1", 0) };
        let error = fence::close_source(&world.session, &impatient, 600 * SECOND).await.unwrap_err().to_string();
        assert!(error.contains("'slow one'") && error.contains("public.other"), "{error}");
        // Given up means lifted: whoever was refused meanwhile writes again.
        assert_eq!(world.state("g1").await, FenceState::Expired);
        writer.batch_execute("COMMIT").await.unwrap();

        let impatient = Close { give_up: 2 * SECOND, ..world.close("g2", 0) };
        let error = fence::close_source(&world.session, &impatient, 600 * SECOND).await.unwrap_err().to_string();
        assert!(error.contains("prepared transaction 'left over'"), "{error}");

        let session = world.server.connect(DATABASE, "test").await.unwrap();
        let tables = world.tables.clone();
        let closing = tokio::spawn(async move {
            let close = Close {
                generation: "g3",
                tables: &tables,
                epoch: 0,
                lock_timeout: Duration::from_millis(200),
                give_up: 20 * SECOND,
            };
            fence::close_source(&session, &close, 600 * SECOND).await.unwrap()
        });
        // Not closed while the prepared writer stands: the trigger of its table is not there.
        let started = Instant::now();
        while started.elapsed() < SECOND {
            assert!(!closing.is_finished());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        prepared.batch_execute("COMMIT PREPARED 'left over'").await.unwrap();
        let closed = closing.await.unwrap();
        assert!(closed.retries > 0);
        assert_eq!(fence::unfenced_tables(&world.session, "g3").await.unwrap(), []);
        assert_eq!(world.cluster.psql(DATABASE, "SELECT DISTINCT note FROM plain").unwrap(), "p");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_is_closed_from_the_start_and_new_tables_are_fenced_at_birth() {
    for major in MAJORS {
        let world = World::start(major).await;
        fence::close_target(&world.session, &world.close("t1", 0)).await.unwrap();
        let boss = world.client("boss").await;
        assert_eq!(outcome(&boss, "UPDATE plain SET note = 'x'").await, "25006");
        for (born, write) in [
            ("CREATE TABLE \"Born 1\" (id int)", "INSERT INTO \"Born 1\" VALUES (1)"),
            ("CREATE TABLE born2 AS SELECT 1 AS id", "INSERT INTO born2 VALUES (1)"),
            ("SELECT 1 AS id INTO born3", "INSERT INTO born3 VALUES (1)"),
            ("CREATE TABLE parted_more PARTITION OF parted FOR VALUES FROM (300) TO (400)", "DELETE FROM parted_more"),
            ("CREATE SCHEMA more CREATE TABLE born4 (id int)", "INSERT INTO more.born4 VALUES (1)"),
        ] {
            assert_eq!(outcome(&boss, born).await, "done", "{major}: {born}");
            assert_eq!(outcome(&boss, write).await, "25006", "{major}: {write}");
        }
        let scratch = "CREATE TEMP TABLE scratch (id int); INSERT INTO scratch VALUES (1)";
        assert_eq!(outcome(&boss, scratch).await, "done");

        // Opened for the application's own migration, then closed again with a new generation.
        let opening = fence::open_target(&world.session, "t1", 0, &OpenOnlyIf::default()).await.unwrap();
        assert_eq!(opening, Opening::Open);
        let migration = "CREATE TABLE born5 (id int); INSERT INTO born5 VALUES (1); UPDATE plain SET note = 'm'";
        assert_eq!(outcome(&boss, migration).await, "done");
        // What the migration left open is listed: a trigger that was disabled counts as none.
        boss.batch_execute("ALTER TABLE born5 DISABLE TRIGGER identity_migration_fence").await.unwrap();
        let tables = fence::user_tables(&world.session).await.unwrap();
        let close = Close { tables: &tables, ..world.close("t2", 0) };
        assert_eq!(fence::unfenced_tables(&world.session, "t1").await.unwrap(), [TableName::new("public", "born5")]);
        fence::close_target(&world.session, &close).await.unwrap();
        assert_eq!(fence::unfenced_tables(&world.session, "t2").await.unwrap(), []);
        for write in ["INSERT INTO born5 VALUES (1)", "UPDATE plain SET note = 'x'"] {
            assert_eq!(outcome(&boss, write).await, "25006", "{major}: {write}");
        }
        boss.batch_execute("CREATE TABLE born6 (id int)").await.unwrap();
        assert_eq!(fence::unfenced_tables(&world.session, "t2").await.unwrap(), []);

        // With a reverse slot asked for: not without it, then with it, and with this server's identity only.
        let slot = OpenOnlyIf { reverse_slot: Some("way_back".to_owned()), ..OpenOnlyIf::default() };
        let refused = fence::open_target(&world.session, "t2", 0, &slot).await.unwrap();
        assert!(matches!(&refused, Opening::Refused(why) if why.contains("way_back")), "{refused:?}");
        world.session.query("SELECT pg_create_logical_replication_slot('way_back', 'pgoutput')", &[]).await.unwrap();
        let here = coordinator::postgres::inspect::cluster_identity(&world.session).await.unwrap();
        let mut elsewhere = here.clone();
        elsewhere.timeline += 1;
        let wrong = OpenOnlyIf { identity: Some(elsewhere), ..slot.clone() };
        assert!(matches!(fence::open_target(&world.session, "t2", 0, &wrong).await.unwrap(), Opening::Refused(_)));
        assert_eq!(outcome(&boss, "UPDATE plain SET note = 'x'").await, "25006");
        let right = OpenOnlyIf { identity: Some(here), ..slot };
        assert_eq!(fence::open_target(&world.session, "t2", 0, &right).await.unwrap(), Opening::Open);
        assert_eq!(outcome(&boss, "UPDATE plain SET note = 'y'").await, "done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enabled_subscription_keeps_the_target_closed() {
    let world = World::start(16).await;
    fence::close_target(&world.session, &world.close("t1", 0)).await.unwrap();
    let boss = world.client("boss").await;
    boss.batch_execute(
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false);
         ALTER SUBSCRIPTION s SET (slot_name = 's'); ALTER SUBSCRIPTION s ENABLE",
    )
    .await
    .unwrap();
    let refused = fence::open_target(&world.session, "t1", 0, &OpenOnlyIf::default()).await.unwrap();
    assert!(matches!(&refused, Opening::Refused(why) if why.contains("subscription")), "{refused:?}");
    boss.batch_execute("ALTER SUBSCRIPTION s DISABLE").await.unwrap();
    assert_eq!(fence::open_target(&world.session, "t1", 0, &OpenOnlyIf::default()).await.unwrap(), Opening::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_and_opening_again_leaks_nothing_to_an_old_snapshot() {
    for (major, level) in MAJORS.into_iter().flat_map(|major| LEVELS.map(|level| (major, level))) {
        let world = World::start(major).await;
        world.close_source("g1", 600 * SECOND).await;
        fence::lift(&world.session, "g1", 0, SECOND).await.unwrap();
        let old = world.client("ordinary").await;
        old.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT * FROM plain")).await.unwrap();
        world.close_source("g2", 600 * SECOND).await;
        assert_eq!(outcome(&old, "UPDATE plain SET note = 'late'").await, "25006", "{major} {level}");
        old.batch_execute("ROLLBACK").await.unwrap();
        // The same name again goes on with an interrupted close; there is nothing left to do.
        assert_eq!(world.close_source("g2", 600 * SECOND).await.table_count, 0);
        // A generation that was used up is not taken again.
        let again = fence::close_source(&world.session, &world.close("g1", 0), 600 * SECOND).await;
        assert!(again.unwrap_err().to_string().contains("g1 is expired"));
        assert_eq!(outcome(&old, "UPDATE plain SET note = 'late'").await, "25006", "{major} {level}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalize_leaves_a_minimal_fence_or_nothing() {
    for major in MAJORS {
        let world = World::start(major).await;
        world.close_source("g1", 600 * SECOND).await;
        let early = fence::reduce_to_minimal(&world.session, SECOND).await.unwrap_err().to_string();
        assert!(early.contains("leased"), "{early}");
        assert!(matches!(world.permanent("g1").await, Permanent::Committed(_)));
        let commands = fence::reduce_to_minimal(&world.session, SECOND).await.unwrap();
        assert_eq!(fence::reduce_to_minimal(&world.session, SECOND).await.unwrap(), commands);
        let boss = world.client("boss").await;
        for write in ["UPDATE plain SET note = 'x'", "INSERT INTO parted_low VALUES (5, 'x')"] {
            assert_eq!(outcome(&boss, write).await, "25006");
        }
        let left = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'identity_migration'::regnamespace),
            (SELECT count(*) FROM pg_proc WHERE pronamespace = 'identity_migration'::regnamespace),
            (SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'identity%')";
        assert_eq!(world.cluster.psql(DATABASE, left).unwrap(), "0|1|0");
        world.cluster.psql(DATABASE, &commands.join("\n")).unwrap();
        assert_eq!(outcome(&boss, "UPDATE plain SET note = 'x'").await, "done");
        assert_eq!(world.cluster.psql(DATABASE, "SELECT to_regnamespace('identity_migration') IS NULL").unwrap(), "t");

        fence::install(&world.session).await.unwrap();
        fence::install(&world.session).await.unwrap();
        fence::close_target(&world.session, &world.close("t1", 0)).await.unwrap();
        for _ in 0..2 {
            fence::remove(&world.session, SECOND, 10 * SECOND).await.unwrap();
        }
        assert_eq!(outcome(&boss, "UPDATE plain SET note = 'y'; CREATE TABLE free (id int)").await, "done");
        let ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'identity%'";
        assert_eq!(world.cluster.psql(DATABASE, ours).unwrap(), "0");
    }
}
