//! Every number of this crate, with its reason.

/// Memory of the key derivation, in KiB: 64 MiB, the second recommended setting of RFC 9106. About
/// a fifth of a second here, once per start.
pub const KDF_MEMORY_KIB: u32 = 64 * 1024;

/// Passes of the key derivation (RFC 9106, the same setting).
pub const KDF_PASSES: u32 = 3;

/// Lanes of the key derivation. One, because lanes are computed one after another here, and more
/// would only help who has more cores.
pub const KDF_LANES: u32 = 1;

/// Most memory a file may ask for, in KiB: 1 GiB. A file may come from anywhere, and must not be
/// able to bring the machine down.
pub const KDF_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// Most passes a file may ask for; with the memory above, under a minute.
pub const KDF_PASSES_MAX: u32 = 16;

/// Most lanes a file may ask for.
pub const KDF_LANES_MAX: u32 = 8;

/// Least memory, in KiB, that is not called weak (the smallest setting that OWASP recommends).
pub const KDF_MEMORY_KIB_STRONG: u32 = 19 * 1024;

/// Longest vault file, in bytes: more than all secrets at their limits, and little to read.
pub const FILE_BYTES_MAX: usize = 2 << 20;

/// Longest header, in bytes; ours has about 300.
pub const HEADER_BYTES_MAX: usize = 1024;

/// Most secrets in a vault: rotations of many years.
pub const SECRETS_MAX: usize = 256;

/// Longest secret, in bytes: room for any key format, and no place for data.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Longest name of a secret, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The content is padded to a multiple of this many bytes, so that the length of the file does not
/// tell how many keys are in it.
pub const PADDING_BYTES: usize = 1024;

/// Shortest passphrase accepted for a new vault, in bytes. Length is no proof of strength; this
/// only stops slips such as an empty line.
pub const PASSPHRASE_BYTES_MIN: usize = 8;

/// Longest passphrase, in bytes, and longest file it is read from.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;
