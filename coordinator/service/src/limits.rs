//! Every bound of the coordinator, each with its reason.

use std::time::Duration;

/// Commands that wait for the core. A command is at most one link batch of 64 envelopes of
/// 48 kB, so this bounds the queue to about 800 MB in the worst case and to some MB in practice;
/// past it nodes are told to come later.
pub const QUEUE_COMMANDS_MAX: usize = 256;
/// Events that share one sync at most: a sync takes about 4 ms, an event about 100 us.
pub const BATCH_EVENTS_MAX: usize = 1_024;
/// What a node is told to wait when the queue is full, in milliseconds.
pub const LATER_MS: u32 = 500;
/// What made durable is told to listeners through a queue of this many batches; who is slower
/// starts from the state again.
pub const DURABLE_QUEUE: usize = 256;
/// Time passes for the rules this often on a devnet, whose rounds take seconds...
pub const TICK_FAST: Duration = Duration::from_millis(200);
/// ...and this often elsewhere.
pub const TICK_SLOW: Duration = Duration::from_secs(1);
/// Rule sets with rounds shorter than this get fast ticks.
pub const FAST_ROUND_MS: u64 = 60_000;
/// One answer of a drand relay: a JSON object of some hundred bytes.
pub const BEACON_BYTES_MAX: usize = 4 * 1024;
/// Time for one relay to answer.
pub const BEACON_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause before a beacon that could not be had is asked for again.
pub const BEACON_RETRY: Duration = Duration::from_secs(1);
/// Signed receipt and verdict batches kept for nodes that ask what they missed: each holds its
/// rows with paths.
pub const SIGNED_BATCHES_KEPT: usize = 256;
/// Envelopes that gossip says are blobs at a node, fetched at the same time.
pub const GOSSIP_FETCHES_MAX: usize = 8;
/// Attempts to hand a gossiped proof to the rules while they say that it is too early.
pub const GOSSIP_TRIES_MAX: usize = 8;
/// Gossiped messages remembered, so that a repetition costs nothing: 32 bytes each.
pub const GOSSIP_SEEN_KEPT: usize = 16_384;
/// Bundles named in an announcement: a node that was away for a week finds what it missed.
pub const BUNDLES_ANNOUNCED: usize = 8;
/// Pause between announcements.
pub const ANNOUNCE_PAUSE: Duration = Duration::from_secs(30);
/// Peers of a coordinator, which others start from: more than a node's, less than what a small
/// machine can hold.
pub const PEERS_MAX: u32 = 256;
/// Pause between looks at the chain.
pub const SETTLE_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts when the chain does not answer.
pub const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a post to be mined before the chain is asked again what happened.
pub const POST_TIME_MAX: Duration = Duration::from_secs(120);
/// A signed head is gossiped at most this often: a flood helps nobody.
pub const HEAD_PAUSE: Duration = Duration::from_secs(1);
/// URLs of one campaign request. More are sent in several requests with the same terms.
pub const CAMPAIGN_URLS_MAX: usize = 10_000;
/// A campaign request, in bytes: its URLs at their longest plausible mean.
pub const CAMPAIGN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows of a table on a page or of a list of the API.
pub const ROWS_SHOWN_MAX: usize = 500;
/// Epochs on the start page.
pub const EPOCHS_SHOWN: u64 = 20;
/// Verdict latencies kept for the quantiles in the figures.
pub const LATENCIES_KEPT: usize = 4_096;
/// A configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// A file of URLs for a campaign, in bytes: what one request may carry.
pub const URLS_FILE_BYTES_MAX: u64 = CAMPAIGN_BYTES_MAX as u64;
/// Time that parts may take to end at a stop.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
