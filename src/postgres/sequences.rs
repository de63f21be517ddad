//! Sequences. The stream does not carry them, and no trigger stops `nextval`: they are read on the source after
//! the fence and set on the target with a margin.

use super::connect::Session;
use super::error::{Error, Result};
use super::names::TableName;
use serde::{Deserialize, Serialize};

/// A sequence as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// Schema and name.
    pub name: TableName,
    /// The last value handed out (or the first to be, when `is_called` is false).
    pub last_value: i64,
    /// False when `last_value` itself is still to be handed out.
    pub is_called: bool,
    /// Step; negative for a descending sequence.
    pub increment: i64,
    /// Least value.
    pub minimum: i64,
    /// Greatest value.
    pub maximum: i64,
}

/// What [`set`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencesSet {
    /// Sequences that now stand at or beyond the source's value plus the margin.
    pub set: usize,
    /// Sequences of the source that the target does not have.
    pub missing: Vec<TableName>,
}

/// Every sequence of applications in the database: not an extension's, not ours.
///
/// # Errors
/// [`Error::Server`] when one cannot be read.
pub async fn read(session: &Session) -> Result<Vec<SequenceState>> {
    let doing = format!("read the sequences of database {} on {}", session.database, session.address);
    let rows = session
        .query(
            "SELECT n.nspname::text, c.relname::text, s.seqincrement, s.seqmin, s.seqmax
             FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%'
                 AND n.nspname NOT IN ('information_schema', 'identity_migration', 'identity_migration_journal')
                 AND NOT EXISTS (SELECT FROM pg_depend d
                                 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
             ORDER BY 1, 2",
            &[],
        )
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let mut sequences = Vec::with_capacity(rows.len());
    for row in rows {
        let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let value = session
            .query_one(&format!("SELECT last_value, is_called FROM {}", name.sql()), &[])
            .await
            .map_err(Error::doing(doing.as_str()))?;
        sequences.push(SequenceState {
            name,
            last_value: value.get(0),
            is_called: value.get(1),
            increment: row.get(2),
            minimum: row.get(3),
            maximum: row.get(4),
        });
    }
    Ok(sequences)
}

/// Sets the target's sequences to the source's values plus `margin` steps. A sequence that stands further already is
/// left alone, so it may be done again, also after the target was opened.
///
/// # Errors
/// [`Error::Server`] when one cannot be set.
pub async fn set(target: &Session, source: &[SequenceState], margin: u32) -> Result<SequencesSet> {
    let there = read(target).await?;
    let mut done = SequencesSet::default();
    for wanted in source {
        let Some(now) = there.iter().find(|s| s.name == wanted.name) else {
            done.missing.push(wanted.name.clone());
            continue;
        };
        let value = with_margin(wanted, margin).clamp(now.minimum, now.maximum);
        if behind(now, value) {
            target
                .execute("SELECT setval(to_regclass($1)::oid::regclass, $2, true)", &[&wanted.name.sql(), &value])
                .await
                .map_err(Error::doing(format!("set sequence {} on {}", wanted.name, target.address)))?;
        }
        done.set += 1;
    }
    Ok(done)
}

/// The sequences whose next value on the target could have been handed out by the source already, or that the
/// target does not have.
pub fn behind_source(source: &[SequenceState], target: &[SequenceState]) -> Vec<TableName> {
    let short = |wanted: &&SequenceState| {
        target.iter().find(|s| s.name == wanted.name).is_none_or(|now| behind(now, wanted.last_value))
    };
    source.iter().filter(short).map(|s| s.name.clone()).collect()
}

fn with_margin(state: &SequenceState, margin: u32) -> i64 {
    let moved = state.last_value.saturating_add(state.increment.saturating_mul(i64::from(margin)));
    moved.clamp(state.minimum, state.maximum)
}

/// True when `value` is not yet handed out by `now`, in the sequence's direction.
fn behind(now: &SequenceState, value: i64) -> bool {
    let short = if now.increment < 0 { now.last_value > value } else { now.last_value < value };
    short || (now.last_value == value && !now.is_called)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(last_value: i64, is_called: bool, increment: i64) -> SequenceState {
        let name = TableName::new("public", "numbers");
        SequenceState { name, last_value, is_called, increment, minimum: -1000, maximum: 1000 }
    }

    #[test]
    fn margins_follow_the_direction_and_stay_in_bounds() {
        assert_eq!(with_margin(&state(10, true, 1), 100), 110);
        assert_eq!(with_margin(&state(10, true, -5), 100), -490);
        assert_eq!(with_margin(&state(950, true, 1), 100), 1000);
    }

    #[test]
    fn behind_is_about_values_handed_out() {
        assert!(behind(&state(10, true, 1), 11));
        assert!(!behind(&state(11, true, 1), 11));
        assert!(behind(&state(11, false, 1), 11));
        assert!(behind(&state(-10, true, -1), -11));
        assert!(!behind(&state(-12, true, -1), -11));
        assert_eq!(behind_source(&[state(5, true, 1)], &[]), vec![TableName::new("public", "numbers")]);
    }
}
