//! Comparison on real clusters: equal is equal, and what was planted is found, no more and no less.

use crate::postgres::{poll, server};
use coordinator::postgres::compare::{
    CompareProgress, ComparedColumn, Depth, Online, Rule, TableComparison, Verdict, compare, compare_online, open_twins,
};
use coordinator::postgres::fence;
use coordinator::postgres::names::{TableName, ident};
use peers::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('calm', 'cross');
    CREATE TABLE identities (id uuid PRIMARY KEY, traits jsonb NOT NULL, raw json, mood mood, name varchar(50),
        padded char(8), born timestamptz, score float8, price numeric, photo bytea, active bool);
    CREATE TABLE pairs (a int, b text, note text, PRIMARY KEY (a, b));
    CREATE TABLE keyless (note text);
    CREATE TABLE types (id uuid PRIMARY KEY, name text);
    CREATE TABLE empty (id int PRIMARY KEY);
    CREATE TABLE parted (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted DEFAULT"#;

const ROWS: &str = r#"
    INSERT INTO identities SELECT md5(i::text)::uuid, jsonb_build_object('n', i, 'x', E'Gr\u00fc\u00dfe \\ "q"'),
        '{"b": 1,  "a": 2}', CASE WHEN i % 2 = 0 THEN 'calm' ELSE 'cross' END::mood, nullif('name ' || i, 'name 7'),
        'p' || i % 100, '2024-01-01Z'::timestamptz + i * interval '1.000001 s', i / 7.0, i / 8.0,
        decode(md5(i::text), 'hex'), i % 3 = 0 FROM generate_series(1, 5000) i;
    INSERT INTO pairs SELECT i, 'b' || i % 5, repeat('long ', 1000) || i FROM generate_series(1, 300) i;
    INSERT INTO keyless SELECT 'same' FROM generate_series(1, 5); INSERT INTO keyless VALUES ('other'), (NULL);
    INSERT INTO types VALUES ('00000000-0000-0000-0000-000000000001', 'password');
    INSERT INTO parted SELECT i, 'n' || i FROM generate_series(0, 199) i"#;

fn table(name: &str, key: &[&str], columns: &[&str], bytes: u64) -> TableComparison {
    TableComparison {
        table: TableName::new("public", name),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        columns: columns
            .iter()
            .map(|c| ComparedColumn { name: (*c).to_owned(), source_sql: ident(c), target_sql: ident(c) })
            .collect(),
        target_may_have_more: name == "types",
        bytes,
    }
}

fn tables() -> Vec<TableComparison> {
    let wide = ["id", "traits", "raw", "mood", "name", "padded", "born", "score", "price", "photo", "active"];
    vec![
        table("identities", &["id"], &wide, 2_000_000),
        table("pairs", &["a", "b"], &["a", "b", "note"], 100_000),
        table("keyless", &[], &["note"], 8192),
        table("types", &["id"], &["id", "name"], 8192),
        table("empty", &["id"], &["id"], 0),
        table("parted", &["id"], &["id", "note"], 16_384),
    ]
}

fn pair(old: u32, new: u32) -> (Cluster, Cluster) {
    let (old, new) = (Cluster::start(old).unwrap(), Cluster::start(new).unwrap());
    for cluster in [&old, &new] {
        cluster.psql("postgres", SCHEMA).unwrap();
    }
    // The same enum, with other oids behind it.
    new.psql("postgres", "DROP TABLE identities; DROP TYPE mood; CREATE TYPE filler AS ENUM ('f')").unwrap();
    let identities = SCHEMA.split(';').take(2).collect::<Vec<_>>().join(";");
    new.psql("postgres", &identities).unwrap();
    for cluster in [&old, &new] {
        cluster.psql("postgres", ROWS).unwrap();
    }
    (old, new)
}

async fn verdict(old: &Cluster, new: &Cluster, depth: Depth) -> Verdict {
    let twins = open_twins(&server(old), "postgres", &server(new), "postgres").await.unwrap();
    let progress = Arc::new(CompareProgress::default());
    let verdict = compare(&twins, tables(), depth, 2, Arc::clone(&progress)).await.unwrap();
    twins.close().await.unwrap();
    assert_eq!(progress.tables.load(Ordering::Relaxed), 6);
    if depth != Depth::Counts {
        assert_eq!(progress.rows.load(Ordering::Relaxed), verdict.rows_verified);
    }
    verdict
}

fn found(verdict: &Verdict, table: usize) -> (u64, u64, u64) {
    let table = &verdict.tables[table];
    (table.changed, table.missing, table.extra)
}

/// A value that the source does not have is held to what its rule gives, in the target's snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_target_that_break_a_rule_are_counted() {
    let (old, new) = pair(14, 16);
    new.psql("postgres", "ALTER TABLE pairs ADD COLUMN kind text; UPDATE pairs SET kind = b").unwrap();
    let rule = Rule {
        table: TableName::new("public", "pairs"),
        column: "kind".to_owned(),
        violations: "SELECT count(*) FROM public.pairs WHERE kind IS DISTINCT FROM b".to_owned(),
    };
    for (broken, sql) in [(0, ""), (2, "UPDATE pairs SET kind = 'another' WHERE a < 3")] {
        new.psql("postgres", sql).unwrap();
        let twins = open_twins(&server(&old), "postgres", &server(&new), "postgres").await.unwrap();
        // What comes after the snapshot is not in it.
        new.psql("postgres", "UPDATE pairs SET kind = NULL WHERE a = 300").unwrap();
        let mut found = compare(&twins, tables(), Depth::Rows, 2, Arc::default()).await.unwrap();
        twins.judge(std::slice::from_ref(&rule), &mut found).await.unwrap();
        new.psql("postgres", "UPDATE pairs SET kind = b WHERE a = 300").unwrap();
        assert_eq!((found.rows_different, found.tables[1].changed), (broken, broken), "{found:#?}");
        let named = found.tables[1].sample_keys.contains(&"2 with a wrong kind".to_owned());
        assert_eq!(named, broken == 2, "{found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_differences_are_found_exactly() {
    for (old, new) in [(14, 16), (16, 14)] {
        let (old, new) = pair(old, new);
        for depth in [Depth::Rows, Depth::Text] {
            let equal = verdict(&old, &new, depth).await;
            assert_eq!((equal.rows_different, equal.rows_verified), (0, 5508), "{equal:#?}");
        }
        new.psql(
            "postgres",
            "UPDATE identities SET name = 'other' WHERE id = md5('17')::uuid;
             UPDATE identities SET raw = '{\"b\": 1, \"a\": 2}' WHERE id = md5('18')::uuid;
             UPDATE identities SET mood = NULL WHERE id = md5('19')::uuid;
             DELETE FROM identities WHERE id = md5('4999')::uuid;
             INSERT INTO identities (id, traits) VALUES (md5('new')::uuid, '{}');
             UPDATE pairs SET note = note || '.' WHERE a = 300;
             DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless WHERE note = 'same');
             INSERT INTO types VALUES ('00000000-0000-0000-0000-000000000002', 'passkey');
             INSERT INTO empty VALUES (1); UPDATE parted SET note = 'x' WHERE id = 150",
        )
        .unwrap();
        for depth in [Depth::Rows, Depth::Text] {
            let unequal = verdict(&old, &new, depth).await;
            assert_eq!(found(&unequal, 0), (3, 1, 1), "{unequal:#?}");
            assert_eq!(found(&unequal, 1), (1, 0, 0));
            assert_eq!(found(&unequal, 2), (0, 1, 0));
            // The target may have more here: seen, and no difference.
            assert_eq!(found(&unequal, 3), (0, 0, 1));
            assert_eq!(found(&unequal, 4), (0, 0, 1));
            assert_eq!(found(&unequal, 5), (1, 0, 0));
            assert_eq!(unequal.rows_different, 9);
            assert_eq!(unequal.tables[1].sample_keys, ["(300,b0)"]);
            let seventeen = old.psql("postgres", "SELECT md5('17')::uuid").unwrap();
            assert!(unequal.tables[0].sample_keys.contains(&seventeen));
            assert_eq!(unequal.tables[0].sample_keys.len(), 5);
        }
        let counted = verdict(&old, &new, Depth::Counts).await;
        assert_eq!((counted.rows_verified, counted.rows_different), (0, 2));
        // Every row different: counted exactly, ten named.
        new.psql("postgres", "UPDATE identities SET score = score + 1").unwrap();
        let all = verdict(&old, &new, Depth::Rows).await;
        assert_eq!(found(&all, 0), (4999, 1, 1));
        assert_eq!(all.tables[0].sample_keys.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_see_one_moment_and_expressions_bridge_a_schema_step() {
    let (old, new) = pair(14, 16);
    new.psql(
        "postgres",
        "UPDATE identities SET name = ' ' || name; ALTER TABLE identities ALTER padded TYPE varchar(8)",
    )
    .unwrap();
    let twins = open_twins(&server(&old), "postgres", &server(&new), "postgres").await.unwrap();
    for cluster in [&old, &new] {
        cluster.psql("postgres", "DELETE FROM pairs; UPDATE identities SET active = NOT active").unwrap();
    }
    let mut tables = tables();
    let column = |name: &str| tables[0].columns.iter().position(|c| c.name == name).unwrap();
    let (name, padded) = (column("name"), column("padded"));
    tables[0].columns[name].target_sql = "ltrim(name)".to_owned();
    tables[0].columns[padded].target_sql = "rtrim(padded)".to_owned();
    // In a task of its own, as a worker runs it.
    let comparison = tokio::spawn(async move { compare(&twins, tables, Depth::Rows, 3, Arc::default()).await });
    let verdict = comparison.await.unwrap().unwrap();
    assert_eq!((verdict.rows_verified, verdict.rows_different), (5508, 0), "{verdict:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online_a_planted_row_is_found_among_live_writes() {
    let (old, new) = pair(14, 16);
    let (source, target) = (server(&old), server(&new));
    for side in [&source, &target] {
        fence::install(&side.connect("postgres", "test").await.unwrap()).await.unwrap();
    }
    // Published partitions carry their own names, so the root stays out of this test.
    old.psql(
        "postgres",
        "CREATE PUBLICATION p FOR TABLE identities, pairs, types, empty, identity_migration.marker;
         SELECT pg_create_logical_replication_slot('follow', 'pgoutput')",
    )
    .unwrap();
    let conninfo =
        format!("host=127.0.0.1 port={} user=operator password={} dbname=postgres", old.port(), old.superuser().1);
    new.psql(
        "postgres",
        &format!(
            "CREATE SUBSCRIPTION s CONNECTION '{conninfo}' PUBLICATION p
             WITH (create_slot = false, copy_data = false, slot_name = 'follow')"
        ),
    )
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (client, stop) = (old.connect("postgres").await.unwrap(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client
                    .batch_execute(
                        "UPDATE identities SET score = random() WHERE id = md5((random() * 3000)::int::text)::uuid;
                         DELETE FROM pairs WHERE a = 5; INSERT INTO pairs VALUES (5, 'b0', random()::text);
                         UPDATE pairs SET note = random()::text WHERE a = 6",
                    )
                    .await
                    .unwrap();
            }
        })
    };
    let online = Online {
        source: &source,
        source_db: "postgres",
        target: &target,
        target_db: "postgres",
        catch_up_limit: Duration::from_secs(20),
        rounds: 20,
    };
    let followed =
        || tables().into_iter().filter(|t| ["identities", "pairs", "types", "empty"].contains(&t.table.name.as_str()));
    let equal = compare_online(&online, followed().collect(), &CompareProgress::default()).await.unwrap();
    assert_eq!(equal.rows_different, 0, "{equal:#?}");
    new.psql(
        "postgres",
        "SET session_replication_role = replica; UPDATE identities SET name = 'planted' WHERE id = md5('4000')::uuid;
         DELETE FROM identities WHERE id = md5('4001')::uuid; INSERT INTO pairs VALUES (-1, 'x', 'y')",
    )
    .unwrap();
    let unequal = compare_online(&online, followed().collect(), &CompareProgress::default()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert_eq!(found(&unequal, 0), (1, 1, 0), "{unequal:#?}");
    assert_eq!(found(&unequal, 1), (0, 0, 1), "{unequal:#?}");
    new.psql(
        "postgres",
        "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s",
    )
    .unwrap();
    poll("the slot to be idle", async || {
        match old.psql("postgres", "SELECT active FROM pg_replication_slots").unwrap().as_str() {
            "f" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}
