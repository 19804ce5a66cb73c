//! Every number of this crate, with its reason.

/// Longest encoded key, in bytes. Keys of a B-tree page should stay far below a page (4 KiB), so
/// that branch pages keep a fan-out of several.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value, in bytes. Larger things are blobs and live in the blob store; a value is read
/// into memory as a whole.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Page cache of a store, in bytes. redb's own default (1 GiB) is more than a community node can
/// spare for one of several stores.
pub const CACHE_BYTES: usize = 64 << 20;

/// Files up to this size, in bytes, are checked page by page at each opening
/// ([`crate::Verify::Auto`]). Reading this much takes well under a second from any disk, so a
/// restart stays within two.
pub const VERIFY_FILE_BYTES_MAX: u64 = 64 << 20;

/// Most jobs that one group commit takes. A sync takes about 4 ms (measured) and a small job a few
/// microseconds, so a full group spends about as long in jobs as in its sync.
pub const GROUP_JOBS_MAX: usize = 1024;

/// Most jobs that wait for a group commit before submitters are held back: four full groups, so
/// that the committing thread never runs dry while memory stays bounded.
pub const QUEUE_JOBS_MAX: usize = 4096;

/// Most rows one range scan returns, whatever limit its caller names, so that a mistaken limit
/// cannot ask for a whole table in memory.
pub const SCAN_ROWS_MAX: usize = 1 << 20;

/// Longest text read from the table of schema facts, in bytes: names and versions are short, and
/// the file may be hostile.
pub const SCHEMA_TEXT_BYTES_MAX: usize = 256;
