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

/// What the case of a long context runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongSizes {
    /// Tokens of a text that is held against the definition in 64 bits, at most the model's context.
    pub exact_tokens: usize,
    /// Tokens of the long one, at most the model's context.
    pub tokens: usize,
    /// Of both, the last positions that are compared.
    pub compared: usize,
}

/// The definition in 64 bits takes a minute for a thousand tokens, and the square of it for eight;
/// so it vouches for the reference of 32 bits, and that for the rest.
pub const LONG: LongSizes = LongSizes { exact_tokens: 1_024, tokens: 8_192, compared: 64 };

/// Tokens whose changes by an adapter are compared with PEFT's formula.
pub const PRODUCT_TOKENS: usize = 32;

/// Largest relative error of an adapter's own product, kept in 16 bits.
pub const PRODUCT_ERROR_MAX: f64 = 1e-3;

/// With keys and values of 16 bits, as llama.cpp has them: at most so much of its bytes.
pub const MEMORY_F16_RATIO_MAX: f64 = 0.9;

/// With keys and values of 8 bits: at most so much of the bytes that llama.cpp takes with 16.
pub const MEMORY_Q8_RATIO_MAX: f64 = 0.6;

/// How much the benchmark of memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySizes {
    /// Sequences at once.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Different adapters, of rank 16 on all projections.
    pub adapters: usize,
    /// Texts that perplexity is measured over.
    pub texts: usize,
    /// Tokens of each of those.
    pub text_tokens: usize,
}

/// What the bars are of. Perplexity over texts as long as the sequences.
pub const MEMORY: MemorySizes =
    MemorySizes { sequences: 32, tokens: 1_024, adapters: 32, texts: 4, text_tokens: 1_024 };

/// So little that fixed parts outweigh the rest: the bars do not count.
pub const MEMORY_QUICK: MemorySizes =
    MemorySizes { sequences: 8, tokens: 128, adapters: 4, texts: 1, text_tokens: 256 };

/// Of the bytes that keys and values need by their formats so many must be in memory, in percent:
/// else they were not all held.
pub const KV_TOUCHED_PERCENT_MIN: u64 = 95;

/// By so much perplexity may rise with keys and values of 8 bits.
pub const PERPLEXITY_RISE_MAX: f64 = 0.005;

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

/// How an engine is kept under twice its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoakSizes {
    /// How long.
    pub time: Duration,
    /// Sequences that step together.
    pub sequences: usize,
    /// Longest answer, in tokens.
    pub tokens_max: u64,
}

/// Long enough that what leaks a little, leaks a lot.
pub const SOAK: SoakSizes =
    SoakSizes { time: Duration::from_secs(600), sequences: 16, tokens_max: 64 };

/// The same, to see that nothing is broken, on a busy machine too.
pub const SOAK_QUICK: SoakSizes =
    SoakSizes { time: Duration::from_secs(8), sequences: 8, tokens_max: 16 };

/// Longest prompt in it, in tokens.
pub const SOAK_PROMPT_TOKENS_MAX: u64 = 64;

/// Adapters in it: more than step together.
pub const SOAK_ADAPTERS: u64 = 24;

/// By so many bytes memory may grow after the first tenth of the time: lists that reach their
/// longest late, and what the allocator does not give back. A leaked page is 0.4 MB.
pub const SOAK_GROWTH_MAX: u64 = 32 << 20;

/// How many claims the benchmark of fingerprints checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintSizes {
    /// Honest chunks, at least, over all pairs of classes.
    pub chunks: u64,
    /// Answers of each cheat, each checked by one class.
    pub cheats: u64,
    /// Chunks of each answer.
    pub answer_chunks: u64,
    /// Sequences that step together with fingerprints and without, to see what they cost: the
    /// more, the less a token takes by itself.
    pub cost_sequences: usize,
    /// Steps of that.
    pub cost_steps: usize,
    /// Rounds of that.
    pub cost_rounds: usize,
}

/// Enough to see that nothing is broken.
pub const FINGERPRINTS_QUICK: FingerprintSizes = FingerprintSizes {
    chunks: 16,
    cheats: 1,
    answer_chunks: 1,
    cost_sequences: 8,
    cost_steps: 8,
    cost_rounds: 1,
};

/// Ten thousand honest chunks, a thousand of each cheat: a share of one in a thousand, or one in a
/// hundred, is then a matter of ten answers, and not of luck.
pub const FINGERPRINTS: FingerprintSizes = FingerprintSizes {
    chunks: 10_000,
    cheats: 1_000,
    answer_chunks: 2,
    cost_sequences: 32,
    cost_steps: 64,
    cost_rounds: 5,
};

/// Of honest chunks at most so many may be rejected, per thousand.
pub const HONEST_REJECTED_PERMILLE_MAX: u64 = 1;

/// Of cheats at least so many must be caught, in percent.
pub const CAUGHT_PERCENT_MIN: u64 = 99;

/// What taking fingerprints may cost of throughput, in percent.
pub const FINGERPRINT_COST_PERCENT_MAX: f64 = 2.0;

/// What the benchmark of a graphics processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuSizes {
    /// Sequences that step together, each with an adapter of its own; case after case.
    pub batches: &'static [usize],
    /// Steps that are timed.
    pub steps: usize,
    /// Tokens that there is room for in each sequence.
    pub tokens: usize,
    /// Room for adapters.
    pub adapters_bytes: usize,
    /// Bytes that are read to measure bandwidth.
    pub bandwidth_bytes: u64,
    /// Times that bandwidth and changes of adapters are timed.
    pub rounds: usize,
    /// Whether a model of eight billion weights follows.
    pub large: bool,
}

/// Of a device. 128 adapters of 135 million weights are 0.7 GB.
pub const GPU: GpuSizes = GpuSizes {
    batches: &[1, 8, 32, 128],
    steps: 64,
    tokens: 256,
    adapters_bytes: 2 << 30,
    bandwidth_bytes: 1 << 30,
    rounds: 5,
    large: true,
};

/// The same with eight billion weights: 4.5 GB, keys and values of 32 times a thousand tokens 4.3
/// GB, 32 adapters 1.4 GB.
pub const GPU_LARGE: GpuSizes =
    GpuSizes { batches: &[1, 8, 32], tokens: 1_024, large: false, ..GPU };

/// To see that nothing is broken, on a device that is really a processor too.
pub const GPU_QUICK: GpuSizes = GpuSizes {
    batches: &[1, 2],
    steps: 2,
    tokens: 64,
    adapters_bytes: 256 << 20,
    bandwidth_bytes: 64 << 20,
    rounds: 1,
    large: false,
};

/// What a device is to give in all, in tokens a second.
pub const GPU_TOKENS_PER_SECOND_MIN: f64 = 2_000.0;

/// Longest time between two tokens of a sequence, in milliseconds.
pub const BETWEEN_TOKENS_MS_MAX: f64 = 50.0;

/// Longest time from an adapter in memory to a token that it had a part in, in milliseconds.
pub const GPU_SWITCH_MS_MAX: f64 = 100.0;

/// Most bytes of a device that eight billion weights in 4 bits may take, with all that they serve.
pub const GPU_BYTES_MAX: u64 = 12_000_000_000;

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

/// Tokens of prompts where whole requests are timed: a question.
pub const SERVED_PROMPT_TOKENS: usize = 32;

/// One sequence on the bare base: at least so many times llama.cpp's pace.
pub const DECODE_RATIO_MIN: f64 = 2.0;

/// A prompt: at least so many times llama.cpp's pace.
pub const PREFILL_RATIO_MIN: f64 = 4.0;

/// Every sequence with its own adapter: at least so many times llama.cpp's pace where all step in
/// turn.
pub const TURNS_RATIO_MIN: f64 = 6.5;

/// The same beside its server, which has them wait for each other.
pub const SERVER_RATIO_MIN: f64 = 3.5;

/// The same beside our own pace on the bare base.
pub const ADAPTERS_SHARE_MIN: f64 = 0.75;

/// The longest wait for a first token, beside that with one adapter for all.
pub const FIRST_TOKEN_RATIO_MAX: f64 = 1.2;

/// Of a quick run, which must end within 50 seconds on a busy machine too; so one thread, for the
/// reason of [`PEER_THREADS`].
pub const QUICK: Sizes = Sizes {
    sequences: 8,
    threads: Some(PEER_THREADS),
    steps: 8,
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
