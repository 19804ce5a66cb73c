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
/// Pause between looks at a disk that is full.
pub const ROOM_PAUSE: Duration = Duration::from_millis(500);
/// Pause between looks at the chain.
pub const SETTLE_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts when the chain does not answer.
pub const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Looks in a row at which a root that was posted must be missing on chain before it is posted
/// again: a server that lags behind the others catches up meanwhile.
pub const REPOST_LOOKS: u32 = 8;
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
/// Tasks on a page, the newest.
pub const TASKS_SHOWN: usize = 50;
/// Verdict latencies kept for the quantiles in the figures.
pub const LATENCIES_KEPT: usize = 4_096;
/// A configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// A file of URLs for a campaign, in bytes: what one request may carry.
pub const URLS_FILE_BYTES_MAX: u64 = CAMPAIGN_BYTES_MAX as u64;
/// Time that parts may take to end at a stop.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// Documents fetched at the same time: half of what the blob store fetches at once, so that
/// gossiped proofs do not wait behind them.
pub const DOCUMENT_FETCHES_MAX: usize = 8;
/// Time for one holder to deliver a document: 3 MiB, the longest, at 1 Mbit/s.
pub const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after the first failed attempt to collect a document; it doubles with each...
pub const DOCUMENT_RETRY: Duration = Duration::from_secs(1);
/// ...up to this: a node that was switched off over night is asked again when it is back.
pub const DOCUMENT_RETRY_MAX: Duration = Duration::from_secs(600);
/// Attempts, over about a minute, after which a document that nobody delivers is called failed.
pub const DOCUMENT_TRIES_QUIET: u32 = 6;
/// Documents that came out of order are compared anew at most this often: it costs some 10 us for
/// each document of the campaign.
pub const DOCUMENT_PLACE_PAUSE: Duration = Duration::from_secs(1);
/// Similarity from which a document is a near-duplicate, in permille of shared shingles: what 14
/// bands of 8 lanes are made for (Penedo et al. 2024, "FineWeb", aims at 75 % with the same).
pub const DUPLICATE_PERMILLE_MIN: u32 = 750;
/// Near-duplicates that are listed by name with their original; their number is always given.
pub const DUPLICATES_SHOWN_MAX: usize = 64;
/// Documents read from the store for the API at the same time: at 3 MiB each, and three times
/// that while they are turned into JSON.
pub const DOCUMENT_READS_MAX: usize = 16;
/// Characters of the reason why a document was not collected.
pub const REASON_CHARS_MAX: usize = 400;
/// Rows of documents in one answer unless the caller says otherwise.
pub const DOCUMENTS_PAGE: usize = 100;
/// Documents that the export asks for at the same time.
pub const EXPORT_READS_MAX: usize = 8;
/// One answer of the API that a command takes, in bytes: the longest document with its text
/// escaped as JSON, or a page of rows.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Sections of inference work in one campaign request: each is one model with its adapters.
pub const INFER_SECTIONS_MAX: u64 = 64;
/// Prompts in one campaign request: each is a blob that is synced before its task is logged, which
/// takes some ms, and a request is answered within half a minute.
pub const INFER_PROMPTS_MAX: u64 = 1_000;
/// Tasks of inference work that one request may make, with repetitions: as many as URLs.
pub const INFER_TASKS_MAX: u64 = CAMPAIGN_URLS_MAX as u64;
/// Tasks per prompt: more samples of one answer say nothing new.
pub const REPEAT_MAX: u32 = 1_000;
/// Sampling temperature in thousandths: above 2 models give noise.
pub const TEMPERATURE_PERMILLE_MAX: u32 = 2_000;
/// Weight of an adapter in thousandths: what the engine takes.
pub const ADAPTER_WEIGHT_PERMILLE_MAX: u32 = 16_000;
/// Value of a task in thousandths: ten times the base points, so that a slip does not spend a
/// budget at once.
pub const VALUE_PERMILLE_MAX: u32 = 10_000;
/// Prompts put into the blob store at the same time: as many as it writes at once.
pub const PROMPT_PUTS_MAX: usize = 16;
/// The name of a model or adapter, in bytes: as long as those that nodes announce.
pub const MODEL_NAME_MAX: usize = 64;
/// Names of models and adapters that are remembered.
pub const MODEL_NAMES_KEPT: usize = 4_096;
/// The file of names: an id of 64 digits, a name with all of it escaped, and some signs for each.
pub const MODEL_NAMES_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Models and adapters listed with a campaign; their number is always given.
pub const MODELS_SHOWN_MAX: usize = 16;
