//! What one check says, before its severity is weighed.

use super::finding::Verdict;

/// What a check says: what was found, and the cure when it is not as it should be.
pub(super) struct Judgement {
    /// At worst this, whatever the check's severity is; `None` leaves it to the severity.
    pub verdict: Option<Verdict>,
    /// What was found, passing or not.
    pub found: String,
    /// What to do; empty when it passes.
    pub cure: String,
}

/// As it should be.
pub(super) fn good(found: impl Into<String>) -> Judgement {
    Judgement { verdict: Some(Verdict::Pass), found: found.into(), cure: String::new() }
}

/// May go on, but a person should know, though the check can be worse.
pub(super) fn hint(found: impl Into<String>, cure: impl Into<String>) -> Judgement {
    Judgement { verdict: Some(Verdict::Warn), found: found.into(), cure: cure.into() }
}

/// Not as it should be.
pub(super) fn bad(found: impl Into<String>, cure: impl Into<String>) -> Judgement {
    Judgement { verdict: None, found: found.into(), cure: cure.into() }
}
