//! Ory Kratos.

use super::{App, Kept, Kind, Messages};

/// Ory Kratos, from 1.0.0 to 26.2.0.
///
/// Costs per row: 1.1.0 builds a trigram index on the identifiers (dropped again in 1.2.0);
/// 25.4.0 exchanges most indexes; 26.2.0 back-fills two columns in batches.
pub static KRATOS: App = App {
    kind: Kind::Kratos,
    name: "kratos",
    title: "Kratos",
    consumers_endpoint: "kratos-info",
    route_endpoints: &["public-route", "internal-route"],
    admin_port: 4434,
    model_key: Some("configmaps_namespace"),
    migration_table: "schema_migration",
    migration_relics: &["schema_migration_pop_legacy"],
    seeded_tables: &["identity_credential_types"],
    networks_table: "networks",
    keeps: Kept { table: "identities", one: "identity", many: "identities", path: "/admin/identities/", id_key: "id" },
    // Queued (1), and those that a courier was at (3). From 1.1 on a message without a channel fails six times, and is
    // abandoned ("unknown channel"); seen live.
    messages: Some(Messages {
        table: "courier_messages",
        state: "status",
        waiting: &[1, 3],
        abandoned: 4,
        // A courier takes ten at a time, and counts an attempt before it makes it. None of a state of 3 is taken again.
        taken: ("status = 3 AND send_count = 0", 1),
        needed: ("channel", "CASE type WHEN 1 THEN 'email' WHEN 2 THEN 'sms' END"),
    }),
    extensions: &[("1.1.0", &["pg_trgm", "btree_gin"])],
    column_releases: &["1.1.0", "25.4.0", "26.2.0"],
    attaching_release: Some("26.2.0"),
    completions: &[],
    releases_json: include_str!("kratos_releases.json"),
    migration_costs: &[
        ("1.1.0", "identity_credential_identifiers", 40),
        ("25.4.0", "identity_credential_identifiers", 20),
        ("25.4.0", "sessions", 20),
        ("26.2.0", "identity_credential_identifiers", 65),
        ("26.2.0", "session_devices", 80),
    ],
};
