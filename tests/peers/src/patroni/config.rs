//! Patroni's configuration, after the template of Charmed PostgreSQL (`templates/patroni.yml.j2`), whose store is raft
//! too. Different are the times, which are short here, and that nothing is archived or encrypted.

use super::{Options, Synchronous};
use crate::cluster::{PASSWORD, SUPERUSER};
use serde_json::{Value, json};
use std::path::Path;

/// A leader that says nothing for so long loses the lock, in seconds. The charms have 30.
const TTL: u32 = 8;
/// The charms have 10.
const LOOP_WAIT: u32 = 1;
/// The charms have 10; Patroni takes no less than 3, and twice this and the above must fit in the first.
const RETRY_TIMEOUT: u32 = 3;

/// Where a member listens on loopback.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub postgres: u16,
    pub api: u16,
    pub raft: u16,
}

/// The configuration of a member; JSON is YAML too. `voters` are the raft ports of all.
pub fn member(options: &Options, name: &str, folder: &Path, ports: Ports, voters: &[u16], bin: &Path) -> Value {
    let user = |name: &str| json!({"username": name, "password": PASSWORD});
    json!({
        "scope": "patroni",
        "namespace": "/db/",
        "name": name,
        "restapi": {"listen": address(ports.api), "connect_address": address(ports.api)},
        "raft": raft(folder, ports.raft, voters),
        "watchdog": {"mode": "off"},
        "bootstrap": {
            "dcs": shared(options),
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth-host": "scram-sha-256"}, "data-checksums"],
        },
        "postgresql": {
            "listen": address(ports.postgres),
            "connect_address": address(ports.postgres),
            "bin_dir": bin,
            "data_dir": folder.join("data"),
            "pgpass": folder.join("pgpass"),
            // The charms wait for an ordinary checkpoint.
            "basebackup": [{"checkpoint": "fast"}],
            "parameters": {"unix_socket_directories": ""},
            "pg_hba": [
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication replication 127.0.0.1/32 scram-sha-256",
            ],
            "authentication": {
                "superuser": user(SUPERUSER),
                "replication": user("replication"),
                "rewind": user("rewind"),
            },
        },
    })
}

/// The configuration of a voter without a database: two members alone could not go on without one of them.
pub fn voter(folder: &Path, port: u16, voters: &[u16]) -> Value {
    json!({"scope": "patroni", "raft": raft(folder, port, voters)})
}

fn raft(folder: &Path, port: u16, voters: &[u16]) -> Value {
    let partners: Vec<String> = voters.iter().filter(|&&voter| voter != port).map(|&voter| address(voter)).collect();
    json!({"data_dir": folder.join("raft"), "self_addr": address(port), "partner_addrs": partners})
}

/// What all members share through the store.
fn shared(options: &Options) -> Value {
    json!({
        "ttl": TTL,
        "loop_wait": LOOP_WAIT,
        "retry_timeout": RETRY_TIMEOUT,
        "maximum_lag_on_failover": 1_048_576,
        "synchronous_mode": options.synchronous != Synchronous::Off,
        "synchronous_mode_strict": options.synchronous == Synchronous::Strict,
        "synchronous_node_count": options.members.saturating_sub(1).max(1),
        "postgresql": {
            "use_pg_rewind": true,
            "use_slots": true,
            "parameters": {
                "wal_level": "logical",
                "track_commit_timestamp": "on",
                "max_connections": 200,
                "max_wal_senders": 25,
                "max_replication_slots": 25,
                "max_worker_processes": 24,
                "max_logical_replication_workers": 12,
                "archive_mode": "on",
                "archive_command": "/bin/true",
                "shared_buffers": "64MB",
                "password_encryption": "scram-sha-256",
                // Files in the data directory: a killed server leaves nothing behind in memory.
                "dynamic_shared_memory_type": "mmap",
                // A connection that sends nothing holds up even an immediate shutdown until this is over.
                "authentication_timeout": "20s",
                "log_replication_commands": "on",
                "log_line_prefix": "%m [%p] %q%u@%d %a ",
                "lc_messages": "C",
                "timezone": "UTC",
                "log_timezone": "UTC",
            },
        },
    })
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
