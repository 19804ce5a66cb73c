//! Sizes of the benchmarks, each with its reason.

use std::time::Duration;

/// Strings given to both tokenizers: the ten thousand of the committed vectors.
pub const STRINGS: u64 = 10_000;

/// Strings of a quick run: each kind of piece occurs some hundred times.
pub const STRINGS_QUICK: u64 = 1_000;

/// A quick run takes one of so many sequences, and no long one: five, of different kinds. With
/// 32-bit weights llama.cpp needs up to four seconds for each on two busy cores.
pub const SEQUENCES_QUICK_STEP: usize = 6;

/// Tokens of a sequence that a quick run takes.
pub const SEQUENCE_TOKENS_QUICK_MAX: usize = 96;

/// Tokens of a sequence where the model is not that of the vectors: as long as theirs are.
pub const SEQUENCE_TOKENS_MAX: usize = 96;

/// Positions that must be compared.
pub const POSITIONS_MIN: u64 = 2_560;

/// Of a hundred positions so many must have the same likeliest token.
pub const EQUAL_PERCENT_MIN: usize = 99;

/// Where llama.cpp's top two logits are further apart than this, no other token may be likeliest.
pub const GAP_MAX: f64 = 0.1;

/// Longest answer of the peer, in bytes. The ids of all strings are about 1 MB.
pub const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Threads of the peer where its answers count and not its time. One: its threads spin while they
/// wait for each other, so that on a busy machine two take ten times as long.
pub const PEER_THREADS: usize = 1;

/// Tokens of a prompt before timed decoding: eight of them are prefilled in one step.
pub const PROMPT_TOKENS: usize = 16;

/// Rank of adapters: the middle of what adapters of the devnet have.
pub const ADAPTER_RANK: usize = 8;

/// Rank where adapters are timed: what most published ones have.
pub const TIMED_ADAPTER_RANK: usize = 16;

/// What the benchmark of accuracy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccuracySizes {
    /// Texts.
    pub texts: usize,
    /// Tokens of each.
    pub tokens: usize,
}

/// A short text: enough to see that nothing is broken.
pub const ACCURACY_QUICK: AccuracySizes = AccuracySizes { texts: 1, tokens: 48 };

/// Long enough that attention has something to add up, and that one odd token does not decide.
pub const ACCURACY: AccuracySizes = AccuracySizes { texts: 4, tokens: 256 };

/// By so much the error of logits may exceed llama.cpp's.
pub const ERROR_RATIO_MAX: f64 = 1.1;

/// Largest mean divergence from exact distributions, in nats.
pub const KL_MAX: f64 = 1e-3;

/// Of a hundred positions so many must have the exact likeliest token.
pub const TOP_PERCENT_MIN: f64 = 98.0;

/// With keys and values of 16 bits, as llama.cpp has them: at most so much of its bytes.
pub const MEMORY_F16_RATIO_MAX: f64 = 0.9;

/// With keys and values of 8 bits: at most so much of the bytes that llama.cpp takes with 16.
pub const MEMORY_Q8_RATIO_MAX: f64 = 0.6;

/// By so much perplexity may rise with keys and values of 8 bits.
pub const PERPLEXITY_RISE_MAX: f64 = 0.005;

/// Texts that perplexity is measured over: all of the committed ones.
pub const PERPLEXITY_TEXTS: usize = 64;

/// How many adapters are where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierSizes {
    /// Times that one is loaded and changed.
    pub rounds: usize,
    /// In memory, of rank 16 on all projections.
    pub held: u64,
    /// On disk, of rank 4 on two.
    pub stored: u64,
    /// Of those, called.
    pub called: u64,
}

/// What one node is to hold.
pub const TIERS: TierSizes = TierSizes { rounds: 25, held: 1_000, stored: 10_000, called: 500 };

/// A part of it.
pub const TIERS_QUICK: TierSizes = TierSizes { rounds: 3, held: 20, stored: 100, called: 20 };

/// From a file of 9.8 MB to an adapter that requests can name.
pub const FIRST_USE_MS_MAX: f64 = 5.0;

/// From a prepared adapter to a request that runs with it instead of the one before.
pub const SWITCH_MS_MAX: f64 = 0.1;

/// Bytes of the whole process with a thousand adapters, the base among them.
pub const HELD_BYTES_MAX: u64 = 5_000_000_000;

/// How long an engine is under twice its load.
pub const SOAK: Duration = Duration::from_secs(600);

/// The same, to see that nothing is broken.
pub const SOAK_QUICK: Duration = Duration::from_secs(20);

/// Sequences that step together in it.
pub const SOAK_SEQUENCES: usize = 16;

/// Adapters in it: more than step together.
pub const SOAK_ADAPTERS: u64 = 24;

/// Longest answer in it, in tokens.
pub const SOAK_TOKENS_MAX: u64 = 64;

/// By so many bytes memory may grow after the first tenth of the time: lists that reach their
/// longest late, and what the allocator does not give back. A leaked page is 0.4 MB.
pub const SOAK_GROWTH_MAX: u64 = 32 << 20;

/// How many claims the benchmark of fingerprints checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintSizes {
    /// Honest answers of two chunks that every class writes, and every class checks.
    pub honest: u64,
    /// Answers of each cheat, checked by every class.
    pub cheats: u64,
}

/// Enough to see that nothing is broken.
pub const FINGERPRINTS_QUICK: FingerprintSizes = FingerprintSizes { honest: 4, cheats: 2 };

/// Ten thousand honest chunks over all pairs of classes, and a thousand of each cheat by each class.
pub const FINGERPRINTS: FingerprintSizes = FingerprintSizes { honest: 560, cheats: 1_000 };

/// What a run of the speed benchmark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sequences of the widest cases, and different adapters in one of them.
    pub sequences: usize,
    /// Threads of both engines; as many as the machine has cores if none are said.
    pub threads: Option<usize>,
    /// Steps that are timed.
    pub steps: usize,
    /// Tokens of a prompt that is prefilled.
    pub prefill_tokens: usize,
    /// Rounds at most: in each, every case by us and by the peer.
    pub rounds: usize,
    /// No round begins after this.
    pub time: Duration,
}

/// Of a quick run, which must end within 50 seconds on a busy machine too; so one thread, for the
/// reason of [`PEER_THREADS`].
pub const QUICK: Sizes = Sizes {
    sequences: 8,
    threads: Some(PEER_THREADS),
    steps: 16,
    prefill_tokens: 128,
    rounds: 2,
    time: Duration::from_secs(12),
};

/// Of another: long enough that a timer's tick or another program's second is not seen. One thread
/// too: what a core does says more than what a machine happens to have.
pub const FULL: Sizes = Sizes {
    sequences: 32,
    threads: Some(PEER_THREADS),
    steps: 32,
    prefill_tokens: 512,
    rounds: 5,
    time: Duration::from_secs(300),
};
