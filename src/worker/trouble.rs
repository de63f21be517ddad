//! What is in the way at present and heals by itself.

use crate::juju::logging;
use crate::postgres::UNREACHABLE_CURE;
use std::time::SystemTime;

/// The last passing failure, so that a long one is told once and waited for longer.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) times: u32,
    /// When it began.
    pub(super) since: Option<SystemTime>,
}

/// A server that does not answer, and since when: so that who is called at night knows how long already.
pub(super) fn since(sentence: &str, began: SystemTime) -> String {
    match sentence.contains(UNREACHABLE_CURE) {
        true => format!("{sentence}; so since {}", logging::utc(began)),
        false => sentence.to_owned(),
    }
}
