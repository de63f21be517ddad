//! Waiting for a condition, never for time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Calls `check` until it returns `Ok`, for at most `within`. `check` says in `Err` what it saw; when the time is up
/// the last of these is in the error.
pub fn wait_for<T, S: Display>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, S>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let seen = match check() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if begun.elapsed() >= within {
            anyhow::bail!("waited {:.1} s for {what}; last seen: {seen}", begun.elapsed().as_secs_f64());
        }
        std::thread::sleep(pause.min(within.saturating_sub(begun.elapsed())));
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_once_it_is_there() {
        let mut calls = 0;
        let value = wait_for("the third call", Duration::from_secs(5), || {
            calls += 1;
            if calls == 3 { Ok(calls) } else { Err(calls) }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn reports_the_last_state_seen() {
        let error = wait_for::<(), _>("a miracle", Duration::from_millis(20), || Err("nothing yet")).unwrap_err();
        assert!(error.to_string().contains("a miracle; last seen: nothing yet"), "{error}");
    }
}
