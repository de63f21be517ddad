//! What Patroni says beside the servers: a small server gives its recorded answers.

use super::rig::{Expected, finding, look, run};
use crate::catalogs::kratos_schema;
use coordinator::steps::preflight::{Look, Verdict, report};
use peers::cluster::Cluster;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// Members as a sound cluster of two has them.
const SOUND: &str = r#"{"scope": "blue", "members": [
    {"name": "pg-0", "role": "leader", "state": "running", "host": "10.1.0.1", "port": 5432, "timeline": 3},
    {"name": "pg-1", "role": "sync_standby", "state": "streaming", "host": "10.1.0.2", "port": 5432, "timeline": 3, "lag": 0}]}"#;

const UNSOUND: &str = r#"{"scope": "blue", "members": [
    {"name": "pg-0", "role": "leader", "state": "running", "pending_restart": true},
    {"name": "pg-1", "role": "replica", "state": "start failed"}]}"#;

const DEFAULTS: &str = r#"{"ttl": 30, "slots": null, "postgresql": {"parameters": {}}}"#;
const IGNORING: &str =
    r#"{"ttl": 30, "ignore_slots": [{"type": "logical", "plugin": "pgoutput", "database": "iam_kratos"}]}"#;
const KEEPING: &str = r#"{"slots": {"identity_migration_0badcafe": {"type": "logical", "plugin": "pgoutput", "database": "iam_kratos"}}}"#;
const STANDBY: &str = r#"{"standby_cluster": {"host": "10.9.0.1", "port": 5432}}"#;

fn nothing(_: &mut Look) {}

fn under_way(look: &mut Look) {
    look.run = Some("0badcafe".to_owned());
}

fn on_the_target(look: &mut Look) {
    std::mem::swap(&mut look.source_patroni, &mut look.target_patroni);
}

type Said = (&'static str, &'static str, fn(&mut Look), Expected);

/// Answers to `/config` and `/cluster`, the look, and what is said of them.
pub const SAID: &[Said] = &[
    (
        DEFAULTS,
        SOUND,
        nothing,
        Expected::warns(
            "patroni-slots",
            "a restart or switchover of the source drops it",
            r#"--set 'ignore_slots=[{"type": "logical", "plugin": "pgoutput", "database": "iam_kratos"}]'"#,
        ),
    ),
    (
        DEFAULTS,
        SOUND,
        under_way,
        Expected::warns(
            "patroni-slots",
            "a restart or switchover of the source drops it",
            r#"--set 'slots.identity_migration_0badcafe={"type": "logical", "plugin": "pgoutput", "database": "iam_kratos"}'"#,
        ),
    ),
    (
        DEFAULTS,
        SOUND,
        on_the_target,
        Expected::warns(
            "patroni-slots",
            "switchover of the target drops it, and there is no way back",
            "ignore_slots=[",
        ),
    ),
    (IGNORING, SOUND, nothing, Expected::passes("patroni-slots", "our slot outlives a restart of the source")),
    (KEEPING, SOUND, under_way, Expected::passes("patroni-slots", "outlives a restart and a switchover of the source")),
    (
        IGNORING,
        SOUND,
        nothing,
        Expected::passes("patroni-members", "2 members run on the source, no Patroni answers on the target"),
    ),
    (
        IGNORING,
        UNSOUND,
        nothing,
        Expected::warns(
            "patroni-members",
            "member pg-0 (leader) of the source waits for a restart; member pg-1 (replica) of the source is start failed",
            "patronictl list",
        ),
    ),
    (STANDBY, SOUND, nothing, Expected::warns("patroni-members", "the source is a standby cluster", "promotion")),
];

/// Serves the two answers on a port, until the test ends.
fn serve(config: &'static str, cluster: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut request = String::new();
            let mut reader = BufReader::new(&stream);
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let body = match request.split(' ').nth(1) {
                Some("/config") => config,
                Some("/cluster") => cluster,
                _ => continue,
            };
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
            let _ = write!(&stream, "{head}: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[test]
fn what_patroni_says_is_told() {
    let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    let schema = kratos_schema("1.0.0");
    for (cluster, database) in [(&source, "iam_kratos"), (&target, "iam_kratos-new")] {
        cluster.create_database(database).unwrap();
        cluster.psql(database, &schema).unwrap();
    }
    for (config, cluster, change, expected) in SAID {
        let mut look = look(&source, &target);
        look.source_patroni = serve(config, cluster);
        change(&mut look);
        expected.insist(&run(&look));
    }
    // One that accepts and says nothing, and one that is something else, hold nothing up.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut look = look(&source, &target);
    look.source_patroni = mute.local_addr().unwrap().port();
    look.target_patroni = target.port();
    let started = std::time::Instant::now();
    let findings = run(&look);
    println!("with a mute Patroni in {} ms", started.elapsed().as_millis());
    for check in ["patroni-slots", "patroni-members"] {
        let finding = finding(&findings, check);
        assert_eq!(finding.verdict, Verdict::Pass, "{}", report(&findings));
        assert!(finding.found.contains("no Patroni answers on the source and the target"), "{finding:?}");
    }
}
