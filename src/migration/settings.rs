//! What the operator configured, as the steps need it. Parsed and checked by the charm.

use serde::{Deserialize, Serialize};

/// Which order the schema migration takes (config `order`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderChoice {
    /// `migrate-first` where the pair of releases earned it, else `documented`.
    Auto,
    /// After the drain, inside the outage.
    Documented,
    /// Before the fence, outside the outage.
    MigrateFirst,
}

/// How the target is compared with the source (config `verification`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// Every row, in snapshots taken at the drain, beside the hand-over.
    Twin,
    /// Every row, inside the outage.
    Strict,
    /// Row counts only.
    Counts,
}

/// Who reads the tables for the initial copy (parameter `engine` of `replicate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// What the run began with; at its begin the coordinator's own parallel copy in the slot's snapshot.
    #[default]
    Auto,
    /// PostgreSQL's own table synchronisation.
    Native,
}

/// Which backups a run waits for (config `backup-gates`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupGates {
    /// None.
    #[default]
    Off,
    /// One of the source before anything begins.
    Start,
    /// That, one of the drained source, and one of the migrated target.
    All,
}

/// The options that the steps read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long the fence may hold writes, in seconds: the lease.
    pub outage_limit: u64,
    /// A fence is refused while the target is further behind than this, in bytes of WAL.
    pub max_lag_bytes: u64,
    /// A slot that keeps more WAL than this, in bytes, is given up; 0 = by the database's size. Requests in journals of
    /// older charms have no such field.
    #[serde(default)]
    pub max_kept_wal_bytes: u64,
    /// The order asked for.
    pub order: OrderChoice,
    /// Parallel copy streams; 0 = as many as fit.
    pub copy_jobs: usize,
    /// Who copies. Requests of charms that knew one engine only do not tell.
    #[serde(default)]
    pub engine: Engine,
    /// How long one table's lock is waited for, in milliseconds, before it is given way and tried again.
    pub lock_timeout_ms: u64,
    /// Which backups are waited for. Requests of older charms do not tell.
    #[serde(default)]
    pub backup_gates: BackupGates,
    /// Whether a flip has the target take the source's place at its ingress. Requests of older charms do not tell.
    #[serde(default)]
    pub move_routes: bool,
    /// How the result is proven.
    pub verification: Verification,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outage_limit: 900,
            max_lag_bytes: 16 * 1024 * 1024,
            max_kept_wal_bytes: 0,
            order: OrderChoice::Auto,
            copy_jobs: 0,
            engine: Engine::Auto,
            lock_timeout_ms: 1000,
            backup_gates: BackupGates::Off,
            move_routes: false,
            verification: Verification::Twin,
        }
    }
}
