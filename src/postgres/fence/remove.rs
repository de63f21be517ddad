//! Taking the fence away, wholly or down to what keeps a retired source closed.

use super::close::blockers;
use super::functions::{BIRTH_TRIGGER, DDL_TRIGGER, DEFINER, installed};
use super::row::{FenceState, latest};
use super::tables::tables_with_trigger;
use super::{is_lock_failure, transact};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::{FENCE_TRIGGER, TableName, ident};
use std::time::{Duration, Instant};

/// Leaves one function without tables and the triggers: the source stays closed with nothing else of ours in it.
/// Answers the commands that remove that too. May be run again.
///
/// # Errors
/// [`Error::Found`] when the newest generation is not permanent; [`Error::Server`] when the server refuses.
pub async fn reduce_to_minimal(session: &Session, lock_timeout: Duration) -> Result<Vec<String>> {
    let doing = format!("reduce the fence in database {} on {}", session.database, session.address);
    if installed(session).await? {
        match latest(session).await?.first() {
            Some(row) if row.state == FenceState::Permanent => {}
            other => {
                let found = other.map_or("no fence".to_owned(), |row| format!("a fence that is {}", row.state));
                return Err(Error::found(doing, found, "hand over first, or remove the fence altogether"));
            }
        }
        // The function changes before its tables go, so there is no moment without a refusal.
        let statements = format!(
            "SET LOCAL lock_timeout = {}; {};
             DROP EVENT TRIGGER IF EXISTS {DDL_TRIGGER}; DROP EVENT TRIGGER IF EXISTS {BIRTH_TRIGGER};
             DROP FUNCTION IF EXISTS identity_migration.refuse_ddl();
             DROP FUNCTION IF EXISTS identity_migration.fence_new_tables();
             DROP FUNCTION IF EXISTS identity_migration.hold_epoch(bigint);
             DROP FUNCTION IF EXISTS identity_migration.admits(text);
             DROP TABLE identity_migration.fence, identity_migration.owner, identity_migration.marker",
            lock_timeout.as_millis(),
            refuse_always()
        );
        transact(session, &doing, &statements).await?;
    }
    Ok(vec![
        "DROP FUNCTION IF EXISTS identity_migration.refuse_writes() CASCADE;".to_owned(),
        "DROP SCHEMA IF EXISTS identity_migration;".to_owned(),
    ])
}

/// Removes everything of the fence: event triggers first, then the triggers table by table, then the schema with
/// whatever else of ours is in it. The caller sees to it that no snapshot of ours is open. May be run again.
///
/// # Errors
/// [`Error::Found`] with the blocking sessions named when a lock was not free within `give_up`.
pub async fn remove(session: &Session, lock_timeout: Duration, give_up: Duration) -> Result<()> {
    let started = Instant::now();
    let doing = format!("remove the fence from database {} on {}", session.database, session.address);
    let set = format!("SET LOCAL lock_timeout = {}", lock_timeout.as_millis());
    let events =
        format!("{set}; DROP EVENT TRIGGER IF EXISTS {DDL_TRIGGER}; DROP EVENT TRIGGER IF EXISTS {BIRTH_TRIGGER}");
    persist(session, &doing, &events, None, started, give_up).await?;
    for table in tables_with_trigger(session).await? {
        let drop = format!("{set}; DROP TRIGGER IF EXISTS {} ON {}", ident(FENCE_TRIGGER), table.sql());
        persist(session, &doing, &drop, Some(&table), started, give_up).await?;
    }
    let schema = format!("{set}; DROP SCHEMA IF EXISTS identity_migration CASCADE");
    persist(session, &doing, &schema, None, started, give_up).await
}

/// The same trigger function without a table behind it.
fn refuse_always() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.refuse_writes() RETURNS trigger {DEFINER} AS $body$
BEGIN
    RAISE EXCEPTION 'cannot execute % on %.%: this database has moved to another server',
        TG_OP, pg_catalog.quote_ident(TG_TABLE_SCHEMA), pg_catalog.quote_ident(TG_TABLE_NAME)
        USING ERRCODE = '25006';
END
$body$"
    )
}

async fn persist(
    session: &Session,
    doing: &str,
    statements: &str,
    table: Option<&TableName>,
    started: Instant,
    give_up: Duration,
) -> Result<()> {
    loop {
        let error = match transact(session, doing, statements).await {
            Err(error) if is_lock_failure(&error) => error,
            done => return done,
        };
        if started.elapsed() >= give_up {
            let Some(table) = table else { return Err(error) };
            let found = format!("table {table} was not free: {}", blockers(session, table).await?);
            return Err(Error::found(doing, found, "end those transactions, then run the action again"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
