//! Archives of what was fetched.
//!
//! [`warc`] writes and reads WARC 1.1 files: a page goes in as request, response
//! and metadata records and comes out byte for byte, with digests that other
//! tools understand and a BLAKE3 one that the swarm uses. This crate does not
//! fetch, extract or transport anything, and knows no clock.

pub mod warc;
