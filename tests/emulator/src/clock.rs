//! Times as Juju prints them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Year, month, day, hour, minute, second, nanosecond.
fn fields(time: SystemTime) -> (i64, u32, u32, u64, u64, u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    // Days to a civil date, counted from 1 March of the year 0 in eras of 400
    // years (the Gregorian calendar's period).
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let day_seconds = seconds % 86_400;
    (year, month, day, day_seconds / 3600, day_seconds / 60 % 60, day_seconds % 60, since.subsec_nanos())
}

/// `2026-11-23 19:01:09.048415083 +0000 UTC`, as in action logs.
pub(crate) fn full(time: SystemTime) -> String {
    let (year, month, day, hour, minute, second, nanosecond) = fields(time);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nanosecond:09} +0000 UTC")
}

/// `2026-11-23 19:00:02Z`, as in goal-state.
pub(crate) fn goal(time: SystemTime) -> String {
    let (year, month, day, hour, minute, second, _) = fields(time);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// `19:00:02`, as in juju run and debug-log.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let (.., hour, minute, second, _) = fields(time);
    format!("{hour:02}:{minute:02}:{second:02}")
}
