//! What rounds came to: a line for each in `target/chaos/rounds.jsonl`, written as it ends, and the sum of all lines in
//! `target/chaos/summary.json`. A run that was broken off goes on where it ended.

use super::checks::Findings;
use super::ground::Ground;
use super::plan::{Kind, Leg, Plan};
use super::round::End;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One round's line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Result {
    pub seed: u64,
    pub round: u64,
    /// Of the sources this was built from.
    pub commit: String,
    /// PostgreSQL on source and target.
    pub versions: (u32, u32),
    pub documented: bool,
    /// The side that has a standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<String>,
    /// `None`: it did not come to an end.
    pub end: Option<String>,
    /// What went wrong, and in which leg.
    pub faults: Vec<(String, String)>,
    pub findings: Findings,
    pub seconds: f64,
}

impl Result {
    pub fn new(
        plan: &Plan,
        ground: &Ground,
        end: Option<End>,
        met: &[(Kind, Leg)],
        findings: Findings,
        took: Duration,
    ) -> Self {
        Self {
            seed: plan.seed,
            round: plan.round,
            commit: commit(),
            versions: ground.versions,
            documented: plan.documented,
            standby: ground.patroni.as_ref().map(|(side, _)| format!("{side:?}").to_lowercase()),
            end: end.map(|end| end.name().to_owned()),
            faults: met.iter().map(|(kind, leg)| (kind.name().to_owned(), leg.name().to_owned())).collect(),
            findings,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
        }
    }
}

/// The sources' commit, marked when they were changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    format!("{commit}{}", if changed { "-changed" } else { "" })
}

/// The folder of all results.
pub struct Results {
    folder: PathBuf,
    lines: Vec<Result>,
}

impl Results {
    /// What earlier parts left in this folder.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let text = fs::read_to_string(folder.join("rounds.jsonl")).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), lines })
    }

    /// Where failed rounds are kept.
    pub fn failures(&self) -> PathBuf {
        self.folder.join("failures")
    }

    /// Rounds of this seed that were played.
    pub fn done(&self, seed: u64) -> BTreeSet<u64> {
        self.lines.iter().filter(|line| line.seed == seed).map(|line| line.round).collect()
    }

    /// Writes down a round.
    pub fn add(&mut self, line: Result) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.folder.join("rounds.jsonl"))?;
        writeln!(file, "{}", serde_json::to_string(&line)?)?;
        self.lines.push(line);
        let beside = self.folder.join("summary.new");
        fs::write(&beside, serde_json::to_string_pretty(&self.summary())? + "\n")?;
        fs::rename(beside, self.folder.join("summary.json"))?;
        Ok(())
    }

    /// The sum of all lines.
    pub fn summary(&self) -> Value {
        let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
        let mut in_legs: BTreeMap<&str, u64> = BTreeMap::new();
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        let mut seeds: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        let mut commits: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &self.lines {
            for (kind, leg) in &line.faults {
                *faults.entry(kind).or_default() += 1;
                *in_legs.entry(leg).or_default() += 1;
            }
            *ends.entry(line.end.as_deref().unwrap_or("none")).or_default() += 1;
            seeds.entry(line.seed.to_string()).or_default().insert(line.round);
            *versions.entry(format!("{} → {}", line.versions.0, line.versions.1)).or_default() += 1;
            *commits.entry(&line.commit).or_default() += 1;
        }
        let sum = |of: fn(&Findings) -> u64| self.lines.iter().map(|line| of(&line.findings)).sum::<u64>();
        let failures: Vec<Value> = self
            .lines
            .iter()
            .filter(|line| !line.findings.good())
            .map(|l| json!({"seed": l.seed, "round": l.round, "commit": l.commit, "found": l.findings.words}))
            .collect();
        json!({
            "rounds": self.lines.len(),
            "faults": faults,
            "faults-in": in_legs,
            "ends": ends,
            "acknowledged": sum(|f| f.acknowledged),
            "refused-tries": sum(|f| f.refused),
            "lost": sum(|f| f.lost),
            "duplicated": sum(|f| f.duplicated),
            "different": sum(|f| f.different),
            "both-open": sum(|f| f.both_open),
            "left-behind": sum(|f| f.left_behind),
            "with-failover": self.lines.iter().filter(|l| l.faults.iter().any(|(kind, _)| kind == "failover")).count(),
            "documented-order": self.lines.iter().filter(|line| line.documented).count(),
            "postgresql": versions,
            "kratos": "1.0.0 → 1.3.1",
            "commits": commits,
            "seconds": self.lines.iter().map(|line| line.seconds).sum::<f64>().round(),
            "seeds": seeds.iter().map(|(seed, rounds)| (seed.clone(), ranges(rounds))).collect::<BTreeMap<_, _>>(),
            "failures": failures,
        })
    }
}

/// `1-40, 42`.
fn ranges(rounds: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &round in rounds {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == round => *last = round,
            _ => ranges.push((round, round)),
        }
    }
    let name = |&(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Everything that helps to understand a round that failed.
pub fn keep_evidence(
    ground: &Ground,
    plan: &Plan,
    diary: &[String],
    line: &Result,
    failures: &Path,
) -> anyhow::Result<()> {
    let folder = failures.join(format!("{}-{}", plan.seed, plan.round));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("found.json"), serde_json::to_string_pretty(line)?)?;
    fs::write(folder.join("diary"), diary.join("\n"))?;
    for unit in ground.model().units("coordinator") {
        for name in ["worker.log.1", "worker.log"] {
            let log = fs::read(ground.model().charm_folder(&unit)?.join(name)).unwrap_or_default();
            fs::write(folder.join(format!("{}.{name}", unit.replace('/', "-"))), log)?;
        }
    }
    fs::write(folder.join("model.log"), ground.model().log_tail(4_000))?;
    fs::write(folder.join("status"), ground.model().status_table())?;
    let journal = "SELECT seq, at, record FROM identity_migration_journal.entry ORDER BY seq DESC LIMIT 400";
    fs::write(folder.join("journal"), ground.journal(journal).unwrap_or_default())?;
    if let Some((_, patroni)) = &ground.patroni {
        for member in 0..2 {
            fs::write(folder.join(format!("patroni-{member}.log")), patroni.log_tail(member, 3_000))?;
        }
    }
    fs::write(folder.join("source.log"), ground.stage.source.log_tail(3_000))?;
    fs::write(folder.join("target.log"), ground.stage.target.log_tail(3_000))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_named_by_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10].into()), "1-3, 7, 9-10");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }
}
