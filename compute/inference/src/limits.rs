//! Limits of the engine, each with its reason.

/// Sequences that wait for a place; more are refused, so that callers go elsewhere while the
/// queue is still minutes long, not hours.
pub const QUEUED_MAX: usize = 256;

/// Of those, requests of one named caller: nobody fills the queue alone.
pub const QUEUED_PER_CALLER_MAX: usize = 64;

/// Callers whose share is remembered while they have nothing to run: as many as could have been in
/// the queue a few times over. Beyond this the one that owes least is forgotten.
pub const CALLERS_REMEMBERED_MAX: usize = 1024;

/// Steps that a request waits until it counts as one priority higher: some seconds.
pub const AGEING_STEPS: u64 = 64;

/// Steps within which a waiting prompt is taken for a full chunk shorter than it is, so that
/// shorter ones cannot pass it for ever.
pub const CHUNK_AGEING_STEPS: u64 = 4;

/// Milliseconds of steps that the pace is measured over: a few answers.
pub const PACE_WINDOW_MS: u64 = 16_384;

/// The shortest that a caller is told to wait, in milliseconds: less only makes it ask more often.
pub const RETRY_MS_MIN: u64 = 100;

/// The longest, in milliseconds: by then everything may have changed.
pub const RETRY_MS_MAX: u64 = 60_000;

/// As long as nothing has been measured, in milliseconds.
pub const RETRY_MS_UNKNOWN: u64 = 1_000;

/// Adapters that one request may mix: each adds a share of the base's work to every token.
pub const ADAPTERS_PER_REQUEST_MAX: usize = 8;

/// Steps for which requests whose adapters are in use anyway pass one that has no room for its own:
/// some seconds.
pub const ADAPTER_PATIENCE_STEPS: u32 = 64;

/// Changes of an adapter that are read ahead of their storing: enough that neither waits for long,
/// few enough that they stay in the cache.
pub const CHANGES_AHEAD: usize = 4;

/// Largest absolute weight of an adapter in a mixture. Beyond this only noise comes out.
pub const ADAPTER_WEIGHT_MAX: f32 = 16.0;

/// Stop strings of a request; OpenAI's interface has 4, others 16.
pub const STOPS_MAX: usize = 16;

/// Bytes of a stop string: text that might become one is held back.
pub const STOP_BYTES_MAX: usize = 256;

/// Alternatives reported per token; OpenAI's interface has 20.
pub const LOGPROBS_MAX: u8 = 20;

/// Temperatures above this draw nearly uniformly.
pub const TEMPERATURE_MAX: f32 = 16.0;

/// Largest absolute penalty; OpenAI's interface has 2.
pub const PENALTY_MAX: f32 = 2.0;

/// Tokens with a bias of their own in a request; OpenAI's interface has 300.
pub const LOGIT_BIASES_MAX: usize = 300;

/// Largest absolute bias; OpenAI's interface has 100, which forbids or forces a token.
pub const LOGIT_BIAS_MAX: f32 = 100.0;

/// Largest penalty for repeated tokens, and the smallest is 1 over it: more makes any text
/// impossible, and widens what a verifier must allow for by as much.
pub const REPETITION_PENALTY_MAX: f32 = 4.0;

/// Steps in a row in which the backend may fail a sequence before it is given up: once may be a
/// lost device, thrice is the sequence.
pub const BACKEND_FAILURES_MAX: u32 = 3;

/// A token whose logit lies this far (over temperature) below the best is never drawn: its chance
/// is below 10^-17, what the rounding of a sum of chances amounts to.
pub const LOGIT_REACH: f64 = 40.0;

/// Rows whose logits are computed at a time: enough that reading the head's weights costs little
/// of it, few enough that the numbers (4 bytes times rows times vocabulary) stay a few megabytes.
pub const HEAD_ROWS_MAX: usize = 32;

/// Bytes of a constraint: the largest schemas in use have 50 kB, and a call between nodes carries no
/// more.
pub const CONSTRAINT_BYTES_MAX: usize = 64 * 1024;

/// Compiled constraints that are kept; each takes up to a few megabytes.
pub const CONSTRAINTS_KEPT_MAX: usize = 32;

/// Texts that an answer may be one of.
pub const CHOICES_MAX: usize = 256;

/// Alternatives of one `oneOf`: each is compared with each other.
pub const ONE_OF_MAX: usize = 64;

/// Tools of a request; OpenAI's interface has 128.
pub const TOOLS_MAX: usize = 128;

/// Characters of a tool's name; OpenAI's interface has 64.
pub const TOOL_NAME_CHARS_MAX: usize = 64;

/// Calls of tools in one answer.
pub const CALLS_MAX: usize = 16;

/// Blanks in a row between the parts of a JSON text: what indents a line twelve levels deep.
pub const WHITESPACE_MAX: usize = 48;

/// What compiling a constraint may take, in the library's units of about 0.02 microseconds: a tenth
/// of a second with all that it does beside. The largest schemas in use take half of it.
pub const COMPILE_FUEL_MAX: u64 = 1_000_000;

/// What one set of allowed tokens may take, in the library's units of about 0.07 microseconds: 14 ms,
/// as long as a step.
pub const MASK_FUEL_MAX: u64 = 200_000;

/// Items of the parser that one set of allowed tokens may make, at about 20 a microsecond.
pub const MASK_ITEMS_MAX: usize = 50_000;

/// Items of the parser at one place: how ambiguous a grammar may be.
pub const ROW_ITEMS_MAX: usize = 2_000;

/// States of the lexer of one sequence, at 1 to 2 kB each: real schemas need some hundreds.
pub const LEXER_STATES_MAX: usize = 20_000;

/// Symbols of a grammar: ten times those of the largest schemas of tools.
pub const GRAMMAR_SYMBOLS_MAX: usize = 200_000;

/// Times in a row that a lost device is opened again: a driver's reset is over after one, and a
/// device that does not survive a step will not survive the next either.
pub const DEVICE_REOPENS_MAX: u32 = 3;

/// Adapters on a device at once, whatever their size: what a table of their places is made for.
pub const DEVICE_ADAPTERS_MAX: usize = 512;
