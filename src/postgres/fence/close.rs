//! Closing: a new generation row first, then a trigger on every table, each in a transaction of its own.

use super::functions::{BIRTH_TRIGGER, DDL_TRIGGER, fence_new_tables, refuse_ddl};
use super::row::{self, FenceState};
use super::tables::to_fence;
use super::{is_lock_failure, open, overtaken, transact};
use crate::failpoint;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::{FENCE_TRIGGER, TableName, ident, literal};
use std::time::{Duration, Instant};

/// How to close.
#[derive(Clone, Debug)]
pub struct Close<'a> {
    /// A name never used before in this database; the same name again goes on with an interrupted close.
    pub generation: &'a str,
    /// The tables; partitions and inheriting tables come by themselves, `schema_migration` is left out.
    pub tables: &'a [TableName],
    /// The worker's epoch.
    pub epoch: i64,
    /// How long one table's lock is waited for; writers queue behind us that long at most.
    pub lock_timeout: Duration,
    /// How long the whole close may take before it is given up.
    pub give_up: Duration,
}

/// A close that is complete: every transaction that ever wrote one of the tables has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Tables that got their trigger now (an interrupted close that went on counts the rest only).
    pub table_count: usize,
    /// Attempts that had to be repeated because a lock was not free.
    pub retries: usize,
    /// How long it took.
    pub took: Duration,
    /// What is left of the lease, in milliseconds; `None` on a target.
    pub remaining_ms: Option<i64>,
}

/// Closes the source for `lease`. The deadline counts from the row, before the first trigger.
/// DDL is refused first, so that nobody can disable a trigger behind us; sessions that wrote already finish.
/// When it is given up, the fence is lifted again: no writer stays refused.
///
/// # Errors
/// [`Error::Found`] with the blocking sessions named when locks were not free within `give_up`, when the generation
/// is no longer leased, or when a newer worker has taken over.
pub async fn close_source(session: &Session, close: &Close<'_>, lease: Duration) -> Result<Closed> {
    let until = format!("clock_timestamp() + make_interval(secs => {})", lease.as_secs_f64());
    let done = close_with(session, close, FenceState::Leased, &until, DDL_TRIGGER, "ddl_command_start", "").await;
    if done.is_err() {
        // Best effort: when this fails too (the connection may be gone), the lease reopens by itself.
        if let Err(error) = open::lift(session, close.generation, close.epoch, close.lock_timeout).await {
            log::warn!("{error}");
        }
    }
    done
}

/// Closes the target without a deadline; tables created from now on are fenced at birth with this generation.
///
/// # Errors
/// As [`close_source`], without the lifting.
pub async fn close_target(session: &Session, close: &Close<'_>) -> Result<Closed> {
    let tags = "WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA')";
    close_with(session, close, FenceState::Closed, "NULL", BIRTH_TRIGGER, "ddl_command_end", tags).await
}

async fn close_with(
    session: &Session,
    close: &Close<'_>,
    state: FenceState,
    until: &str,
    event_trigger: &str,
    event: &str,
    tags: &str,
) -> Result<Closed> {
    let started = Instant::now();
    let doing = format!("close database {} on {}", session.database, session.address);
    check_generation(&doing, close.generation)?;
    // Durable here is enough for rows and triggers: what a standby must have is checked at the hand-over, and
    // everything here lies before it in the WAL.
    let insert = format!(
        "{}; INSERT INTO identity_migration.fence (generation, state, until, epoch)
         VALUES ({}, '{state}', {until}, {}) ON CONFLICT DO NOTHING",
        head(close, "local"),
        literal(close.generation),
        close.epoch
    );
    transact(session, &doing, &insert).await?;
    still(session, close, state, &doing).await?;
    let (function, body) = match state {
        FenceState::Leased => ("refuse_ddl", refuse_ddl(close.generation)),
        _ => ("fence_new_tables", fence_new_tables(close.generation)),
    };
    let mut retries = 0;
    let replace = format!("{}; {body}", head(close, "off"));
    retries += persist(session, close, started, &doing, None, &replace).await?;
    if !event_trigger_is_whole(session, event_trigger, &doing).await? {
        let create = format!(
            "{}; DROP EVENT TRIGGER IF EXISTS {event_trigger};
             CREATE EVENT TRIGGER {event_trigger} ON {event} {tags} EXECUTE FUNCTION identity_migration.{function}()",
            head(close, "off")
        );
        retries += persist(session, close, started, &doing, None, &create).await?;
    }
    let tables = to_fence(session, close.tables, close.generation).await?;
    for table in &tables {
        failpoint::reach_for(failpoint::FENCE_TABLE, &table.name);
        let create = format!(
            "{}; CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}
             FOR EACH STATEMENT EXECUTE FUNCTION identity_migration.refuse_writes({})",
            head(close, "off"),
            table.sql(),
            literal(close.generation),
            trigger = ident(FENCE_TRIGGER),
        );
        retries += persist(session, close, started, &doing, Some(table), &create).await?;
    }
    // One flush for all the triggers, which were committed without waiting for the disk. It also proves that the
    // epoch was ours to the end.
    let flush = format!(
        "{}; UPDATE identity_migration.owner SET epoch = epoch WHERE epoch = {}",
        head(close, "local"),
        close.epoch
    );
    transact(session, &doing, &flush).await?;
    let remaining_ms = still(session, close, state, &doing).await?;
    Ok(Closed { table_count: tables.len(), retries, took: started.elapsed(), remaining_ms })
}

/// The generation is part of function bodies and trigger arguments, so it is held to plain letters.
fn check_generation(doing: &str, generation: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !generation.is_empty() && generation.len() <= 63 && generation.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::found(
        doing,
        format!("the generation's name {generation:?}"),
        "use 1 to 63 lower-case letters, digits, '_' and '-'",
    ))
}

/// How every transaction of a close begins. A quick deadlock check also sends an autovacuum worker away, which
/// otherwise happens only after a second.
fn head(close: &Close<'_>, synchronous_commit: &str) -> String {
    let wait = close.lock_timeout.as_millis().max(1);
    format!(
        "SET LOCAL lock_timeout = {wait}; SET LOCAL deadlock_timeout = {}; \
         SET LOCAL synchronous_commit = {synchronous_commit}; SELECT identity_migration.hold_epoch({})",
        (wait / 4).max(1),
        close.epoch
    )
}

/// The row must be in the wanted state, with the lease not run out; answers what is left of it.
async fn still(session: &Session, close: &Close<'_>, wanted: FenceState, doing: &str) -> Result<Option<i64>> {
    let row = row::state(session, close.generation).await?;
    match row {
        Some(row) if row.state == wanted && row.epoch == close.epoch && !row.lapsed() => Ok(row.remaining_ms),
        Some(row) if row.lapsed() => Err(Error::found(
            doing,
            format!("the lease of generation {} ran out", row.generation),
            "run the action again with a longer outage-limit",
        )),
        Some(row) if row.epoch > close.epoch => Err(overtaken(session, doing)),
        other => Err(Error::found(
            doing,
            match other {
                Some(row) => format!("generation {} is {} with epoch {}", row.generation, row.state, row.epoch),
                None => format!("generation {} is not there", close.generation),
            },
            "run the action again: it closes under a new generation",
        )),
    }
}

/// Repeats a transaction until its locks are free; answers how often it had to be repeated.
async fn persist(
    session: &Session,
    close: &Close<'_>,
    started: Instant,
    doing: &str,
    table: Option<&TableName>,
    statements: &str,
) -> Result<usize> {
    let mut retries: usize = 0;
    loop {
        let error = match transact(session, doing, statements).await {
            Ok(()) => return Ok(retries),
            Err(error) if is_lock_failure(&error) => error,
            Err(error) => return Err(error),
        };
        if started.elapsed() >= close.give_up {
            let Some(table) = table else { return Err(error) };
            let holders = blockers(session, table).await?;
            return Err(Error::found(
                doing,
                format!("table {table} was not free within {} ms: {holders}", close.give_up.as_millis()),
                "end those transactions, then run the action again",
            ));
        }
        retries += 1;
        // Writers that queued behind us get their turn before the next try.
        let pause = Duration::from_millis(50).saturating_mul(u32::try_from(retries).unwrap_or(u32::MAX));
        tokio::time::sleep(pause.min(close.lock_timeout)).await;
    }
}

/// Who holds a lock on the table that keeps its trigger out.
pub(super) async fn blockers(session: &Session, table: &TableName) -> Result<String> {
    let rows = session
        .query(
            "SELECT DISTINCT CASE
                 WHEN l.pid IS NULL THEN 'prepared transaction ' || coalesce(quote_literal(x.gid), '(ended by now)')
                 ELSE 'session ' || l.pid || ' of application ' || quote_literal(coalesce(a.application_name, ''))
                     || ' in a transaction for '
                     || coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int, 0) || ' s' END
             FROM pg_locks l
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
                 AND own.virtualtransaction = l.virtualtransaction
             LEFT JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
             WHERE l.locktype = 'relation' AND l.granted AND l.relation = to_regclass($1)
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
             ORDER BY 1",
            &[&table.sql()],
        )
        .await
        .map_err(Error::doing(format!("find who holds table {table} on {}", session.address)))?;
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(if names.is_empty() { "the holder has gone by now".to_owned() } else { names.join(", ") })
}

async fn event_trigger_is_whole(session: &Session, name: &str, doing: &str) -> Result<bool> {
    let row = session
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
                 JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE e.evtname = $1 AND e.evtenabled IN ('O', 'A') AND n.nspname = 'identity_migration')",
            &[&name],
        )
        .await;
    row.map(|row| row.get(0)).map_err(Error::doing(doing))
}
