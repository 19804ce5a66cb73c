//! Reads little-endian numbers and texts off a slice, never past its end.

use super::error::GgufError;
use crate::limits;

/// A place in the header of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The next bytes; `place` says for what.
    pub(super) fn take(&mut self, length: u64, place: &str) -> Result<&'a [u8], GgufError> {
        let left = (self.bytes.len() - self.at) as u64;
        let end = (self.at as u64).saturating_add(length);
        if length > left {
            let missing = length - left;
            return Err(GgufError::Truncated { place: place.to_owned(), missing, at_least: true });
        }
        if end > limits::GGUF_HEADER_BYTES_MAX as u64 {
            return Err(GgufError::TooMany {
                place: format!("the length of the header, reached in {place}"),
                found: end,
                max: limits::GGUF_HEADER_BYTES_MAX as u64,
            });
        }
        // It fits: `length` is at most what is left.
        let end = self.at + length as usize;
        let taken = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, place: &str) -> Result<[u8; N], GgufError> {
        let taken = self.take(N as u64, place)?;
        Ok(taken.try_into().unwrap_or([0; N]))
    }

    pub(super) fn u32(&mut self, place: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    pub(super) fn u64(&mut self, place: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// A count or length that must not pass `max`.
    pub(super) fn count(&mut self, max: u64, place: &str) -> Result<u64, GgufError> {
        let found = self.u64(place)?;
        if found > max {
            return Err(GgufError::TooMany { place: place.to_owned(), found, max });
        }
        Ok(found)
    }

    /// A text: its length, then its bytes.
    pub(super) fn text(&mut self, max: u64, place: &str) -> Result<&'a str, GgufError> {
        let length = self.count(max, place)?;
        let bytes = self.take(length, place)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 { place: place.to_owned() })
    }
}
