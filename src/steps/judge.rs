//! What is remembered of the subscriptions between two looks, and how it is judged. Nothing here asks a server.

use crate::migration::Step;
use crate::postgres::subscription::ErrorCount;
use std::time::{Duration, Instant};
use tokio_postgres::types::PgLsn;

/// A subscription that an error disabled is enabled again this often; a lost connection is such an error too.
pub const REVIVALS: u32 = 3;

/// An enabled subscription that keeps its worker for this long has nothing to hold against it, and its revivals are
/// counted anew.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// How long no worker may live, while both servers answer, before a person is asked. The server starts one every
/// `wal_retrieve_retry_interval` (5 s).
const ABSENT: Duration = Duration::from_secs(20);

/// How often the worker may end without a change being confirmed.
const RESTARTS: u32 = 6;

/// Looks that lie further apart say nothing about the time between them.
const LOOKS_APART: Duration = Duration::from_secs(5);

/// What is remembered of one subscription. From 15 on `disable_on_error` also strikes when the connection to the
/// source breaks: a crash or a failover there must not need a person. Errors are counted by the server; disabling by
/// hand is not an error. Before 15 a worker that meets an error is started over and over.
#[derive(Default)]
pub struct Apply {
    /// How often it was revived without anything confirmed since.
    pub times: u32,
    /// When it was revived last.
    pub last: Option<Instant>,
    /// What was confirmed when it was revived last.
    pub revived_at: Option<PgLsn>,
    /// The last look found it disabled, with nothing at work.
    pub seen_resting: bool,
    /// The errors counted at the last look that found it enabled.
    pub counted: Option<ErrorCount>,
    /// The attempt that enabled it: the step, and when it was started.
    pub enabled_for: Option<(Step, i64)>,
    /// What was confirmed when the step enabled it.
    pub enabled_at: Option<PgLsn>,
    looked: Option<Instant>,
    pid: Option<i32>,
    /// Since when no worker was seen.
    pub absent_since: Option<Instant>,
    confirmed: Option<PgLsn>,
    restarts: u32,
}

impl Apply {
    /// What is remembered once an attempt of a step has enabled the subscription.
    pub fn just_enabled(attempt: Option<(Step, i64)>, confirmed: Option<PgLsn>) -> Self {
        Self { enabled_for: attempt, enabled_at: confirmed, ..Self::default() }
    }

    /// What is wrong with the worker, if it does not stay; none is there for a moment after every restart.
    pub fn watch_worker(&mut self, pid: Option<i32>, confirmed: Option<PgLsn>) -> Option<String> {
        let now = Instant::now();
        if self.looked.replace(now).is_none_or(|looked| now.duration_since(looked) > LOOKS_APART) {
            self.absent_since = None;
        }
        let stays = pid.is_some() && pid == self.pid;
        if confirmed != self.confirmed {
            self.restarts = 0;
        } else if pid.is_some() && !stays {
            self.restarts += 1;
        }
        self.confirmed = confirmed;
        self.pid = pid;
        if stays {
            self.absent_since = None;
        } else if now.duration_since(*self.absent_since.get_or_insert(now)) > ABSENT {
            return Some(format!("no apply worker has lived for {} s although the source answers", ABSENT.as_secs()));
        }
        (self.restarts >= RESTARTS)
            .then(|| format!("its apply worker ended {RESTARTS} times without applying anything"))
    }
}

/// What is remembered of the way back's subscription. Errors are counted by the server (15 and later); disabling by
/// hand is none.
#[derive(Default)]
pub struct Revivals {
    errors: Option<ErrorCount>,
    times: u32,
    last: Option<Instant>,
    seen_resting: bool,
}

/// What is to be done with the way back's subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revival {
    /// Nothing, or nothing that helps.
    Leave,
    /// To be seen at the next look.
    Wait,
    /// Enable it again.
    Enable,
}

impl Revivals {
    /// Judges a look at it: whether it rests, the errors that the server counted, whether a worker lives.
    pub fn look(&mut self, rests: bool, errors: Option<ErrorCount>, works: bool) -> Revival {
        if !rests {
            self.seen_resting = false;
            if self.last.is_none_or(|last| last.elapsed() > HEALTHY) {
                self.times = 0;
                self.errors = errors;
            }
            return Revival::Leave;
        }
        // The worker counts its error as it ends, which is after it disabled the subscription.
        if works || !std::mem::replace(&mut self.seen_resting, true) {
            return Revival::Wait;
        }
        let grew = errors.as_ref().is_some_and(|errors| errors.grew_from(self.errors.as_ref()));
        if !grew || self.times >= REVIVALS {
            return Revival::Leave;
        }
        self.seen_resting = false;
        self.errors = errors;
        self.times += 1;
        self.last = Some(Instant::now());
        Revival::Enable
    }
}

/// How long nothing may be confirmed after a way back was made anew, before a person is asked.
pub const STANDS_STILL: Duration = Duration::from_secs(120);

/// A way back that was made anew.
pub struct Mended {
    /// The attempt of the step that made it: when it was started.
    pub attempt: Option<i64>,
    confirmed: Option<PgLsn>,
    since: Instant,
}

impl Mended {
    /// Made just now.
    pub fn in_attempt(attempt: Option<i64>) -> Self {
        Self { attempt, confirmed: None, since: Instant::now() }
    }

    /// True when nothing was confirmed for too long.
    pub fn stands_still(&mut self, confirmed: Option<PgLsn>) -> bool {
        if self.confirmed != confirmed {
            (self.confirmed, self.since) = (confirmed, Instant::now());
        }
        self.since.elapsed() > STANDS_STILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stays_is_well_and_one_that_ends_again_and_again_is_not() {
        let mut apply = Apply::default();
        let here = Some(PgLsn::from(1));
        for _ in 0..100 {
            assert_eq!(apply.watch_worker(Some(7), here), None);
        }
        let found = (8..20).find_map(|pid| apply.watch_worker(Some(pid), here)).unwrap();
        assert!(found.contains("without applying"), "{found}");
        let mut apply = Apply::default();
        // Each of these applied something first.
        assert!((8..30).all(|pid| apply.watch_worker(Some(pid), Some(PgLsn::from(pid as u64))).is_none()));
    }

    #[test]
    fn a_crash_that_made_the_count_begin_anew_hides_no_error() {
        let count = |errors, since: &str| ErrorCount { errors, since: since.to_owned() };
        for (now, before, grew) in [
            (count(1, "1"), Some(count(1, "1")), false),
            (count(2, "1"), Some(count(1, "1")), true),
            (count(1, "2"), Some(count(1, "1")), true),
            // The error that it forgot in the crash may have been a new one.
            (count(0, "2"), Some(count(1, "1")), true),
            (count(0, "1"), None, false),
            (count(1, "1"), None, true),
        ] {
            assert_eq!(now.grew_from(before.as_ref()), grew, "{now:?} after {before:?}");
        }
    }

    #[test]
    fn a_way_back_that_was_made_anew_may_be_slow_but_not_stand_still() {
        let mut mended = Mended::in_attempt(None);
        assert!(!mended.stands_still(Some(PgLsn::from(1))));
        mended.since = Instant::now().checked_sub(STANDS_STILL * 2).unwrap();
        assert!(mended.stands_still(Some(PgLsn::from(1))));
        assert!(!mended.stands_still(Some(PgLsn::from(2))));
    }

    #[test]
    fn no_worker_is_said_after_a_while_of_looking() {
        let mut apply = Apply::default();
        assert_eq!(apply.watch_worker(None, None), None);
        apply.absent_since = Instant::now().checked_sub(ABSENT * 2);
        assert!(apply.watch_worker(None, None).unwrap().contains("no apply worker"));
        // Nobody looked meanwhile: the source was away.
        apply.looked = Instant::now().checked_sub(LOOKS_APART * 2);
        assert_eq!(apply.watch_worker(None, None), None);
    }
}
