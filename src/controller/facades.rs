//! Which version of each facade is spoken: the highest that the controller and we know.

use super::error::{Error, Result};
use super::wire::null_as_default;
use serde::Deserialize;

/// What we know to speak. `Application` 19 to 22 and the others have the same shapes for our calls on 3.6 and 4.0,
/// but where a call's doc comment says otherwise.
const KNOWN: [(&str, &[u32]); 7] = [
    ("Action", &[7]),
    ("Application", &[19, 20, 21, 22]),
    ("Block", &[2]),
    ("Charms", &[7]),
    ("Client", &[8]),
    ("Pinger", &[1]),
    ("Resources", &[3]),
];

/// The two generations of controllers whose behaviour differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Juju 3.
    Three,
    /// Juju 4 and later.
    Four,
}

impl Generation {
    /// By the login's `server-version`; the facades' numbers do not tell.
    pub fn of(server_version: &str) -> Self {
        match server_version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major < 4 => Self::Three,
            _ => Self::Four,
        }
    }
}

/// A facade as the login lists it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Offered {
    name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    versions: Vec<u32>,
}

/// What the controller offers on this connection.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Facades(Vec<Offered>);

impl Facades {
    /// The version of `facade` to use.
    ///
    /// # Errors
    /// [`Error::NoFacade`] when there is none that both sides know.
    pub fn version(&self, facade: &str, doing: &str) -> Result<u32> {
        let offered = self.0.iter().find(|offered| offered.name == facade);
        let offered = offered.map(|offered| offered.versions.clone()).unwrap_or_default();
        let known = KNOWN.iter().find(|(name, _)| *name == facade).map_or(&[][..], |(_, versions)| versions);
        known.iter().copied().filter(|version| offered.contains(version)).max().ok_or_else(|| Error::NoFacade {
            doing: doing.to_owned(),
            facade: facade.to_owned(),
            offered,
            known: known.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facades(text: &str) -> Facades {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_highest_that_both_know() {
        let offered =
            facades(r#"[{"name":"Application","versions":[15,19,20,23]},{"name":"Client","versions":[6,7]}]"#);
        assert_eq!(offered.version("Application", "refresh kratos").unwrap(), 20);
        let error = offered.version("Client", "read the model's status").unwrap_err().to_string();
        assert!(error.contains("offers Client in the versions [6, 7] and not in [8]"), "{error}");
        assert!(offered.version("Charms", "find a charm").is_err());
        assert!(facades(r#"[{"name":"Charms","versions":null}]"#).version("Charms", "find a charm").is_err());
    }

    #[test]
    fn generations() {
        let table = [("3.6.12", Generation::Three), ("4.0.14.1", Generation::Four), ("4.1-beta2", Generation::Four)];
        for (version, generation) in table {
            assert_eq!(Generation::of(version), generation, "{version}");
        }
    }
}
