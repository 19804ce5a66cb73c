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

/// Different adapters in one step.
pub const ADAPTERS: usize = 4;

/// Their rank: the middle of what adapters of the devnet have.
pub const ADAPTER_RANK: usize = 8;

/// What a run of the speed benchmark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
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
    threads: Some(PEER_THREADS),
    steps: 16,
    prefill_tokens: 128,
    rounds: 3,
    time: Duration::from_secs(20),
};

/// Of another: long enough that a timer's tick or another program's second is not seen.
pub const FULL: Sizes = Sizes {
    threads: None,
    steps: 64,
    prefill_tokens: 384,
    rounds: 5,
    time: Duration::from_secs(300),
};
