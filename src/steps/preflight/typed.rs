//! Cures as commands of the operator's shell. Only those that lose nothing are given so: whether rows, tables or
//! somebody's transaction may go is for a person to decide, who finds the statement in the finding's sentence.

use super::{Facts, Look};

/// The applications at the other ends of our relations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The PostgreSQL of `source-database`.
    pub source_database: End,
    /// The PostgreSQL of `target-database`.
    pub target_database: End,
    /// The identity application that is left.
    pub source_identity: End,
    /// The identity application that is moved to.
    pub target_identity: End,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The name by which commands in this model know it; empty where there is none.
    pub name: String,
    /// Whether it lives in this model, so that its units can be reached by that name.
    pub here: bool,
    /// The UUID of its model, when that is known to be another.
    pub elsewhere: Option<String>,
}

/// A cure that can be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A command as it stands.
    Command(String),
    /// A command about the PostgreSQL of a side, where that one is in this model.
    At(&'static str, String),
    /// A command of the machine or container that the PostgreSQL of a side runs in.
    Unit(&'static str, String),
    /// A statement, and the side on which it runs.
    Statement(&'static str, String),
}

impl Typed {
    /// The command, where there is one.
    pub fn command(&self, facts: &Facts) -> Option<String> {
        match self {
            Self::Command(command) => Some(command.clone()),
            Self::At(side, command) => end(&facts.look, side).map(|_| command.clone()),
            Self::Unit(side, command) => unit(facts, side, command),
            Self::Statement(side, sql) => psql(facts, side, sql),
        }
    }
}

/// Statements that lose nothing, work alone in their transaction, and need no restart.
fn is_harmless(sql: &str) -> bool {
    let first =
        ["ALTER TABLE ", "ALTER ROLE ", "ALTER DATABASE ", "ALTER EVENT TRIGGER ", "REINDEX INDEX CONCURRENTLY "];
    // Writing a table anew keeps everybody out of it for as long as that takes.
    let heavy = [" DROP ", " SET LOGGED"];
    first.iter().any(|word| sql.starts_with(word)) && !heavy.iter().any(|word| sql.contains(word))
}

/// The PostgreSQL of a side, when its units can be reached by name.
fn end<'a>(look: &'a Look, side: &str) -> Option<&'a End> {
    let end = if side == "source" { &look.ends.source_database } else { &look.ends.target_database };
    (end.here && !end.name.is_empty()).then_some(end)
}

/// The machine charm runs PostgreSQL from a snap, the Kubernetes charm in a container.
fn on_machine(facts: &Facts, side: &str) -> bool {
    let survey = if side == "source" { &facts.source.survey } else { &facts.target.survey };
    survey.setting("data_directory").starts_with("/var/snap/")
}

/// `juju ssh` to where the PostgreSQL of a side runs.
fn unit(facts: &Facts, side: &str, command: &str) -> Option<String> {
    let end = end(&facts.look, side)?;
    let container = if on_machine(facts, side) { "" } else { "--container postgresql " };
    Some(format!("juju ssh {container}{}/leader {command}", end.name))
}

/// `juju ssh` to the PostgreSQL of a side, and psql there on its primary.
fn psql(facts: &Facts, side: &str, sql: &str) -> Option<String> {
    let look = &facts.look;
    let (server, database) = match side {
        "source" => (&look.source, &look.source_database),
        _ => (&look.target, &look.target_database),
    };
    if !is_harmless(sql) {
        return None;
    }
    let program = if on_machine(facts, side) { "charmed-postgresql.psql" } else { "psql" };
    let psql = format!(
        "{program} --host={} --port={} --username=operator --dbname={} --command={}",
        server.host,
        server.port,
        quoted(database),
        quoted(sql)
    );
    unit(facts, side, &quoted(&psql))
}

/// One word of a shell's command line.
pub(super) fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./:".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Source and target change places; nothing where a name is lacking.
pub(super) fn swap(look: &Look) -> Vec<Typed> {
    let Ends { source_database, target_database, source_identity, target_identity } = &look.ends;
    let [source, target] = ["source", "target"].map(|side| format!("{side}-{}", look.app.name));
    let at = format!(":{}", look.app.consumers_endpoint);
    let pairs = [
        ("source-database", source_database, &target_database.name, ""),
        ("target-database", target_database, &source_database.name, ""),
        (source.as_str(), source_identity, &target_identity.name, at.as_str()),
        (target.as_str(), target_identity, &source_identity.name, at.as_str()),
    ];
    if pairs.iter().any(|(_, end, _, _)| end.name.is_empty()) {
        return Vec::new();
    }
    let ours = &look.coordinator;
    let remove = pairs.iter().map(|(endpoint, end, ..)| format!("juju remove-relation {ours}:{endpoint} {}", end.name));
    let integrate =
        pairs.iter().map(|(endpoint, _, other, at)| format!("juju integrate {ours}:{endpoint} {other}{at}"));
    remove.chain(integrate).map(Typed::Command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("iam_kratos-new"), "iam_kratos-new");
        assert_eq!(quoted("it's \"x\""), r#"'it'\''s "x"'"#);
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn nothing_is_typed_that_loses_something() {
        assert!(is_harmless("ALTER TABLE \"public\".\"sessions\" REPLICA IDENTITY DEFAULT"));
        assert!(is_harmless("REINDEX INDEX CONCURRENTLY public.half_built"));
        assert!(!is_harmless("ALTER TABLE t SET LOGGED"));
        let lose = ["DROP TABLE t", "TRUNCATE t", "ROLLBACK PREPARED 'x'", "ALTER TABLE t DROP CONSTRAINT c"];
        assert!(lose.iter().all(|sql| !is_harmless(sql)));
    }
}
