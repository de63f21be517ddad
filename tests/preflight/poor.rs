//! Pairs whose servers lack something from their start on; no Kratos is needed for that.

use super::rig::{Expected, finding, look, run, until};
use crate::catalogs::kratos_schema;
use coordinator::migration::OrderChoice;
use coordinator::steps::preflight::{Verdict, report};
use peers::cluster::{Cluster, Mode};
use peers::places::{postgresql_program, run as execute, unprivileged};

/// A name of 63 bytes, the longest that there is.
const LONG: &str = "Kratos-of-the-\"new\"-cluster-in-Reykjavík-and-a-word-to-fill-it";

/// What is said of a pair without room.
pub const POOR: &[Expected] = &[
    Expected::fails("wal-level", "wal_level is replica on the source", "ALTER SYSTEM SET wal_level"),
    Expected::fails("source-slots", "1 replication slots, 0 WAL senders free", "max_wal_senders = 4"),
    Expected::fails("target-workers", "1 logical replication workers", "max_logical_replication_workers = 5"),
    Expected::fails("connections", "of 12 connections free", "ALTER SYSTEM SET max_connections = 28"),
    Expected::fails("locks", "room for 170 locks", "ALTER SYSTEM SET max_locks_per_transaction = "),
    Expected::warns("way-back", "target: wal_level replica", "no way back after the flip"),
    Expected::fails("target-reaches-source", "cannot reach", "pg_hba.conf"),
    Expected::warns("archiver", "archiving fails since WAL file", "fills the disk"),
    Expected::warns("checksums", "data checksums are off on the target", "pg_checksums --enable"),
    Expected::fails("encoding", "LATIN1 on the source, UTF8 on the target", "ENCODING 'LATIN1'"),
    Expected::warns("locale", "C/C (libc) on the source, C.UTF-8/C.UTF-8 (libc) on the target", "sorts otherwise"),
    Expected::warns("database-names", "has 63 bytes, Charmed PostgreSQL 16 takes 49 on the target", "shorter"),
    Expected::warns("direction", "0 identities on the source, 0 on the target", "the identities in it"),
    Expected::fails("networks", "no networks row", "start once"),
    Expected::fails("source-application", "no address", "source-kratos"),
    Expected::fails("schema-migrations", "20 only on the target", "leave run-migration to the runbook"),
    Expected::fails(
        "schema-equality",
        "column available_aal of table public.identities exists only on the target",
        "kratos-new",
    ),
];

/// What is said of a target that lost its place as primary.
pub const STANDBY: &[Expected] = &[Expected::fails("primaries", "a standby (127.0.0.1", "relate to the primary")];

/// What is said of a pair of which one side has TLS, in the documented order.
pub const ENCRYPTED: &[Expected] = &[
    Expected::warns("encryption", "the source offers TLS, the target does not", "certificates"),
    Expected::fails("outage-limit", "the lease is 300 s", "outage-limit=720"),
];

/// What is said when the order is asked for that the releases do not allow.
pub const ORDER: &[Expected] = &[Expected::fails("order", "order=migrate-first is impossible", "order=auto")];

#[test]
fn servers_without_room_are_refused() {
    assert_eq!(LONG.len(), 63);
    let source = Cluster::builder(14)
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("max_wal_senders", "0")
        .setting("max_connections", "12")
        .setting("max_locks_per_transaction", "10")
        .setting("max_worker_processes", "4")
        .setting("max_prepared_transactions", "0")
        .setting("autovacuum_max_workers", "1")
        .start()
        .unwrap();
    let target = Cluster::builder(16)
        .setting("wal_level", "replica")
        .setting("max_logical_replication_workers", "1")
        .setting("archive_mode", "on")
        .setting("archive_command", "false")
        .start()
        .unwrap();
    source
        .psql("postgres", "CREATE DATABASE iam_kratos ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .unwrap();
    target.create_database(LONG).unwrap();
    source.psql("iam_kratos", &kratos_schema("1.0.0")).unwrap();
    target.psql(LONG, &kratos_schema("1.3.1")).unwrap();
    target.psql("postgres", "SELECT pg_switch_wal()").unwrap();
    target.stop(Mode::Fast).unwrap();
    let disable = unprivileged(postgresql_program(16, "pg_checksums").unwrap());
    execute({ disable }.arg("--disable").arg("-D").arg(target.data_path())).unwrap();
    target.start_again().unwrap();
    let mut look = look(&source, &target);
    look.target_database = LONG.to_owned();
    let archiver = POOR.iter().find(|expected| expected.check == "archiver").unwrap();
    let findings = until(&look, "the archiver to fail", |findings| archiver.is_met(findings));
    for expected in POOR {
        expected.insist(&findings);
    }
    // A name that the source's encoding cannot carry is no hindrance.
    let way_back = finding(&findings, "source-reaches-target");
    assert_eq!(way_back.verdict, Verdict::Pass, "{way_back:?}");
    // A server that finds this file starts as a standby.
    target.stop(Mode::Fast).unwrap();
    std::fs::write(target.data_path().join("standby.signal"), "").unwrap();
    target.start_again().unwrap();
    for expected in STANDBY {
        expected.insist(&run(&look));
    }
}

#[test]
fn the_documented_order_asks_for_a_long_enough_lease() {
    let (source, target) = (Cluster::builder(15).tls().start().unwrap(), Cluster::start(17).unwrap());
    source.create_database("iam_kratos").unwrap();
    target.create_database("iam_kratos-new").unwrap();
    source.psql("iam_kratos", &kratos_schema("26.2.0")).unwrap();
    target.psql("iam_kratos-new", &kratos_schema("26.2.0")).unwrap();
    let mut look = look(&source, &target);
    look.source.ca = source.ca_pem().map(str::to_owned);
    look.settings.outage_limit = 300;
    let findings = run(&look);
    assert!(finding(&findings, "order").found.starts_with("documented"), "{}", report(&findings));
    for expected in ENCRYPTED {
        expected.insist(&findings);
    }
    look.settings.order = OrderChoice::MigrateFirst;
    for expected in ORDER {
        expected.insist(&run(&look));
    }
}
