//! Loopback ports that nobody else in the tests has.

use crate::places::peers_root;
use anyhow::Context;
use rand::Rng;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

/// Below the kernel's range for outgoing connections, so that a port stays free while its server is restarted.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A free port of 127.0.0.1, ours until this value is dropped: other tests, in this process or another, keep off it
/// because of a lock on a file named after it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Option<File>,
}

impl Port {
    /// Finds a free port.
    pub fn reserve() -> anyhow::Result<Self> {
        let folder = peers_root().join("ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for _ in 0..500 {
            let number = rand::rng().random_range(RANGE);
            let lock = File::create(folder.join(number.to_string()))?;
            if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Ok(Self { number, _lock: Some(lock) });
            }
        }
        anyhow::bail!("cannot find a free port between {} and {}", RANGE.start, RANGE.end)
    }

    /// A port that somebody else keeps.
    pub(crate) fn kept_elsewhere(number: u16) -> Self {
        Self { number, _lock: None }
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}
