//! How a server's setting is changed. What does it depends on where the value comes from: Patroni passes some settings on
//! the command line, which goes before `ALTER SYSTEM`; the PostgreSQL charm has Patroni write others into a file, where
//! there is nothing for `ALTER SYSTEM RESET` to take away.

use super::sides::{At, Remedy};
use crate::postgres::survey::Origin;

/// Settings that only a restart puts in force.
const AT_START: &[&str] = &[
    "wal_level",
    "max_connections",
    "max_worker_processes",
    "max_logical_replication_workers",
    "max_replication_slots",
    "max_wal_senders",
    "max_locks_per_transaction",
    "max_prepared_transactions",
];

/// Options of the PostgreSQL charm, as revisions for 14 write them; those for 16 have hyphens.
const OPTIONS: &[(&str, &str)] = &[
    ("max_connections", "experimental_max_connections"),
    ("max_worker_processes", "cpu_max_worker_processes"),
    ("max_logical_replication_workers", "cpu_max_logical_replication_workers"),
    ("wal_keep_size", "durability_wal_keep_size"),
    ("statement_timeout", "connection_statement_timeout"),
    ("lock_timeout", "request_lock_timeout"),
    ("idle_in_transaction_session_timeout", "session_idle_in_transaction_session_timeout"),
    ("default_transaction_read_only", "request_default_transaction_read_only"),
    ("max_prepared_transactions", "memory_max_prepared_transactions"),
];

/// The charm's option behind a setting.
fn option(at: &At<'_>, name: &str) -> Option<String> {
    let (_, option) = OPTIONS.iter().find(|(setting, _)| *setting == name)?;
    Some(if at.identity.major() >= 16 { option.replace('_', "-") } else { (*option).to_owned() })
}

/// Gives a setting this value, written as in SQL.
pub(super) fn set(at: &At<'_>, name: &str, value: &str) -> Remedy {
    change(at, name, value, false)
}

/// Takes a setting away; `own` is PostgreSQL's own value, written as in SQL.
pub(super) fn reset(at: &At<'_>, name: &str, own: &str) -> Remedy {
    change(at, name, own, true)
}

fn change(at: &At<'_>, name: &str, value: &str, away: bool) -> Remedy {
    let reload = if AT_START.contains(&name) { "" } else { "; SELECT pg_reload_conf()" };
    let take = format!("ALTER SYSTEM RESET {name}{reload}");
    let give = format!("ALTER SYSTEM SET {name} = {value}{reload}");
    let charmed = option(at, name).map(|option| match away {
        true => format!("juju config {} --reset {option}", at.addressed()),
        false => format!("juju config {} {option}={}", at.addressed(), value.trim_matches('\'')),
    });
    match (at.origin(name), charmed) {
        (Origin::CommandLine | Origin::File, Some(command)) => {
            let sql = if at.origin(name) == Origin::File { give } else { String::new() };
            Remedy::Command(command, sql)
        }
        (Origin::CommandLine, None) => {
            let cluster = match at.setting("cluster_name") {
                "" => "<cluster>",
                name => name,
            };
            let restart =
                if reload.is_empty() { format!(" && patronictl restart {cluster} --force") } else { String::new() };
            let bare = value.trim_matches('\'');
            Remedy::Command(
                format!(
                    "patronictl edit-config {cluster} --force --pg {name}={bare}{restart} (on a unit of {})",
                    at.postgresql()
                ),
                String::new(),
            )
        }
        (Origin::AlterSystem, _) if away => Remedy::Sql(take),
        // A line of ALTER SYSTEM goes before one of the file.
        _ => Remedy::Sql(give),
    }
}
