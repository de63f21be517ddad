//! Messages that the application would send by itself: nothing goes out from a target that users do not use yet.

use super::context::Context;
use super::observe;
use crate::apps::Messages;
use crate::failpoint;
use crate::migration::{Failure, Step};
use crate::postgres::names::TableName;
use crate::postgres::{Error, Session};
use serde_json::{Value, json};

/// The note of how many messages are never sent.
pub(super) const ABANDONED: &str = "messages-abandoned";

fn table(context: &Context<'_>) -> Result<Option<(&'static Messages, TableName)>, Failure> {
    let Some(messages) = &context.app().messages else { return Ok(None) };
    let table = observe::replicated_tables(context)?.into_iter().find(|table| table.name == messages.table);
    Ok(table.map(|table| (messages, table)))
}

/// What belongs to the opening of the target for its own migration: a server that comes up before the target is closed
/// again would send what the source sends too.
///
/// # Errors
/// The journal's.
pub(super) fn holding(context: &Context<'_>) -> Result<Option<String>, Failure> {
    Ok(table(context)?.map(|(messages, table)| messages.hold_sql(&table.sql())))
}

/// After it was closed again: what was held waits as before. May be run again.
///
/// # Errors
/// The server's.
pub(super) async fn release(context: &Context<'_>, target: &Session) -> Result<(), Failure> {
    let Some((messages, table)) = table(context)? else { return Ok(()) };
    failpoint::reach(failpoint::MESSAGES_HELD);
    // Our own fence lets this session pass as it lets the apply worker.
    let sql =
        format!("BEGIN; SET LOCAL session_replication_role = replica; {}; COMMIT", messages.release_sql(&table.sql()));
    let released = target.batch_execute(&sql).await;
    Ok(released.map_err(Error::doing(format!("release what table {table} holds on {}", target.address)))?)
}

/// What belongs to the opening for users: what waits is made fit to be sent, or is never sent where that is asked for.
/// Before, the target would differ from the source; afterwards its server would be sending.
///
/// # Errors
/// The servers'.
pub(super) async fn opening(context: &mut Context<'_>, target: &Session) -> Result<Option<String>, Failure> {
    let Some((messages, table)) = table(context)? else { return Ok(None) };
    if context.request.abandon_messages {
        let counted = target.query_one(&messages.count_sql(&table.sql()), &[]).await;
        let count: i64 = counted.map_err(Error::doing(format!("count waiting messages on {}", target.address)))?.get(0);
        context.note(Step::HandOver, ABANDONED, json!(count)).await?;
        return Ok(Some(messages.abandon_sql(&table.sql())));
    }
    // An earlier attempt may have been asked for it.
    if context.run()?.note(Step::HandOver, ABANDONED).is_some() {
        context.note(Step::HandOver, ABANDONED, Value::Null).await?;
    }
    let mut sql = messages.give_back_sql(&table.sql());
    if has_column(target, &table, messages.needed.0).await? {
        sql = format!("{sql}; {}", messages.complete_sql(&table.sql()));
    }
    Ok(Some(sql))
}

/// Looks into the catalog alone: whoever holds a table would hold up the hand-over.
async fn has_column(target: &Session, table: &TableName, column: &str) -> Result<bool, Failure> {
    let sql = "SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
                              JOIN pg_namespace n ON n.oid = t.relnamespace
                              WHERE n.nspname = $1 AND t.relname = $2 AND a.attname = $3 AND NOT a.attisdropped)";
    let found = target.query_one(sql, &[&table.schema, &table.name, &column]).await;
    Ok(found.map_err(Error::doing(format!("look at table {table} on {}", target.address)))?.get(0))
}
