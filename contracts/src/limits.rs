//! How long this crate waits and how much it sends at once, each with its reason.

use std::time::Duration;

/// URLs of one chain: enough for a provider, a spare and a node of one's own.
pub(crate) const ENDPOINTS_MAX: usize = 8;
/// A TCP and TLS handshake over a slow link; longer means that the host is gone.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One request: public endpoints answer a log query in seconds, the rest in milliseconds.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Rounds over all endpoints before a chain counts as unreachable.
pub(crate) const ATTEMPTS: u32 = 3;
/// The pause after the first failed round; it doubles with every further one.
pub(crate) const BACKOFF: Duration = Duration::from_millis(250);
/// The default for how long a transaction may wait: ten times an L1 block and more, so that only a
/// fee that is too low or a halted chain exceeds it.
pub const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);
/// First pause between two looks for a receipt: automining chains have it at once.
pub(crate) const RECEIPT_POLL: Duration = Duration::from_millis(50);
/// Longest pause between two looks: half an L2 block.
pub(crate) const RECEIPT_POLL_MAX: Duration = Duration::from_secs(1);
/// Per cent of gas above the estimate, because the state may move until the transaction is in.
pub(crate) const GAS_MARGIN_PERCENT: u64 = 25;
/// Claims of one transaction: about 90,000 gas each, so a batch stays below a fifth of a 30M block.
pub const CLAIM_BATCH_MAX: usize = 64;
/// Revert data that is shown when it decodes to nothing known.
pub(crate) const REVERT_SHOWN_BYTES: usize = 68;
/// Characters of a remote message that are repeated in an error.
pub(crate) const MESSAGE_SHOWN: usize = 300;
/// A local chain answers within a second; a loaded machine may take many times that.
pub(crate) const ANVIL_START: Duration = Duration::from_secs(30);
/// Lines that a local chain may print before it listens: its banner has about 60.
pub(crate) const ANVIL_LINES_MAX: usize = 2_000;
