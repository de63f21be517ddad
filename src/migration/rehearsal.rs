//! What a rehearsal measured: how long the schema migration takes on the copy, and what an outage of that length meets.

use super::runbook::Order;
use super::traffic::{Traffic, span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The last rehearsal that came to its end. It outlives its run: another one moves the same data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rehearsed {
    /// The source's release.
    pub from: String,
    /// The release that the target was migrated to.
    pub to: String,
    /// Seconds that the application's own schema migration took; `None` when nobody saw it begin.
    pub migration_seconds: Option<f64>,
    /// Seconds from the begin of that migration until the new server had passed every gate.
    pub serving_seconds: Option<f64>,
    /// Rows that were compared afterwards, of which none differed; `None` where late rows are not known to fit the new
    /// schema, so that nothing could be compared.
    pub rows_verified: Option<u64>,
    /// The run it belongs to.
    #[serde(default)]
    pub run: String,
    /// When it ended, in milliseconds since 1970.
    #[serde(default)]
    pub at: i64,
    /// Position of its last record.
    #[serde(default)]
    pub seq: i64,
}

impl Eq for Rehearsed {}

impl Rehearsed {
    /// The measured seconds, where what is ahead begins at the same release.
    pub fn measured_from(&self, from: &str) -> Option<f64> {
        self.migration_seconds.filter(|_| self.from == from)
    }

    /// True for what this very run rehearsed; another one may go to another release, or have more rows.
    pub fn is_of(&self, run: Option<&str>) -> bool {
        run == Some(self.run.as_str())
    }

    /// Seconds between the fence and the open that the schema migration takes in this order, nobody waiting for a person;
    /// `None` where it is no part of them, or nobody knows.
    pub fn outage_seconds(&self, order: Order) -> Option<f64> {
        match order {
            Order::Documented => self.serving_seconds,
            Order::MigrateFirst | Order::InPlace => None,
        }
    }

    /// The same as figures for an action's results.
    pub fn figures(&self, order: Order, traffic: &Traffic) -> BTreeMap<String, String> {
        let outage = self.outage_seconds(order);
        let rate = traffic.quietest().map(|(_, rate)| rate).or(traffic.overall());
        [
            ("migration-seconds", self.migration_seconds.map(|seconds| format!("{seconds:.1}"))),
            ("serving-seconds", self.serving_seconds.map(|seconds| format!("{seconds:.1}"))),
            ("rows-verified", self.rows_verified.map(|rows| rows.to_string())),
            ("rows-different", self.rows_verified.map(|_| "0".to_owned())),
            ("outage-seconds", outage.map(|seconds| format!("{seconds:.1}"))),
            ("window", traffic.quietest().map(|(hour, _)| format!("{} UTC", span(hour)))),
            ("refused-writes", outage.zip(rate).map(|(seconds, rate)| format!("{:.0}", (seconds * rate).ceil()))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// What was measured and proven, and when an outage that long meets the fewest writes, in words.
    pub fn describe(&self, order: Order, traffic: &Traffic) -> String {
        let took = |seconds: Option<f64>| match seconds {
            Some(seconds) => format!("took {seconds:.1} s"),
            None => "was not seen to begin".to_owned(),
        };
        let mut said =
            format!("the schema migration from {} to {} {}", self.from, self.to, took(self.migration_seconds));
        if let Some(seconds) = self.serving_seconds {
            said.push_str(&format!(", and the new server had passed every gate {seconds:.1} s after its begin"));
        }
        said.push_str(&match self.rows_verified {
            Some(rows) => format!("; {rows} rows compared, none differs"),
            None => "; rows could not be compared, because late ones are not known to fit the new schema".to_owned(),
        });
        match self.outage_seconds(order) {
            Some(seconds) => said.push_str(&format!("; {}", met(seconds, traffic))),
            None if order == Order::MigrateFirst => {
                said.push_str("; it is no part of the outage in the order migrate-first")
            }
            None => {}
        }
        said
    }
}

/// What an outage of so many seconds meets, as far as the traffic was seen.
fn met(seconds: f64, traffic: &Traffic) -> String {
    let outage = format!("in the order documented the outage holds all of that, {seconds:.1} s");
    match (traffic.quietest(), traffic.overall()) {
        (Some((hour, rate)), _) => format!(
            "{outage}, which refuses about {:.0} written rows from {} UTC, the quietest hour seen",
            (rate * seconds).ceil(),
            span(hour)
        ),
        (None, Some(rate)) => {
            format!("{outage}, which refuses about {:.0} written rows, as far as was seen", (rate * seconds).ceil())
        }
        (None, None) => outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearsed() -> Rehearsed {
        Rehearsed {
            from: "1.0.0".into(),
            to: "1.3.1".into(),
            migration_seconds: Some(30.04),
            serving_seconds: Some(40.0),
            rows_verified: Some(1200),
            run: "0badcafe".into(),
            at: 0,
            seq: 9,
        }
    }

    /// An hour with a write a second.
    fn traffic() -> Traffic {
        let mut traffic = Traffic::default();
        for minute in 0..=20 {
            traffic.see(3 * 3_600_000 + minute * 60_000, minute * 60);
        }
        traffic
    }

    #[test]
    fn only_the_documented_order_has_the_migration_in_its_outage() {
        let said = rehearsed().describe(Order::Documented, &traffic());
        assert_eq!(
            said,
            "the schema migration from 1.0.0 to 1.3.1 took 30.0 s, and the new server had passed every gate 40.0 s after \
             its begin; 1200 rows compared, none differs; in the order documented the outage holds all of that, 40.0 s, \
             which refuses about 40 written rows from 03:00 to 04:00 UTC, the quietest hour seen"
        );
        let said = rehearsed().describe(Order::MigrateFirst, &traffic());
        assert!(said.ends_with("none differs; it is no part of the outage in the order migrate-first"), "{said}");
    }

    #[test]
    fn what_nobody_saw_is_not_told_as_a_figure() {
        let blind = Rehearsed { migration_seconds: None, serving_seconds: None, rows_verified: None, ..rehearsed() };
        let said = blind.describe(Order::Documented, &Traffic::default());
        assert!(said.contains("was not seen to begin; rows could not be compared"), "{said}");
        assert!(!said.contains(" s,") && !said.contains("refuses"), "{said}");
        assert_eq!(blind.measured_from("1.0.0"), None);
    }

    #[test]
    fn another_release_is_another_migration() {
        assert_eq!(rehearsed().measured_from("1.0.0"), Some(30.04));
        assert_eq!(rehearsed().measured_from("1.3.1"), None);
    }
}
