//! What is inside a vault, and its bytes before encryption.
//!
//! The encoding is written by hand, because a general serialiser would leave copies of secrets in
//! memory that it grew out of; here one buffer of the right size is made, and wiped.
//!
//! `count u16` and for each secret, by name: `name (u8 length), created u64, is_revoked u8,
//! revoked u64, secret (u16 length)`, integers big-endian, then zeros up to a multiple of
//! [`limits::PADDING_BYTES`].

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::error::SealError;
use crate::limits;
use crate::name::SecretName;

/// A secret with its dates, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) created_s: u64,
    pub(crate) revoked_s: Option<u64>,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents(pub(crate) BTreeMap<SecretName, Secret>);

/// Bytes of a secret beside its name and itself: two lengths, two times, one flag.
const FIXED_BYTES: usize = 1 + 8 + 1 + 8 + 2;

impl Contents {
    /// Encodes, with room for `extra` more bytes, so that appending them moves no secret.
    pub(crate) fn to_bytes(&self, extra: usize) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.check()?;
        let used: usize = self
            .0
            .iter()
            .map(|(name, secret)| FIXED_BYTES + name.as_str().len() + secret.bytes.len())
            .sum();
        let padded = (2 + used).next_multiple_of(limits::PADDING_BYTES);
        let mut out = Zeroizing::new(Vec::with_capacity(padded + extra));
        put_u16(&mut out, self.0.len());
        for (name, secret) in &self.0 {
            let name = name.as_str().as_bytes();
            // Names are at most 64 bytes (SecretName::new).
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name);
            out.extend_from_slice(&secret.created_s.to_be_bytes());
            out.push(u8::from(secret.revoked_s.is_some()));
            out.extend_from_slice(&secret.revoked_s.unwrap_or(0).to_be_bytes());
            put_u16(&mut out, secret.bytes.len());
            out.extend_from_slice(&secret.bytes);
        }
        debug_assert_eq!(out.len(), 2 + used);
        out.resize(padded, 0);
        Ok(out)
    }

    /// Decodes; `None` for anything that [`Contents::to_bytes`] does not write.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let count = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let mut contents = BTreeMap::new();
        for _ in 0..count {
            let [name_len] = take(&mut rest)?;
            let name = std::str::from_utf8(take_slice(&mut rest, usize::from(name_len))?).ok()?;
            let name = SecretName::new(name).ok()?;
            let created_s = u64::from_be_bytes(take(&mut rest)?);
            let [is_revoked] = take(&mut rest)?;
            let revoked_s = u64::from_be_bytes(take(&mut rest)?);
            let revoked_s = match (is_revoked, revoked_s) {
                (0, 0) => None,
                (1, at) => Some(at),
                _ => return None,
            };
            let bytes_len = usize::from(u16::from_be_bytes(take(&mut rest)?));
            let bytes = Zeroizing::new(take_slice(&mut rest, bytes_len)?.to_vec());
            if contents.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return None;
            }
            contents.insert(name, Secret { bytes, created_s, revoked_s });
        }
        let contents = Self(contents);
        (rest.iter().all(|byte| *byte == 0) && contents.check().is_ok()).then_some(contents)
    }

    fn check(&self) -> Result<(), SealError> {
        let too_large = |what, value, value_max| SealError::TooLarge { what, value, value_max };
        if self.0.len() > limits::SECRETS_MAX {
            return Err(too_large("the number of secrets", self.0.len(), limits::SECRETS_MAX));
        }
        for secret in self.0.values() {
            if secret.bytes.len() > limits::SECRET_BYTES_MAX {
                let value = secret.bytes.len();
                return Err(too_large("the secret", value, limits::SECRET_BYTES_MAX));
            }
        }
        Ok(())
    }
}

fn put_u16(out: &mut Vec<u8>, number: usize) {
    // Counts and lengths are checked to be far below 65,536 (Contents::check).
    out.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (piece, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*piece)
}

fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (piece, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(bytes: Vec<u8>, created_s: u64, revoked_s: Option<u64>) -> Secret {
        Secret { bytes: Zeroizing::new(bytes), created_s, revoked_s }
    }

    proptest! {
        #[test]
        fn contents_survive_their_encoding(
            secrets in prop::collection::btree_map(
                "[a-z0-9.-]{1,64}",
                (prop::collection::vec(any::<u8>(), 0..100), any::<u64>(), any::<Option<u64>>()),
                0..20,
            ),
        ) {
            let contents = Contents(
                secrets
                    .into_iter()
                    .map(|(name, (bytes, created_s, revoked_s))| {
                        (SecretName::new(&name).unwrap(), secret(bytes, created_s, revoked_s))
                    })
                    .collect(),
            );
            let bytes = contents.to_bytes(16).unwrap();
            prop_assert_eq!(bytes.len() % limits::PADDING_BYTES, 0);
            prop_assert!(bytes.capacity() >= bytes.len() + 16);
            prop_assert!(Contents::from_bytes(&bytes) == Some(contents));
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Contents::from_bytes(&bytes);
        }
    }

    #[test]
    fn oversized_contents_are_refused() {
        let mut contents = Contents::default();
        let long = secret(vec![1; limits::SECRET_BYTES_MAX + 1], 0, None);
        contents.0.insert(SecretName::recovery(), long);
        assert!(matches!(contents.to_bytes(0), Err(SealError::TooLarge { .. })));
    }
}
