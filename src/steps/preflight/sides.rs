//! What checks say about one side or both, and the statements that cure it.

use super::Facts;
use super::judgement::{Judgement, bad, good};
use super::typed::{End, Typed};
use crate::postgres::survey::Survey;

/// How many findings are listed before the rest is counted.
const LISTED: usize = 6;
/// How many statements a cure lists.
const STATEMENTS: usize = 40;

/// What cures a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing that could be written down here.
    None,
    /// Statements, run on the fault's side.
    Sql(String),
    /// A command of the operator's shell, with the statements that do it on a server without the PostgreSQL charm;
    /// these may be empty.
    Command(String, String),
}

impl From<String> for Remedy {
    fn from(sql: String) -> Self {
        if sql.is_empty() { Self::None } else { Self::Sql(sql) }
    }
}

/// One thing that is not as it should be.
pub(super) struct Fault {
    /// `source` or `target`.
    pub side: &'static str,
    /// What was found; the side is added.
    pub found: String,
    /// What cures it.
    pub remedy: Remedy,
}

/// One side's survey, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// `source` or `target`.
    pub side: &'static str,
    survey: &'a Survey,
    end: &'a End,
}

impl<'a> At<'a> {
    /// The same side with another survey.
    pub fn with<'b>(&self, survey: &'b Survey) -> At<'b>
    where
        'a: 'b,
    {
        At { side: self.side, survey, end: self.end }
    }

    /// The PostgreSQL application.
    pub fn postgresql(&self) -> String {
        if self.end.name.is_empty() { format!("<{} PostgreSQL>", self.side) } else { self.end.name.clone() }
    }

    /// The same as a command takes it: what another model offers has another name there.
    pub fn addressed(&self) -> String {
        match &self.end.elsewhere {
            Some(model) => format!("-m {model} <{} PostgreSQL>", self.side),
            None => self.postgresql(),
        }
    }
}

impl std::ops::Deref for At<'_> {
    type Target = Survey;
    fn deref(&self) -> &Survey {
        self.survey
    }
}

/// Both sides in their order.
pub(super) fn each(facts: &Facts) -> [At<'_>; 2] {
    let ends = &facts.look.ends;
    [
        At { side: "source", survey: &facts.source.survey, end: &ends.source_database },
        At { side: "target", survey: &facts.target.survey, end: &ends.target_database },
    ]
}

/// The two sides by name.
pub(super) fn both(facts: &Facts) -> [(&'static str, &Survey); 2] {
    [("source", &facts.source.survey), ("target", &facts.target.survey)]
}

/// What was found on each side, as faults.
pub(super) fn faults<R: Into<Remedy>>(facts: &Facts, find: impl Fn(&At<'_>) -> Vec<(String, R)>) -> Vec<Fault> {
    each(facts).iter().flat_map(|at| faults_at(at, find(at))).collect()
}

/// What was found on one side, as faults.
pub(super) fn faults_at<R: Into<Remedy>>(at: &At<'_>, found: Vec<(String, R)>) -> Vec<Fault> {
    found.into_iter().map(|(found, remedy)| Fault { side: at.side, found, remedy: remedy.into() }).collect()
}

/// Passes when there is no fault; else names them, and the statements with the reason behind them.
pub(super) fn judged(faults: &[Fault], fine: impl Into<String>, reason: &str) -> Judgement {
    if faults.is_empty() {
        return good(fine);
    }
    let found: Vec<String> = faults.iter().map(|fault| format!("{} on the {}", fault.found, fault.side)).collect();
    let told = statements(faults);
    let cure = if told.is_empty() { reason.to_owned() } else { format!("{told}; {reason}") };
    bad(listed(&found), cure).typed(typed(faults))
}

/// What can be typed of the remedies.
pub(super) fn typed(faults: &[Fault]) -> Vec<Typed> {
    let one = |fault: &Fault| match &fault.remedy {
        Remedy::None => None,
        Remedy::Sql(sql) => Some(Typed::Statement(fault.side, sql.clone())),
        Remedy::Command(command, _) => command.starts_with("juju ").then(|| Typed::At(fault.side, command.clone())),
    };
    let mut typed: Vec<Typed> = Vec::new();
    for one in faults.iter().filter_map(one) {
        if !typed.contains(&one) {
            typed.push(one);
        }
    }
    typed
}

/// The remedies of settings on one side in words.
pub(super) fn remedies<const N: usize>(at: &At<'_>, remedies: [Remedy; N]) -> (String, Vec<Typed>) {
    let faults = remedies.map(|remedy| Fault { side: at.side, found: String::new(), remedy });
    (statements(&faults), typed(&faults))
}

/// `run on the source: A; B; on the target: C; run juju …`; empty without remedies.
pub(super) fn statements(faults: &[Fault]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for side in ["source", "target"] {
        let mut sql: Vec<&str> = Vec::new();
        for fault in faults.iter().filter(|fault| fault.side == side) {
            match &fault.remedy {
                Remedy::Sql(statement) if !sql.contains(&statement.as_str()) => sql.push(statement),
                _ => {}
            }
        }
        let more = sql.len().saturating_sub(STATEMENTS);
        sql.truncate(STATEMENTS);
        let rest = if more > 0 { format!("; and {more} more like these") } else { String::new() };
        if !sql.is_empty() {
            let run = if parts.is_empty() { "run " } else { "" };
            parts.push(format!("{run}on the {side}: {}{rest}", sql.join("; ")));
        }
    }
    for fault in faults {
        if let Remedy::Command(command, otherwise) = &fault.remedy {
            let otherwise = match otherwise.as_str() {
                "" => String::new(),
                sql => format!(" (without the PostgreSQL charm on the {}: {sql})", fault.side),
            };
            let part = format!("run {command}{otherwise}");
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    parts.join("; ")
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
