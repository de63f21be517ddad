//! A password that shows itself to nobody.

/// The password of the Juju user that we log in as. `Debug` redacts it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes it from where the user secret was read.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one request that needs it.
    pub(super) fn reveal(&self) -> &str {
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
        assert_eq!(format!("{:?}", Password::new("s3cret")), "<redacted>");
    }
}
