//! Limits of what this crate reads and writes that are no part of a processing profile.
//!
//! What decides whether a page becomes a document is in [`crate::profile`], because a
//! change there changes outputs. Here are the bounds that protect decoders and memory.

/// Longest page URL that is accepted, in bytes. Servers and browsers stop near 8 KiB;
/// longer ones are attacks or trackers.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// Longest encoded document that is decoded, in bytes: the text limit of every profile
/// (2 MiB) and room for the other fields.
pub const DOCUMENT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Numeral hashes that a fingerprint keeps. A page of tables holds some hundreds; 4,096
/// make 32 KiB, which still travels in one message.
pub const NUMERALS_MAX: usize = 4_096;

/// Longest encoded fingerprint that is decoded, in bytes: 4,096 numerals of 8 bytes, a
/// signature of 448 bytes, two hashes and the map around them.
pub const FINGERPRINT_BYTES_MAX: usize = 34 * 1024;

/// Bytes handed to the parser between two looks at its limits. A tag needs three bytes,
/// so depth can pass its limit by at most 683 in between, which costs nothing.
pub(crate) const PARSE_CHUNK_BYTES: usize = 2 * 1024;

/// JSON-LD scripts that are read on a page, and the bytes and objects read of each: real
/// pages carry one to five of a few kilobytes.
pub(crate) const JSONLD_SCRIPTS_MAX: usize = 16;
/// See [`JSONLD_SCRIPTS_MAX`].
pub(crate) const JSONLD_BYTES_MAX: usize = 256 * 1024;
/// See [`JSONLD_SCRIPTS_MAX`].
pub(crate) const JSONLD_OBJECTS_MAX: usize = 256;

/// Bytes at the start of a page in which a declared charset is looked for. The standard
/// says 1,024; pages with long comments first are common enough for some slack.
pub(crate) const CHARSET_PRESCAN_BYTES: usize = 4 * 1024;

/// Bytes, from the first that is not ASCII, on which a charset is guessed.
pub(crate) const CHARSET_GUESS_BYTES: usize = 64 * 1024;

/// Documents kept under one band key. A key shared by more is boilerplate of a whole
/// site; its first members already say so.
pub const BUCKET_DOCUMENTS_MAX: usize = 64;
