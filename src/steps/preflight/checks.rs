//! The table of checks.

use super::finding::{Finding, Verdict};
use super::judgement::Judgement;
use super::{
    Facts, adoption, application, behaviour, budget, cluster, data, database, documents, hydra, likeness, model,
    others, patroni, routes, schema, settings, wal,
};
use crate::apps::Kind;
use crate::apps::Kind::{Hydra, Kratos};

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
    /// The only app that it is about, when there is one.
    pub only: Option<Kind>,
    judge: fn(&Facts) -> Judgement,
}

impl Check {
    const fn only(self, kind: Kind) -> Self {
        Self { only: Some(kind), ..self }
    }
}

const fn block(name: &'static str, about: &'static str, judge: fn(&Facts) -> Judgement) -> Check {
    Check { name, about, severity: Severity::Block, only: None, judge }
}

const fn warn(name: &'static str, about: &'static str, judge: fn(&Facts) -> Judgement) -> Check {
    Check { name, about, severity: Severity::Warn, only: None, judge }
}

/// Every check, in the order of the report.
pub const CHECKS: &[Check] = &[
    block("two-databases", "source and target are not one database", cluster::two_databases),
    block("direction", "the people, or the clients, are on the source", data::direction),
    block("versions", "PostgreSQL 14 or newer, the target no older than the source", cluster::versions),
    block("primaries", "both servers are primaries", cluster::primaries),
    block("rights", "our role on both sides", cluster::rights),
    block("read-only", "sessions that may write", settings::read_only),
    block("replication-role", "sessions whose triggers fire", settings::replication_role),
    block("wal-level", "logical decoding on the source", wal::level),
    block("output-plugin", "the plugin that decodes on the source", wal::output_plugin),
    block("source-slots", "free replication slots and WAL senders on the source", budget::source_slots),
    block("target-workers", "free logical replication workers on the target", budget::target_workers),
    block("connections", "free connections for the copy", budget::connections),
    block("locks", "room for locks on every table at once", budget::locks),
    warn("way-back", "the same the other way round, for the way back", budget::way_back),
    block("target-reaches-source", "the subscription's own connection", cluster::target_reaches_source),
    warn("source-reaches-target", "the way back's connection", cluster::source_reaches_target),
    warn("encryption", "TLS on both sides", cluster::encryption),
    warn("slot-wal-limit", "WAL that a slot may hold", wal::slot_limit),
    warn("disk", "room that the copy and the kept WAL take", wal::disk),
    warn("archiver", "WAL archiving that fails", wal::archiver),
    warn("backups", "backups that run now", others::backups),
    warn("pending-restart", "settings that wait for a restart", cluster::pending_restart),
    warn("replication-timeouts", "time that a large transaction may take to decode", settings::replication_timeouts),
    warn("timeouts", "timeouts that would end the application's schema migration", settings::timeouts),
    warn("patroni-slots", "whether Patroni leaves our slots alone", patroni::patroni_slots),
    warn("patroni-members", "members of both clusters, as Patroni has them", patroni::patroni_members),
    warn("standbys", "synchronous standbys that commits wait for", cluster::standbys),
    warn("clocks", "both servers' clocks", cluster::clocks),
    warn("checksums", "data checksums", cluster::checksums),
    block("encoding", "encoding of both databases", database::encoding),
    warn("locale", "collation of both databases", database::locale),
    warn("collation-versions", "collations whose library changed under the indexes", database::collation_versions),
    block("search-path", "where the application's tables are found", settings::search_path),
    block("extensions", "extensions of the source on the target", database::extensions),
    warn("database-names", "length of the databases' names", database::names),
    warn("transactions", "transactions that hold up slot and fence", others::transactions),
    block("prepared-transactions", "transactions that were prepared and left", others::prepared),
    warn("wraparound", "age of the oldest transaction id", others::wraparound),
    block("leftovers", "traces of an earlier run", others::leftovers),
    block("foreign-subscriptions", "subscriptions that write into these databases", others::subscriptions),
    warn("foreign-publications", "publications of others on these databases", others::publications),
    warn("foreign-slots", "slots of others", others::slots),
    block("tables", "kinds of tables that cannot be replicated", schema::kinds),
    block("replica-identity", "keys that identify rows", schema::replica_identity),
    block("table-oddities", "inheritance, row security, rules", schema::oddities),
    warn("computed-columns", "generated and identity columns", schema::computed_columns),
    block("column-types", "types that are not the same everywhere", schema::column_types),
    block("large-objects", "large objects, which are not replicated", schema::large_objects),
    warn("invalid-indexes", "indexes that a failed build left", schema::invalid_indexes),
    block("target-triggers", "triggers that would fire while changes are applied", schema::target_triggers),
    warn("source-triggers", "the same on the source, for the way back", schema::source_triggers),
    warn("event-triggers", "event triggers that run beside ours", schema::event_triggers),
    block("ownership", "tables of the target belong to one role", likeness::ownership),
    block("source-release", "the source's schema migrations", application::source_release),
    block("schema-migrations", "the same schema migrations on both sides", application::same_migrations),
    block("schema-equality", "the same tables and columns on both sides", likeness::equality),
    block("constraints", "constraints of the target that rows of the source may break", likeness::constraints),
    warn("other-objects", "views, functions and triggers of the source only", likeness::objects),
    block("target-empty", "rows on the target", data::target_empty),
    block("networks", "one network on the source, and the oldest on its own", data::networks),
    warn("hidden-rows", "what belongs to no served network", data::hidden),
    warn("credential-types", "the same credential types on both sides", data::credential_types).only(Kratos),
    warn("orphans", "rows that the step to 26.2 cannot attach to an identity", data::orphans).only(Kratos),
    warn("courier-queue", "messages that a courier would still send", data::courier_queue).only(Kratos),
    block("source-application", "the source application serves", application::source_serves),
    warn("source-sessions", "the source application writes to this primary", application::source_sessions),
    warn("source-identity", "the source application reads what is in its database", application::source_identity),
    warn("signing-keys", "the keys that Hydra signs tokens with", hydra::signing_keys).only(Hydra),
    warn("system-secret", "the secret that Hydra encrypts keys and tokens with", hydra::system_secret).only(Hydra),
    warn("issuer", "the issuer that Hydra names in tokens", hydra::issuer).only(Hydra),
    warn("oauth-relations", "clients that Hydra made for relations", hydra::oauth_relations).only(Hydra),
    block("target-application", "the target application is what it should be", application::target_serves),
    block("identity-schemas", "identity schemas of the source on the target", application::identity_schemas)
        .only(Kratos),
    block("identity-documents", "what changed identity schemas would do to the people", documents::documents)
        .only(Kratos),
    warn("behaviour", "what both servers show, and what has to be compared by hand", behaviour::behaviour),
    warn("controller", "whether refresh and run-migration are made by us", model::controller),
    warn("configuration", "options and relations of both applications", model::configuration),
    warn("consumers", "whom a flip reaches", adoption::consumers),
    warn("routes", "whom users reach through the source's ingress after a flip", routes::routes),
    block("order", "the order a run would take", application::order),
    warn("migration-time", "seconds for the schema migration", application::migration_time),
    block("outage-limit", "the lease is long enough for the order", application::outage_limit),
];

/// Runs every check.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    CHECKS
        .iter()
        .filter(|check| check.only.is_none_or(|kind| kind == facts.look.app.kind))
        .map(|check| {
            let Judgement { verdict, found, cure, typed } = (check.judge)(facts);
            let verdict = verdict.unwrap_or(match check.severity {
                Severity::Block => Verdict::Fail,
                Severity::Warn => Verdict::Warn,
            });
            let commands = typed.iter().filter_map(|typed| typed.command(facts)).collect();
            Finding { check: check.name.to_owned(), verdict, found, cure, commands, heals: false }
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
