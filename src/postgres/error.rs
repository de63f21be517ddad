//! The one error of this layer. Its text is a sentence for the operator:
//! `cannot <do what>: <what was found, where>; <what to do>`.

use tokio_postgres::error::SqlState;

/// What a call to this layer answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a database could not do what it was asked for. Never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server (or the connection to it) refused or failed.
    #[error("cannot {doing}: {}", describe(.source))]
    Server {
        /// What was being done, as in "cannot <doing>".
        doing: String,
        /// The driver's error.
        source: tokio_postgres::Error,
    },
    /// Something was found that forbids the work; a person can cure it.
    #[error("cannot {doing}: {found}; {cure}")]
    Found {
        /// What was being done.
        doing: String,
        /// What was found, and where.
        found: String,
        /// What to do about it.
        cure: String,
    },
    /// Something was found that the same work, begun anew, does not meet again.
    #[error("cannot {doing}: {found}")]
    Passing {
        /// What was being done.
        doing: String,
        /// What was found, and where.
        found: String,
    },
    /// Time ran out before the condition came true.
    #[error("cannot {doing}: not within {} ms, last seen: {last_seen}", .limit.as_millis())]
    Timeout {
        /// What was being done.
        doing: String,
        /// How long it was given.
        limit: std::time::Duration,
        /// The last state seen.
        last_seen: String,
    },
}

/// What to do about a server that does not answer.
pub const UNREACHABLE_CURE: &str = "see that this PostgreSQL runs and can be reached";

/// The last state seen of a server that accepts connections and says nothing.
pub(super) const NO_ANSWER: &str = "no answer";

impl Error {
    /// Wraps a driver error: `.map_err(Error::doing("read the fence"))`.
    pub fn doing(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { doing: doing.into(), source }
    }

    /// A finding that a person must cure.
    pub fn found(doing: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Found { doing: doing.into(), found: found.into(), cure: cure.into() }
    }

    /// A finding that goes away when the work is begun anew.
    pub fn passing(doing: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Passing { doing: doing.into(), found: found.into() }
    }

    /// The SQLSTATE that the server answered with, if it answered at all.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Server { source, .. } => source.code(),
            _ => None,
        }
    }

    /// True when the server could not be reached or did not answer; [`UNREACHABLE_CURE`] is the cure.
    pub fn is_unreachable(&self) -> bool {
        self.is_connection() || matches!(self, Self::Timeout { last_seen, .. } if last_seen == NO_ANSWER)
    }

    /// True when the connection, not the statement, failed: the outcome is unknown, observe again.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Server { source, .. } => source.is_closed() || source.as_db_error().is_none(),
            _ => false,
        }
    }
}

/// The server's own words without detail lines (those may quote row values).
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                let inner_text = inner.to_string();
                if !text.contains(&inner_text) {
                    text = format!("{text}: {inner_text}");
                }
                source = inner.source();
            }
            text
        }
    }
}
