//! Messages that an app keeps in a table until it has sent them.

use crate::postgres::names::ident;

/// Added to the state of a message that waits while its database is open for the app's own migration alone: a server
/// that comes up too early knows no such state, and sends nothing.
const HELD: i32 = 1000;

/// The table, and the states that matter. In SQL the table is named in full, as the statements below are given it.
#[derive(Debug)]
pub struct Messages {
    /// The table.
    pub table: &'static str,
    /// The column that holds a message's state.
    pub state: &'static str,
    /// The states of those that wait to be sent, or may.
    pub waiting: &'static [i32],
    /// The state of one that is never sent.
    pub abandoned: i32,
    /// What a sender took to itself and did not begin to send, as a condition: nobody else ever takes those. And the state
    /// of one that nobody took.
    pub taken: (&'static str, i32),
    /// A column that later releases need a value in to send a message, and earlier ones do not have; and that value.
    pub needed: (&'static str, &'static str),
}

impl Messages {
    /// A query for the number of those that wait in that table.
    pub fn count_sql(&self, table: &str) -> String {
        format!("SELECT count(*) FROM {table} WHERE {}", self.waits())
    }

    /// Has none of them sent, ever.
    pub fn abandon_sql(&self, table: &str) -> String {
        self.set(table, &self.abandoned.to_string(), &self.waits())
    }

    /// Has none of them sent until [`Messages::release_sql`].
    pub fn hold_sql(&self, table: &str) -> String {
        self.set(table, &format!("{} + {HELD}", ident(self.state)), &self.waits())
    }

    /// Gives those that are held their state back; may be run again.
    pub fn release_sql(&self, table: &str) -> String {
        let state = ident(self.state);
        self.set(table, &format!("{state} - {HELD}"), &format!("{state} > {HELD}"))
    }

    /// Has a later release send those that an earlier one queued.
    pub fn complete_sql(&self, table: &str) -> String {
        let (column, value) = (ident(self.needed.0), self.needed.1);
        format!("UPDATE {table} SET {column} = {value} WHERE {column} IS NULL AND {}", self.waits())
    }

    /// Gives back what a sender had taken that is gone now.
    pub fn give_back_sql(&self, table: &str) -> String {
        self.set(table, &self.taken.1.to_string(), self.taken.0)
    }

    fn waits(&self) -> String {
        let waiting: Vec<String> = self.waiting.iter().map(i32::to_string).collect();
        format!("{} IN ({})", ident(self.state), waiting.join(", "))
    }

    fn set(&self, table: &str, value: &str, condition: &str) -> String {
        format!("UPDATE {table} SET {} = {value} WHERE {condition}", ident(self.state))
    }
}
