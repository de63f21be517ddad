//! What checks say about one side or both, and the statements that cure it.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::typed::Typed;
use crate::postgres::survey::Survey;

/// How many findings are listed before the rest is counted.
const LISTED: usize = 6;
/// How many statements a cure lists.
const STATEMENTS: usize = 40;

/// One thing that is not as it should be.
pub(super) struct Fault {
    /// `source` or `target`.
    pub side: &'static str,
    /// What was found; the side is added.
    pub found: String,
    /// The statement that cures it; empty where there is none.
    pub sql: String,
}

/// The two sides by name.
pub(super) fn both(facts: &Facts) -> [(&'static str, &Survey); 2] {
    [("source", &facts.source.survey), ("target", &facts.target.survey)]
}

/// What was found on each side, as faults.
pub(super) fn faults(facts: &Facts, find: impl Fn(&Survey) -> Vec<(String, String)>) -> Vec<Fault> {
    let on = |(side, survey)| find(survey).into_iter().map(move |(found, sql)| Fault { side, found, sql });
    both(facts).into_iter().flat_map(on).collect()
}

/// Passes when there is no fault; else names them, and the statements with the reason behind them.
pub(super) fn judged(faults: &[Fault], fine: impl Into<String>, reason: &str) -> Judgement {
    if faults.is_empty() {
        return good(fine);
    }
    let found: Vec<String> = faults.iter().map(|fault| format!("{} on the {}", fault.found, fault.side)).collect();
    let sql = statements(faults);
    let cure = if sql.is_empty() { reason.to_owned() } else { format!("{sql}; {reason}") };
    let typed = faults.iter().filter(|fault| !fault.sql.is_empty());
    bad(listed(&found), cure).typed(typed.map(|fault| Typed::Statement(fault.side, fault.sql.clone())))
}

/// `run on the source: A; B; on the target: C`; empty without statements.
pub(super) fn statements(faults: &[Fault]) -> String {
    let parts: Vec<String> = ["source", "target"]
        .into_iter()
        .filter_map(|side| {
            let mut sql: Vec<&str> = Vec::new();
            for fault in faults.iter().filter(|fault| fault.side == side && !fault.sql.is_empty()) {
                if !sql.contains(&fault.sql.as_str()) {
                    sql.push(&fault.sql);
                }
            }
            let more = sql.len().saturating_sub(STATEMENTS);
            sql.truncate(STATEMENTS);
            let rest = if more > 0 { format!("; and {more} more like these") } else { String::new() };
            (!sql.is_empty()).then(|| format!("on the {side}: {}{rest}", sql.join("; ")))
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("run {}", parts.join("; ")) }
}

/// The first findings in full, the rest as a number.
pub(super) fn listed(found: &[String]) -> String {
    let shown = found.iter().take(LISTED).cloned().collect::<Vec<_>>().join("; ");
    match found.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// A size for people.
pub(super) fn size(bytes: i64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}
