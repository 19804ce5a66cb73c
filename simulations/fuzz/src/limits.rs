//! Every bound of this crate, with its reason.

/// Longest derived input in bytes: decoders must be fast to try; what needs more is tested by hand
/// beside its decoder.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Longest committed input in bytes, so that the corpus stays small enough to read.
pub const SEED_BYTES_MAX: usize = 6 * 1024;
/// Edits of one derived input: more leave little of the original.
pub const EDITS_MAX: u64 = 6;
/// Stack of the thread that runs a target, in bytes: what threads have in production, so that
/// nesting that would end a node ends the fuzzer.
pub const STACK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes that a content decoder may give in a target.
pub const DECODED_BYTES_MAX: u64 = 1024 * 1024;
/// Records that a target reads from one archive.
pub const RECORDS_MAX: usize = 64;
