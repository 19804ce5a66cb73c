//! Strict canonical CBOR (the dag-cbor rules): minimal integers, sorted map keys, definite
//! lengths, no floats of other widths, nothing behind the value.
//!
//! There is exactly one encoding of a value, so hashes of encodings are ids. What is *signed* are
//! nevertheless the bytes as sent: see [`crate::envelope`].

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a value could not be encoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value holds what CBOR cannot (never the case for the types of this crate).
    #[error("encode {what}: {reason}")]
    Unencodable {
        /// The type's name.
        what: &'static str,
        /// The encoder's words.
        reason: String,
    },
}

/// Why bytes were refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than this message may have; nothing was decoded.
    #[error("decode {what}: {len} bytes are more than the limit of {max}; send less at a time")]
    TooLong {
        /// The type's name.
        what: &'static str,
        /// What arrived.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not canonical CBOR of this type.
    #[error("decode {what}: {reason}; the sender must use the strict canonical encoding")]
    Malformed {
        /// The type's name.
        what: &'static str,
        /// The decoder's words.
        reason: String,
    },
}

fn name<T>() -> &'static str {
    let full = core::any::type_name::<T>();
    let head = full.split('<').next().unwrap_or(full);
    head.rsplit("::").next().unwrap_or(head)
}

/// The canonical bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    serde_cbor::to_vec(value)
        .map_err(|e| EncodeError::Unencodable { what: name::<T>(), reason: e.to_string() })
}

/// Reads one value that fills `bytes`, of at most `max` bytes, in its one encoding.
///
/// Nesting is bounded by the decoder, lengths by the types of [`crate::bounded`].
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { what: name::<T>(), len: bytes.len(), max });
    }
    let malformed = |reason: String| {
        let reason = reason.chars().take(200).collect();
        DecodeError::Malformed { what: name::<T>(), reason }
    };
    let value: T = serde_cbor::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    // The decoder takes a second spelling of enums (a variant's name without the map around it, and
    // the map around a bare name), so what is accepted is what we would have written.
    let mut expected = Expected(bytes);
    match serde_cbor::to_writer(&mut expected, &value) {
        Ok(()) if expected.0.is_empty() => Ok(value),
        _ => Err(malformed("not the one encoding of this value".to_owned())),
    }
}

/// A writer that takes only the bytes that it expects.
struct Expected<'a>(&'a [u8]);

impl io::Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_long_integers_and_oversize_are_refused() {
        assert!(decode::<u64>(&[0x01], 16).is_ok());
        for bad in [&[0x01, 0x01][..], &[0x18, 0x01], &[0x9f, 0x01, 0xff], &[]] {
            assert!(
                matches!(decode::<u64>(bad, 16), Err(DecodeError::Malformed { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(decode::<u64>(&[0; 17], 16), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn the_second_spelling_of_an_enum_is_refused() {
        use crate::log::BeaconProof;
        let stub = encode(&BeaconProof::Stub).unwrap();
        assert!(decode::<BeaconProof>(&stub, 64).is_ok());
        assert!(decode::<BeaconProof>(&[&[0xa1], &stub[..]].concat(), 64).is_err());
        let named =
            encode(&BeaconProof::Drand { round: 1, signature: Default::default() }).unwrap();
        assert!(decode::<BeaconProof>(&named, 64).is_ok());
        assert!(decode::<BeaconProof>(&named[1..], 64).is_err());
    }

    #[test]
    fn hostile_nesting_ends_in_an_error() {
        let deep = vec![0x81; 100_000];
        assert!(decode::<Vec<Vec<u8>>>(&deep, 1 << 20).is_err());
    }
}
