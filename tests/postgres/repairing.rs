//! The repair: whatever differs is copied again, nothing else is touched, and what cannot be repaired is said.

use super::{POLL_LIMIT, server};
use coordinator::postgres::compare::{
    CompareProgress, ComparedColumn, Depth, TableComparison, Unequal, compare, find, open_twins, open_twins_at,
};
use coordinator::postgres::copy::{CopyProgress, hold_snapshot, plan_copy};
use coordinator::postgres::names::{TableName, ident};
use coordinator::postgres::repair::{Rewritten, rewrite, settle};
use coordinator::postgres::replication::create_slot_with_snapshot;
use coordinator::postgres::{Error, inspect, slot};
use peers::cluster::Cluster;
use std::time::Instant;

const SCHEMA: &str = r#"
    CREATE TABLE people (id uuid PRIMARY KEY, email text UNIQUE, traits jsonb, photo bytea,
        twice int GENERATED ALWAYS AS (length(email) * 2) STORED);
    CREATE TABLE "Odd ""table'; --" (a int, b text, "no""te" text, PRIMARY KEY (a, b));
    CREATE TABLE words (word varchar(90) PRIMARY KEY, note text);
    CREATE TABLE keyless (note text);
    ALTER TABLE keyless REPLICA IDENTITY FULL;
    CREATE TABLE seeded (id int PRIMARY KEY, name text UNIQUE);
    CREATE TABLE gone (id int PRIMARY KEY);
    CREATE TABLE same (id int PRIMARY KEY, note text);
    CREATE TABLE children (id int PRIMARY KEY, person uuid REFERENCES people, note text);
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'closed'; END $$;
    CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON people EXECUTE FUNCTION no();
    ALTER TABLE people DISABLE TRIGGER fence"#;

const ROWS: &str = r#"
    INSERT INTO people SELECT md5(i::text)::uuid, 'p' || i, jsonb_build_object('n', i), decode(md5(i::text), 'hex')
        FROM generate_series(1, 5000) i;
    INSERT INTO "Odd ""table'; --" SELECT i, 'it''s {"' || i || '"}\', 'n' FROM generate_series(1, 300) i;
    INSERT INTO words SELECT 'w''"\, ' || i, 'n' FROM generate_series(1, 300) i;
    INSERT INTO keyless SELECT 'same' FROM generate_series(1, 5); INSERT INTO keyless VALUES ('other'), (NULL);
    INSERT INTO seeded VALUES (1, 'password'), (2, 'totp');
    INSERT INTO same SELECT i, 'n' FROM generate_series(1, 1000) i;
    INSERT INTO children SELECT i, md5(i::text)::uuid, 'c' FROM generate_series(1, 500) i"#;

/// Differences of every kind.
const PLANTED: &str = r#"
    SET session_replication_role = replica;
    UPDATE people SET traits = '{}' WHERE email = 'p17';
    UPDATE people SET photo = NULL WHERE email = 'p18';
    DELETE FROM people WHERE email IN ('p19', 'p20');
    INSERT INTO people (id, email) VALUES (md5('new')::uuid, 'p20');
    UPDATE people SET email = 'p21 and p22' WHERE email = 'p21'; UPDATE people SET email = 'p21' WHERE email = 'p22';
    UPDATE people SET email = 'p22' WHERE email = 'p21 and p22';
    UPDATE "Odd ""table'; --" SET "no""te" = 'x' WHERE a = 7; DELETE FROM "Odd ""table'; --" WHERE a = 8;
    INSERT INTO "Odd ""table'; --" VALUES (8, 'other', 'n');
    UPDATE words SET note = 'x' WHERE word LIKE '% 7'; DELETE FROM words WHERE word LIKE '% 8';
    DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless WHERE note = 'same');
    INSERT INTO keyless VALUES ('other');
    UPDATE seeded SET name = 'x' WHERE id = 2; INSERT INTO seeded VALUES (3, 'passkey');
    INSERT INTO gone VALUES (1), (2);
    UPDATE children SET note = 'x' WHERE id = 17"#;

async fn comparisons(cluster: &Cluster) -> Vec<TableComparison> {
    let session = server(cluster).connect("postgres", "test").await.unwrap();
    let compared =
        |name: &String| ComparedColumn { name: name.clone(), source_sql: ident(name), target_sql: ident(name) };
    let tables = inspect::tables(&session).await.unwrap();
    let mut tables = tables
        .into_iter()
        .map(|table| TableComparison {
            table: table.name.clone(),
            key: table.primary_key.clone(),
            columns: table.columns.iter().map(|column| compared(&column.name)).collect(),
            target_may_have_more: table.name.name == "seeded",
            bytes: table.total_bytes,
        })
        .collect::<Vec<_>>();
    // The children's fill looks at the people.
    tables.sort_by_key(|table| table.table.name != "people");
    tables
}

struct Repaired {
    written: Rewritten,
    tables: Vec<(String, u64, bool)>,
    bytes: u64,
}

/// A repair as the step does it; `None` when too much differs.
async fn repair(old: &Cluster, new: &Cluster, most: Option<u64>) -> Result<Option<Repaired>, Error> {
    let (source, target) = (server(old), server(new));
    let (here, there) = (source.connect("postgres", "test").await?, target.connect("postgres", "test").await?);
    let made = create_slot_with_snapshot(&source, "postgres", "ours", POLL_LIMIT).await?;
    let wanted = inspect::tables(&here).await?;
    let names: Vec<TableName> = wanted.iter().map(|table| table.name.clone()).collect();
    let holder = hold_snapshot(&source, "postgres", &made.snapshot, &names).await?;
    drop(made);
    settle(&there, &names).await?;
    let parts = plan_copy(&wanted, &inspect::tables(&there).await?, 1)?;
    let twins = open_twins_at(&source, "postgres", &holder.snapshot, &target, "postgres").await?;
    let found = find(&twins, comparisons(old).await, most, 2, &CompareProgress::default()).await;
    twins.close().await?;
    let progress = CopyProgress::default();
    let ends = ((&source, "postgres"), (&target, "postgres"));
    let written = match &found {
        Ok(Some(found)) => Some(rewrite(ends.0, ends.1, &holder, &parts, &found.unequal, &progress).await),
        _ => None,
    };
    drop(holder);
    slot::drop_slot(&here, "ours", POLL_LIMIT).await?;
    let Some(found) = found? else { return Ok(None) };
    let table = |table: &Unequal| (table.name().name.clone(), table.rows(), table.is_whole());
    let mut tables: Vec<_> = found.unequal.iter().map(table).collect();
    tables.sort();
    Ok(Some(Repaired { written: written.unwrap()?, tables, bytes: progress.figures().bytes }))
}

/// The number of rows that differ, by the charm's own comparison.
async fn different(old: &Cluster, new: &Cluster) -> u64 {
    let twins = open_twins(&server(old), "postgres", &server(new), "postgres").await.unwrap();
    let verdict = compare(&twins, comparisons(old).await, Depth::Text, 2, Default::default()).await.unwrap();
    twins.close().await.unwrap();
    verdict.rows_different
}

/// Every row of a table as text, by a query of its own.
fn rows(cluster: &Cluster, table: &str) -> String {
    cluster
        .psql("postgres", &format!("SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t"))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_of_every_kind_are_repaired_and_nothing_else_is_written() {
    for (old, new) in [(14, 16), (16, 14)] {
        let (old, new) = (Cluster::start(old).unwrap(), Cluster::start(new).unwrap());
        for cluster in [&old, &new] {
            cluster.psql("postgres", &format!("{SCHEMA}; {ROWS}")).unwrap();
        }
        new.psql("postgres", &format!("ALTER TABLE people ENABLE TRIGGER fence; {PLANTED}")).unwrap();
        let before = new.psql("postgres", "SELECT xmin, ctid FROM people WHERE email IN ('p1', 'p2000')").unwrap();
        let repaired = repair(&old, &new, None).await.unwrap().unwrap();
        let of = |name: &str| {
            repaired.tables.iter().find(|(table, ..)| table == name).map(|(_, rows, whole)| (*rows, *whole))
        };
        // Of the people: two changed, two missing, two that exchanged a unique value.
        assert_eq!(of("people"), Some((6, false)));
        assert_eq!(of("Odd \"table'; --"), Some((2, false)));
        assert_eq!(of("words"), Some((2, false)));
        assert_eq!(of("keyless"), Some((7, true)));
        assert_eq!(of("seeded"), Some((1, false)));
        assert_eq!((of("gone"), of("children"), of("same")), (Some((0, true)), Some((1, false)), None));
        assert_eq!(repaired.written, Rewritten { deleted: 5 + 2 + 1 + 7 + 1 + 2 + 1, copied: 6 + 2 + 2 + 7 + 1 + 1 });
        assert!(repaired.bytes < 10_000, "{} bytes", repaired.bytes);
        assert_eq!(different(&old, &new).await, 0);
        for table in ["people", "\"Odd \"\"table'; --\"", "words", "keyless", "gone", "same", "children"] {
            assert_eq!(rows(&old, table), rows(&new, table), "{table}");
        }
        // What only the target's own migration has stays, and so do rows that are equal.
        assert_eq!(new.psql("postgres", "SELECT name FROM seeded ORDER BY id").unwrap(), "password\ntotp\npasskey");
        let after = new.psql("postgres", "SELECT xmin, ctid FROM people WHERE email IN ('p1', 'p2000')").unwrap();
        assert_eq!(before, after);
        let again = repair(&old, &new, None).await.unwrap().unwrap();
        // The seeded row is seen again, and left alone again.
        assert_eq!(again.tables, [("seeded".to_owned(), 0, false)]);
        assert_eq!(again.written, Rewritten::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_more_differs_than_is_worth_it_nothing_is_written() {
    let (old, new) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    for cluster in [&old, &new] {
        cluster.psql("postgres", &format!("{SCHEMA}; {ROWS}")).unwrap();
    }
    let half = comparisons(&old).await.iter().map(|table| table.bytes).sum::<u64>() / 2;
    for planted in ["UPDATE people SET traits = '{}'", "TRUNCATE people CASCADE"] {
        new.psql("postgres", planted).unwrap();
        let before = rows(&new, "people");
        assert!(repair(&old, &new, Some(half)).await.unwrap().is_none(), "{planted}");
        assert_eq!(rows(&new, "people"), before, "{planted}");
    }
    // Without a limit it is done all the same.
    let whole = repair(&old, &new, None).await.unwrap().unwrap();
    assert!(whole.tables.contains(&("people".to_owned(), 5000, true)), "{:?}", whole.tables);
    assert_eq!(different(&old, &new).await, 0);
}

/// A target with a later schema: what it has more is filled by a trigger and by defaults, a value that the trigger
/// spoils is noticed before anything of that table is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migrated_target_is_filled_again_and_what_comes_out_wrong_is_refused() {
    let (old, new) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    for cluster in [&old, &new] {
        cluster.psql("postgres", &format!("{SCHEMA}; {ROWS}")).unwrap();
    }
    new.psql(
        "postgres",
        "ALTER TABLE people ADD COLUMN state text NOT NULL DEFAULT 'active'; ALTER TABLE children ADD COLUMN email text;
         UPDATE children c SET email = p.email FROM people p WHERE p.id = c.person;
         ALTER TABLE children ALTER email SET NOT NULL; ALTER TABLE words ALTER word TYPE text;
         CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN NEW.email := (SELECT email FROM public.people WHERE id = NEW.person); RETURN NEW; END';
         CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON children FOR EACH ROW EXECUTE FUNCTION fill();
         ALTER TABLE children ENABLE REPLICA TRIGGER fill;
         INSERT INTO seeded VALUES (4, 'code')",
    )
    .unwrap();
    new.psql("postgres", PLANTED).unwrap();
    new.psql("postgres", "SET session_replication_role = replica; DELETE FROM children WHERE id < 50").unwrap();
    repair(&old, &new, None).await.unwrap().unwrap();
    assert_eq!(different(&old, &new).await, 0);
    let wrong =
        "SELECT count(*) FROM children c LEFT JOIN people p ON p.id = c.person WHERE c.email IS DISTINCT FROM p.email";
    assert_eq!(new.psql("postgres", wrong).unwrap(), "0");
    assert_eq!(new.psql("postgres", "SELECT count(*) FROM seeded").unwrap(), "4");
    new.psql(
        "postgres",
        "CREATE OR REPLACE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN NEW.email := ''x''; NEW.note := upper(NEW.note); RETURN NEW; END';
         SET session_replication_role = replica; DELETE FROM children WHERE id = 3",
    )
    .unwrap();
    let before = rows(&new, "children");
    let error = repair(&old, &new, None).await.err().unwrap().to_string();
    assert!(error.contains("table public.children") && error.contains("key 3 is not the source's"), "{error}");
    assert_eq!(rows(&new, "children"), before);
}

/// What is written, and how long it takes, on two million rows (or `REPAIR_ROWS`): run by hand for the figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long: it measures"]
async fn measured_on_two_million_rows() {
    let (old, new) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    let schema =
        "CREATE TABLE sessions (id uuid PRIMARY KEY, token text UNIQUE, identity uuid, at timestamptz, note text);
                  CREATE INDEX sessions_identity ON sessions (identity)";
    let count = std::env::var("REPAIR_ROWS").unwrap_or("2000000".to_owned());
    let rows = &format!(
        "INSERT INTO sessions SELECT md5(i::text)::uuid, md5('t' || i), md5('i' || i % 100000)::uuid,
                'epoch'::timestamptz + i * interval '1 s', repeat(md5('n' || i), 4) FROM generate_series(1, {count}) i; ANALYZE"
    );
    for cluster in [&old, &new] {
        cluster.psql("postgres", &format!("{schema}; {rows}")).unwrap();
    }
    let (source, target) = (server(&old), server(&new));
    let there = target.connect("postgres", "test").await.unwrap();
    let names = [TableName::new("public", "sessions")];
    let kept = coordinator::postgres::schema::definitions(&there, &names).await.unwrap();
    let began = Instant::now();
    coordinator::postgres::schema::drop_definitions(&there, &kept).await.unwrap();
    coordinator::postgres::copy::truncate(&there, &names).await.unwrap();
    let made = create_slot_with_snapshot(&source, "postgres", "ours", POLL_LIMIT).await.unwrap();
    let holder = hold_snapshot(&source, "postgres", &made.snapshot, &names).await.unwrap();
    let here = source.connect("postgres", "test").await.unwrap();
    let tables = inspect::tables(&here).await.unwrap();
    let parts = plan_copy(&tables, &inspect::tables(&there).await.unwrap(), 2).unwrap();
    let progress = std::sync::Arc::new(CopyProgress::default());
    let (done, finished) = tokio::sync::mpsc::unbounded_channel();
    let ends = ((&source, "postgres"), (&target, "postgres"));
    tokio::try_join!(
        coordinator::postgres::copy::copy_parts(ends.0, ends.1, &holder, parts, 2, progress.clone(), done),
        coordinator::postgres::copy::build_definitions(&target, "postgres", kept, finished, 2, progress.clone()),
    )
    .unwrap();
    eprintln!("a new copy: {:.1} s, {} bytes", began.elapsed().as_secs_f64(), progress.figures().bytes);
    drop((made, holder));
    slot::drop_slot(&here, "ours", POLL_LIMIT).await.unwrap();
    let bytes = comparisons(&old).await[0].bytes;
    for every in [1000, 100] {
        let planted = format!("UPDATE sessions SET note = 'x' WHERE extract(epoch FROM at)::int % {every} = 0");
        new.psql("postgres", &planted).unwrap();
        let began = Instant::now();
        let repaired = repair(&old, &new, None).await.unwrap().unwrap();
        eprintln!(
            "1 row of {every} differs: {:.1} s, {:?}, {} bytes of {bytes}",
            began.elapsed().as_secs_f64(),
            repaired.written,
            repaired.bytes
        );
    }
}
