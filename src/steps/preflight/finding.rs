//! What a check answers, and the text a person reads.

use serde::{Deserialize, Serialize};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// May go on; a person should know.
    Warn,
    /// Must be cured first.
    Fail,
}

/// One check's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name.
    pub check: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, passing or not.
    pub found: String,
    /// What to do; empty when it passes.
    pub cure: String,
    /// The same as commands, to be typed one by one in this order; none where a person has to choose.
    #[serde(default)]
    pub commands: Vec<String>,
    /// A server that could not be reached: it may be there again the next moment.
    #[serde(default)]
    pub heals: bool,
}

impl Finding {
    /// A failure outside the table of checks, such as a server that does not answer.
    pub fn fail(check: &str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Fail,
            found: found.into(),
            cure: cure.into(),
            commands: Vec::new(),
            heals: false,
        }
    }
}

/// How many checks failed.
pub fn failed(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count()
}

/// How many warn.
pub fn warned(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.verdict == Verdict::Warn).count()
}

/// One sentence about all of them.
pub fn summary(findings: &[Finding]) -> String {
    let (failed, warned) = (failed(findings), warned(findings));
    let passed = findings.len() - failed - warned;
    let lead = match (failed, warned) {
        (0, 0) => "everything is ready".to_owned(),
        (0, 1) => "ready, with one warning".to_owned(),
        (0, n) => format!("ready, with {n} warnings"),
        (1, _) => "one check failed and must be cured first".to_owned(),
        (n, _) => format!("{n} checks failed and must be cured first"),
    };
    format!("{lead} ({passed} passed, {warned} warned, {failed} failed)")
}

/// The report: what must be cured, what should be known, what is fine; a check a line, its cure below it.
pub fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for (verdict, title) in
        [(Verdict::Fail, "must be cured first"), (Verdict::Warn, "good to know"), (Verdict::Pass, "fine")]
    {
        let group: Vec<&Finding> = findings.iter().filter(|finding| finding.verdict == verdict).collect();
        if group.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!("{title} ({})\n", group.len());
        for finding in group {
            let mark = match finding.verdict {
                Verdict::Pass => "✓",
                Verdict::Warn => "!",
                Verdict::Fail => "✗",
            };
            text += &format!("  {mark} {:<22} {}\n", finding.check, finding.found);
            if !finding.cure.is_empty() {
                text += &format!("    {:<22} → {}\n", "", finding.cure);
            }
        }
    }
    text + "\n" + &summary(findings) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_puts_failures_first_and_counts_all() {
        let pass = Finding { verdict: Verdict::Pass, ..Finding::fail("a", "good", "") };
        let warn = Finding { verdict: Verdict::Warn, ..Finding::fail("b", "hm", "look") };
        let findings = [pass, warn, Finding::fail("c", "bad", "mend it")];
        let text = report(&findings);
        let place = |word: &str| text.find(word).unwrap();
        assert!(place("✗ c") < place("! b") && place("! b") < place("✓ a"), "{text}");
        assert!(text.contains("→ mend it"));
        assert!(text.trim_end().ends_with("one check failed and must be cured first (1 passed, 1 warned, 1 failed)"));
    }
}
