//! The copy engine: everything arrives once, or the failure is plain to see.

use super::{POLL_LIMIT, poll, server};
use coordinator::postgres::copy::{
    CopyFormat, CopyPart, CopyProgress, build_definitions, copy_parts, hold_snapshot, plan_copy, truncate,
};
use coordinator::postgres::inspect::{Table, tables};
use coordinator::postgres::names::TableName;
use coordinator::postgres::replication::create_slot_with_snapshot;
use coordinator::postgres::schema::{definitions, drop_definitions, missing};
use coordinator::postgres::{Server, Session, slot};
use peers::cluster::Cluster;
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;

const SHAPES: &str = r#"
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE DOMAIN short AS varchar(10);
    CREATE SCHEMA "odd ""schema'";
    CREATE TABLE toasted (id uuid PRIMARY KEY, filler text, big text);
    ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE many (id uuid PRIMARY KEY, n int, payload jsonb NOT NULL);
    CREATE INDEX many_n ON many (n);
    CREATE TABLE empty (id int PRIMARY KEY);
    CREATE TABLE "odd ""schema'"."Ta""b'le; --" ("se""lect" bigint PRIMARY KEY, gone int, n int,
        twice int GENERATED ALWAYS AS (n * 2) STORED, word text, parent uuid REFERENCES many);
    ALTER TABLE "odd ""schema'"."Ta""b'le; --" DROP COLUMN gone;
    CREATE TABLE kinds (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, s short, a text[], b bytea, j json,
        t timestamp, z timestamptz, f float8, i interval, d numeric, u uuid[]);
"#;

const ROWS: &str = r#"
    INSERT INTO toasted SELECT gen_random_uuid(), repeat('f', 1500), repeat(md5(i::text), 60000)
        FROM generate_series(1, 40) i;
    INSERT INTO many SELECT gen_random_uuid(), i, jsonb_build_object('a', md5(i::text), 'b', ARRAY[i, i + 1])
        FROM generate_series(1, 20000) i;
    DELETE FROM many WHERE n % 7 = 0;
    INSERT INTO "odd ""schema'"."Ta""b'le; --" ("se""lect", n, word, parent) SELECT n, n, CASE WHEN n % 2 = 0 THEN E'tab\tand\\N\n"' END, id
        FROM many WHERE n <= 500;
    INSERT INTO kinds (m, s, a, b, j, t, z, f, i, d, u) VALUES
        ('sad', 'x', ARRAY['a"b', NULL, '{}'], '\x00ff5c', '{"k" : 1,  "k":2}', '-infinity', '2024-02-29 12:00:00.123456+05', 'NaN', '1 mon -2 days 03:04:05.678', 12345678901234567890.0123456789, ARRAY[gen_random_uuid()]),
        (NULL, NULL, NULL, NULL, NULL, 'infinity', NULL, 1.0/3, NULL, 'NaN', '{}');
"#;

/// Every row of every table as text, in a fixed order.
fn rows(cluster: &Cluster, table: &Table) -> String {
    let sql = format!(
        "SET timezone = UTC; SELECT count(*), md5(string_agg(md5(to_jsonb(t)::text), '' ORDER BY to_jsonb(t)::text)) FROM {} t",
        table.name.sql()
    );
    cluster.psql("postgres", &sql).unwrap()
}

struct Pair {
    old: Cluster,
    new: Cluster,
    source: Server,
    target: Server,
}

impl Pair {
    fn start(majors: (u32, u32), schema: &str, rows: &str) -> Self {
        let (old, new) = (Cluster::start(majors.0).unwrap(), Cluster::start(majors.1).unwrap());
        old.psql("postgres", &format!("{schema}; {rows}")).unwrap();
        new.psql("postgres", schema).unwrap();
        Self { source: server(&old), target: server(&new), old, new }
    }

    async fn sessions(&self) -> (Session, Session) {
        (self.source.connect("postgres", "test").await.unwrap(), self.target.connect("postgres", "test").await.unwrap())
    }
}

/// Cuts a part into pages, so that a small table is copied in many parts.
fn by_page(part: &CopyPart, pages: u64) -> Vec<CopyPart> {
    let bounds: Vec<u64> = (1..pages).collect();
    let from = std::iter::once(None).chain(bounds.iter().copied().map(Some));
    let to = bounds.iter().copied().map(Some).chain([None]);
    from.zip(to).map(|(from_page, to_page)| CopyPart { from_page, to_page, ..part.clone() }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_and_the_definitions_stand_again() {
    for majors in [(14, 16), (16, 16)] {
        let pair = Pair::start(majors, SHAPES, ROWS);
        pair.new.psql("postgres", "INSERT INTO empty VALUES (1)").unwrap();
        let (source, target) = pair.sessions().await;
        let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
        pair.old.psql("postgres", "INSERT INTO empty VALUES (2); DELETE FROM kinds").unwrap();

        let (ours, theirs) = (tables(&source).await.unwrap(), tables(&target).await.unwrap());
        let names: Vec<TableName> = ours.iter().map(|table| table.name.clone()).collect();
        let kept = definitions(&target, &names).await.unwrap();
        let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &names).await.unwrap();
        drop(made);
        drop_definitions(&target, &kept).await.unwrap();
        truncate(&target, &names).await.unwrap();

        let planned = plan_copy(&ours, &theirs, 2).unwrap();
        let toasted = planned.iter().filter(|part| part.table.name == "toasted").count();
        assert!(toasted > 1, "sized on TOAST: {planned:?}");
        assert_eq!(planned.iter().find(|part| part.table.name == "kinds").unwrap().format, CopyFormat::Text);
        assert_eq!(planned.iter().find(|part| part.table.name == "many").unwrap().format, CopyFormat::Binary);
        let pages = |part: &CopyPart| ours.iter().find(|table| table.name == part.table).unwrap().heap_pages.max(1);
        let parts: Vec<CopyPart> = planned
            .iter()
            .flat_map(|part| if part.table.name == "many" { by_page(part, pages(part)) } else { vec![part.clone()] })
            .collect();
        assert!(parts.len() > 50);

        let progress = Arc::new(CopyProgress::default());
        let (done, finished) = unbounded_channel();
        let total = parts.len() as u64;
        tokio::try_join!(
            copy_parts(
                (&pair.source, "postgres"),
                (&pair.target, "postgres"),
                &holder,
                parts,
                3,
                Arc::clone(&progress),
                done
            ),
            build_definitions(&pair.target, "postgres", kept.clone(), finished, 2, Arc::clone(&progress)),
        )
        .unwrap();
        let figures = progress.figures();
        assert_eq!((figures.parts_done, figures.parts_total), (total, total));
        assert_eq!((figures.tables_done, figures.tables_total), (5, 5));
        assert_eq!(figures.definitions_done, kept.len() as u64);
        assert_eq!(missing(&target, &kept).await.unwrap(), []);
        assert!(figures.bytes > 70_000_000);

        // What was written after the snapshot is not in it; put it back for the comparison.
        assert_eq!(pair.new.psql("postgres", "SELECT count(*) FROM empty").unwrap(), "0");
        assert_eq!(pair.new.psql("postgres", "SELECT count(*) FROM kinds").unwrap(), "2");
        let analyzed = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace > 2200 AND relname IN ('many', 'toasted', 'kinds') AND reltuples > 0";
        let in_snapshot = |table: &&Table| !["empty", "kinds"].contains(&table.name.name.as_str());
        for table in ours.iter().filter(in_snapshot) {
            assert_eq!(rows(&pair.old, table), rows(&pair.new, table), "{}", table.name);
        }
        assert_eq!(pair.new.psql("postgres", &analyzed.replace("> 2200", ">= 2200")).unwrap(), "3");
        slot::drop_slot(&source, "ours", POLL_LIMIT).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_survives_text_and_binary() {
    let pair = Pair::start((14, 16), SHAPES, ROWS);
    let (source, target) = pair.sessions().await;
    let (ours, theirs) = (tables(&source).await.unwrap(), tables(&target).await.unwrap());
    let kinds: Vec<Table> = ours.into_iter().filter(|table| table.name.name == "kinds").collect();
    let portable = CopyPart { format: CopyFormat::Binary, ..plan_copy(&kinds, &theirs, 1).unwrap()[0].clone() };
    // Everything but the enum, whose values are numbers of their own on each server, may go in binary too.
    let portable = CopyPart { columns: portable.columns.into_iter().filter(|name| name != "m").collect(), ..portable };
    for part in [plan_copy(&kinds, &theirs, 1).unwrap()[0].clone(), portable] {
        truncate(&target, std::slice::from_ref(&part.table)).await.unwrap();
        let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
        let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &[]).await.unwrap();
        let (done, _) = unbounded_channel();
        copy_parts(
            (&pair.source, "postgres"),
            (&pair.target, "postgres"),
            &holder,
            vec![part.clone()],
            1,
            Arc::default(),
            done,
        )
        .await
        .unwrap();
        drop((made, holder));
        slot::drop_slot(&source, "ours", POLL_LIMIT).await.unwrap();
        if part.format == CopyFormat::Binary {
            pair.new.psql("postgres", "UPDATE kinds SET m = 'sad' WHERE s IS NOT NULL").unwrap();
        }
        assert_eq!(rows(&pair.old, &kinds[0]), rows(&pair.new, &kinds[0]));
    }
}

#[tokio::test]
async fn a_table_rewritten_after_the_snapshot_is_refused_and_an_open_lock_waited_for() {
    let pair = Pair::start((16, 16), "CREATE TABLE t (n int); CREATE TABLE u (n int)", "INSERT INTO t VALUES (1)");
    let names = [TableName::new("public", "t"), TableName::new("public", "u")];
    let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();

    let mut busy = pair.old.connect("postgres").await.unwrap();
    let open = busy.transaction().await.unwrap();
    open.batch_execute("LOCK TABLE u IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let hold = hold_snapshot(&pair.source, "postgres", &made.snapshot, &names);
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        open.rollback().await.unwrap();
    };
    let (holder, ()) = tokio::join!(hold, release);
    let holder = holder.unwrap();
    let blocked = pair.old.psql("postgres", "SET lock_timeout = 100; TRUNCATE t").unwrap_err().to_string();
    assert!(blocked.contains("lock timeout"), "{blocked}");
    drop(holder);

    poll("the locks to go", async || {
        pair.old
            .psql("postgres", "SET lock_timeout = 100; ALTER TABLE t ALTER n TYPE bigint")
            .map_err(|error| error.to_string())
    })
    .await;
    let error = hold_snapshot(&pair.source, "postgres", &made.snapshot, &names).await.err().unwrap().to_string();
    assert!(error.contains("table public.t was rewritten") && error.contains("new slot"), "{error}");
}

#[tokio::test]
async fn truncate_fires_no_trigger_and_refuses_what_an_outsider_refers_to() {
    let cluster = Cluster::start(14).unwrap();
    cluster
        .psql(
            "postgres",
            "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent);
             INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);
             CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
             CREATE TRIGGER no BEFORE TRUNCATE ON child EXECUTE FUNCTION no()",
        )
        .unwrap();
    let session = server(&cluster).connect("postgres", "test").await.unwrap();
    let (parent, child) = (TableName::new("public", "parent"), TableName::new("public", "child"));
    let error = truncate(&session, std::slice::from_ref(&parent)).await.unwrap_err().to_string();
    assert!(error.contains("child_id_fkey of table public.child refers to table public.parent"), "{error}");
    truncate(&session, &[parent, child]).await.unwrap();
    assert_eq!(
        cluster.psql("postgres", "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)").unwrap(),
        "0"
    );
    let role = session.query_one("SHOW session_replication_role", &[]).await.unwrap();
    assert_eq!(role.get::<_, &str>(0), "origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_part_stops_the_copy_and_is_named() {
    let pair = Pair::start((14, 16), SHAPES, ROWS);
    pair.new.psql("postgres", "ALTER TABLE many ADD CONSTRAINT low CHECK (n < 15000)").unwrap();
    let (source, target) = pair.sessions().await;
    let (ours, theirs) = (tables(&source).await.unwrap(), tables(&target).await.unwrap());
    let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
    let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &[]).await.unwrap();
    let names: Vec<TableName> = ours.iter().map(|table| table.name.clone()).collect();
    let kept = definitions(&target, &names).await.unwrap();
    drop_definitions(&target, &kept).await.unwrap();
    let (done, finished) = unbounded_channel();
    let parts = plan_copy(&ours, &theirs, 2).unwrap();
    let (copied, built) = tokio::join!(
        copy_parts(
            (&pair.source, "postgres"),
            (&pair.target, "postgres"),
            &holder,
            parts.clone(),
            2,
            Arc::default(),
            done
        ),
        build_definitions(&pair.target, "postgres", kept.clone(), finished, 2, Arc::default()),
    );
    let error = copied.unwrap_err().to_string();
    assert!(error.contains("write table public.many") && error.contains("violates check constraint"), "{error}");
    assert!(!error.contains("Failing row"), "row values stay out of errors: {error}");
    assert!(built.unwrap_err().to_string().contains("the copy ended before"));
    poll("the loaders to end", async || {
        let left = pair.new.psql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'identity_migration copy'",
        );
        if left.as_deref().is_ok_and(|left| left == "0") { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(pair.new.psql("postgres", "SELECT count(*) FROM many").unwrap(), "0", "no half part");

    // The same snapshot still serves a second try.
    pair.new.psql("postgres", "ALTER TABLE many DROP CONSTRAINT low").unwrap();
    truncate(&target, &names).await.unwrap();
    let (done, finished) = unbounded_channel();
    tokio::try_join!(
        copy_parts((&pair.source, "postgres"), (&pair.target, "postgres"), &holder, parts, 2, Arc::default(), done),
        build_definitions(&pair.target, "postgres", kept, finished, 2, Arc::default()),
    )
    .unwrap();
    for table in &ours {
        assert_eq!(rows(&pair.old, table), rows(&pair.new, table), "{}", table.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_killed_on_the_target_fails_the_copy() {
    let pair = Pair::start((14, 16), SHAPES, ROWS);
    let (source, target) = pair.sessions().await;
    let (ours, theirs) = (tables(&source).await.unwrap(), tables(&target).await.unwrap());
    let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
    let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &[]).await.unwrap();
    // A lock makes the loader wait in the middle, so that there is something to kill.
    let mut busy = pair.new.connect("postgres").await.unwrap();
    let open = busy.transaction().await.unwrap();
    open.batch_execute("LOCK TABLE kinds").await.unwrap();
    let (done, _finished) = unbounded_channel();
    let parts = plan_copy(&ours, &theirs, 1).unwrap();
    let copy =
        copy_parts((&pair.source, "postgres"), (&pair.target, "postgres"), &holder, parts, 1, Arc::default(), done);
    let kill = poll("the loader to wait", async || {
        let killed = pair.new.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'identity_migration copy' AND wait_event_type = 'Lock'");
        if killed.as_deref().is_ok_and(|killed| killed == "t") { Ok(()) } else { Err(format!("{killed:?}")) }
    });
    let (copied, ()) = tokio::join!(copy, kill);
    let error = copied.unwrap_err().to_string();
    assert!(error.contains("table public.kinds"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_cut_off_is_begun_again_and_ends_complete() {
    let pair = Pair::start((14, 16), SHAPES, ROWS);
    let (source, target) = pair.sessions().await;
    let (ours, theirs) = (tables(&source).await.unwrap(), tables(&target).await.unwrap());
    let names: Vec<TableName> = ours.iter().map(|table| table.name.clone()).collect();
    let kept = definitions(&target, &names).await.unwrap();
    for cut in [true, false] {
        // What is built already is dropped again: the load goes into bare tables.
        drop_definitions(&target, &kept).await.unwrap();
        truncate(&target, &names).await.unwrap();
        let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
        let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &names).await.unwrap();
        drop(made);
        let progress = Arc::new(CopyProgress::default());
        let (done, finished) = unbounded_channel();
        let parts = plan_copy(&ours, &theirs, 2).unwrap();
        let (ends, counters) = ((pair.source.clone(), pair.target.clone()), Arc::clone(&progress));
        let all = kept.clone();
        let work = tokio::spawn(async move {
            let ((source, target), build) = (ends, Arc::clone(&counters));
            tokio::try_join!(
                copy_parts((&source, "postgres"), (&target, "postgres"), &holder, parts, 2, counters, done),
                build_definitions(&target, "postgres", all, finished, 2, build),
            )
            .map(drop)
        });
        if cut {
            poll("some rows to be there", async || {
                let figures = progress.figures();
                if figures.bytes > 10_000_000 { Ok(()) } else { Err(format!("{figures:?}")) }
            })
            .await;
            work.abort();
            assert!(work.await.unwrap_err().is_cancelled());
        } else {
            work.await.unwrap().unwrap();
        }
        slot::drop_slot(&source, "ours", POLL_LIMIT).await.unwrap();
    }
    assert_eq!(missing(&target, &kept).await.unwrap(), []);
    for table in &ours {
        assert_eq!(rows(&pair.old, table), rows(&pair.new, table), "{}", table.name);
    }
}

#[tokio::test]
async fn a_lost_holder_is_noticed() {
    let pair = Pair::start((16, 16), "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)");
    let made = create_slot_with_snapshot(&pair.source, "postgres", "ours", POLL_LIMIT).await.unwrap();
    let names = [TableName::new("public", "t")];
    let holder = hold_snapshot(&pair.source, "postgres", &made.snapshot, &names).await.unwrap();
    holder.still_holds().await.unwrap();
    pair.old
        .psql(
            "postgres",
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
             WHERE application_name = 'identity_migration snapshot'",
        )
        .unwrap();
    let error = holder.still_holds().await.unwrap_err().to_string();
    assert!(error.contains("cannot keep the snapshot"), "{error}");
}
