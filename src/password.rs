//! A password that shows itself to nobody: a database role's, or that of a Juju user.

use serde::{Deserialize, Serialize};

/// A secret text. `Debug` redacts it, and there is no `Display`. It is serialized in the open, for the pipe from a hook
/// to its worker and nothing else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes a password in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret text, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::Password;

    #[test]
    fn it_redacts_itself() {
        assert_eq!(format!("{:?}", Some(Password::new("s3cret"))), "Some(<redacted>)");
    }
}
