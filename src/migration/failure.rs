//! Why a step could not go on, and what that means for the worker.

use serde::{Deserialize, Serialize};

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Heals by itself: observe again and go on.
    Retry,
    /// A person must act; the sentence says how.
    Operator,
}

/// One sentence, `cannot <do what>: <found, where>; <what to do>`, and its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// The sentence for the operator. Never holds a password.
    pub sentence: String,
    /// What it asks for.
    pub class: Class,
    /// The action that cures it, with its parameters, where it is another than the one that usually comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

impl Failure {
    /// A whole sentence.
    pub fn new(sentence: impl Into<String>, class: Class) -> Self {
        Self { sentence: sentence.into(), class, action: None }
    }

    /// A finding that a person must cure.
    pub fn operator(
        doing: impl std::fmt::Display,
        found: impl std::fmt::Display,
        cure: impl std::fmt::Display,
    ) -> Self {
        Self::new(format!("cannot {doing}: {found}; {cure}"), Class::Operator)
    }

    /// Something that heals by itself.
    pub fn retry(doing: impl std::fmt::Display, found: impl std::fmt::Display) -> Self {
        Self::new(format!("cannot {doing}: {found}; trying again"), Class::Retry)
    }

    /// Names the action that cures it.
    pub fn cured_by(self, action: impl Into<String>) -> Self {
        Self { action: Some(action.into()), ..self }
    }
}
