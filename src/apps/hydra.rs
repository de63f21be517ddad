//! Ory Hydra.

use super::{App, Completion, Kept, Kind};
use crate::postgres::names::{TableName, literal};
use std::collections::BTreeSet;

/// The sets of keys that a Hydra publishes: for ID tokens, and for access tokens.
///
/// Hydra 2.3.0 makes what is missing when it is asked: the first set for its discovery document, both for its key set,
/// whichever it signs with. That takes seconds, and on a database that is closed the answer is 500. Seen live.
pub const KEY_SETS: [&str; 2] = ["hydra.openid.id-token", "hydra.jwt.access-token"];

/// The keys in a database, encrypted there with the system secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningKeys {
    /// The ids of one set each, as in [`KEY_SETS`].
    sets: [BTreeSet<String>; 2],
}

impl SigningKeys {
    /// A query for set and id of each, from that table.
    pub fn sql(table: &TableName) -> String {
        let sets = KEY_SETS.map(literal).join(", ");
        format!("SELECT sid::text, kid::text FROM {} WHERE sid IN ({sets})", table.sql())
    }

    /// One more key.
    pub fn insert(&mut self, set: &str, id: String) {
        if let Some(at) = KEY_SETS.iter().position(|known| *known == set) {
            self.sets[at].insert(id);
        }
    }

    /// All ids.
    pub fn ids(&self) -> BTreeSet<String> {
        self.sets.iter().flatten().cloned().collect()
    }

    /// Whether the server can name its issuer without making a key.
    pub fn name_the_issuer(&self) -> bool {
        !self.sets[0].is_empty()
    }

    /// Whether the server can publish its keys without making one.
    pub fn are_complete(&self) -> bool {
        self.sets.iter().all(|set| !set.is_empty())
    }
}

/// 26.2.0 keeps of a login only what its consent was, and nothing of how it came about; what earlier releases kept of
/// every login then is NULL, the state among it, by which they find what a user allowed. A login that is kept has ended
/// (state 6). Seen live.
const LOGIN: Completion = Completion {
    table: "hydra_oauth2_flow",
    lacking: "state",
    values: &[
        ("state", "6"),
        ("login_verifier", "''"),
        ("login_csrf", "''"),
        ("subject", "''"),
        ("request_url", "''"),
        ("login_skip", "false"),
        ("client_id", "''"),
        ("oidc_context", "'{}'"),
        ("login_remember", "false"),
        ("login_remember_for", "0"),
        ("login_error", "'{}'"),
        ("acr", "''"),
        ("login_was_used", "true"),
        ("forced_subject_identifier", "''"),
        ("context", "'{}'"),
        ("amr", "'[]'"),
        ("consent_skip", "false"),
        ("consent_verifier", "''"),
        ("consent_csrf", "''"),
        ("consent_remember", "false"),
        ("consent_remember_for", "0"),
        ("consent_error", "'{}'"),
        ("consent_was_used", "true"),
        ("session_access_token", "'{}'"),
        ("session_id_token", "'{}'"),
        ("requested_scope", "'[]'"),
        ("requested_at_audience", "'[]'"),
        ("granted_scope", "'[]'"),
        ("granted_at_audience", "'[]'"),
        ("login_extend_session_lifespan", "false"),
    ],
};

/// Ory Hydra, from 2.1.1 to 26.2.0.
///
/// Costs per row: 25.4.0 adds a stored column to the flows, which rewrites that table.
pub static HYDRA: App = App {
    kind: Kind::Hydra,
    name: "hydra",
    title: "Hydra",
    consumers_endpoint: "hydra-endpoint-info",
    route_endpoints: &["public-route", "internal-route"],
    admin_port: 4445,
    model_key: None,
    migration_table: "schema_migration",
    migration_relics: &["schema_migration_pop_legacy"],
    seeded_tables: &[],
    networks_table: "networks",
    keeps: Kept { table: "hydra_client", one: "client", many: "clients", path: "/admin/clients/", id_key: "client_id" },
    messages: None,
    extensions: &[],
    column_releases: &["2.2.0", "2.3.0", "25.4.0"],
    attaching_release: None,
    completions: &[LOGIN],
    releases_json: include_str!("hydra_releases.json"),
    migration_costs: &[("25.4.0", "hydra_oauth2_flow", 15)],
};
