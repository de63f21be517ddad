//! When the source is written to, by hour of the day: seen while the target follows, to find an hour in which an outage
//! meets the fewest users.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000;

/// The longest time between two looks that tell of it, in milliseconds: nobody knows when what came in a longer one came.
const LONGEST: i64 = 300_000;

/// An hour that was seen for less than this tells little, in milliseconds.
const ENOUGH: i64 = 600_000;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Hours of the day, UTC, as far as they were seen.
    hours: BTreeMap<i64, Seen>,
    /// The last look.
    last: Option<Look>,
}

/// What was seen of an hour, over all days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    milliseconds: i64,
    rows: i64,
}

impl Seen {
    /// Rows written in a second.
    fn rate(self) -> f64 {
        self.rows as f64 * 1000.0 / self.milliseconds.max(1) as f64
    }
}

/// When, in milliseconds since 1970, and how many rows had been written by then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Look {
    at: i64,
    rows: i64,
}

impl Traffic {
    /// Takes a look in: how many rows had been written at that time, in milliseconds since 1970. A count that fell back,
    /// as after a crash of the server, begins anew.
    pub fn see(&mut self, at: i64, rows: i64) {
        let now = Look { at, rows };
        let Some(last) = self.last.replace(now) else { return };
        let (milliseconds, more) = (at - last.at, rows - last.rows);
        if (1..=LONGEST).contains(&milliseconds) && more >= 0 {
            let seen = self.hours.entry(last.at.div_euclid(HOUR).rem_euclid(24)).or_default();
            seen.milliseconds += milliseconds;
            seen.rows += more;
        }
    }

    /// The hours that were seen for long enough, with the rows written in a second of them.
    fn known(&self) -> Vec<(i64, f64)> {
        let enough = self.hours.iter().filter(|(_, seen)| seen.milliseconds >= ENOUGH);
        enough.map(|(hour, seen)| (*hour, seen.rate())).collect()
    }

    /// The hour of the day, UTC, in which the fewest rows are written, and how many in a second; `None` until an hour was
    /// seen for long enough.
    pub fn quietest(&self) -> Option<(i64, f64)> {
        self.known().into_iter().min_by(by_rate)
    }

    /// Rows written in a second, over all that was seen.
    pub fn overall(&self) -> Option<f64> {
        let all = self.hours.values().fold(Seen::default(), |all, seen| Seen {
            milliseconds: all.milliseconds + seen.milliseconds,
            rows: all.rows + seen.rows,
        });
        (all.milliseconds > 0).then(|| all.rate())
    }

    /// The hours in which an outage meets the fewest and the most writes, in words; empty until something was seen.
    pub fn describe(&self) -> String {
        let known = self.known();
        match (self.quietest(), known.iter().copied().max_by(by_rate), self.overall()) {
            (Some((quiet, least)), Some((busy, most)), _) if quiet != busy => format!(
                "of {} hours seen, the quietest is {} UTC: a second of outage then meets {least:.1} written rows, {most:.1} at \
                 {}",
                known.len(),
                span(quiet),
                span(busy)
            ),
            (_, _, Some(rate)) => format!("a second of outage meets {rate:.1} written rows, as far as was seen"),
            (_, _, None) => String::new(),
        }
    }
}

fn by_rate(one: &(i64, f64), other: &(i64, f64)) -> std::cmp::Ordering {
    one.1.total_cmp(&other.1)
}

/// An hour of the day, as people write it.
pub(super) fn span(hour: i64) -> String {
    format!("{hour:02}:00 to {:02}:00", (hour + 1) % 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a minute apart over so many minutes, with so many rows in each.
    fn watch(traffic: &mut Traffic, from: i64, minutes: i64, rows: i64) {
        let before = traffic.last.map_or(0, |last| last.rows);
        for minute in 0..=minutes {
            traffic.see(from + minute * 60_000, before + minute * rows);
        }
    }

    #[test]
    fn the_quietest_hour_is_found() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.describe(), "");
        watch(&mut traffic, 9 * HOUR, 5, 600);
        assert_eq!(traffic.describe(), "a second of outage meets 10.0 written rows, as far as was seen");
        watch(&mut traffic, 9 * HOUR + 6 * 60_000, 30, 600);
        watch(&mut traffic, 23 * HOUR, 30, 6);
        watch(&mut traffic, 27 * HOUR, 5, 0);
        assert_eq!(
            traffic.describe(),
            "of 2 hours seen, the quietest is 23:00 to 00:00 UTC: a second of outage then meets 0.1 written rows, 9.7 at \
             09:00 to 10:00"
        );
    }

    #[test]
    fn what_nobody_saw_is_not_guessed() {
        let mut traffic = Traffic::default();
        traffic.see(0, 100);
        traffic.see(LONGEST + 1, 5_000);
        traffic.see(LONGEST + 60_001, 10);
        assert_eq!(traffic.describe(), "");
        traffic.see(LONGEST + 120_001, 70);
        assert_eq!(traffic.describe(), "a second of outage meets 1.0 written rows, as far as was seen");
    }
}
