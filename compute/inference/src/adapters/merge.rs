//! Merging adapters number by number: TIES (Yadav et al. 2023) and DARE (Yu et al. 2024).
//!
//! Names and arithmetic are LoRAX's (`merge_strategy`, `density`, `majority_sign_method`): the
//! matrices A and the matrices B of all adapters are merged separately, each tensor for itself, and
//! both with the same weights; so adapters must have one rank, and a weight `w` acts on A and on B.
//! Where several adapters have a site, those that have it take part. What differs, and why:
//!
//! * `linear` merges nothing here: updates of all adapters are added with their weights, which is
//!   exact and works for any ranks. (LoRAX adds up A and B separately, which is another function.)
//! * DARE divides what it keeps by the density, as the paper does; LoRAX computes that and drops it.
//! * DARE's choice is no chance: number `i` of a tensor is kept if the upper half of the SplitMix64
//!   output (Steele, Lea and Flood 2014) for state `seed + (i + 1) * 0x9e3779b97f4a7c15` lies
//!   below `density * 2^32`, where `seed` is the first 8 bytes (little endian) of
//!   `blake3(DARE_DOMAIN || adapter id || layer as u32 || site as u8 || 0 for A, 1 for B)`. So every
//!   node that merges the same adapters gets the same product.
//! * Adapters of different scales (`alpha / r`) are brought to the scale of the one with the lowest
//!   id first, by the root of their ratio on A and on B; LoRAX takes the first one's for all.
//!
//! What is merged are the numbers that the engine holds: with 8-bit storage, 8-bit numbers.

use core::fmt;
use core::str::FromStr;

use openledger_models::Site;
use openledger_wire::ids::BlobId;
use thiserror::Error;

use super::errors::AdapterSetError;

/// Separates the seeds of masks from all other hashes.
const DARE_DOMAIN: &[u8] = b"openledger/inference/dare/1";

/// How several adapters become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MergeStrategy {
    /// The sum of their updates.
    #[default]
    Linear,
    /// Trim the small numbers, elect a sign, average those that have it.
    Ties,
    /// Drop at random and rescale, then add up.
    DareLinear,
    /// Drop at random and rescale, elect a sign, average those that have it.
    DareTies,
}

/// How TIES elects the sign of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MajoritySign {
    /// The sign of the sum.
    #[default]
    Total,
    /// The sign that more adapters have.
    Frequency,
}

/// A name that LoRAX does not have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("merge adapters: {name:?} is not known; use one of {known}")]
pub struct UnknownMerge {
    /// The name.
    pub name: String,
    /// Those that are known.
    pub known: &'static str,
}

impl FromStr for MergeStrategy {
    type Err = UnknownMerge;

    fn from_str(name: &str) -> Result<Self, UnknownMerge> {
        let all = [Self::Linear, Self::Ties, Self::DareLinear, Self::DareTies];
        all.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| UnknownMerge {
            name: name.chars().take(64).collect(),
            known: "linear, ties, dare_linear, dare_ties",
        })
    }
}

impl MergeStrategy {
    /// LoRAX's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Ties => "ties",
            Self::DareLinear => "dare_linear",
            Self::DareTies => "dare_ties",
        }
    }
}

impl fmt::Display for MergeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MajoritySign {
    type Err = UnknownMerge;

    fn from_str(name: &str) -> Result<Self, UnknownMerge> {
        match name {
            "total" => Ok(Self::Total),
            "frequency" => Ok(Self::Frequency),
            _ => {
                let name = name.chars().take(64).collect();
                Err(UnknownMerge { name, known: "total, frequency" })
            }
        }
    }
}

/// How the adapters of a request are put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merge {
    /// The method.
    pub strategy: MergeStrategy,
    /// The share of numbers that trimming or dropping keeps, above 0 and up to 1; `linear` keeps
    /// all.
    pub density: f32,
    /// How signs are elected, where they are.
    pub majority_sign_method: MajoritySign,
}

impl Default for Merge {
    fn default() -> Self {
        Self::LINEAR
    }
}

impl Merge {
    /// The sum of all updates.
    pub const LINEAR: Self = Self {
        strategy: MergeStrategy::Linear,
        density: 1.0,
        majority_sign_method: MajoritySign::Total,
    };

    /// Whether a product has to be made, and not just a sum of updates.
    pub(super) const fn makes_product(&self) -> bool {
        !matches!(self.strategy, MergeStrategy::Linear)
    }

    /// Checks the numbers.
    pub(super) fn check(&self) -> Result<(), AdapterSetError> {
        let density = self.density;
        let good = !self.makes_product() || (density > 0.0 && density <= 1.0);
        if good { Ok(()) } else { Err(AdapterSetError::Density { density }) }
    }
}

/// One of the two matrices of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    A = 0,
    B = 1,
}

/// The seed of a tensor's mask.
pub(super) fn mask_seed(id: &BlobId, layer: usize, site: Site, half: Half) -> u64 {
    let layer = u32::try_from(layer).unwrap_or(u32::MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(DARE_DOMAIN).update(&id.0).update(&layer.to_le_bytes());
    hasher.update(&[site as u8, half as u8]);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A tensor of one adapter, with what merging needs to know of it.
pub(super) struct Task {
    pub(super) values: Vec<f32>,
    pub(super) weight: f32,
    /// See [`mask_seed`].
    pub(super) seed: u64,
}

/// Merges tensors of one shape.
pub(super) fn merge_tensors(mut tasks: Vec<Task>, merge: &Merge) -> Vec<f32> {
    let length = tasks.iter().map(|task| task.values.len()).min().unwrap_or(0);
    for task in &mut tasks {
        match merge.strategy {
            MergeStrategy::Linear => {}
            MergeStrategy::Ties => trim(&mut task.values, merge.density),
            MergeStrategy::DareLinear | MergeStrategy::DareTies => {
                drop_and_rescale(&mut task.values, merge.density, task.seed);
            }
        }
    }
    match merge.strategy {
        MergeStrategy::Linear | MergeStrategy::DareLinear => weighted_sum(&tasks, length),
        MergeStrategy::Ties | MergeStrategy::DareTies => {
            elected_mean(&tasks, length, merge.majority_sign_method)
        }
    }
}

/// Keeps the share `density` of the largest magnitudes, rounded down; of equal ones the first.
fn trim(values: &mut [f32], density: f32) {
    let kept = (f64::from(density) * values.len() as f64) as usize;
    if density >= 1.0 || kept >= values.len() {
        return;
    }
    let Some(last) = kept.checked_sub(1) else {
        values.fill(0.0);
        return;
    };
    // The bits of positive floats are in the order of their values.
    let mut sizes: Vec<u32> = values.iter().map(|value| value.abs().to_bits()).collect();
    let (_, smallest, _) = sizes.select_nth_unstable_by(last, |a, b| b.cmp(a));
    let smallest = *smallest;
    let above = values.iter().filter(|value| value.abs().to_bits() > smallest).count();
    let mut equals = kept - above;
    for value in values {
        let size = value.abs().to_bits();
        let equal = size == smallest && equals > 0;
        equals -= usize::from(equal);
        if size < smallest || (size == smallest && !equal) {
            *value = 0.0;
        }
    }
}

/// Drops all but about the share `density`, and divides the rest by it.
fn drop_and_rescale(values: &mut [f32], density: f32, seed: u64) {
    if density >= 1.0 {
        return;
    }
    let below = (f64::from(density) * 4_294_967_296.0) as u64;
    let mut state = seed;
    for value in values {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        *value = if (z >> 32) < below { *value / density } else { 0.0 };
    }
}

fn weighted_sum(tasks: &[Task], length: usize) -> Vec<f32> {
    let mut sum = vec![0.0; length];
    for task in tasks {
        for (sum, value) in sum.iter_mut().zip(&task.values) {
            *sum += task.weight * value;
        }
    }
    sum
}

/// The mean, per number, of the weighted values whose sign before weighting is the elected one.
fn elected_mean(tasks: &[Task], length: usize, method: MajoritySign) -> Vec<f32> {
    let mut ballot = vec![0.0f32; length];
    for task in tasks {
        for (votes, value) in ballot.iter_mut().zip(&task.values) {
            *votes += match method {
                MajoritySign::Total => *value,
                MajoritySign::Frequency => sign(*value),
            };
        }
    }
    let mut sums = vec![0.0f32; length];
    let mut counts = vec![0.0f32; length];
    for task in tasks {
        let numbers = task.values.iter().zip(&ballot);
        for ((value, votes), (sum, count)) in numbers.zip(sums.iter_mut().zip(&mut counts)) {
            let elected = if *votes >= 0.0 { 1.0 } else { -1.0 };
            let agrees = f32::from(u8::from(sign(*value) == elected));
            *sum += task.weight * value * agrees;
            *count += agrees;
        }
    }
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum /= count.max(1.0);
    }
    sums
}

/// -1, 0 or 1.
fn sign(value: f32) -> f32 {
    f32::from(i8::from(value > 0.0) - i8::from(value < 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(values: &[f32], weight: f32) -> Task {
        Task { values: values.to_vec(), weight, seed: 7 }
    }

    fn merge(strategy: MergeStrategy, density: f32, majority_sign_method: MajoritySign) -> Merge {
        Merge { strategy, density, majority_sign_method }
    }

    #[test]
    fn ties_by_hand() {
        // Density 0.5 of six numbers keeps three.
        let tasks = || {
            vec![
                task(&[3.0, -1.0, 0.5, 0.0, -4.0, 0.25], 1.0),
                task(&[-1.0, -2.0, 8.0, 0.5, -0.25, 0.0], 0.5),
                task(&[1.0, 6.0, 0.25, -3.0, -2.0, 0.125], 2.0),
            ]
        };
        // Trimmed: [3 -1 0 0 -4 0], [-1 -2 8 0 0 0], [0 6 0 -3 -2 0].
        // Sums:    [2, 3, 8, -3, -6, 0], so the signs + + + - - +.
        let total = merge(MergeStrategy::Ties, 0.5, MajoritySign::Total);
        let expected = [3.0, 12.0, 4.0, -6.0, (-4.0 - 4.0) / 2.0, 0.0];
        assert_eq!(merge_tensors(tasks(), &total), expected);
        // Counts: + and - once each count as +; the second has two minuses.
        let frequency = merge(MergeStrategy::Ties, 0.5, MajoritySign::Frequency);
        let expected = [3.0, (-1.0 - 1.0) / 2.0, 4.0, -6.0, -4.0, 0.0];
        assert_eq!(merge_tensors(tasks(), &frequency), expected);
    }

    #[test]
    fn trimming_keeps_the_first_of_equals_and_rounds_down() {
        let mut values = [1.0, -1.0, 1.0, 0.5, -1.0];
        trim(&mut values, 0.5);
        assert_eq!(values, [1.0, -1.0, 0.0, 0.0, 0.0]);
        let mut values = [1.0, 2.0];
        trim(&mut values, 0.4);
        assert_eq!(values, [0.0, 0.0]);
        let mut values = [1.0, 2.0];
        trim(&mut values, 1.0);
        assert_eq!(values, [1.0, 2.0]);
    }

    #[test]
    fn dropping_keeps_its_share_and_the_mean() {
        let mut values = vec![1.0f32; 100_000];
        drop_and_rescale(&mut values, 0.25, 1);
        let kept = values.iter().filter(|value| **value == 4.0).count();
        assert!(values.iter().all(|value| *value == 4.0 || *value == 0.0));
        assert!((24_500..25_500).contains(&kept), "{kept}");
        let mut other = vec![1.0f32; 100_000];
        drop_and_rescale(&mut other, 0.25, 2);
        assert_ne!(values, other);
    }

    #[test]
    fn masks_are_what_the_documentation_says() {
        // SplitMix64 of state 0 gives these first outputs (the generator's published vector).
        let outputs = [0xe220_a839_7b1d_cdaf_u64, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        let expected = outputs.map(|output| if output >> 32 < 1 << 31 { 2.0 } else { 0.0 });
        let mut values = [1.0f32; 3];
        drop_and_rescale(&mut values, 0.5, 0);
        assert_eq!(values, expected);
        let id = BlobId([3; 32]);
        let seed = mask_seed(&id, 1, Site::Up, Half::B);
        let bytes = [DARE_DOMAIN, &[3; 32], &[1, 0, 0, 0], &[Site::Up as u8, 1]].concat();
        let hash = blake3::hash(&bytes);
        assert_eq!(seed.to_le_bytes(), hash.as_bytes()[..8]);
        assert_ne!(seed, mask_seed(&id, 1, Site::Up, Half::A));
    }

    #[test]
    fn dare_by_hand() {
        let kept = |seed: u64, values: &[f32]| {
            let mut values = values.to_vec();
            drop_and_rescale(&mut values, 0.5, seed);
            values
        };
        let (first, second) = ([1.0, -2.0, 3.0, 4.0], [-5.0, 1.0, 2.0, -8.0]);
        let tasks = || {
            vec![
                Task { values: first.to_vec(), weight: 0.5, seed: 1 },
                Task { values: second.to_vec(), weight: 2.0, seed: 2 },
            ]
        };
        let (one, two) = (kept(1, &first), kept(2, &second));
        let linear = merge(MergeStrategy::DareLinear, 0.5, MajoritySign::Total);
        let found = merge_tensors(tasks(), &linear);
        let ties = merge(MergeStrategy::DareTies, 0.5, MajoritySign::Total);
        let elected = merge_tensors(tasks(), &ties);
        for index in 0..4 {
            let (x, y) = (one[index], two[index]);
            assert_eq!(found[index], 0.5 * x + 2.0 * y);
            let positive = x + y >= 0.0;
            let agree = |v: f32| if positive { v > 0.0 } else { v < 0.0 };
            let count = u8::from(agree(x)) + u8::from(agree(y));
            let sum = if agree(x) { 0.5 * x } else { 0.0 } + if agree(y) { 2.0 * y } else { 0.0 };
            assert_eq!(elected[index], sum / f32::from(count.max(1)), "{index}");
        }
    }

    #[test]
    fn names_are_those_of_lorax() {
        for name in ["linear", "ties", "dare_linear", "dare_ties"] {
            assert_eq!(name.parse::<MergeStrategy>().unwrap().to_string(), name);
        }
        let error = "slerp".parse::<MergeStrategy>().unwrap_err().to_string();
        assert!(error.contains("\"slerp\" is not known; use one of linear, ties"), "{error}");
        assert_eq!("frequency".parse(), Ok(MajoritySign::Frequency));
        assert!("most".parse::<MajoritySign>().is_err());
        for density in [0.0, -1.0, 1.1, f32::NAN] {
            assert!(merge(MergeStrategy::Ties, density, MajoritySign::Total).check().is_err());
        }
        assert!(Merge::default().check().is_ok());
    }
}
