//! The data directory that `initdb` made once per version, and that every cluster is a copy of.

use super::{PASSWORD, SUPERUSER};
use crate::places::{give_away, peers_root, postgresql_program, run, unprivileged, unprivileged_folder};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Changes whenever the template's making does, so that old templates are not taken.
const TEMPLATE: &str = "2";

/// Small machines run several clusters at once; loopback TCP only, so that a deep folder is no trouble for sockets.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_connections = 200
max_wal_senders = 20
max_replication_slots = 20
max_worker_processes = 24
max_logical_replication_workers = 12
max_prepared_transactions = 10
shared_buffers = 128MB
max_wal_size = 2GB
password_encryption = scram-sha-256
timezone = UTC
log_timezone = UTC
lc_messages = C
log_line_prefix = '%m [%p] %q%u@%d %a '
";

const ACCESS: &str = "\
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// Copies the template of a version to `data`.
pub fn copy(major: u32, data: &Path) -> anyhow::Result<()> {
    run(unprivileged("cp").arg("-a").arg("--reflink=auto").arg(template(major)?).arg(data)).map(drop)
}

/// The template of a version, made by whoever comes first.
fn template(major: u32) -> anyhow::Result<PathBuf> {
    let version = fs::read_link(peers_root().join(format!("postgresql/{major}")))?;
    let templates = peers_root().join("templates");
    unprivileged_folder(&templates)?;
    let template = templates.join(format!("{}-{TEMPLATE}", version.display()));
    let lock = File::create(templates.join(format!(".{major}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if template.is_dir() {
        return Ok(template);
    }
    let building = templates.join(format!(".{major}.building"));
    if building.exists() {
        fs::remove_dir_all(&building)?;
    }
    initialise(major, &building)?;
    let configuration = building.join("postgresql.conf");
    let shipped = fs::read_to_string(&configuration)?;
    fs::write(&configuration, shipped + SETTINGS)?;
    fs::write(building.join("pg_hba.conf"), ACCESS)?;
    fs::rename(&building, &template)?;
    Ok(template)
}

/// A new cluster with an identifier of its own, configured like none yet.
pub fn initialise(major: u32, data: &Path) -> anyhow::Result<()> {
    let initdb = postgresql_program(major, "initdb")?;
    let password = data.with_extension("password");
    fs::write(&password, PASSWORD)?;
    give_away(&password)?;
    run(unprivileged(initdb)
        .current_dir(data.parent().unwrap_or(data))
        .arg("-D")
        .arg(data)
        .args(["-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--data-checksums", "--no-sync"])
        .arg(format!("--pwfile={}", password.display())))?;
    Ok(fs::remove_file(&password)?)
}
