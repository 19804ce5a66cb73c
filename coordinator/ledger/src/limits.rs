//! Every bound of the ledger, each with its reason.

/// Entries that one page of the log holds at most: at 4 MiB an entry this is the memory that a
/// reader must be ready for.
pub const PAGE_ENTRIES_MAX: usize = 512;
/// Bytes after which a page of the log ends early; one entry is always given.
pub const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Kept commits read back in one call at a start. A coordinator holds at most some thousand open
/// leases per node and forgets commits as their sets close.
pub const COMMITS_MAX: usize = 1 << 20;
/// Entries of one task's history.
pub const HISTORY_MAX: usize = 256;
/// Bytes of a stored bundle description, before it is decoded.
pub const META_BYTES_MAX: usize = 4 * 1024;
