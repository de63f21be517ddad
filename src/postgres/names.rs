//! Names of everything of ours inside a database. All carry one prefix, so that
//! "nothing left behind" is one query per cluster.

use serde::{Deserialize, Serialize};

/// The prefix (and, in an identity database, the schema) of every object of ours.
pub const PREFIX: &str = "identity_migration";

/// The schema of the journal, in the coordinator's own database on the target cluster.
pub const JOURNAL_SCHEMA: &str = "identity_migration_journal";

/// The fence trigger's name, on every fenced table.
pub const FENCE_TRIGGER: &str = "identity_migration_fence";

/// One migration run: eight lower-case hex digits, part of every slot's name
/// (PostgreSQL allows only lower-case letters, digits and underscores there).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(format!("{:08x}", rand::random::<u32>()))
    }

    /// Reads an id back; `None` when it is not eight hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// The run that an object of ours belongs to, by its name; `None` for one that belongs to every run.
    pub fn of(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?.strip_prefix('_')?;
        Self::parse(rest.strip_suffix("_reverse").unwrap_or(rest))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Publication (source), slot (source) and subscription (target) of the forward direction.
    pub fn forward(&self) -> String {
        format!("{PREFIX}_{}", self.0)
    }

    /// Publication (target), slot (target) and subscription (source) of the way back.
    pub fn reverse(&self) -> String {
        format!("{PREFIX}_{}_reverse", self.0)
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Quotes an identifier for SQL text. Always quotes, so hostile names are data.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a literal for SQL text where parameters are impossible (DDL, replication protocol).
/// Uses the escape-string form when a backslash occurs, so it is right whatever
/// `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A table's schema and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
}

impl TableName {
    /// From its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// Qualified and quoted, for SQL text.
    pub fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_quoted() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), " E'a\\\\b'");
    }

    #[test]
    fn run_ids_round_trip_and_fit_a_slot_name() {
        let run = RunId::random();
        assert_eq!(RunId::parse(run.as_str()), Some(run.clone()));
        assert!(run.reverse().len() <= 63);
        assert_eq!(RunId::parse("XYZ"), None);
        assert_eq!(RunId::of(&run.forward()), Some(run.clone()));
        assert_eq!(RunId::of(&run.reverse()), Some(run));
        assert_eq!(RunId::of(FENCE_TRIGGER), None);
    }
}
