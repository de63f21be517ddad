//! Opaque tokens made as Hydra makes them, for rows in bulk: a key, and its signature under the system secret.

use crate::encode::{base64_for_urls, hexadecimal};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512_256};

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Access,
    Refresh,
    Code,
}

/// A token.
#[derive(Debug, Clone)]
pub struct Opaque {
    kind: Kind,
    key: String,
    signature: String,
}

impl Opaque {
    /// The token whose key follows from a name: the same one every time.
    pub fn named(kind: Kind, system_secret: &str, name: &str) -> anyhow::Result<Self> {
        let key = Sha256::digest(name.as_bytes());
        let mut signature = Hmac::<Sha512_256>::new_from_slice(&Sha256::digest(system_secret.as_bytes()))?;
        signature.update(&key);
        let signature = base64_for_urls(&signature.finalize().into_bytes());
        Ok(Self { kind, key: base64_for_urls(&key), signature })
    }

    /// As its owner has it.
    pub fn text(&self) -> String {
        let prefix = match self.kind {
            Kind::Access => "ory_at",
            Kind::Refresh => "ory_rt",
            Kind::Code => "ory_ac",
        };
        format!("{prefix}_{}.{}", self.key, self.signature)
    }

    /// What its row is found by: the signature, hashed where it may be too long to be a key.
    pub fn row_key(&self) -> String {
        match self.kind {
            Kind::Access => hexadecimal(&Sha384::digest(self.signature.as_bytes())),
            Kind::Refresh | Kind::Code => self.signature.clone(),
        }
    }
}
