//! The way back, judged from two catalogs: the real schemas of Kratos' releases, and one planted obstacle at a time.

use super::server;
use crate::catalogs::kratos_schema;
use coordinator::postgres::names::TableName;
use coordinator::postgres::reverse::{self, Reversal};
use coordinator::postgres::{Session, inspect};
use peers::cluster::Cluster;

/// What a source's schema is, in words.
const SCHEMA: &str = "
    SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns
    WHERE table_schema = 'public'
    UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1";

async fn compare(source: &Session, target: &Session) -> Reversal {
    let tables: Vec<TableName> = inspect::tables(source).await.unwrap().into_iter().map(|table| table.name).collect();
    let tables: Vec<TableName> = tables.into_iter().filter(|table| table.name != "schema_migration").collect();
    assert!(!tables.is_empty());
    reverse::compare(source, target, &tables).await.unwrap()
}

#[tokio::test]
async fn every_pair_of_kratos_releases_has_a_way_back() {
    let (old, new) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    let releases = ["1.0.0", "1.3.1", "25.4.0", "26.2.0"];
    for (cluster, release) in releases.iter().flat_map(|release| [(&old, release), (&new, release)]) {
        let database = format!("kratos_{}", release.replace('.', "_"));
        cluster.create_database(&database).unwrap();
        cluster.psql(&database, &kratos_schema(release)).unwrap();
    }
    for (place, from) in releases.iter().enumerate() {
        for to in &releases[place..] {
            let database = |release: &str| format!("kratos_{}", release.replace('.', "_"));
            let source = server(&old).connect(&database(from), "test").await.unwrap();
            let target = server(&new).connect(&database(to), "test").await.unwrap();
            let found = compare(&source, &target).await;
            assert_eq!(found.obstacles, Vec::<String>::new(), "{from} → {to}");
            let lists: Vec<&str> =
                found.published.iter().filter(|t| t.columns.is_some()).map(|t| t.name.name.as_str()).collect();
            let lifted: Vec<&str> = found.relaxations.iter().map(|relaxation| relaxation.what.as_str()).collect();
            let uniques: Vec<String> = found.uniques.iter().map(ToString::to_string).collect();
            eprintln!("{from} → {to}: column lists for {lists:?}, lifted {lifted:?}, dropped {uniques:?}");
            assert_eq!(lists.is_empty() && lifted.is_empty() && uniques.is_empty(), from == to, "{from} → {to}");
            // Lifting and putting back, each twice, leaves the source as it was.
            let before = old.psql(&database(from), SCHEMA).unwrap();
            for _ in 0..2 {
                reverse::relax(&source, &found).await.unwrap();
            }
            let changed = old.psql(&database(from), SCHEMA).unwrap() != before;
            assert_eq!(changed, !(lifted.is_empty() && uniques.is_empty()), "{from} → {to}");
            for _ in 0..2 {
                assert_eq!(reverse::restore(&source, &found).await.unwrap(), Vec::<String>::new());
            }
            assert_eq!(old.psql(&database(from), SCHEMA).unwrap(), before, "{from} → {to}");
        }
    }
}

/// The source's schema in every case below.
const SOURCE: &str = "
    CREATE TABLE people (id uuid PRIMARY KEY, email varchar(64) NOT NULL, age int CHECK (age > 0), note text NOT NULL,
        CONSTRAINT one_email UNIQUE (email));
    CREATE TABLE visits (id bigint PRIMARY KEY, person uuid REFERENCES people (id))";

struct Case {
    /// The target's own migration.
    migration: &'static str,
    /// A word of the one obstacle, or nothing.
    obstacle: &'static str,
    /// What is lifted or dropped on the source.
    lifted: &'static [&'static str],
}

const CASES: [Case; 12] = [
    Case { migration: "", obstacle: "", lifted: &[] },
    Case { migration: "ALTER TABLE people ADD COLUMN phone text", obstacle: "", lifted: &[] },
    Case {
        migration: "ALTER TABLE people DROP COLUMN note",
        obstacle: "",
        lifted: &["NOT NULL of column note of table public.people"],
    },
    Case {
        migration: "ALTER TABLE people ALTER COLUMN email DROP NOT NULL",
        obstacle: "",
        lifted: &["NOT NULL of column email of table public.people"],
    },
    Case {
        migration: "ALTER TABLE people DROP CONSTRAINT people_age_check, ADD CHECK (age > 17)",
        obstacle: "",
        lifted: &["constraint people_age_check of table public.people"],
    },
    Case {
        migration: "ALTER TABLE people DROP CONSTRAINT one_email",
        obstacle: "",
        lifted: &["unique constraint one_email of table public.people"],
    },
    Case {
        migration: "ALTER TABLE people ALTER COLUMN email TYPE varchar(255)",
        obstacle: "column email of table public.people is character varying(255) on the target",
        lifted: &[],
    },
    Case { migration: "ALTER TABLE people ALTER COLUMN age TYPE smallint", obstacle: "", lifted: &[] },
    Case { migration: "DROP TABLE visits", obstacle: "table public.visits is gone from the target", lifted: &[] },
    Case {
        migration: "ALTER TABLE visits DROP CONSTRAINT visits_pkey, ADD COLUMN key uuid PRIMARY KEY",
        obstacle: "does not identify rows of table public.visits by its column id",
        lifted: &[],
    },
    Case {
        migration: "ALTER TABLE visits REPLICA IDENTITY NOTHING",
        obstacle: "table public.visits has no replica identity on the target",
        lifted: &[],
    },
    Case {
        migration: "ALTER TABLE visits REPLICA IDENTITY FULL; ALTER TABLE visits ADD COLUMN more int",
        obstacle: "column more cannot be left out",
        lifted: &[],
    },
];

#[tokio::test]
async fn what_a_schema_step_leaves_of_the_way_back() {
    let cluster = Cluster::start(16).unwrap();
    for (number, Case { migration, obstacle, lifted }) in CASES.iter().enumerate() {
        let (source, target) = (format!("source_{number}"), format!("target_{number}"));
        for database in [&source, &target] {
            cluster.create_database(database).unwrap();
            cluster.psql(database, SOURCE).unwrap();
        }
        cluster.psql(&target, migration).unwrap();
        let source = server(&cluster).connect(&source, "test").await.unwrap();
        let target = server(&cluster).connect(&target, "test").await.unwrap();
        let found = compare(&source, &target).await;
        if obstacle.is_empty() {
            assert_eq!(found.obstacles, Vec::<String>::new(), "{migration}");
        } else {
            assert!(found.obstacles.iter().any(|reason| reason.contains(obstacle)), "{migration}: {found:?}");
        }
        let named: Vec<String> = found.relaxations.iter().map(|relaxation| relaxation.what.clone()).collect();
        let all: Vec<String> = named.into_iter().chain(found.uniques.iter().map(ToString::to_string)).collect();
        if obstacle.is_empty() {
            assert_eq!(all, *lifted, "{migration}");
        }
    }
}

#[tokio::test]
async fn a_14_cannot_leave_a_column_out_and_rows_that_break_a_rule_are_told() {
    let cluster = Cluster::start(14).unwrap();
    for database in ["source", "target"] {
        cluster.create_database(database).unwrap();
        cluster.psql(database, SOURCE).unwrap();
    }
    let source = server(&cluster).connect("source", "test").await.unwrap();
    let target = server(&cluster).connect("target", "test").await.unwrap();
    assert_eq!(compare(&source, &target).await.obstacles, Vec::<String>::new());
    cluster.psql("target", "ALTER TABLE people DROP CONSTRAINT one_email, DROP COLUMN note").unwrap();
    let found = compare(&source, &target).await;
    reverse::relax(&source, &found).await.unwrap();
    let twice = "INSERT INTO people (id, email) SELECT gen_random_uuid(), 'a@b' FROM generate_series(1, 2)";
    cluster.psql("source", twice).unwrap();
    let broken = reverse::restore(&source, &found).await.unwrap();
    assert_eq!(broken.len(), 2, "{broken:#?}");
    assert!(broken[0].contains("NOT NULL of column note") && broken[1].contains("one_email"), "{broken:#?}");
    cluster.psql("target", "ALTER TABLE people ADD COLUMN phone text").unwrap();
    let found = compare(&source, &target).await;
    assert!(found.obstacles[0].contains("PostgreSQL 14 cannot leave out column phone"), "{found:?}");
}
