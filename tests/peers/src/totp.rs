//! One-time passwords as an authenticator app makes them (RFC 6238 with SHA-1, six digits, a new one every 30 seconds).

use crate::encode::from_base32;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds that a password is good for.
const STEP: u64 = 30;

/// The password of this moment, of a secret in base32.
pub fn now(secret: &str) -> anyhow::Result<String> {
    at(secret, SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn at(secret: &str, seconds: u64) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(&from_base32(secret))?;
    mac.update(&(seconds / STEP).to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let begin = usize::from(digest[digest.len() - 1] & 0x0f);
    let number = digest[begin..begin + 4].iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    Ok(format!("{:06}", (number & 0x7fff_ffff) % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret and some of the moments that RFC 6238 gives in its appendix.
    #[test]
    fn passwords_are_those_of_the_standard() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (seconds, password) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            assert_eq!(at(secret, seconds).unwrap(), password);
        }
    }
}
