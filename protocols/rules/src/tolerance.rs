//! How far apart two honest answers may lie: within a class, and between one that is not the same
//! bits everywhere and the class in which it is checked.
//!
//! Where the figures come from (SmolLM2-135M, kernels that keep 12 bits of all activations against
//! the 32-bit reference, adapters of 8 bits): chunks of 32 tokens lay 0.0016 to 0.0025 of their length apart, and logits less than
//! 0.1. A processor of another kind that computes in 32 bits over keys and values of 16 rounds less
//! than that, so its answers get the same bounds, each about three times of what was measured.
//! Keys and values of 8 bits lie 0.012 to 0.023 apart, which would hide a weak adapter: no class
//! with them is judged.
//!
//! An answer beyond its bounds but within twice of them is nobody's proof of anything: it gets no
//! points and costs nothing ([`crate::infer::Relation::NearTie`]). So an honest machine must err
//! by six times the usual before it is called a cheat, and who stays below that to save work is
//! not paid for it.

use openledger_wire::Text;
use serde::{Deserialize, Serialize};

/// What two honest outputs about the same tokens stay within. All in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Largest difference of a token's natural log-probability.
    pub logprob_micro: u32,
    /// Largest difference of a token's slack: by how much the logits would have to be others for
    /// the sampler to draw it.
    pub slack_micro: u32,
    /// Largest distance of a chunk of the fingerprint, as a share of the shorter one's length.
    pub distance_micro: u32,
    /// Largest part of a difference that points along what the adapters add, as a share of what
    /// the whole fingerprint's length would be if each of its numbers were noise of size 1.
    pub effect_micro: u32,
}

/// A class of which the fingerprints are judged, since its results are not the same bits
/// everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedClass {
    /// The class.
    pub class: Text<32>,
    /// The class, the same bits everywhere, in which its answers are run again. The rules name it,
    /// not a node: a loose pair would be everybody's choice.
    pub checked_in: Text<32>,
    /// What honest pairs of the two stay within.
    pub tolerance: Tolerance,
}

impl Tolerance {
    /// Within a class that is the same bits everywhere: room for a compiler that rounds one
    /// operation otherwise.
    #[must_use]
    pub const fn exact(logprob_micro: u32) -> Self {
        Self { logprob_micro, slack_micro: 20_000, distance_micro: 1_000, effect_micro: 500 }
    }

    /// Between two classes of which at least one rounds to 12 bits, or adapters to 8, and neither
    /// keeps keys and values in fewer than 16. A logit may be off by 0.15, so a log-probability by
    /// twice that: its own logit and the sum of all.
    pub const ROUNDED: Self = Self {
        logprob_micro: 300_000,
        slack_micro: 150_000,
        distance_micro: 8_000,
        effect_micro: 12_500,
    };

    /// The same bounds, so many times as wide.
    #[must_use]
    pub const fn times(self, factor: u32) -> Self {
        Self {
            logprob_micro: self.logprob_micro.saturating_mul(factor),
            slack_micro: self.slack_micro.saturating_mul(factor),
            distance_micro: self.distance_micro.saturating_mul(factor),
            effect_micro: self.effect_micro.saturating_mul(factor),
        }
    }
}
