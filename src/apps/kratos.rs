//! Ory Kratos.

use super::App;

/// Ory Kratos, from 1.0.0 to 26.2.0.
///
/// Costs per row: 1.1.0 builds a trigram index on the identifiers (dropped again in 1.2.0);
/// 25.4.0 exchanges most indexes; 26.2.0 back-fills two columns in batches.
pub static KRATOS: App = App {
    name: "kratos",
    title: "Kratos",
    migration_table: "schema_migration",
    migration_relics: &["schema_migration_pop_legacy"],
    seeded_tables: &["identity_credential_types"],
    networks_table: "networks",
    releases_json: include_str!("kratos_releases.json"),
    migration_costs: &[
        ("1.1.0", "identity_credential_identifiers", 40),
        ("25.4.0", "identity_credential_identifiers", 20),
        ("25.4.0", "sessions", 20),
        ("26.2.0", "identity_credential_identifiers", 65),
        ("26.2.0", "session_devices", 80),
    ],
};
