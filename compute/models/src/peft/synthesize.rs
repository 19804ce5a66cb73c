//! Adapters from a seed: valid, visibly effective, and the same on every machine. For the devnet
//! and for tests, where nobody trains.

use std::collections::{BTreeMap, BTreeSet};

use super::{AdapterSpec, Delta, write};
use crate::config::ModelConfig;
use crate::limits::ADAPTER_RANK_MAX;
use crate::model::Site;

/// An adapter of random numbers on all sites of a model: `adapter_config.json` and
/// `adapter_model.safetensors`. A change has about `strength` times the size of its input, whatever
/// the rank; 0.1 is felt, 1 drowns the base. Ranks are cut to what adapters may have.
#[must_use]
pub fn synthesize(
    config: &ModelConfig,
    seed: u64,
    rank: usize,
    strength: f32,
) -> (Vec<u8>, Vec<u8>) {
    let rank = rank.clamp(1, ADAPTER_RANK_MAX);
    let strength = if strength.is_finite() { strength.clamp(-16.0, 16.0) } else { 0.0 };
    let mut numbers = Numbers(seed);
    let mut deltas = BTreeMap::new();
    for layer in 0..config.layers {
        for site in Site::ALL {
            let (rows, cols) = site.shape(config);
            // A keeps the size of what it takes, B that of what A gives.
            let a = numbers.take(rank * cols, 1.0 / (cols as f32).sqrt());
            let b = numbers.take(rows * rank, strength / (rank as f32).sqrt());
            deltas.insert((layer, site), Delta { a, b, rank });
        }
    }
    let spec = AdapterSpec {
        rank,
        alpha: rank as f32,
        sites: BTreeSet::from(Site::ALL),
        base_name: config.name.clone(),
    };
    write(&spec, &deltas)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers of mean 0 and this deviation, as 16-bit floats hold them. The sum of four uniform
    /// numbers is near enough to normal, and exact on every machine.
    fn take(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        // The sum has the variance 4 * (2^32 - 1) / 12.
        let scale = deviation / (65_536.0 / 3.0f32.sqrt());
        let number = |bits: u64| {
            let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
            let centred = sum as f32 - 131_070.0;
            half::f16::from_f32(centred * scale).to_f32()
        };
        (0..count).map(|_| number(self.next())).collect()
    }
}
