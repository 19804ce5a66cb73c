//! WARC files written, read back, cut, damaged and made up.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like a test")]

mod warc;
