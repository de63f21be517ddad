//! Cures as commands of the operator's shell. Only those that lose nothing are given so: whether rows, tables or
//! somebody's transaction may go is for a person to decide, who finds the statement in the finding's sentence.

use super::Look;

/// The applications at the other ends of our relations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The PostgreSQL of `source-database`.
    pub source_database: End,
    /// The PostgreSQL of `target-database`.
    pub target_database: End,
    /// The application of `source-kratos`.
    pub source_kratos: End,
    /// The application of `target-kratos`.
    pub target_kratos: End,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The name by which commands in this model know it; empty where there is none.
    pub name: String,
    /// Whether it lives in this model, so that its units can be reached by that name.
    pub here: bool,
}

/// A cure that can be typed.
pub(super) enum Typed {
    /// A command as it stands.
    Command(String),
    /// A statement, and the side on which it runs.
    Statement(&'static str, String),
}

impl Typed {
    /// The command, where there is one.
    pub fn command(&self, look: &Look) -> Option<String> {
        match self {
            Self::Command(command) => Some(command.clone()),
            Self::Statement(side, sql) => psql(look, side, sql),
        }
    }
}

/// Statements that lose nothing, work alone in their transaction, and need no restart.
fn is_harmless(sql: &str) -> bool {
    let first = ["ALTER TABLE ", "ALTER ROLE ", "ALTER DATABASE ", "ALTER EVENT TRIGGER ", "REINDEX INDEX "];
    first.iter().any(|word| sql.starts_with(word)) && !sql.contains(" DROP ")
}

/// `juju ssh` to the PostgreSQL of a side, and psql there on its primary.
fn psql(look: &Look, side: &str, sql: &str) -> Option<String> {
    let (end, server, database) = match side {
        "source" => (&look.ends.source_database, &look.source, &look.source_database),
        _ => (&look.ends.target_database, &look.target, &look.target_database),
    };
    if !end.here || end.name.is_empty() || !is_harmless(sql) {
        return None;
    }
    let psql = format!(
        "psql --host={} --port={} --username=operator --dbname={} --command={}",
        server.host,
        server.port,
        quoted(database),
        quoted(sql)
    );
    Some(format!("juju ssh --container postgresql {}/leader {}", end.name, quoted(&psql)))
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./:".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Source and target change places; nothing where a name is lacking.
pub(super) fn swap(look: &Look) -> Vec<Typed> {
    let Ends { source_database, target_database, source_kratos, target_kratos } = &look.ends;
    let pairs = [
        ("source-database", source_database, &target_database.name, ""),
        ("target-database", target_database, &source_database.name, ""),
        ("source-kratos", source_kratos, &target_kratos.name, ":kratos-info"),
        ("target-kratos", target_kratos, &source_kratos.name, ":kratos-info"),
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
        let lose = ["DROP TABLE t", "TRUNCATE t", "ROLLBACK PREPARED 'x'", "ALTER TABLE t DROP CONSTRAINT c"];
        assert!(lose.iter().all(|sql| !is_harmless(sql)));
    }
}
