//! What one check says, before its severity is weighed.

use super::finding::Verdict;
use super::typed::Typed;

/// What a check says: what was found, and the cure when it is not as it should be.
pub(super) struct Judgement {
    /// At worst this, whatever the check's severity is; `None` leaves it to the severity.
    pub verdict: Option<Verdict>,
    /// What was found, passing or not.
    pub found: String,
    /// What to do; empty when it passes.
    pub cure: String,
    /// The same to be typed, in this order; none where a person has to choose.
    pub typed: Vec<Typed>,
}

impl Judgement {
    /// Nothing may begin, though the check mostly only warns.
    pub fn blocking(mut self) -> Self {
        self.verdict = Some(Verdict::Fail);
        self
    }

    /// A cure that can be typed as it is.
    pub fn typed(mut self, typed: impl IntoIterator<Item = Typed>) -> Self {
        self.typed.extend(typed);
        self
    }
}

/// As it should be.
pub(super) fn good(found: impl Into<String>) -> Judgement {
    Judgement { verdict: Some(Verdict::Pass), found: found.into(), cure: String::new(), typed: Vec::new() }
}

/// May go on, but a person should know, though the check can be worse.
pub(super) fn hint(found: impl Into<String>, cure: impl Into<String>) -> Judgement {
    Judgement { verdict: Some(Verdict::Warn), found: found.into(), cure: cure.into(), typed: Vec::new() }
}

/// Not as it should be.
pub(super) fn bad(found: impl Into<String>, cure: impl Into<String>) -> Judgement {
    Judgement { verdict: None, found: found.into(), cure: cure.into(), typed: Vec::new() }
}
