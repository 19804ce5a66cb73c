//! Digests of blocks and payloads.
//!
//! SHA-1 in base32 is what other tools write and compare for deduplication; it
//! proves nothing. BLAKE3 is what the swarm relies on.

use sha1::{Digest, Sha1};

/// RFC 4648 base32 alphabet.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `sha1:` and the digest of `data` in base32 (20 bytes give 32 characters, no
/// padding), as in `WARC-Payload-Digest`.
pub fn sha1_base32(data: &[u8]) -> String {
    let digest = Sha1::digest(data);
    let mut text = String::from("sha1:");
    for group in digest.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        for place in (0..8).rev() {
            let index = (bits >> (5 * place)) & 31;
            text.extend(ALPHABET.get(index as usize).map(|letter| char::from(*letter)));
        }
    }
    text
}

/// Both digests of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadDigests {
    /// `sha1:` + base32.
    pub sha1: String,
    /// BLAKE3, 64 hex digits.
    pub blake3: String,
}

impl PayloadDigests {
    /// Digests of `payload`.
    pub fn of(payload: &[u8]) -> Self {
        let blake3 = blake3::hash(payload).to_hex().to_string();
        Self { sha1: sha1_base32(payload), blake3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        // The empty string's digest is in every Common Crawl index.
        assert_eq!(sha1_base32(b""), "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ");
        assert_eq!(sha1_base32(b"abc"), "sha1:VGMT4NSHA2AWVOR6EVYXQUGCNSONBWE5");
        assert!(PayloadDigests::of(b"").blake3.starts_with("af1349b9f5f9a1a6"));
    }
}
