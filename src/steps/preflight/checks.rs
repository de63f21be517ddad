//! The table of checks.

use super::finding::{Finding, Verdict};
use super::{Facts, application, cluster, data, database, schema};

/// What a check says: what was found, and the cure when it is not as it should be.
pub(super) struct Judgement {
    good: bool,
    found: String,
    cure: String,
}

/// As it should be.
pub(super) fn good(found: impl Into<String>) -> Judgement {
    Judgement { good: true, found: found.into(), cure: String::new() }
}

/// Not as it should be.
pub(super) fn bad(found: impl Into<String>, cure: impl Into<String>) -> Judgement {
    Judgement { good: false, found: found.into(), cure: cure.into() }
}

/// What a check that is not passed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing may begin.
    Block,
    /// A person should know.
    Warn,
}

/// One check.
pub struct Check {
    /// Its name in the report.
    pub name: &'static str,
    /// What it looks at.
    pub about: &'static str,
    /// What not passing means.
    pub severity: Severity,
    judge: fn(&Facts) -> Judgement,
}

const fn block(name: &'static str, about: &'static str, judge: fn(&Facts) -> Judgement) -> Check {
    Check { name, about, severity: Severity::Block, judge }
}

const fn warn(name: &'static str, about: &'static str, judge: fn(&Facts) -> Judgement) -> Check {
    Check { name, about, severity: Severity::Warn, judge }
}

/// Every check, in the order of the report.
pub const CHECKS: &[Check] = &[
    block("two-databases", "source and target are not one database", cluster::two_databases),
    block("versions", "PostgreSQL 14 or newer, the target no older than the source", cluster::versions),
    block("primaries", "both servers take writes", cluster::primaries),
    block("rights", "our role on both sides", cluster::rights),
    block("wal-level", "logical decoding on the source", cluster::wal_level),
    block("source-slots", "free replication slots and WAL senders on the source", cluster::source_slots),
    block("target-workers", "free logical replication workers on the target", cluster::target_workers),
    warn("way-back", "the same the other way round, for the way back", cluster::way_back),
    block("target-reaches-source", "the subscription's own connection", cluster::target_reaches_source),
    warn("source-reaches-target", "the way back's connection", cluster::source_reaches_target),
    warn("slot-wal-limit", "WAL that a slot may hold", cluster::slot_wal_limit),
    warn("pending-restart", "settings that wait for a restart", cluster::pending_restart),
    warn("slots-in-trouble", "slots of others that hold WAL and have no reader", cluster::idle_slots),
    warn("standbys", "synchronous standbys that commits wait for", cluster::standbys),
    warn("clocks", "both servers' clocks", cluster::clocks),
    warn("checksums", "data checksums", cluster::checksums),
    block("encoding", "encoding of both databases", database::encoding),
    warn("locale", "collation of both databases", database::locale),
    block("extensions", "extensions of the source on the target", database::extensions),
    block("target-name", "length of the target database's name", database::target_name),
    warn("disk", "room that the copy takes", database::disk),
    warn("transactions", "transactions that hold up slot and fence", database::transactions),
    block("prepared-transactions", "transactions that were prepared and left", database::prepared),
    warn("wraparound", "autovacuum to prevent wraparound", database::wraparound),
    block("leftovers", "traces of an earlier run", database::leftovers),
    block("foreign-subscriptions", "subscriptions that write into these databases", database::foreign_subscriptions),
    warn("foreign-publications", "publications of others on these databases", database::foreign_publications),
    block("tables", "kinds of tables that cannot be replicated", schema::kinds),
    block("replica-identity", "keys that identify rows", schema::replica_identity),
    block("table-oddities", "inheritance, row security, rules", schema::oddities),
    warn("own-types", "column types that the database defines itself", schema::own_types),
    block("large-objects", "large objects, which are not replicated", schema::large_objects),
    block("target-triggers", "triggers that would fire while changes are applied", schema::replica_triggers),
    warn("event-triggers", "event triggers that run beside ours", schema::event_triggers),
    block("ownership", "tables of the target belong to one role", schema::ownership),
    block("source-release", "the source's schema migrations", application::source_release),
    block("schema-migrations", "the same schema migrations on both sides", application::same_migrations),
    block("schema-equality", "the same tables and columns on both sides", schema::equality),
    block("target-empty", "rows on the target", data::target_empty),
    block("networks", "one network on the source, and the oldest on its own", data::networks),
    warn("credential-types", "the same credential types on both sides", data::credential_types),
    warn("orphans", "rows that the step to 26.2 cannot attach to an identity", data::orphans),
    warn("courier-queue", "messages that a courier would still send", data::courier_queue),
    block("source-application", "the source application serves", application::source_serves),
    warn("source-identity", "the source application reads its identities", application::source_identity),
    block("target-application", "the target application is what it should be", application::target_serves),
    block("identity-schemas", "identity schemas of the source on the target", application::identity_schemas),
    block("order", "the order a run would take", application::order),
    warn("migration-time", "seconds for the schema migration", application::migration_time),
    block("outage-limit", "the lease is long enough for the order", application::outage_limit),
];

/// Runs every check.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    CHECKS
        .iter()
        .map(|check| {
            let Judgement { good, found, cure } = (check.judge)(facts);
            let verdict = match (good, check.severity) {
                (true, _) => Verdict::Pass,
                (false, Severity::Block) => Verdict::Fail,
                (false, Severity::Warn) => Verdict::Warn,
            };
            Finding { check: check.name.to_owned(), verdict, found, cure }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_short_enough_for_the_report() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        assert!(names.iter().all(|name| name.len() <= 22), "{names:?}");
        assert!(CHECKS.iter().all(|check| !check.about.is_empty()));
    }
}
