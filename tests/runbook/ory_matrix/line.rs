//! What playing a pair showed: a line of the summary, kept in a file of its own until the pair is played again.

use coordinator::apps::Pair;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How playing a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    Failed,
    NotRun,
}

/// One order, there and back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Played {
    pub seconds: u64,
    /// Milliseconds from the fence to a target that takes writes.
    pub outage_ms: u64,
    /// The same on the way back, to a source that does.
    pub back_outage_ms: u64,
    /// What was proved through the servers' APIs.
    pub checks: Vec<String>,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    pub app: String,
    pub from: String,
    pub to: String,
    pub outcome: Outcome,
    /// Servers that were not there, by the names under which they are looked for.
    pub missing: Vec<String>,
    pub seconds: u64,
    /// By the order's name.
    pub orders: BTreeMap<String, Played>,
    /// Rows that both orders ended with, all equal.
    pub rows_compared: u64,
    /// What failed, in words.
    pub findings: Vec<String>,
}

/// Where the figures are left.
pub fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")).join("ory-matrix")
}

/// The first line of what an assertion said, and not too much of it.
pub fn short(said: &str) -> String {
    said.lines().next().unwrap_or_default().chars().take(400).collect()
}

impl Line {
    /// A pair that nobody played.
    pub fn of(pair: &Pair) -> Self {
        Self {
            app: pair.app.to_owned(),
            from: pair.from.to_owned(),
            to: pair.to.to_owned(),
            outcome: Outcome::NotRun,
            missing: Vec::new(),
            seconds: 0,
            orders: BTreeMap::new(),
            rows_compared: 0,
            findings: Vec::new(),
        }
    }

    /// As `PAIR` chooses it.
    pub fn name(&self) -> String {
        format!("{}-{}-{}", self.app, self.from, self.to)
    }

    /// The line in a sentence.
    pub fn told(&self) -> String {
        let name = format!("{} {} → {}", self.app, self.from, self.to);
        match self.outcome {
            Outcome::Passed => {
                let outages: Vec<String> =
                    self.orders.iter().map(|(order, played)| format!("{order} {} ms", played.outage_ms)).collect();
                format!("{name}: passed in {} s, write outage {}", self.seconds, outages.join(", "))
            }
            Outcome::Failed => format!("{name}: failed: {}", self.findings.join("; ")),
            Outcome::NotRun if self.missing.is_empty() => format!("{name}: not run"),
            Outcome::NotRun => format!("{name}: not run, for want of {}", self.missing.join(" and ")),
        }
    }

    fn place(&self) -> PathBuf {
        folder().join("pairs").join(format!("{}.json", self.name()))
    }

    /// Keeps the line. A pair that cannot be played now leaves what it showed before.
    pub fn keep(&self) -> anyhow::Result<()> {
        if self.outcome == Outcome::NotRun && self.place().exists() {
            return Ok(());
        }
        std::fs::create_dir_all(folder().join("pairs"))?;
        Ok(std::fs::write(self.place(), serde_json::to_vec_pretty(self)?)?)
    }

    /// What the pair showed when it was played last.
    pub fn kept(pair: &Pair) -> anyhow::Result<Self> {
        let unplayed = Self::of(pair);
        match std::fs::read(unplayed.place()) {
            Ok(line) => Ok(serde_json::from_slice(&line)?),
            Err(_) => Ok(unplayed),
        }
    }
}
