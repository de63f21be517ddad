//! Identifiers.

/// Random lower-case hexadecimal digits.
pub(crate) fn random_hex(digits: usize) -> String {
    (0..digits).map(|_| char::from_digit(rand::random_range(0..16), 16).unwrap_or('0')).collect()
}

/// A secret's id: 20 characters of 0-9a-z.
pub(crate) fn random_secret_id() -> String {
    (0..20).map(|_| char::from_digit(rand::random_range(0..32), 36).unwrap_or('0')).collect()
}

/// A version 4 UUID.
pub(crate) fn random_uuid() -> String {
    let hex = random_hex(32);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
