//! Limits of the engine, each with its reason.

/// Sequences that wait for a place; more are refused, so that callers go elsewhere while the
/// queue is still minutes long, not hours.
pub const QUEUED_MAX: usize = 256;

/// Adapters that one request may mix: each adds a share of the base's work to every token.
pub const ADAPTERS_PER_REQUEST_MAX: usize = 8;

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

/// Steps in a row in which the backend may fail a sequence before it is given up: once may be a
/// lost device, thrice is the sequence.
pub const BACKEND_FAILURES_MAX: u32 = 3;

/// A token whose logit lies this far (over temperature) below the best is never drawn: its chance
/// is below 10^-17, what the rounding of a sum of chances amounts to.
pub const LOGIT_REACH: f64 = 40.0;
