//! The fast CPU backend: activations in 12 and 8 bits against the file's own integer codes.
//!
//! Weights are repacked once, at load, for the processor's registers; activations are quantised
//! once per input, in blocks of 32, and every product is summed exactly in integers per block.
//! Whatever the processor, the threads, the batch or the chunks: the bits are the same
//! (`openledger_kernels::packed` says why), so an auditor on another machine can repeat them. They
//! are other bits than the reference backend's, whose activations keep 32 bits.
//!
//! Deliberately absent: any arithmetic (that is the kernels'), and any knowledge of requests.

use openledger_kernels::packed::{TierOutcome, tier, tier_report};

mod backend;
pub(crate) mod groups;
mod layer;
mod scratch;
mod step;

pub use backend::{CpuBackend, Progress};

/// The kernels that this processor runs, by the name of their instructions.
#[must_use]
pub fn cpu_tier() -> String {
    tier().to_string()
}

/// Kernels that this processor claims to run and computed wrongly with at their test; they are not
/// used.
#[must_use]
pub fn cpu_tiers_failed() -> Vec<String> {
    let failed = tier_report().iter().filter(|check| check.outcome == TierOutcome::Failed);
    failed.map(|check| check.tier.to_string()).collect()
}
