//! What an identity app is: its tables, its releases, what a step between two releases asks for,
//! and how its server is questioned. Adding an app is one [`App`] value, one data file of
//! releases and its rows in [`pairs`].

pub mod behaviour;
pub mod completions;
pub mod fills;
pub mod health;
pub mod hydra;
pub mod identity_schema;
pub mod kratos;
pub mod messages;
pub mod pairs;
pub mod releases;
pub mod revisions;

pub use behaviour::Cookie;
pub use completions::Completion;
pub use fills::{Fill, Value};
pub use health::{Health, Readable, Server, Told};
pub use hydra::HYDRA;
pub use kratos::KRATOS;
pub use messages::Messages;
pub use pairs::{Pair, claimed, earned_from, pair};
pub use releases::{Recognised, Release};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An identity app, as far as a migration has to know it.
#[derive(Debug)]
pub struct App {
    /// Which one it is.
    pub kind: Kind,
    /// Lower-case name, as in the charm's and the binary's name.
    pub name: &'static str,
    /// The name in sentences.
    pub title: &'static str,
    /// The app's endpoint for the relation in which it tells where it is, and ours towards its consumers.
    pub consumers_endpoint: &'static str,
    /// The app's endpoints for the ingresses that give it an address which does not tell its name: who has the relation has
    /// the address.
    pub route_endpoints: &'static [&'static str],
    /// The admin API's port, where the app is asked without a route.
    pub admin_port: u16,
    /// The key of that relation under which the app tells its own model's name, where it does.
    pub model_key: Option<&'static str>,
    /// The table in which the app notes which of its schema migrations ran. It describes its own
    /// database's schema, so it is never copied, published, fenced, emptied or compared.
    pub migration_table: &'static str,
    /// What very old installations of the same migrator left behind; treated like the table above.
    pub migration_relics: &'static [&'static str],
    /// Tables into which the app's own migrations insert rows: the target may hold more of them
    /// than the source, never fewer.
    pub seeded_tables: &'static [&'static str],
    /// The table whose oldest row is the network that a starting server serves.
    pub networks_table: &'static str,
    /// What it keeps for those who rely on it.
    pub keeps: Kept,
    /// What it sends by itself, if it sends anything.
    pub messages: Option<Messages>,
    /// Extensions that the migrations of a release create: release, extensions.
    pub extensions: &'static [(&'static str, &'static [&'static str])],
    /// Releases that add columns to tables of the release before.
    pub column_releases: &'static [&'static str],
    /// The release that attaches rows to an identity, and fails on rows for which it finds none; if there is one.
    pub attaching_release: Option<&'static str>,
    /// What rows that a later release wrote lack on an older one.
    pub completions: &'static [Completion],
    /// The releases, as JSON (see [`releases`]).
    pub(crate) releases_json: &'static str,
    /// What the migrations of a release cost: release, table, microseconds a row.
    pub(crate) migration_costs: &'static [(&'static str, &'static str, u64)],
}

/// The identity apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ory Kratos: identities and their sessions.
    Kratos,
    /// Ory Hydra: OAuth2 clients and their tokens.
    Hydra,
}

/// What an app keeps above all: where it is, there the users are, and a server that reads one serves their network.
#[derive(Debug)]
pub struct Kept {
    /// Its table, with an `id` and the network's id, `nid`.
    pub table: &'static str,
    /// One of them.
    pub one: &'static str,
    /// Several.
    pub many: &'static str,
    /// Where the admin API shows one, without its id.
    pub path: &'static str,
    /// The key of that answer which repeats the id.
    pub id_key: &'static str,
}

/// Every app there is.
pub static APPS: &[&App] = &[&KRATOS, &HYDRA];

/// There is one value of each.
impl PartialEq for App {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for App {}

/// What is moved as long as nothing tells it otherwise.
impl Default for &'static App {
    fn default() -> Self {
        &KRATOS
    }
}

/// By its name.
impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for &'static App {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        App::named(&name).ok_or_else(|| serde::de::Error::custom(format!("no app is called {name}")))
    }
}

impl App {
    /// The app that is called so.
    pub fn named(name: &str) -> Option<&'static Self> {
        APPS.iter().copied().find(|app| app.name == name)
    }

    /// The known releases, oldest first.
    pub fn releases(&self) -> Vec<Release> {
        releases::parse(self.releases_json)
    }

    /// True for the table of schema migrations and what its older forms left behind.
    pub fn is_migration_table(&self, table: &str) -> bool {
        table == self.migration_table || self.migration_relics.contains(&table)
    }

    /// True for a table whose target may hold more rows than the source.
    pub fn is_seeded_table(&self, table: &str) -> bool {
        self.seeded_tables.contains(&table)
    }

    /// How many seconds the app's own schema migration from release `from` to release `to` should
    /// be given, from the number of rows per table.
    ///
    /// A minute to start, every row of the database touched once (20 µs) by index builds and
    /// foreign key checks, and the rewriting steps at the rate measured on a small two-core
    /// machine; all of it tripled, rounded up to whole minutes, never under two.
    pub fn migration_seconds(&self, from: &str, to: &str, rows: impl Fn(&str) -> u64, all_rows: u64) -> u64 {
        let order = |name: &str| self.releases().iter().position(|release| release.is(name));
        let (first, last) = (order(from), order(to));
        let steps = self.migration_costs.iter().filter(|(release, _, _)| {
            let at = order(release);
            // An unknown end counts every step on that side: too long is harmless, too short kills.
            (first.is_none() || at > first) && (last.is_none() || at <= last)
        });
        let rewriting: u64 = steps.map(|(_, table, micros)| rows(table) * micros).sum();
        whole_minutes(60 + (all_rows * 20 + rewriting) / 1_000_000 * 3)
    }
}

/// How many seconds a schema migration should be given that took this long in a rehearsal: as with an estimate a minute
/// to start, and three times as long.
pub fn granted_seconds(measured: f64) -> u64 {
    whole_minutes(60 + (measured.max(0.0) * 3.0).ceil() as u64)
}

/// Never under two, which the applications' own actions grant.
fn whole_minutes(seconds: u64) -> u64 {
    seconds.div_ceil(60).max(2) * 60
}
