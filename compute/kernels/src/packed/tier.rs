//! Which tier this processor gets: the first of those it claims whose results are right.
//!
//! What a processor says of itself is not believed alone (virtual machines and emulators have
//! claimed instructions that then failed): each tier computes a small fixed problem at the first
//! use, in all formats, and is only used if every bit equals the scalar tier's.

use core::fmt;
use std::sync::OnceLock;

use super::activations::{Activations, Digits};
use super::drive::run;
use super::matrix::Packed;
use crate::format::Format;
use crate::matrix::Matrix;
use crate::pool::Pool;

/// A set of instructions that products are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// Plain loops.
    Scalar,
    /// 64-bit Arm with NEON and its dot products.
    NeonDot,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// Those and AVX-VNNI, 256 bits wide.
    AvxVnni,
    /// Those and AVX-512F with AVX-512-VNNI.
    Avx512Vnni,
}

impl Tier {
    /// Every tier, the fastest first.
    pub const ALL: [Self; 5] =
        [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::NeonDot, Self::Scalar];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::NeonDot => "neon-dotprod",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512Vnni => "avx512-vnni",
        }
    }

    /// What the processor and the system say.
    fn claimed(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            match self {
                Self::Scalar => true,
                Self::NeonDot => false,
                Self::Avx2 => avx2,
                Self::AvxVnni => avx2 && has!("avxvnni"),
                Self::Avx512Vnni => avx2 && has!("avx512f") && has!("avx512vnni"),
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        {
            use std::arch::is_aarch64_feature_detected as has;
            match self {
                Self::Scalar => true,
                Self::NeonDot => has!("neon") && has!("dotprod"),
                _ => false,
            }
        }
        #[cfg(not(any(
            target_arch = "x86_64",
            all(target_arch = "aarch64", target_endian = "little")
        )))]
        {
            self == Self::Scalar
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tier that this processor claims: only such a one may run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed(Tier);

impl Claimed {
    /// The tier, if the processor claims it.
    pub(super) fn new(tier: Tier) -> Option<Self> {
        tier.claimed().then_some(Self(tier))
    }

    /// Which it is.
    pub(super) const fn tier(self) -> Tier {
        self.0
    }
}

/// What became of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TierOutcome {
    /// The processor does not have it.
    Absent,
    /// The processor claims it, its results were wrong: it is not used.
    Failed,
    /// Its results were right.
    Passed,
}

/// A tier and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierCheck {
    /// Which.
    pub tier: Tier,
    /// What became of it.
    pub outcome: TierOutcome,
}

impl fmt::Display for TierCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            TierOutcome::Absent => "absent",
            TierOutcome::Failed => "claimed by the processor but wrong: not used",
            TierOutcome::Passed => "tested",
        };
        write!(f, "{}: {outcome}", self.tier)
    }
}

/// The tier in use and what became of all.
struct Choice {
    chosen: Claimed,
    checks: [TierCheck; Tier::ALL.len()],
}

fn choice() -> &'static Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let scalar = Claimed(Tier::Scalar);
        let expected = Problem::new().map(|problem| (problem.solve(scalar), problem));
        let checks = Tier::ALL.map(|tier| {
            let outcome = match (Claimed::new(tier), &expected) {
                (None, _) => TierOutcome::Absent,
                (Some(Claimed(Tier::Scalar)), _) => TierOutcome::Passed,
                (Some(claimed), Some((expected, problem)))
                    if problem.solve(claimed) == *expected =>
                {
                    TierOutcome::Passed
                }
                _ => TierOutcome::Failed,
            };
            TierCheck { tier, outcome }
        });
        let passed = checks.iter().find(|check| check.outcome == TierOutcome::Passed);
        let chosen = passed.and_then(|check| Claimed::new(check.tier)).unwrap_or(scalar);
        Choice { chosen, checks }
    })
}

/// The tier that products are computed with; tested at the first call.
#[must_use]
pub fn tier() -> Tier {
    choice().chosen.tier()
}

/// The tier in use, as a permission to use it.
pub(super) fn chosen() -> Claimed {
    choice().chosen
}

/// What became of every tier, the fastest first.
#[must_use]
pub fn tier_report() -> &'static [TierCheck] {
    &choice().checks
}

/// A small fixed problem in all formats.
struct Problem {
    weights: Vec<Packed>,
    x: Activations,
    pool: Pool,
}

impl Problem {
    /// Rows: a whole panel and a part of one.
    const ROWS: usize = 21;
    /// Columns: a whole block of the K formats.
    const COLS: usize = 256;
    /// Tokens: enough for every kernel.
    const TOKENS: usize = 11;

    fn new() -> Option<Self> {
        let pool = Pool::new(1);
        let mut state = 0x2545_F491_4F6C_DD1Du64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 40
        };
        let value = |_| next() as f32 / (1u64 << 23) as f32 - 1.0;
        let values: Vec<f32> = (0..Self::TOKENS * Self::COLS).map(value).collect();
        let mut x = Activations::new();
        x.quantize(&pool, &values, Self::COLS, Digits::All).ok()?;
        let mut weights = Vec::new();
        for format in Format::ALL {
            let bytes = format.bytes_of(Self::ROWS * Self::COLS)?;
            // Arbitrary codes, scales of either sign and ordinary size.
            let data: Vec<u8> = (0..bytes)
                .map(|at| {
                    let byte = next() as u8;
                    if scale_byte(format, at) { byte & 0xB7 } else { byte }
                })
                .collect();
            let matrix = Matrix::new(format, Self::ROWS, Self::COLS, &data).ok()?;
            weights.push(Packed::new(&matrix, &pool).ok()?);
        }
        Some(Self { weights, x, pool })
    }

    /// The bits of all products, in batches of several sizes.
    fn solve(&self, claimed: Claimed) -> Vec<u32> {
        let mut bits = Vec::new();
        for weights in &self.weights {
            for tokens in [1, 2, 5, Self::TOKENS] {
                let mut x = Activations::new();
                let values: Vec<f32> =
                    (0..tokens).flat_map(|token| self.x.values(token)).copied().collect();
                let mut out = vec![f32::NAN; tokens * Self::ROWS];
                let done = x
                    .quantize(&self.pool, &values, Self::COLS, Digits::Outliers)
                    .and_then(|()| run(claimed, &self.pool, &mut [(weights, &mut out)], &x));
                // Refused shapes would leave what no product gives.
                bits.push(u32::from(done.is_ok()));
                bits.extend(out.iter().map(|x| x.to_bits()));
            }
        }
        bits
    }
}

/// Whether the byte `at` holds the exponent of a scale (or of an element).
pub(super) fn scale_byte(format: Format, at: usize) -> bool {
    let at = at % format.block_bytes();
    match format {
        Format::F32 => at == 3,
        Format::F16 | Format::Bf16 | Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => at == 1,
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => at == 1 || at == 3,
        Format::Q6K => at == 209,
    }
}
