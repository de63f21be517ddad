//! Which release a database's schema belongs to, told from its set of schema migrations.
//!
//! A data file lists the releases oldest first, each with the versions it added; the sets were
//! read from databases that the releases' own `migrate sql` had created. No release so far took
//! a version away. A fork lacks versions of the release that it left, and has some of its own,
//! which stay for ever in a database that went on to a later release.

use super::App;
use serde::Deserialize;
use std::collections::BTreeSet;

/// A release and its complete set of schema migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version, without a leading `v`.
    pub name: String,
    /// Releases that have the very same set.
    pub same_schema_as: Vec<String>,
    /// Every version in its `schema_migration`.
    pub migrations: BTreeSet<String>,
    /// Names of the rows that its migrations put into `identity_credential_types` (all so far).
    pub credential_types: BTreeSet<String>,
    /// Versions that no other release has: it is a fork.
    pub own: BTreeSet<String>,
    /// What its servers call themselves, where that is another release's name.
    pub answers: Vec<String>,
}

impl Release {
    /// True when `version` (with or without a leading `v`) has this release's schema.
    pub fn is(&self, version: &str) -> bool {
        let version = plain(version);
        self.name == version || self.same_schema_as.iter().any(|name| name == version)
    }

    /// Whether a server that answers `version` may be this release's.
    fn may_be(&self, version: &str) -> bool {
        self.is(version) || self.answers.iter().any(|name| name == plain(version))
    }

    fn is_fork(&self) -> bool {
        !self.own.is_empty()
    }
}

/// What a set of schema migrations tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// Exactly this release's set.
    Release(String),
    /// All of one release and a part of the next: a migration that is under way or was cut off.
    Between {
        /// The release whose set is complete.
        complete: String,
        /// The release whose set is not.
        towards: String,
        /// How many versions are missing for that.
        missing: usize,
    },
    /// No migration at all: the app never came up on this database.
    Empty,
    /// Neither; how many versions no known release has (0: older than every known release).
    Unknown {
        /// Versions that are in none of the known releases.
        foreign: usize,
    },
}

impl std::fmt::Display for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Release(name) => write!(f, "the schema of {name}"),
            Self::Between { complete, towards, missing } => {
                write!(f, "a schema between {complete} and {towards} ({missing} migrations missing)")
            }
            Self::Empty => write!(f, "no schema migration at all"),
            Self::Unknown { foreign: 0 } => write!(f, "a schema older than every known release"),
            Self::Unknown { foreign } => write!(f, "a schema with {foreign} migrations of no known release"),
        }
    }
}

impl App {
    /// Tells the release from the versions in `schema_migration`.
    pub fn recognise(&self, versions: &BTreeSet<String>) -> Recognised {
        if versions.is_empty() {
            return Recognised::Empty;
        }
        let releases = self.releases();
        let (forks, line): (Vec<&Release>, Vec<&Release>) = releases.iter().partition(|release| release.is_fork());
        if let Some(release) = releases.iter().find(|release| &release.migrations == versions) {
            return Recognised::Release(release.name.clone());
        }
        let between = |complete: &Release, towards: &Release, versions: &BTreeSet<String>| Recognised::Between {
            complete: complete.name.clone(),
            towards: towards.name.clone(),
            missing: towards.migrations.difference(versions).count(),
        };
        // What a fork brought stays where a database went on from it.
        let origin = forks.iter().find(|fork| !fork.own.is_disjoint(versions));
        let versions = &origin.map_or_else(|| versions.clone(), |fork| versions - &fork.own);
        if let Some(release) = line.iter().find(|release| origin.is_some() && &release.migrations == versions) {
            return Recognised::Release(release.name.clone());
        }
        if let Some(fork) = origin
            && versions.is_superset(&(&fork.migrations - &fork.own))
            && let Some(towards) = line.iter().find(|release| release.migrations.is_superset(versions))
        {
            return between(fork, towards, versions);
        }
        // Migrations of a later release may come before those of an earlier one.
        let complete = line.iter().rfind(|release| versions.is_superset(&release.migrations));
        let towards = line.iter().find(|release| versions.is_subset(&release.migrations));
        if let (Some(complete), Some(towards)) = (complete, towards) {
            return between(complete, towards, versions);
        }
        let known = |version: &&String| releases.iter().any(|release| release.migrations.contains(*version));
        Recognised::Unknown { foreign: versions.iter().filter(|version| !known(version)).count() }
    }

    /// Whether a server that answers `version` may belong to the schema of this known release: a fork's server takes the
    /// name of the release that came after it.
    pub fn serves(&self, version: &str, release: &str) -> bool {
        self.releases().iter().any(|known| known.is(release) && known.may_be(version))
    }

    /// The known release whose schema `version` (a server's own answer, such as `v1.3.1`) has.
    pub fn release_of(&self, version: &str) -> Option<Release> {
        self.releases().into_iter().find(|release| release.is(version))
    }
}

/// A version without the leading `v` that servers put before it.
pub fn plain(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

/// Whether a version's numbers come before another's; false where one of them has no numbers to compare.
pub fn precedes(version: &str, other: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u32>> {
        let core = plain(version).split(['-', '+']).next().unwrap_or_default();
        core.split('.').map(|number| number.parse().ok()).collect()
    };
    matches!((numbers(version), numbers(other)), (Some(version), Some(other)) if version < other)
}

#[derive(Deserialize)]
struct File {
    releases: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    same_schema_as: Vec<String>,
    credential_types: Vec<CredentialType>,
    added: Vec<String>,
    /// Versions of the release before that a fork is without; nobody else has this.
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    answers: Vec<String>,
}

#[derive(Deserialize)]
struct CredentialType {
    name: String,
}

/// Reads a data file of releases. It is part of the program, so a broken one is found by the
/// tests below and reads here as "no release known".
pub(super) fn parse(json: &str) -> Vec<Release> {
    let file: File = serde_json::from_str(json).unwrap_or(File { releases: Vec::new() });
    let mut migrations = BTreeSet::new();
    let mut credential_types = BTreeSet::new();
    file.releases
        .into_iter()
        .map(|step| {
            if !step.without.is_empty() {
                return fork(step, &migrations, &credential_types);
            }
            migrations.extend(step.added);
            credential_types.extend(step.credential_types.into_iter().map(|row| row.name));
            Release {
                name: step.name,
                same_schema_as: step.same_schema_as,
                migrations: migrations.clone(),
                credential_types: credential_types.clone(),
                own: BTreeSet::new(),
                answers: step.answers,
            }
        })
        .collect()
}

/// What left the line of releases there, and gave it nothing.
fn fork(step: Step, migrations: &BTreeSet<String>, credential_types: &BTreeSet<String>) -> Release {
    let kept = migrations.iter().filter(|version| !step.without.contains(version)).cloned();
    Release {
        name: step.name,
        same_schema_as: step.same_schema_as,
        migrations: kept.chain(step.added.iter().cloned()).collect(),
        credential_types: credential_types.clone(),
        own: step.added.into_iter().collect(),
        answers: step.answers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{HYDRA, KRATOS};

    #[test]
    fn the_data_file_holds_the_counts_seen_in_real_databases() {
        let counts: Vec<_> = KRATOS.releases().iter().map(|r| (r.name.clone(), r.migrations.len())).collect();
        let expected = [("1.0.0", 295), ("1.1.0", 307), ("1.3.1", 315), ("25.4.0", 331), ("26.2.0", 338)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
        assert!(KRATOS.release_of("v1.2.0").unwrap().is("1.3.1"));
        assert_eq!(KRATOS.release_of("1.0.0").unwrap().credential_types.len(), 5);
    }

    #[test]
    fn the_same_of_hydra() {
        let counts: Vec<_> = HYDRA.releases().iter().map(|r| (r.name.clone(), r.migrations.len())).collect();
        let expected = [("2.1.1", 199), ("2.2.0", 206), (FORK, 206), ("2.3.0", 212), ("25.4.0", 218), ("26.2.0", 224)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
    }

    const FORK: &str = "2.3.0-canonical";

    #[test]
    fn a_fork_is_known_and_so_is_what_went_on_from_it() {
        let [fork, old, new] = ["v2.3.0-canonical", "2.2.0", "26.2.0"].map(|name| HYDRA.release_of(name).unwrap());
        assert_eq!(HYDRA.recognise(&fork.migrations), Recognised::Release(FORK.to_owned()));
        assert!(!old.is_fork() && fork.is_fork());
        // Its server says v2.3.0.
        assert!(HYDRA.serves("v2.3.0", FORK) && HYDRA.serves("2.3.0", "2.3.0") && !HYDRA.serves("2.2.0", FORK));
        assert_eq!(HYDRA.release_of("2.3.0").unwrap().name, "2.3.0");
        let gone_on = &fork.migrations | &new.migrations;
        assert_eq!(HYDRA.recognise(&gone_on), Recognised::Release("26.2.0".to_owned()));
        let mut on_the_way = gone_on.clone();
        assert!(on_the_way.remove(gone_on.iter().next_back().unwrap()));
        assert_eq!(
            HYDRA.recognise(&on_the_way),
            Recognised::Between { complete: FORK.to_owned(), towards: "26.2.0".to_owned(), missing: 1 }
        );
        let lacking = fork.migrations.iter().skip(1).cloned().collect();
        assert!(matches!(HYDRA.recognise(&lacking), Recognised::Unknown { .. }));
    }

    #[test]
    fn every_set_tells_its_release_and_every_part_its_place() {
        let releases = KRATOS.releases();
        for release in &releases {
            assert_eq!(KRATOS.recognise(&release.migrations), Recognised::Release(release.name.clone()));
        }
        let mut cut_off = releases[2].migrations.clone();
        cut_off.insert(releases[3].migrations.difference(&releases[2].migrations).next().unwrap().clone());
        let between = KRATOS.recognise(&cut_off);
        assert!(
            matches!(&between, Recognised::Between { complete, missing: 15, .. } if complete == "1.3.1"),
            "{between}"
        );
        assert_eq!(KRATOS.recognise(&BTreeSet::new()), Recognised::Empty);
        let mut far = releases[0].migrations.clone();
        far.extend(releases[4].migrations.difference(&releases[3].migrations).cloned());
        let between = KRATOS.recognise(&far);
        assert!(
            matches!(&between, Recognised::Between { complete, towards, .. } if complete == "1.0.0" && towards == "26.2.0"),
            "{between}"
        );
        let mut newer = releases[4].migrations.clone();
        newer.insert("20990101000000000000".to_owned());
        assert_eq!(KRATOS.recognise(&newer), Recognised::Unknown { foreign: 1 });
        let ancient = releases[0].migrations.iter().take(10).cloned().collect();
        assert_eq!(KRATOS.recognise(&ancient), Recognised::Unknown { foreign: 0 });
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(precedes("v0.13.0", "1.0.0") && precedes("1.9.0", "1.10.0") && precedes("25.4.0-rc.1", "26.2.0"));
        for (version, other) in [("v1.0.0", "1.0.0"), ("27.1.0", "26.2.0"), ("master", "1.0.0"), ("", "1.0.0")] {
            assert!(!precedes(version, other), "{version} {other}");
        }
    }

    #[test]
    fn a_longer_road_and_more_rows_never_get_less_time() {
        let million = |_: &str| 1_000_000;
        let short = KRATOS.migration_seconds("25.4.0", "26.2.0", million, 5_000_000);
        let long = KRATOS.migration_seconds("1.0.0", "26.2.0", million, 5_000_000);
        assert!(short > 3 * (62 + 77), "measured 143 s, given {short}");
        assert!(long > short);
        assert_eq!(KRATOS.migration_seconds("1.0.0", "1.3.1", |_| 0, 0), 120);
        assert!(KRATOS.migration_seconds("0.7.0", "27.0.0", million, 5_000_000) >= long);
    }
}
