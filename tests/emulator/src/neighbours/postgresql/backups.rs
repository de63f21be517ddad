//! `create-backup` and `list-backups`: refused where the charm refuses them, made with `pg_basebackup`, kept beside the
//! cluster in place of a bucket. (canonical/postgresql-k8s-operator:src/backups.py@main,@16/edge)

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use peers::cluster::Cluster;
use serde_json::{Map, Value};

use super::is_primary;
use crate::native::UnitContext;

/// Where the bucket's credentials come from.
pub const S3: &str = "s3-parameters";

pub const ACTIONS: &str = "
create-backup:
  description: Creates a backup to s3 storage.
  params:
    type: {type: string, default: full}
list-backups:
  description: Lists backups in s3 storage.
";

/// One line of the list.
struct Backup {
    id: String,
    kind: String,
    status: String,
}

/// What the bucket has.
#[derive(Default)]
pub struct Bucket {
    backups: Vec<Backup>,
}

impl Bucket {
    /// Why this unit makes no backup.
    fn refusal(cluster: &Cluster, kind: &str, has_full: bool, context: &UnitContext) -> Result<Option<&'static str>> {
        let (tls, primary) = (cluster.ca_pem().is_some(), is_primary(context)?);
        let several = context.units()? > 1;
        let refused = match kind {
            _ if context.relations(S3)?.is_empty() => {
                "Relation with s3-integrator charm missing, cannot create/restore backup."
            }
            "full" | "differential" | "incremental" if several && cluster.major() < 16 && !tls && !primary => {
                "Unit cannot perform backups as TLS is not enabled"
            }
            "full" | "differential" | "incremental" if several && primary && (tls || cluster.major() >= 16) => {
                "Unit cannot perform backups as it is the cluster primary"
            }
            "differential" | "incremental" if !has_full => {
                "Cannot create that backup. No previous full backup to reference."
            }
            "full" | "differential" | "incremental" => return Ok(None),
            _ => "Invalid backup type: it must be one of full, differential, incremental",
        };
        Ok(Some(refused))
    }

    pub fn create(
        &mut self,
        cluster: &Arc<Cluster>,
        given: &Map<String, Value>,
        context: &mut UnitContext,
    ) -> Result<()> {
        let kind = given.get("type").and_then(Value::as_str).unwrap_or("full");
        let has_full = self.backups.iter().any(|backup| backup.kind == "full" && backup.status == "finished");
        if let Some(refusal) = Self::refusal(cluster, kind, has_full, context)? {
            return context.action_fail(refusal);
        }
        let id = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let made = base_backup(cluster, &id);
        let status = if made.is_ok() { "finished" } else { "failed" }.to_owned();
        self.backups.push(Backup { id, kind: kind.to_owned(), status });
        match made {
            Ok(()) => context.action_set(&[("backup-status", "backup created")]),
            Err(error) => context.action_fail(&format!("Failed to backup PostgreSQL with error: {error:#}")),
        }
    }

    pub fn list(&self, context: &mut UnitContext) -> Result<()> {
        if context.relations(S3)?.is_empty() {
            return context.action_fail("Relation with s3-integrator charm missing, cannot list backups.");
        }
        let line = |cells: [&str; 4]| {
            let [id, action, status, path] = cells;
            format!("{id:<20} | {action:<19} | {status:<8} | {path}")
        };
        let mut table = vec![line(["backup-id", "action", "status", "backup-path"])];
        table.push("-".repeat(table[0].len()));
        table.extend(self.backups.iter().map(|backup| {
            line([&backup.id, &format!("{} backup", backup.kind), &backup.status, &format!("/{}", backup.id)])
        }));
        context.action_set(&[("backups", &format!("Storage bucket name: bucket\n\n{}", table.join("\n")))])
    }
}

fn base_backup(cluster: &Cluster, id: &str) -> Result<()> {
    let data = cluster.data_path();
    let folder: PathBuf = data.parent().context("the cluster is in no folder")?.join("backups").join(id);
    let (user, password) = cluster.superuser();
    let output = Command::new(peers::places::postgresql_program(cluster.major(), "pg_basebackup")?)
        .args([
            "-h",
            cluster.host(),
            "-p",
            &cluster.port().to_string(),
            "-U",
            user,
            "-Ft",
            "-X",
            "fetch",
            "-c",
            "fast",
            "-D",
        ])
        .arg(&folder)
        .env("PGPASSWORD", password)
        .output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    anyhow::ensure!(folder.join("base.tar").is_file(), "no archive was written");
    Ok(())
}
