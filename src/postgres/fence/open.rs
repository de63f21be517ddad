//! Opening, giving a lease back, and the hand-over's point of no return.

use super::row::{self, FenceRow, FenceState};
use super::{explain, is_lock_failure, transact};
use crate::failpoint;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::inspect::{ClusterIdentity, cluster_identity};
use crate::postgres::names::literal;
use crate::postgres::server::Server;
use std::time::{Duration, Instant};
use tokio_postgres::types::PgLsn;

/// What else must hold for the target to open, asked in the same statement, and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOnlyIf {
    /// This slot must be in this database, its WAL kept.
    pub reverse_slot: Option<String>,
    /// The server must be this one, on this timeline.
    pub identity: Option<ClusterIdentity>,
    /// What is done before anybody else can write, if it opens.
    pub first: Option<String>,
}

/// The answer to [`open_target`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The generation is open (by this call or an earlier one).
    Open,
    /// A condition does not hold; nothing was changed. The text says which.
    Refused(String),
}

/// The answer to [`make_permanent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permanent {
    /// The source is closed for good; every promotable member must have flushed up to this position before the
    /// target may open ([`wait_flushed_by_standbys`]).
    Committed(PgLsn),
    /// The row did not change, and this is how it is now: no hand-over.
    Lost(Option<FenceRow>),
    /// A late writer holds the row, or something else does: the row did not change. Try again or lift.
    Locked(String),
    /// Nobody knows yet whether it was committed: ask again with [`row::state`] in a new session, after a look at
    /// the server's identity. The target must not open.
    Unknown(String),
}

/// The positions of the physical standbys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standbys {
    /// Names of those that have flushed up to the position asked for.
    pub flushed: Vec<String>,
    /// Names of those that have not, and of those whose slot waits for them unconnected.
    pub behind: Vec<String>,
}

/// Opens a closed generation of the target with one conditional update: nothing changes where a subscription of this
/// database is enabled or a condition of `only_if` does not hold. Also opens the target for the application's own
/// schema migration; closing it again is [`super::close_target`] with a new generation.
///
/// # Errors
/// [`Error::Found`] when a newer worker has taken over; [`Error::Server`] when the server refuses.
pub async fn open_target(session: &Session, generation: &str, epoch: i64, only_if: &OpenOnlyIf) -> Result<Opening> {
    let doing = format!("open database {} on {}", session.database, session.address);
    let identity = cluster_identity(session).await?;
    if let Some(wanted) = only_if.identity.as_ref().filter(|wanted| **wanted != identity) {
        return Ok(Opening::Refused(format!("the server is {identity:?}, not {wanted:?}")));
    }
    let timeline = literal(&format!("{:08X}", identity.timeline));
    let slot = only_if.reverse_slot.as_ref().map_or("true".to_owned(), |name| {
        format!(
            "EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {} AND database = current_database()
                     AND wal_status IN ('reserved', 'extended'))",
            literal(name)
        )
    });
    // Whoever holds a table that belongs to it keeps it from opening for a moment, not for ever.
    let update = format!(
        "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '1s';
         SELECT identity_migration.hold_epoch({epoch});
         UPDATE identity_migration.fence SET state = 'open'
         WHERE generation = {} AND state = 'closed' AND epoch = {epoch}
             AND NOT EXISTS (SELECT FROM pg_subscription WHERE subenabled
                 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
             AND {slot} AND left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) = {timeline}",
        literal(generation)
    );
    let first = only_if.first.as_ref().map_or(String::new(), |first| {
        format!(
            "; DO {}",
            literal(&format!(
                "BEGIN IF EXISTS (SELECT FROM identity_migration.fence WHERE generation = {} AND state = 'open')
                 THEN {first}; END IF; END",
                literal(generation)
            ))
        )
    });
    transact(session, &doing, &format!("{update}{first}")).await?;
    match row::state(session, generation).await? {
        Some(row) if row.state == FenceState::Open => Ok(Opening::Open),
        Some(row) if row.state != FenceState::Closed || row.epoch != epoch => {
            Ok(Opening::Refused(format!("generation {generation} is {} with epoch {}", row.state, row.epoch)))
        }
        Some(_) => Ok(Opening::Refused(match &only_if.reverse_slot {
            Some(name) => format!("a subscription here is enabled, or slot {name} does not keep its WAL"),
            None => "a subscription here is enabled".to_owned(),
        })),
        None => Ok(Opening::Refused(format!("there is no generation {generation}"))),
    }
}

/// Gives a lease back: leased becomes expired, and writes are open again. Anything else stays as it is.
/// Answers the row as it is then.
///
/// # Errors
/// [`Error::Found`] when a newer worker has taken over; [`Error::Server`] with 55P03 when the row stayed locked.
pub async fn lift(session: &Session, generation: &str, epoch: i64, lock_timeout: Duration) -> Result<Option<FenceRow>> {
    let doing = format!("lift the fence in database {} on {}", session.database, session.address);
    let update = format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL synchronous_commit = local;
         SELECT identity_migration.hold_epoch({epoch});
         UPDATE identity_migration.fence SET state = 'expired'
         WHERE generation = {} AND state = 'leased' AND epoch = {epoch}",
        lock_timeout.as_millis().max(1),
        literal(generation)
    );
    transact(session, &doing, &update).await?;
    row::state(session, generation).await
}

/// Opens a side that was closed for good: permanent becomes expired, for every table at once. The caller has closed
/// the other side for good before. Anything else stays as it is. Answers the row as it is then.
///
/// # Errors
/// As those of [`lift`].
pub async fn reopen(
    session: &Session,
    generation: &str,
    epoch: i64,
    lock_timeout: Duration,
) -> Result<Option<FenceRow>> {
    let doing = format!("open database {} on {} again", session.database, session.address);
    let update = format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL synchronous_commit = on;
         SELECT identity_migration.hold_epoch({epoch});
         UPDATE identity_migration.fence SET state = 'expired'
         WHERE generation = {} AND state = 'permanent' AND epoch = {epoch}",
        lock_timeout.as_millis().max(1),
        literal(generation)
    );
    transact(session, &doing, &update).await?;
    row::state(session, generation).await
}

/// Makes the source's lease permanent, in a session of its own, and reads it again in another one.
///
/// A commit that waits for a synchronous standby and is cancelled ends with a mere warning, so success of the
/// statement proves nothing: where the server waits for standbys, one of them must be seen to have the commit.
/// After `commit_limit` the outcome is [`Permanent::Unknown`]; late writers then wait at the row, none passes.
///
/// # Errors
/// Only what happens before the commit is tried, so an error means that nothing changed.
pub async fn make_permanent(
    server: &Server,
    database: &str,
    generation: &str,
    epoch: i64,
    lock_timeout: Duration,
    commit_limit: Duration,
) -> Result<Permanent> {
    let session = server.connect(database, "hand-over").await?;
    let doing = format!("close database {database} on {} for good", session.address);
    let before = cluster_identity(&session).await?;
    match try_permanent(&session, &doing, generation, epoch, lock_timeout).await {
        Ok(true) => {}
        Ok(false) => {
            session.batch_execute("ROLLBACK").await.map_err(Error::doing(doing.as_str()))?;
            return Ok(Permanent::Lost(row::state(&session, generation).await?));
        }
        Err(error) if is_lock_failure(&error) => return Ok(Permanent::Locked(error.to_string())),
        Err(error) => return Err(error),
    }
    failpoint::reach(failpoint::FENCE_COMMIT);
    match tokio::time::timeout(commit_limit, session.batch_execute("COMMIT")).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Ok(Permanent::Unknown(Error::doing(doing)(error).to_string())),
        Err(_) => {
            return Ok(Permanent::Unknown(format!("the commit still waits after {} ms", commit_limit.as_millis())));
        }
    }
    Ok(match read_again(server, database, generation, &before).await {
        Ok(answer) => answer,
        Err(error) => Permanent::Unknown(error.to_string()),
    })
}

/// Between the update and its commit the row is locked, and a writer after the lease waits for it: when the commit never
/// comes, because nothing of us reaches the server any more, the server takes the update back by itself.
const COMMITS_OR_ENDS: Duration = Duration::from_secs(3);

/// Everything up to the commit: true when the row is ours to commit.
async fn try_permanent(
    session: &Session,
    doing: &str,
    generation: &str,
    epoch: i64,
    lock_timeout: Duration,
) -> Result<bool> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL synchronous_commit = on;
         SET LOCAL idle_in_transaction_session_timeout = {}",
        lock_timeout.as_millis().max(1),
        COMMITS_OR_ENDS.as_millis()
    );
    session.batch_execute(&begin).await.map_err(Error::doing(doing))?;
    let updated = session
        .query_opt(
            "UPDATE identity_migration.fence SET state = 'permanent'
             WHERE generation = $1 AND state = 'leased' AND epoch = $2 AND clock_timestamp() < until RETURNING 1",
            &[&generation, &epoch],
        )
        .await
        .map_err(|error| explain(session, doing, error))?;
    Ok(updated.is_some())
}

async fn read_again(server: &Server, database: &str, generation: &str, before: &ClusterIdentity) -> Result<Permanent> {
    let session = server.connect(database, "hand-over").await?;
    let now = cluster_identity(&session).await?;
    if now != *before {
        return Ok(Permanent::Unknown(format!("the server was {before:?} and is now {now:?}")));
    }
    match row::state(&session, generation).await? {
        Some(row) if row.state == FenceState::Permanent => {}
        other => return Ok(Permanent::Unknown(format!("after the commit the row reads {other:?}"))),
    }
    let doing = format!("read the standbys of {}", session.address);
    // The flush position, because the insert position may lie past a page header that no standby reports on.
    let row = session
        .query_one("SELECT pg_current_wal_flush_lsn(), current_setting('synchronous_standby_names') <> ''", &[])
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let (flushed, waits): (PgLsn, bool) = (row.get(0), row.get(1));
    if waits {
        let row = session
            .query_one(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND flush_lsn >= $1",
                &[&flushed],
            )
            .await
            .map_err(Error::doing(doing))?;
        if row.get::<_, i64>(0) == 0 {
            return Ok(Permanent::Unknown("no synchronous standby has the commit yet".to_owned()));
        }
    }
    Ok(Permanent::Committed(flushed))
}

/// Which physical standbys have flushed up to `position`. A member whose slot exists but who is not connected
/// counts as behind: promoted, it would reopen at the deadline.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn standbys(session: &Session, position: PgLsn) -> Result<Standbys> {
    let rows = session
        .query(
            "SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), r.pid::text),
                    coalesce(r.flush_lsn >= $1, false)
             FROM pg_stat_replication r
             WHERE r.state <> 'backup'
                 AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
             UNION ALL
             SELECT s.slot_name::text || ' (not connected)', false FROM pg_replication_slots s
             WHERE s.slot_type = 'physical' AND NOT s.active
             ORDER BY 1",
            &[&position],
        )
        .await
        .map_err(Error::doing(format!("read the standbys of {}", session.address)))?;
    let mut standbys = Standbys::default();
    for row in rows {
        let list = if row.get(1) { &mut standbys.flushed } else { &mut standbys.behind };
        list.push(row.get(0));
    }
    Ok(standbys)
}

/// Waits until every physical standby has flushed up to `position`.
///
/// # Errors
/// [`Error::Timeout`] with the members that have not.
pub async fn wait_flushed_by_standbys(session: &Session, position: PgLsn, limit: Duration) -> Result<Standbys> {
    let started = Instant::now();
    loop {
        let now = standbys(session, position).await?;
        if now.behind.is_empty() {
            return Ok(now);
        }
        if started.elapsed() >= limit {
            return Err(Error::Timeout {
                doing: format!("see the hand-over on every standby of {}", session.address),
                limit,
                last_seen: format!("not on {}", now.behind.join(", ")),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
