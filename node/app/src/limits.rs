//! Every number of this crate, with its reason.

use std::time::Duration;

/// Worker processes that refine at the same time, at most, unless the owner asks for more: a
/// community machine has other things to do.
pub const PARALLEL_DEFAULT_MAX: usize = 4;
/// Most that an owner can ask for.
pub const PARALLEL_MAX: usize = 64;
/// Fetches in progress at the same time. They wait for politeness most of their life, so many
/// cost little; more than this would only hold leases for nothing.
pub const FETCHES_MAX: usize = 16;
/// Leases that wait for a worker before new ones are given back; networks share them evenly, so
/// that none can crowd another out.
pub const WAITING_MAX: usize = 512;
/// Networks that one node may be in at the same time: each has a link, a fetch worker and up to 32
/// peers of its own, and no community machine should carry more.
pub const NETWORKS_MAX: usize = 8;
/// Sites whose last network is remembered before those that rested are forgotten.
pub const SITES_HELD_MAX: usize = 4_096;
/// How long a site rests before another network of this node may ask it: the longest pause that
/// the fetcher keeps for a robots.txt, since the other network's worker knows of no requests but
/// its own.
pub const SITE_REST: Duration = Duration::from_secs(60);

/// Address space of a worker process in bytes: a page of 50 MiB, its tree and its text, and room.
/// A worker that wants more dies, which costs one task and not the machine.
pub const WORKER_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// How much nicer than the node its workers are (POSIX nice).
pub const WORKER_NICE: i32 = 10;
/// First wait before a worker that died is started again; doubles up to the next figure.
pub const WORKER_RESTART_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a worker is started again.
pub const WORKER_RESTART_MAX: Duration = Duration::from_secs(30);
/// A worker that lived this long was a good one: the next wait is short again.
pub const WORKER_GOOD: Duration = Duration::from_secs(60);
/// A refine that takes longer than this is killed with its worker: real pages take milliseconds,
/// the largest allowed a few seconds.
pub const REFINE_TIME_MAX: Duration = Duration::from_secs(120);
/// The least time that a fetch gets, however short leases are.
pub const FETCH_TIME_MIN: Duration = Duration::from_secs(5);
/// A fetch with all its waiting; the fetcher's own limits end it before.
pub const FETCH_TIME_MAX: Duration = Duration::from_secs(240);

/// Work ends this long before the deadline, so that the commitment still arrives.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(1_500);
/// First wait before work that failed is tried again.
pub const RETRY_WAIT: Duration = Duration::from_secs(2);
/// A lease may not ask for work in a future or for a time longer than this: no rule set has
/// leases of more than a day.
pub const LEASE_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// How far this machine's clock may be off before the owner is told.
pub const CLOCK_SKEW_MS_MAX: u64 = 5_000;

/// How long the sender waits for more items of a batch.
pub const BATCH_LINGER: Duration = Duration::from_millis(40);
/// Items that wait to be sent over the link. What does not fit is in the outbox and comes again.
pub const SEND_QUEUE_MAX: usize = 1_024;
/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_secs(1);
/// How often the coordinator is asked what became of unsettled work, in case a push was lost.
pub const SYNC_EVERY: Duration = Duration::from_secs(10);
/// How often the account is asked for.
pub const ACCOUNT_EVERY: Duration = Duration::from_secs(30);
/// How often old records are pruned.
pub const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// How often the node tells its peers what it can give.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(120);
/// Blobs of finished work are looked at, and dropped, in batches of so many leases.
pub const CLEAN_ROWS_MAX: usize = 10_000;
/// Blobs of finished work stay at least this long: auditors and refiners still ask for them.
pub const KEEP_BLOBS_MS_MIN: u64 = 3_600 * 1_000;
/// How long `stop` waits for work in progress to commit.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// A node that does not stop by itself within this time after it was told to is ended: longer than
/// [`STOP_GRACE`] for its networks, its shared parts and its blobs, one after the other.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(17);
/// How long files of a run that has ended may still be held while the next one opens them.
pub const REOPEN_TIME_MAX: Duration = Duration::from_secs(10);
/// Threads that sockets and timers share; whatever computes is in workers.
pub const RUNTIME_THREADS: usize = 2;
/// Blocking reads of a run that has ended are waited for no longer.
pub const RUNTIME_STOP_TIME_MAX: Duration = Duration::from_millis(200);

/// How long a command waits for the keys while another one has them open: each has them for a
/// second at most, which deriving the vault's key takes.
pub const VAULT_WAIT: Duration = Duration::from_secs(6);

/// A delegation lives this long (180 days): longer than any holiday, shorter than a forgotten
/// machine's life.
pub const DELEGATION_MS: u64 = 180 * 24 * 3_600 * 1_000;
/// A delegation is renewed when less than this is left (30 days).
pub const DELEGATION_RENEW_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Clocks of node and coordinator differ; a delegation starts this long in the past.
pub const DELEGATION_EARLY_MS: u64 = 10 * 60 * 1_000;

/// The configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Entries of one host list, as the worker protocol bounds them.
pub const HOSTS_MAX: usize = 256;
/// A log file is begun anew at this size; one older file is kept.
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// Lines that `logs` shows at most.
pub const LOG_LINES_MAX: usize = 10_000;
/// An answer of the control API that the command line reads.
pub const CONTROL_BYTES_MAX: usize = 64 << 20;
/// How long the command line waits for the control API.
pub const CONTROL_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a request to a coordinator's HTTP API or a chain may take.
pub const HTTP_TIME_MAX: Duration = Duration::from_secs(60);
/// Epochs that `audit` downloads at most in one run.
pub const AUDIT_EPOCHS_MAX: u64 = 100_000;

/// One question of `doctor` to somebody outside: a good line answers within a tenth of it.
pub const DOCTOR_PROBE_TIME_MAX: Duration = Duration::from_millis(2_500);
/// One check of `doctor` on this machine: longer than an honest disk takes.
pub const DOCTOR_CHECK_TIME_MAX: Duration = Duration::from_millis(3_000);
/// All questions of `doctor` to a network, and judging their answers, on a machine that is busy.
pub const DOCTOR_OUTSIDE_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer of a coordinator's status that `doctor` reads; real ones have half a KiB.
pub const DOCTOR_BODY_BYTES_MAX: usize = 64 * 1024;
/// A look of `doctor` for one device: drivers that answer at all do so in a second.
pub const DOCTOR_DEVICE_TIME_MAX: Duration = Duration::from_millis(2_200);
/// Networks that `doctor` looks at in one run: each means a dozen sockets.
pub const DOCTOR_NETWORKS_MAX: usize = 8;
/// Addresses to start from that `doctor` dials, as many as a profile holds.
pub const DOCTOR_BOOTSTRAP_MAX: usize = 32;
/// Remembered peers that `doctor` dials: if none of so many answers, the rest is no hope either.
pub const DOCTOR_REMEMBERED_MAX: usize = 8;
/// Files of the data folder that `doctor` looks at; a full blob store has fewer.
pub const FILES_WALKED_MAX: u64 = 200_000;
/// Least free space in bytes: a synced outbox, two logs of [`LOG_BYTES_MAX`], a page in work.
pub const DISK_FREE_BYTES_MIN: u64 = 128 << 20;
/// Least number of files that can still be made.
pub const DISK_FREE_FILES_MIN: u64 = 1_024;
/// Memory of the node itself in bytes, as `up` announces it.
pub const MEMORY_NODE_BYTES: u64 = 300 << 20;
/// Memory of the fetch worker in bytes: some pages of 50 MiB in progress, most are far smaller.
pub const MEMORY_FETCH_BYTES: u64 = 64 << 20;
/// Memory of one refine worker in bytes on a large page: its text, its tree and its document.
pub const MEMORY_REFINE_BYTES: u64 = 192 << 20;
/// Memory of an infer worker in bytes beside its model, keys, values and adapters: its code, a
/// vocabulary of a hundred thousand tokens with its merges, logits and scratch space of a step.
pub const MEMORY_INFER_BYTES: u64 = 96 << 20;
/// Memory in bytes that stays free beside a running node, so that nothing is killed.
pub const MEMORY_RESERVE_BYTES: u64 = 128 << 20;
/// Open files below which the node cannot keep link, peers and files open at the same time.
pub const OPEN_FILES_MIN: u64 = 256;
/// Open files that leave room for all peers, uploads and fetches at once.
pub const OPEN_FILES_WANTED: u64 = 1_024;
/// How far ahead of true time a block may be by consensus rules, with some room: two slots of 12 s.
pub const BLOCK_EARLY_MS_MAX: u64 = 24 * 1_000;
/// A chain whose newest block is older than this stands still.
pub const BLOCK_AGE_MS_MAX: u64 = 15 * 60 * 1_000;
/// Model files that `doctor` looks at; a header takes a few milliseconds.
pub const DOCTOR_MODELS_MAX: usize = 64;
/// Folders below `models/` in which they are looked for: publisher, model, version.
pub const DOCTOR_MODEL_DEPTH_MAX: usize = 3;

/// What a peer said that it offers is believed for this long (15 minutes): seven announcements.
pub const OFFER_MS_MAX: u64 = 15 * 60 * 1_000;
/// Nodes of one network whose offers are remembered; each takes a few kilobytes.
pub const OFFERING_NODES_MAX: usize = 512;
/// Digits of an id that name a blob: eight are 32 bits, so that no two of a swarm's models meet.
pub const ID_PREFIX_LEN_MIN: usize = 8;
/// Models and adapters of one machine: all of them are looked at when the folder is read.
pub const MODELS_MAX: usize = 1_024;
/// The note beside a model file, in bytes: a name, an id and a path.
pub const MODEL_NOTE_BYTES_MAX: u64 = 16 * 1024;
/// A name of a model, as announcements bound it.
pub const MODEL_NAME_LEN_MAX: usize = 64;
/// How often the folder of models is looked at for what `openledger model` changed.
pub const MODELS_EVERY: Duration = Duration::from_secs(2);
/// An adapter's file in bytes: rank 64 on every site of an 8-billion model, in 16 bits.
pub const ADAPTER_BYTES_MAX: u64 = 1 << 30;
/// How often a long transfer says how far it is.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// An announcement follows what changed, or a new peer, after this time, so that several changes
/// make one.
pub const ANNOUNCE_LINGER: Duration = Duration::from_millis(700);
/// The least time between two announcements of a node.
pub const ANNOUNCE_GAP: Duration = Duration::from_secs(3);

/// How long an infer worker may take to load its model: checking a file's header and its tokens
/// takes a second, a slow disk some more.
pub const INFER_START_TIME_MAX: Duration = Duration::from_secs(120);
/// How long loading an adapter may take.
pub const ADAPTER_TIME_MAX: Duration = Duration::from_secs(60);
/// How long turning texts into vectors may take.
pub const EMBED_TIME_MAX: Duration = Duration::from_secs(300);
/// Address space of an infer worker beside its model, keys, values and adapters: code, threads'
/// stacks, vocabulary, logits.
pub const INFER_MEMORY_BYTES: u64 = 4 << 30;
/// Messages between the engine and the socket that wait in an infer worker.
pub const INFER_QUEUE_MAX: usize = 4_096;
/// Adapters that an infer worker knows the files of.
pub const INFER_ADAPTERS_MAX: usize = 4_096;
/// Prompt tokens that an engine runs in one step: a tenth of a second on a slow core.
pub const INFER_CHUNK_TOKENS_MAX: usize = 128;
/// Suspicion at which an input is refused: two crashes with nothing else in hand, four in company.
pub const STRIKES_MAX: u8 = 4;
/// Suspicion after a crash with this input alone in hand.
pub const STRIKES_ALONE: u8 = 2;
/// How long an input is under suspicion.
pub const STRIKE_TIME: Duration = Duration::from_secs(3_600);
/// Inputs under suspicion that are remembered.
pub const SUSPECTS_MAX: usize = 1_024;
/// A worker that may not start again for longer than this is not waited for.
pub const WORKER_WAIT_MAX: Duration = Duration::from_secs(3);
/// First rest of a backend that does not work; doubles up to the next figure.
pub const BACKEND_REST_MIN: Duration = Duration::from_secs(300);
/// Longest rest of a backend that does not work: a driver that was mended is found within hours.
pub const BACKEND_REST_MAX: Duration = Duration::from_secs(4 * 3_600);
/// Deaths of a backend's workers within [`BACKEND_DEATHS_TIME`] after which it rests: one may be an
/// input's fault, which the next backend then gets as well.
pub const BACKEND_DEATHS_MAX: usize = 2;
/// How long a death is held against a backend.
pub const BACKEND_DEATHS_TIME: Duration = Duration::from_secs(600);
/// Notes of backends that do not run a model.
pub const BACKEND_NOTES_MAX: usize = 64;
/// A look for a device: drivers take seconds to start on some machines.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether a device is to be looked for.
pub const DEVICES_EVERY: Duration = Duration::from_secs(5);
/// Failed steps in a row after which a worker on a device ends: the device is lost.
pub const DEVICE_FAILURES_MAX: u32 = 4;
/// Adapters that are read ahead of the engine: the next ones while one is stored.
pub const ADAPTERS_AHEAD: usize = 4;
/// The longest that a worker waits without looking at deadlines.
pub const INFER_WAIT_MAX: Duration = Duration::from_millis(50);
/// Milliseconds between two looks for adapters that nobody uses.
pub const IDLE_LOOK_MS: u64 = 5_000;
/// Inference tasks in progress at the same time: few, so that calls of people find room.
pub const INFER_TASKS_MAX: usize = 4;
/// A whole inference task, with fetching what it needs.
pub const INFER_TIME_MAX: Duration = Duration::from_secs(600);

/// A peer's answer to a request about a call: it answers within [`PEER_POLL`], so one that takes
/// longer than this is dead or as good as that.
pub const PEER_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// A peer's answer with vectors, which it computes first; the swarm gives up after 20 s.
pub const PEER_VECTORS_TIME_MAX: Duration = Duration::from_secs(18);
/// The next token of a peer that does answer: it may load a model or work off a queue first.
pub const PEER_TOKEN_TIME_MAX: Duration = Duration::from_secs(120);
/// Room at peers that are all busy, before the caller is told to come back.
pub const PEER_BUSY_TIME_MAX: Duration = Duration::from_secs(8);
/// A peer that waits for tokens is told after this time that there are none yet.
pub const PEER_POLL: Duration = Duration::from_secs(2);
/// Tokens that come within this time after one are sent along with it: less than a person notices.
pub const PEER_LINGER: Duration = Duration::from_millis(15);
/// A call that its peer did not ask about for this long is given up. Longer than a peer waits for
/// an answer, twice over.
pub const PEER_ABANDONED: Duration = Duration::from_secs(15);
/// Least pause between two questions about a call that has nothing new.
pub const PEER_ASK_PAUSE: Duration = Duration::from_millis(50);
/// Requests a second of one peer: some calls at 25 tokens a second each.
pub const PEER_REQUESTS_PER_S: u64 = 150;
/// Requests that a peer may make at once.
pub const PEER_REQUESTS_BURST: u64 = 300;
/// Peers whose budget of requests is remembered.
pub const PEER_BUDGETS_MAX: usize = 1_024;
/// A peer that is turned away is asked to come back after this many milliseconds.
pub const PEER_BUSY_MS: u32 = 1_000;
/// Calls of one peer at the same time, of [`crate::api::ApiConfig::peer_calls_max`] for all.
pub const PEER_CALLS_PER_PEER_MAX: usize = 4;
/// Calls of one peer that are remembered, those that ended included.
pub const PEER_CALLS_KEPT_MAX: usize = 32;
/// Tokens that wait for a peer to take them; then the engine waits.
pub const PEER_TOKENS_HELD_MAX: usize = 512;
/// Tokens in one answer to a peer, as the wire bounds them.
pub const PEER_TOKENS_MAX: usize = 256;
/// Bytes of tokens in one answer to a peer: half of what the swarm carries, with room for frames.
pub const PEER_TOKENS_BYTES_MAX: usize = 512 * 1024;
/// Texts of one embedding request that go to a peer at once, so that it answers in time.
pub const PEER_EMBED_INPUTS_MAX: usize = 8;
/// Bytes of such texts, unless a single one is longer.
pub const PEER_EMBED_BYTES_MAX: usize = 4 * 1024;
/// First rest of a peer that did not answer; doubles up to the next figure.
pub const PEER_REST_MS_MIN: u64 = 2_000;
/// Longest rest of a peer that did not answer.
pub const PEER_REST_MS_MAX: u64 = 5 * 60 * 1_000;
/// What is expected of a peer that was never asked: a line across a continent.
pub const PEER_LATENCY_MS_UNKNOWN: u64 = 100;
/// Peers whose answers are remembered.
pub const STANDINGS_MAX: usize = 1_024;
/// Servers that one call is tried at, this machine included, before it is given up.
pub const CALL_PLACES_MAX: usize = 5;
/// Pieces of an answer that wait for its client.
pub const CALL_PIECES_MAX: usize = 64;
/// How long files that a call needs may take to be fetched.
pub const CALL_FETCH_TIME_MAX: Duration = Duration::from_secs(600);

/// The port of the API unless the owner or another program has other plans: one that clients can
/// have in their settings.
pub const API_PORT: u16 = 4_100;
/// A request to the API in bytes: the longest prompt of 1 MiB with many of its characters escaped.
pub const API_BODY_BYTES_MAX: usize = 4 << 20;
/// More than that is read and dropped, so that a client which sends first and listens then hears
/// why; beyond this much it is cut off.
pub const API_BODY_BYTES_DROPPED_MAX: usize = 64 << 20;
/// Sending a request may take so long.
pub const API_BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Requests to the API at the same time.
pub const API_CALLS_MAX: usize = 64;
/// Keys that an owner may configure.
pub const API_KEYS_MAX: usize = 64;
/// From a request to the start of its answer: a long answer that is not streamed, on a slow core.
pub const API_ANSWER_TIME_MAX: Duration = Duration::from_secs(900);
/// How long the first token is waited for before a stream begins; its failures until then have a
/// status of their own.
pub const API_FIRST_WAIT: Duration = Duration::from_secs(10);
/// Tokens of an answer for which the client names no number: a small model that rambles does not
/// hold the machine for longer.
pub const API_TOKENS_DEFAULT: u32 = 1_024;
/// The same for plain completions, by OpenAI's reference.
pub const API_COMPLETION_TOKENS_DEFAULT: u32 = 16;
/// Prompts in one request for completions: each is a call of its own.
pub const API_PROMPTS_MAX: usize = 16;
/// Texts in one request for embeddings, by OpenAI's reference.
pub const API_EMBED_INPUTS_MAX: usize = 2_048;
/// Alternatives for each token, by OpenAI's reference.
pub const API_TOP_LOGPROBS_MAX: u64 = 20;
/// Tries of a download that bring nothing, before it is given up.
pub const HUB_TRIES_MAX: u32 = 4;
/// The wait before a download goes on, longer each time.
pub const HUB_WAIT: Duration = Duration::from_millis(500);
/// A hub's list of a repository's files, in bytes; the longest have some hundred.
pub const HUB_LISTING_BYTES_MAX: usize = 4 << 20;
/// Files with weights of a model that are downloaded together.
pub const HUB_FILES_MAX: usize = 128;
/// Upstream servers of a node.
pub const UPSTREAMS_MAX: usize = 16;
/// Models and adapters of one upstream server that are looked at.
pub const UPSTREAM_MODELS_MAX: usize = 1_024;
/// A name of an upstream server's model, as announcements bound it.
pub const UPSTREAM_NAME_LEN_MAX: usize = 64;
/// A key for an upstream server.
pub const UPSTREAM_KEY_LEN_MAX: usize = 4_096;
/// An upstream server's list of models, in bytes: a thousand of them at a kilobyte each.
pub const UPSTREAM_LIST_BYTES_MAX: usize = 2 << 20;
/// What an upstream server says in place of an answer, in bytes.
pub const UPSTREAM_ERROR_BYTES_MAX: usize = 64 * 1024;
/// One line of an upstream server's stream: a token with 20 others takes 3 kB.
pub const UPSTREAM_LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an upstream server's stream for each token that was asked for.
pub const UPSTREAM_TOKEN_BYTES_MAX: usize = 16 * 1024;
/// An upstream server's whole answer, in bytes.
pub const UPSTREAM_ANSWER_BYTES_MAX: usize = 128 << 20;
/// How often an upstream server is asked what it has.
pub const UPSTREAM_LOOK_EVERY: Duration = Duration::from_secs(15);
/// What an upstream server said that it has is believed for so long: six questions without answer.
pub const UPSTREAM_FRESH_MS: u64 = 90 * 1_000;
/// How long an upstream server may take to list its models.
pub const UPSTREAM_LIST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection to an upstream server may take.
pub const UPSTREAM_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long an upstream server may take to begin: its queue may be long.
pub const UPSTREAM_BEGIN_TIME_MAX: Duration = Duration::from_secs(300);
/// Silence of an upstream server in the middle of an answer: prompts of others may be run first.
pub const UPSTREAM_STALL: Duration = Duration::from_secs(120);
/// How long the usage is waited for after an answer's end.
pub const UPSTREAM_USAGE_TIME_MAX: Duration = Duration::from_secs(2);
/// The longest that a caller is told to wait by an upstream server.
pub const UPSTREAM_AFTER_MS_MAX: u32 = 600_000;
/// Silence of a hub before the connection is taken for dead.
pub const HUB_STALL: Duration = Duration::from_secs(30);
