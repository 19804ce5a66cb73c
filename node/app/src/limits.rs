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
/// Leases that wait for a worker before new ones are given back.
pub const WAITING_MAX: usize = 512;

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
