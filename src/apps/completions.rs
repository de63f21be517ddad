//! Completions: values that an older release's rules and reads need, and rows that a later release wrote lack.
//!
//! They are set on the source once its rows are its own again after a road back, as its rules are put back: earlier, every
//! row would differ from the target's, with which it is compared.

use crate::postgres::names::{TableName, ident};

/// What is set in some rows of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// The table, in the app's schema.
    pub table: &'static str,
    /// A column that the older release always fills: rows without it are the later release's.
    pub lacking: &'static str,
    /// Columns and what they are given where they hold NULL, as SQL.
    pub values: &'static [(&'static str, &'static str)],
}

impl Completion {
    /// The statement, for a table that has these columns; `None` where it cannot lack anything.
    pub fn sql(&self, table: &TableName, has: impl Fn(&str) -> bool) -> Option<String> {
        if !has(self.lacking) {
            return None;
        }
        let set = self.values.iter().filter(|(column, _)| has(column)).map(|(column, value)| {
            let column = ident(column);
            format!("{column} = coalesce({column}, {value})")
        });
        let set = set.collect::<Vec<_>>().join(", ");
        Some(format!("UPDATE {} SET {set} WHERE {} IS NULL", table.sql(), ident(self.lacking)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_that_are_there_are_set() {
        let completion = Completion { table: "t", lacking: "a", values: &[("a", "1"), ("b", "''"), ("c", "2")] };
        let table = TableName::new("s", "t");
        assert_eq!(
            completion.sql(&table, |column| column != "b").unwrap(),
            r#"UPDATE "s"."t" SET "a" = coalesce("a", 1), "c" = coalesce("c", 2) WHERE "a" IS NULL"#
        );
        assert_eq!(completion.sql(&table, |column| column != "a"), None);
    }
}
