//! Everything of ours in a database, found by its prefix, and its removal.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::{JOURNAL_SCHEMA, PREFIX, RunId};
use super::{locks, publication, slot, subscription};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Kinds of things that carry our prefix, in the order in which they can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftoverKind {
    /// A subscription of this database.
    Subscription,
    /// A publication.
    Publication,
    /// A replication slot that decodes this database.
    Slot,
    /// A replication origin with our name (those of subscriptions go with them).
    Origin,
    /// An event trigger.
    EventTrigger,
    /// A trigger on a table.
    Trigger,
    /// A function outside our schemas.
    Function,
    /// An index outside our schemas.
    Index,
    /// A table outside our schemas.
    Table,
    /// A schema with all that is in it.
    Schema,
    /// A setting of ours kept for a role or this database.
    Setting,
}

/// One thing of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leftover {
    /// Kind.
    pub kind: LeftoverKind,
    /// Its name; with its table for a trigger.
    pub name: String,
    /// The statements that remove it; the sweep has ways of its own for subscriptions, publications and slots.
    pub removal: String,
}

/// Everything of ours in this database (and the slots that decode it), in the order of removal.
/// The journal's schema is not among them: it is the record, and goes with the coordinator's own database.
///
/// # Errors
/// [`Error::Server`] when the catalogs cannot be read.
pub async fn list(session: &Session) -> Result<Vec<Leftover>> {
    let doing = format!("look for what is left in database {} on {}", session.database, session.address);
    let rows = session.query(OURS, &[&PREFIX, &JOURNAL_SCHEMA]).await.map_err(Error::doing(doing))?;
    let mut found: Vec<Leftover> =
        rows.iter().map(|row| Leftover { kind: kind(row.get(0)), name: row.get(1), removal: row.get(2) }).collect();
    found.sort();
    Ok(found)
}

fn kind(word: &str) -> LeftoverKind {
    match word {
        "subscription" => LeftoverKind::Subscription,
        "publication" => LeftoverKind::Publication,
        "slot" => LeftoverKind::Slot,
        "origin" => LeftoverKind::Origin,
        "event trigger" => LeftoverKind::EventTrigger,
        "trigger" => LeftoverKind::Trigger,
        "function" => LeftoverKind::Function,
        "index" => LeftoverKind::Index,
        "table" => LeftoverKind::Table,
        "schema" => LeftoverKind::Schema,
        _ => LeftoverKind::Setting,
    }
}

const OURS: &str = "
    WITH here AS (SELECT oid FROM pg_database WHERE datname = current_database())
    SELECT 'subscription', subname::text, format('ALTER SUBSCRIPTION %1$I DISABLE; '
        'ALTER SUBSCRIPTION %1$I SET (slot_name = NONE); DROP SUBSCRIPTION %1$I', subname) FROM pg_subscription
    WHERE starts_with(subname, $1) AND subdbid = (SELECT oid FROM here)
    UNION ALL SELECT 'publication', pubname::text, format('DROP PUBLICATION IF EXISTS %I', pubname) FROM pg_publication WHERE starts_with(pubname, $1)
    UNION ALL SELECT 'slot', slot_name::text,
        format('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %L', slot_name)
    FROM pg_replication_slots
    WHERE starts_with(slot_name, $1) AND database = current_database()
    UNION ALL SELECT 'origin', roname, format('SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = %L', roname)
    FROM pg_replication_origin WHERE starts_with(roname, $1)
    UNION ALL SELECT 'event trigger', evtname::text, format('DROP EVENT TRIGGER IF EXISTS %I', evtname)
    FROM pg_event_trigger WHERE starts_with(evtname, $1)
    UNION ALL SELECT 'trigger', format('%s of table %s', g.tgname, g.tgrelid::regclass),
        format('DROP TRIGGER IF EXISTS %I ON %s', g.tgname, g.tgrelid::regclass)
    FROM pg_trigger g WHERE starts_with(g.tgname, $1) AND NOT g.tgisinternal AND g.tgparentid = 0
    UNION ALL SELECT 'function', format('%s', p.oid::regprocedure), format('DROP FUNCTION IF EXISTS %s', p.oid::regprocedure)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE starts_with(p.proname, $1) AND NOT starts_with(n.nspname, $1)
    UNION ALL SELECT CASE WHEN c.relkind IN ('i', 'I') THEN 'index' ELSE 'table' END, format('%s', c.oid::regclass),
        format('DROP %s IF EXISTS %s', CASE WHEN c.relkind IN ('i', 'I') THEN 'INDEX' ELSE 'TABLE' END, c.oid::regclass)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE starts_with(c.relname, $1) AND NOT starts_with(n.nspname, $1) AND c.relkind IN ('r', 'p', 'i', 'I')
    UNION ALL SELECT 'schema', nspname::text, format('DROP SCHEMA IF EXISTS %I CASCADE', nspname)
    FROM pg_namespace WHERE starts_with(nspname, $1) AND nspname <> $2
    UNION ALL SELECT 'setting',
        format('%s for %s', split_part(setting, '=', 1), coalesce('role ' || r.rolname, 'every role')),
        CASE WHEN s.setrole = 0 THEN format('ALTER DATABASE %I RESET %s', current_database(), split_part(setting, '=', 1))
             WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I RESET %s', r.rolname, split_part(setting, '=', 1))
             ELSE format('ALTER ROLE %I IN DATABASE %I RESET %s', r.rolname, current_database(),
                         split_part(setting, '=', 1)) END
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) setting
    WHERE starts_with(setting, $1) AND s.setdatabase IN (0, (SELECT oid FROM here))";

/// Removes the given things; what went meanwhile is fine.
///
/// # Errors
/// The first removal that fails; nothing after it is tried, so the sweep may be run again.
pub async fn sweep(session: &Session, leftovers: &[Leftover]) -> Result<()> {
    let mut ordered = leftovers.to_vec();
    ordered.sort();
    for Leftover { kind, name, removal } in &ordered {
        match kind {
            LeftoverKind::Subscription => subscription::drop_subscription(session, name, LIMIT).await?,
            LeftoverKind::Publication => publication::drop_publication(session, name).await?,
            LeftoverKind::Slot => slot::drop_slot(session, name, LIMIT).await?,
            _ => {
                let doing = format!("remove {name} from database {} on {}", session.database, session.address);
                locks::run(session, removal, &doing, LIMIT).await?;
            }
        }
    }
    Ok(())
}

impl Leftover {
    /// The run that made it, where its name tells.
    pub fn run(&self) -> Option<RunId> {
        let rest = self.name.strip_prefix(PREFIX)?.strip_prefix('_')?;
        RunId::parse(rest.get(..8)?)
    }
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            LeftoverKind::Subscription => "subscription",
            LeftoverKind::Publication => "publication",
            LeftoverKind::Slot => "replication slot",
            LeftoverKind::Origin => "replication origin",
            LeftoverKind::EventTrigger => "event trigger",
            LeftoverKind::Trigger => "trigger",
            LeftoverKind::Function => "function",
            LeftoverKind::Index => "index",
            LeftoverKind::Table => "table",
            LeftoverKind::Schema => "schema",
            LeftoverKind::Setting => "setting",
        };
        write!(f, "{kind} {}", self.name)
    }
}
