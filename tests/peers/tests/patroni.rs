//! The Patroni fixture: what the coordinator has to live with on Charmed PostgreSQL.

use peers::patroni::{Options, PatroniCluster, Synchronous};
use peers::wait_for;
use std::path::Path;
use std::time::{Duration, Instant};

const LOGICAL_SLOTS: &str = "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical'";

fn start(options: Options) -> PatroniCluster {
    let begun = Instant::now();
    let cluster = PatroniCluster::start(options).unwrap();
    report(&format!("{options:?} is up"), begun);
    cluster
}

fn report(what: &str, begun: Instant) {
    println!("{what} after {:.1} s", begun.elapsed().as_secs_f64());
}

/// A table with a row, and a slot that nobody but us knows of.
fn table_and_slot(cluster: &PatroniCluster) {
    cluster.create_database("model_kratos-new").unwrap();
    cluster.psql("model_kratos-new", "CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)").unwrap();
    cluster
        .psql("model_kratos-new", "SELECT pg_create_logical_replication_slot('identity_migration', 'pgoutput')")
        .unwrap();
    assert_eq!(cluster.psql("postgres", LOGICAL_SLOTS).unwrap(), "1");
}

fn wait_for_no_slots(cluster: &PatroniCluster, member: usize) {
    wait_for("no logical slots", Duration::from_secs(30), || {
        match cluster.psql_on(member, "postgres", LOGICAL_SLOTS) {
            Ok(slots) if slots == "0" => Ok(()),
            other => Err(format!("{other:?}; {}", cluster.log_tail(member, 10))),
        }
    })
    .unwrap();
}

/// The member that leads, with what has to change and what has to stay when another does.
fn identity(cluster: &PatroniCluster) -> (usize, u32, String) {
    (cluster.wait_for_primary().unwrap(), cluster.timeline().unwrap(), cluster.system_identifier().unwrap())
}

fn leaves_nothing(cluster: PatroniCluster) {
    let folder = cluster.folder().to_owned();
    drop(cluster);
    assert!(!folder.exists());
    let left: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.split('\0').any(|argument| Path::new(argument).starts_with(&folder)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_moves_the_address_and_loses_the_slot() {
    let cluster = start(Options::new(14));
    let (old, timeline, system) = identity(&cluster);
    let standbys = cluster.psql("postgres", "SELECT state, sync_state FROM pg_stat_replication").unwrap();
    assert_eq!(standbys, "streaming|sync");
    table_and_slot(&cluster);
    let open = peers::cluster::connect(&cluster.primary_uri("postgres")).await.unwrap();
    open.simple_query("SELECT 1").await.unwrap();

    let begun = Instant::now();
    let new = cluster.switchover().unwrap();
    report("switched over", begun);
    assert_ne!(new, old);
    assert!(open.simple_query("SELECT 1").await.is_err(), "an open connection is cut");
    assert_eq!(cluster.psql("postgres", LOGICAL_SLOTS).unwrap(), "0", "a new primary has no slot");
    assert_eq!(cluster.psql("model_kratos-new", "SELECT * FROM kept").unwrap(), "1");
    assert_eq!(identity(&cluster), (new, timeline + 1, system));

    cluster.wait_healthy().unwrap();
    report("healthy again", begun);
    let direct = peers::cluster::connect(&cluster.member_uri(old, "postgres")).await.unwrap();
    let recovers: bool = direct.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get(0);
    assert!(recovers, "the old primary follows");
    // The old primary has the slot on its disk still, and Patroni does not know it.
    wait_for_no_slots(&cluster, old);
    leaves_nothing(cluster);
}

#[test]
fn a_killed_primary_is_replaced_and_rewound() {
    let cluster = start(Options { members: 3, synchronous: Synchronous::Off, ..Options::new(16) });
    let (old, timeline, system) = identity(&cluster);
    table_and_slot(&cluster);
    cluster.wait_healthy().unwrap();
    cluster.hold_replicas().unwrap();
    cluster.psql("model_kratos-new", "INSERT INTO kept VALUES (2)").unwrap();

    let begun = Instant::now();
    assert_eq!(cluster.kill_primary().unwrap(), old);
    let new = cluster.wait_for_primary().unwrap();
    report("failed over", begun);
    assert_ne!(new, old);
    assert_eq!(cluster.psql("postgres", LOGICAL_SLOTS).unwrap(), "0", "a new primary has no slot");
    assert_eq!(cluster.psql("model_kratos-new", "SELECT * FROM kept").unwrap(), "1", "the last commit is lost");
    assert_eq!(identity(&cluster), (new, timeline + 1, system));

    let begun = Instant::now();
    cluster.restart_member(old).unwrap();
    cluster.wait_healthy().unwrap();
    report("the old primary follows", begun);
    assert!(cluster.log(old).contains("running pg_rewind"), "{}", cluster.log(old));
    assert_eq!(cluster.psql_on(old, "model_kratos-new", "SELECT * FROM kept").unwrap(), "1");
    wait_for_no_slots(&cluster, old);
    leaves_nothing(cluster);
}

#[test]
fn a_crashed_postgres_is_started_again_and_loses_the_slot() {
    let cluster = start(Options { patroni: 4, synchronous: Synchronous::Strict, ..Options::new(16) });
    let (old, timeline, system) = identity(&cluster);
    table_and_slot(&cluster);
    let begun = Instant::now();
    assert_eq!(cluster.crash_primary_postgres().unwrap(), old);
    let now = identity(&cluster);
    report(&format!("a crashed PostgreSQL: was {old} on {timeline}, is {} on {}", now.0, now.1), begun);
    assert_eq!(now.2, system);
    cluster.wait_healthy().unwrap();
    assert_eq!(cluster.psql("model_kratos-new", "SELECT * FROM kept").unwrap(), "1");
    wait_for_no_slots(&cluster, now.0);

    // Strict: without a standby, commits wait for one.
    let replica = 1 - cluster.wait_for_primary().unwrap();
    cluster.stop_member(replica).unwrap();
    wait_for("commits to wait for any standby", Duration::from_secs(30), || {
        match cluster.psql("postgres", "SHOW synchronous_standby_names") {
            Ok(names) if names == "*" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    cluster.restart_member(replica).unwrap();
    cluster.wait_healthy().unwrap();
    leaves_nothing(cluster);
}

#[test]
fn the_other_versions_come_up() {
    for (major, patroni, members) in [(15, 3, 3), (17, 4, 2)] {
        let cluster = start(Options { patroni, members, ..Options::new(major) });
        assert!(cluster.psql("postgres", "SHOW server_version").unwrap().starts_with(&major.to_string()));
        leaves_nothing(cluster);
    }
}
