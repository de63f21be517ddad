//! Names of every kind, and many tables.

use super::rig::{finding, look, names, run};
use crate::catalogs::kratos_schema;
use coordinator::steps::preflight::{Verdict, report};
use peers::cluster::Cluster;
use peers::wait_for;
use std::time::{Duration, Instant};

/// Names that quoting, connection strings and catalogs must take as they are.
const NAMES: &[&str] = &["iam-kratos", "Kra\"tos's", "käse \\ %I $1 {0}", "user x ' host"];

/// What fails for lack of rows and servers, which is not what this is about.
const BARE: &[&str] = &["networks", "source-application"];

#[test]
fn names_of_every_kind_and_a_thousand_tables() {
    let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    let schema = kratos_schema("1.0.0");
    let odd = "CREATE SCHEMA \"Ün\"\"real\"; CREATE TABLE \"Ün\"\"real\".\"we'ird \\ \"\"table\"\"\" (\"i d\" int PRIMARY KEY)";
    for (at, name) in NAMES.iter().enumerate() {
        for cluster in [&source, &target] {
            cluster.create_database(name).unwrap();
            cluster.psql(name, &schema).unwrap();
            cluster.psql(name, odd).unwrap();
        }
        let mut look = look(&source, &target);
        (look.source_database, look.target_database) = ((*name).to_owned(), (*name).to_owned());
        let findings = run(&look);
        assert_eq!(names(&findings, Verdict::Fail), BARE, "{name}: {}", report(&findings));
        assert!(finding(&findings, "database-names").found.contains(name), "{}", report(&findings));
        if at == 0 {
            let many = "SELECT format('CREATE TABLE many_%s (id uuid PRIMARY KEY, a text, b text UNIQUE, c jsonb)', n)
                        FROM generate_series(1, 1000) n \\gexec";
            for cluster in [&source, &target] {
                cluster.psql(name, many).unwrap();
            }
            // The machine may have other things to do: one quick answer proves that no slow one is asked for.
            let findings = wait_for("an answer within 3 s", Duration::from_secs(90), || {
                let started = Instant::now();
                let findings = run(&look);
                let took = started.elapsed();
                println!("{} ms with a thousand tables", took.as_millis());
                if took < Duration::from_secs(3) { Ok(findings) } else { Err(format!("{took:?}")) }
            })
            .unwrap();
            assert_eq!(names(&findings, Verdict::Fail), BARE, "{}", report(&findings));
            assert!(finding(&findings, "tables").found.starts_with("1024 ordinary tables"), "{}", report(&findings));
        }
    }
}
