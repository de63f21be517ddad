//! Which pairs of releases may run the app's schema migration before the fence ("migrate-first"),
//! and what late rows then need. One table; a pair that is not in it takes the documented order.
//!
//! `earned` is set only when a differential test took the same data and writes through both orders
//! with the app's real servers and found equal databases, row by row (`runbook::differential`, and
//! `runbook::ory_matrix` for servers that the tests cannot build). A pair that is declared but not earned
//! is never chosen by `order=auto`.

use super::App;
use super::fills::{Fill, Value};
use super::releases::plain;

/// One road from a release to another.
#[derive(Debug)]
pub struct Pair {
    /// The app's name.
    pub app: &'static str,
    /// The release to leave.
    pub from: &'static str,
    /// The release to reach.
    pub to: &'static str,
    /// Whether a differential test stands behind this row.
    pub earned: bool,
    /// Values that the new schema demands and rows of the old release lack.
    pub fills: &'static [Fill],
}

/// Device rows know their session, the session its identity.
const DEVICE_IDENTITY: Fill = Fill {
    table: "session_devices",
    column: "identity_id",
    value: Value::FromParent {
        parent: "sessions",
        column: "identity_id",
        join: &[("session_id", "id"), ("nid", "nid")],
    },
};

/// Identifier rows know their credential, the credential its identity.
const IDENTIFIER_IDENTITY: Fill = Fill {
    table: "identity_credential_identifiers",
    column: "identity_id",
    value: Value::FromParent {
        parent: "identity_credentials",
        column: "identity_id",
        join: &[("identity_credential_id", "id"), ("nid", "nid")],
    },
};

/// Codes know the kind of address that they went to, which was padded to 36 letters up to 1.3.1.
const LOGIN_CODE: Fill = Fill { table: "identity_login_codes", column: "address_type", value: Value::Trimmed };
const REGISTRATION_CODE: Fill =
    Fill { table: "identity_registration_codes", column: "address_type", value: Value::Trimmed };

/// A road of Kratos' that earned its place.
const fn kratos(from: &'static str, to: &'static str, fills: &'static [Fill]) -> Pair {
    Pair { app: "kratos", from, to, earned: true, fills }
}

/// A road of Hydra's that earned its place: late rows need nothing.
const fn hydra(from: &'static str, to: &'static str) -> Pair {
    Pair { app: "hydra", from, to, earned: true, fills: &[] }
}

/// The table of earned (and declared) roads, an app's from release to release.
const PAIRS: &[Pair] = &[
    kratos("1.0.0", "1.3.1", &[]),
    // 1.0.0 has no codes.
    kratos("1.0.0", "25.4.0", &[]),
    kratos("1.0.0", "26.2.0", &[DEVICE_IDENTITY, IDENTIFIER_IDENTITY]),
    kratos("1.1.0", "1.3.1", &[]),
    kratos("1.1.0", "25.4.0", &[LOGIN_CODE, REGISTRATION_CODE]),
    kratos("1.1.0", "26.2.0", &[DEVICE_IDENTITY, IDENTIFIER_IDENTITY, LOGIN_CODE, REGISTRATION_CODE]),
    kratos("1.3.1", "25.4.0", &[LOGIN_CODE, REGISTRATION_CODE]),
    kratos("1.3.1", "26.2.0", &[DEVICE_IDENTITY, IDENTIFIER_IDENTITY, LOGIN_CODE, REGISTRATION_CODE]),
    kratos("25.4.0", "26.2.0", &[DEVICE_IDENTITY, IDENTIFIER_IDENTITY]),
    hydra("2.2.0", "2.3.0"),
    hydra("2.2.0", "25.4.0"),
    hydra("2.2.0", "26.2.0"),
    hydra("2.3.0-canonical", "25.4.0"),
    hydra("2.3.0-canonical", "26.2.0"),
    hydra("2.3.0", "25.4.0"),
    hydra("2.3.0", "26.2.0"),
    hydra("25.4.0", "26.2.0"),
];

/// Every row of the table, an app's from release to release.
pub fn claimed() -> &'static [Pair] {
    PAIRS
}

/// The row for this road, earned or only declared. Versions may carry a leading `v`; a release
/// with the same schema as a listed one counts as that one.
pub fn pair(app: &App, from: &str, to: &str) -> Option<&'static Pair> {
    let (from, to) = (listed(app, from)?, listed(app, to)?);
    PAIRS.iter().find(|pair| pair.app == app.name && pair.from == from && pair.to == to)
}

/// Every earned road that starts at this release.
pub fn earned_from(app: &App, from: &str) -> Vec<&'static Pair> {
    let Some(from) = listed(app, from) else { return Vec::new() };
    PAIRS.iter().filter(|pair| pair.app == app.name && pair.earned && pair.from == from).collect()
}

/// The name under which a version's schema is listed.
fn listed(app: &App, version: &str) -> Option<String> {
    app.release_of(plain(version)).map(|release| release.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{APPS, HYDRA, KRATOS};

    #[test]
    fn the_table_answers_by_schema_not_by_spelling() {
        assert!(pair(&KRATOS, "v1.0.0", "v1.3.1").unwrap().earned);
        assert!(pair(&KRATOS, "1.0.0", "1.2.0").unwrap().fills.is_empty());
        assert_eq!(pair(&KRATOS, "25.4.0", "v26.2.0").unwrap().fills.len(), 2);
        assert!(pair(&HYDRA, "v2.3.0", "26.2.0").unwrap().fills.is_empty());
        assert_eq!(pair(&KRATOS, "1.1.0", "26.2.0").unwrap().fills.len(), 4);
        assert!(pair(&HYDRA, "2.1.1", "26.2.0").is_none());
        assert!(pair(&KRATOS, "9.9.9", "26.2.0").is_none());
        let reached = |from| earned_from(&KRATOS, from).iter().map(|pair| pair.to).collect::<Vec<_>>();
        assert_eq!(reached("v1.0.0"), ["1.3.1", "25.4.0", "26.2.0"]);
        assert!(reached("26.2.0").is_empty());
    }

    #[test]
    fn every_row_names_known_releases_in_their_order() {
        for (app, row) in
            APPS.iter().flat_map(|app| PAIRS.iter().filter(|row| row.app == app.name).map(move |row| (app, row)))
        {
            let names: Vec<_> = app.releases().into_iter().map(|release| release.name).collect();
            let place = |name: &str| names.iter().position(|known| known == name).expect("a known release");
            assert!(place(row.from) < place(row.to));
        }
    }
}
