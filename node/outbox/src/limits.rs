//! Every number of this crate, with its reason.

use openledger_wire::limits;

/// One record, encoded: commitment envelope, receipt and verdict with paths of 32 hashes, and
/// the reason. Far above what a record really takes (about 4 kB).
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// One leased task, encoded: a task body, eight holders with eight addresses each, and frames.
pub const LEASE_BYTES_MAX: usize = limits::TASK_BODY_MAX + 32 * 1024;

/// Milestones kept of one lease. A lease passes at most nine stages and a few corrections.
pub const MILESTONES_MAX: usize = 24;

/// How often work on a lease is begun before it is given back: twice after a crash of the node
/// itself, so that an input which takes the whole machine down cannot do so for ever.
pub const ATTEMPTS_MAX: u8 = 3;

/// Worker crashes on one input before it is put in quarantine. Once may be chance (memory, an
/// update in between); twice is the input.
pub const CRASHES_MAX: u8 = 2;

/// Leases that may be open at once. A coordinator that pushes more than this is wrong or hostile;
/// a real node holds some tens.
pub const OPEN_MAX: u64 = 4_096;

/// Proofs that one `Sync` asks about, as the wire bounds it.
pub const UNSETTLED_MAX: usize = 512;

/// How long settled work stays in the history, in milliseconds: 90 days, a quarter's payouts.
pub const HISTORY_MS: u64 = 90 * 24 * 3_600 * 1_000;

/// How long the node remembers that it committed for a lease, in milliseconds: no delegation of
/// its key lives longer, so no second commitment of the same key can count after that.
pub const GUARD_MS: u64 = limits::DELEGATION_MS_MAX;

/// Rows removed in one pruning pass: bounds the pass to a few milliseconds.
pub const PRUNE_ROWS: usize = 1_024;

/// Most rows that one history query returns.
pub const QUERY_ROWS_MAX: usize = 10_000;
