//! The cluster fixture on all four versions.

use peers::cluster::{Cluster, Mode, connect};

#[test]
fn every_version_starts_restarts_and_leaves_nothing() {
    for major in [14, 15, 16, 17] {
        let cluster = Cluster::builder(major).setting("max_replication_slots", "7").start().unwrap();
        assert!(cluster.psql("postgres", "SHOW server_version").unwrap().starts_with(&major.to_string()));
        assert_eq!(cluster.psql("postgres", "SHOW wal_level; SHOW max_replication_slots").unwrap(), "logical\n7");
        cluster.create_database("model_kratos-new").unwrap();
        cluster
            .psql("model_kratos-new", "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)")
            .unwrap();
        cluster.restart(Mode::Fast).unwrap();
        cluster.psql("model_kratos-new", "INSERT INTO kept VALUES (2)").unwrap();
        cluster.restart(Mode::Immediate).unwrap();
        cluster.psql("model_kratos-new", "INSERT INTO kept VALUES (3)").unwrap();
        cluster.kill9().unwrap();
        cluster.start_again().unwrap();
        assert_eq!(cluster.psql("model_kratos-new", "SELECT count(*) FROM kept").unwrap(), "3");
        let error = cluster.psql("postgres", "SELECT 1; SELECT nothing").unwrap_err().to_string();
        assert!(error.contains("nothing"), "{error}");
        let (data, pid) = (cluster.data_path(), cluster.pid().unwrap());
        drop(cluster);
        assert!(!data.exists());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn tls_is_offered_with_a_certificate_of_the_ca() {
    let cluster = Cluster::builder(16).tls().start().unwrap();
    let ca = std::env::temp_dir().join(format!("peers-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, cluster.ca_pem().unwrap()).unwrap();
    let conninfo = format!("dbname=postgres sslmode=verify-full sslrootcert={}", ca.display());
    let answer = cluster.psql(&conninfo, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    std::fs::remove_file(&ca).unwrap();
    assert_eq!(answer.unwrap(), "t");
}

#[tokio::test]
async fn clients_connect_and_a_wrong_password_is_refused() {
    let cluster = Cluster::start(14).unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    let uri = cluster.uri("postgres").replace(cluster.superuser().1, "wrong");
    assert!(connect(&uri).await.is_err());
}
