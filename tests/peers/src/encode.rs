//! Bytes and words as URLs, headers and configurations carry them.

use std::fmt::Write as _;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = base64_of(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Base64 with the letters that need no escape in a URL, without padding.
pub fn base64_for_urls(bytes: &[u8]) -> String {
    base64_of(bytes, FOR_URLS)
}

fn base64_of(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..=chunk.len() {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(alphabet[sextet as usize]));
        }
    }
    text
}

/// The bytes of base32 text, as secrets of one-time passwords are written; padding and letters of no meaning are left out.
pub fn from_base32(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let Some(value) = LETTERS.iter().position(|known| *known == letter) else { continue };
        bits = ((bits << 5) | value as u32) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// Two digits a byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One value of a query, whatever is in it.
pub fn query_value(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        let encoded: Vec<String> = ["", "f", "fo", "foo", "foob"].iter().map(|t| base64(t.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
        assert_eq!(base64_for_urls(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn base32_with_and_without_padding() {
        let decoded: Vec<Vec<u8>> = ["", "MY======", "MZXQ", "MZXW6", "MZXW6YQ"].map(from_base32).to_vec();
        assert_eq!(decoded, ["", "f", "fo", "foo", "foob"].map(|text| text.as_bytes().to_vec()));
    }

    #[test]
    fn nothing_in_a_query_value_is_taken_for_a_part_of_the_query() {
        assert_eq!(query_value("a b&c=ö/~"), "a%20b%26c%3D%C3%B6%2F~");
        assert_eq!(hexadecimal(&[0, 171]), "00ab");
    }
}
