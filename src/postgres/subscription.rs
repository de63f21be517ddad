//! Subscriptions: PostgreSQL's own apply worker follows a slot that we made.

use super::connect::Session;
use super::error::{Error, Result};
use super::inspect::cluster_identity;
use super::locks;
use super::names::{ident, literal};
use super::server::Server;
use crate::password::Password;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio_postgres::types::PgLsn;

const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// A subscription to be.
#[derive(Clone, Debug)]
pub struct SubscriptionSpec {
    /// Its name.
    pub name: String,
    /// The existing slot on the publisher.
    pub slot: String,
    /// The existing publication there.
    pub publication: String,
    /// How the subscriber reaches the publisher: [`Server::conninfo`].
    pub conninfo: Password,
    /// Take only what was written on the publisher itself, not what it applied from elsewhere.
    /// Known from 16 on; before, everything is taken whatever this says.
    pub only_local_changes: bool,
}

/// Creates the subscription, disabled, on an existing slot, without copying: it will follow from the
/// slot's consistent point. Its commits wait for the disk, so a confirmed position is a durable one.
/// A subscription of that name on that slot is left as it is.
///
/// The session that is opened for this writes no statement to any log, for the statement holds the password.
///
/// # Errors
/// [`Error::Found`] when a subscription of that name follows another slot;
/// [`Error::Server`] when the server refuses or cannot reach the publisher.
pub async fn create(target: &Server, database: &str, spec: &SubscriptionSpec) -> Result<()> {
    // One clear state after an error instead of an endless retry.
    issue(target, database, spec, "create_slot = false, copy_data = false", true, None).await
}

/// Creates the subscription, disabled, with a slot that PostgreSQL makes; enabled, PostgreSQL copies every
/// table by itself and then follows. Until [`stop_on_error`] it also tries again by itself after an error.
///
/// PostgreSQL waits here as in [`create_slot_with_snapshot`](super::replication::create_slot_with_snapshot), at most
/// for `limit`; the slot may be left by a failure.
///
/// # Errors
/// As [`create`]; the server's cancellation (57014) when the limit is over.
pub async fn create_with_copy(target: &Server, database: &str, spec: &SubscriptionSpec, limit: Duration) -> Result<()> {
    issue(target, database, spec, "create_slot = true, copy_data = true", false, Some(limit)).await
}

async fn issue(
    target: &Server,
    database: &str,
    spec: &SubscriptionSpec,
    beginning: &str,
    stop_on_error: bool,
    limit: Option<Duration>,
) -> Result<()> {
    let doing = format!("create subscription {} in database {database} on {}", spec.name, target.address());
    let session = target.connect(database, "subscription").await?;
    if let Some(there) = state(&session, &spec.name).await? {
        return match there.slot.as_deref() == Some(spec.slot.as_str()) {
            true => Ok(()),
            false => {
                Err(Error::found(doing, "one of that name follows another slot", "run rollback, then start again"))
            }
        };
    }
    keep_quiet(&session, &doing).await?;
    // It looks at every table there, and would queue behind a lock for ever.
    session.batch_execute("SET lock_timeout = '5s'").await.map_err(Error::doing(&doing))?;
    if let Some(limit) = limit {
        let sql = format!("SET statement_timeout = {}", limit.as_millis());
        session.batch_execute(&sql).await.map_err(Error::doing(&doing))?;
    }
    let major = cluster_identity(&session).await?.major();
    let mut options = format!(
        "{beginning}, enabled = false, slot_name = {}, synchronous_commit = 'on', streaming = on",
        literal(&spec.slot)
    );
    if major >= 15 && stop_on_error {
        // Two-phase stays off everywhere.
        options.push_str(", disable_on_error = true");
    }
    if major >= 16 && spec.only_local_changes {
        options.push_str(", origin = none");
    }
    let sql = format!(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH ({options})",
        ident(&spec.name),
        literal(spec.conninfo.reveal()),
        ident(&spec.publication)
    );
    session.batch_execute(&sql).await.map_err(Error::doing(&doing))?;
    // The statement would stay visible in pg_stat_activity as the session's last one.
    session.batch_execute("SELECT 1").await.map_err(Error::doing(doing))
}

/// Turns off every place that the server would write this session's statements to.
async fn keep_quiet(session: &Session, doing: &str) -> Result<()> {
    session
        .batch_execute(
            "SELECT set_config(s.name, quiet.value, false) FROM pg_settings s
             JOIN (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'),
                          ('log_min_duration_sample', '-1'), ('log_transaction_sample_rate', '0'),
                          ('log_min_error_statement', 'panic'), ('debug_print_parse', 'off'),
                          ('debug_print_rewritten', 'off'), ('debug_print_plan', 'off'), ('pgaudit.log', 'none'),
                          ('pg_stat_statements.track_utility', 'off'), ('auto_explain.log_min_duration', '-1')
                  ) quiet(name, value) ON quiet.name = s.name",
        )
        .await
        .map_err(Error::doing(doing))
}

/// Errors that the server has counted, and since when: a crash makes it begin anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// How many.
    pub errors: i64,
    /// When the server began to count.
    pub since: String,
}

impl ErrorCount {
    /// True when there were errors after what was counted before, or may have been: a server that crashed has forgotten
    /// those that it counted last.
    pub fn grew_from(&self, before: Option<&Self>) -> bool {
        match before {
            Some(before) => before.since != self.since || before.errors != self.errors,
            None => self.errors > 0,
        }
    }
}

/// A subscription as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// Enabled; the server itself disables one that met an error (15 and later).
    pub enabled: bool,
    /// The slot it follows; `None` when it is detached.
    pub slot: Option<String>,
    /// The publications it follows.
    pub publications: Vec<String>,
    /// The apply worker's process on the target.
    pub worker_pid: Option<i32>,
    /// The last position that the publisher is known to have sent up to and that was reported back.
    pub latest_end_lsn: Option<PgLsn>,
    /// The position in the publisher's WAL up to which changes were applied, as it is kept with the data.
    pub origin_lsn: Option<PgLsn>,
    /// Errors of the apply worker so far; `None` on servers before 15, which do not count them.
    pub apply_errors: Option<ErrorCount>,
    /// Tables that are not yet followed (state other than `r`).
    pub tables_not_ready: Vec<String>,
    /// Number of tables followed or to be followed.
    pub tables: i64,
}

/// The subscription of this name in the session's database, or `None`.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn state(target: &Session, name: &str) -> Result<Option<SubscriptionState>> {
    let doing = format!("read subscription {name} in database {} on {}", target.database, target.address);
    let row = target
        .query_opt(
            "SELECT s.subenabled, s.subslotname::text, s.subpublications,
                    (SELECT w.pid FROM pg_stat_subscription w
                     WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL
                       AND to_jsonb(w) ->> 'leader_pid' IS NULL LIMIT 1),
                    (SELECT max(w.latest_end_lsn) FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL),
                    (SELECT o.remote_lsn FROM pg_replication_origin_status o WHERE o.external_id = 'pg_' || s.oid),
                    ARRAY(SELECT format('%s (%s)', r.srrelid::regclass, r.srsubstate) FROM pg_subscription_rel r
                          WHERE r.srsubid = s.oid AND r.srsubstate <> 'r' ORDER BY 1),
                    (SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid),
                    to_regclass('pg_stat_subscription_stats') IS NOT NULL
             FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             WHERE d.datname = current_database() AND s.subname = $1",
            &[&name],
        )
        .await
        .map_err(Error::doing(&doing))?;
    let Some(row) = row else { return Ok(None) };
    let apply_errors = if row.get(8) {
        // The statistics of the whole server are as old as its last crash.
        let counted = "SELECT apply_error_count, (SELECT extract(epoch FROM stats_reset)::text FROM pg_stat_bgwriter)
                       FROM pg_stat_subscription_stats WHERE subname = $1";
        let row = target.query_opt(counted, &[&name]).await.map_err(Error::doing(&doing))?;
        row.map(|row| ErrorCount { errors: row.get(0), since: row.get::<_, Option<String>>(1).unwrap_or_default() })
    } else {
        None
    };
    Ok(Some(SubscriptionState {
        enabled: row.get(0),
        slot: row.get(1),
        publications: row.get(2),
        worker_pid: row.get(3),
        latest_end_lsn: row.get(4),
        origin_lsn: row.get(5),
        apply_errors,
        tables_not_ready: row.get(6),
        tables: row.get(7),
    }))
}

/// Gives the subscription the publisher's present address and credentials, where it has others; true when it had.
/// The apply worker takes them up by itself.
///
/// # Errors
/// [`Error::Server`] when the server refuses.
pub async fn reconnect(target: &Server, database: &str, name: &str, conninfo: &Password) -> Result<bool> {
    let doing = format!("give subscription {name} on {} its new connection", target.address());
    let session = target.connect(database, "subscription").await?;
    let row = session
        .query_opt(
            "SELECT s.subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
             WHERE d.datname = current_database() AND s.subname = $1",
            &[&name],
        )
        .await
        .map_err(Error::doing(&doing))?;
    if row.is_none_or(|row| row.get::<_, &str>(0) == conninfo.reveal()) {
        return Ok(false);
    }
    keep_quiet(&session, &doing).await?;
    let sql = format!("ALTER SUBSCRIPTION {} CONNECTION {}", ident(name), literal(conninfo.reveal()));
    locks::run(&session, &sql, &doing, LOCK_LIMIT).await?;
    // As in `create`: the statement would stay visible.
    session.batch_execute("SELECT 1").await.map_err(Error::doing(doing))?;
    Ok(true)
}

/// From now on an error disables the subscription (15 and later): one clear state instead of an endless retry.
///
/// # Errors
/// [`Error::Server`] when the server refuses.
pub async fn stop_on_error(target: &Session, name: &str) -> Result<()> {
    if cluster_identity(target).await?.major() < 15 {
        return Ok(());
    }
    let doing = format!("have subscription {name} on {} stop at an error", target.address);
    let sql = format!("ALTER SUBSCRIPTION {} SET (disable_on_error = true)", ident(name));
    locks::run(target, &sql, &doing, LOCK_LIMIT).await
}

/// Lets the apply worker start.
///
/// # Errors
/// [`Error::Server`] when the server refuses.
pub async fn enable(target: &Session, name: &str) -> Result<()> {
    let doing = format!("enable subscription {name} on {}", target.address);
    locks::run(target, &format!("ALTER SUBSCRIPTION {} ENABLE", ident(name)), &doing, LOCK_LIMIT).await
}

/// Disables the subscription and waits until no worker of it runs any more: then nothing is applied.
/// A worker that copies a table would go on to the table's end, so it is ended.
///
/// # Errors
/// [`Error::Timeout`] when a worker still runs at the deadline; [`Error::Server`] when the server refuses.
pub async fn disable(target: &Session, name: &str, deadline: Duration) -> Result<()> {
    let doing = format!("disable subscription {name} on {}", target.address);
    locks::run(target, &format!("ALTER SUBSCRIPTION {} DISABLE", ident(name)), &doing, LOCK_LIMIT).await?;
    let started = Instant::now();
    let look = "SELECT pid, CASE WHEN relid IS NOT NULL THEN pg_terminate_backend(pid) END FROM pg_stat_subscription
                WHERE subname = $1 AND pid IS NOT NULL ORDER BY relid LIMIT 1";
    loop {
        let row = target.query_opt(look, &[&name]).await.map_err(Error::doing(&doing))?;
        let Some(pid) = row.map(|row| row.get::<_, i32>(0)) else { return Ok(()) };
        if started.elapsed() > deadline {
            return Err(Error::Timeout { doing, limit: deadline, last_seen: format!("apply worker {pid} runs") });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Takes the slot from a disabled subscription, so that dropping it does not need the publisher.
///
/// # Errors
/// [`Error::Server`] when the subscription is enabled, or not there.
pub async fn detach(target: &Session, name: &str) -> Result<()> {
    let doing = format!("detach subscription {name} on {} from its slot", target.address);
    locks::run(target, &format!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", ident(name)), &doing, LOCK_LIMIT).await
}

/// Disables, detaches and drops the subscription, which leaves its slot on the publisher;
/// one that is not there is fine.
///
/// # Errors
/// As those of [`disable`].
pub async fn drop_subscription(target: &Session, name: &str, deadline: Duration) -> Result<()> {
    let Some(there) = state(target, name).await? else { return Ok(()) };
    disable(target, name, deadline).await?;
    if there.slot.is_some() {
        detach(target, name).await?;
    }
    let doing = format!("drop subscription {name} on {}", target.address);
    // A subscription without a slot may be dropped inside a transaction.
    locks::run(target, &format!("DROP SUBSCRIPTION IF EXISTS {}", ident(name)), &doing, LOCK_LIMIT).await
}
