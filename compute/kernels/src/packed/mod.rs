//! Products of weights in integers: the fast backend's matrices.
//!
//! Activations are quantised once in blocks of 32 ([`Activations`]), weights are repacked once into
//! panels of 16 rows ([`Packed`]) and [`products`] multiplies them with the widest instructions
//! that the processor has and that passed a test at start ([`tier`]).
//!
//! Instructions multiply bytes, so a code of 12 bits is two digits, `16 * high + low`, and costs
//! two products. With 8 bits alone, as llama.cpp has them, the likeliest token of one position in
//! twenty is another. Most of that comes from blocks where one input is far larger than the others:
//! with 12 bits for those four neighbours alone ([`Digits::Outliers`]) it is one in a hundred, for
//! a ninth more products; [`Digits::All`] has them everywhere.
//!
//! **Every tier computes the same bits.** A block's products are summed exactly, in integers; the
//! `f32` operations around them have one order and use fused multiply-adds wherever a product is
//! added, in every tier:
//!
//! * a block of 32 activations: `amax` is the largest magnitude. Where it is 0, or so small that
//!   `2032 / amax` overflows, scale and codes are 0; where something is not finite the scale is
//!   NaN. Else a code is `x` times an inverse of the scale, rounded to even:
//!   * [`Digits::All`]: `2032 / amax`, the scale being `amax / 2032`, and codes bounded to
//!     -2032..=2032; `high` is in -127..=127 and `low` in -8..=7;
//!   * [`Digits::Outliers`]: of the block's eight quads of neighbours the outlier is the first that
//!     has `amax`; `beside` is the largest magnitude outside it. The inverse is the smaller of
//!     `127 / beside` and `2032 / amax`, the scale `beside / 127` or `amax / 2032` accordingly.
//!     The outlier's codes have both digits; the others are in -127..=127, which is `low`.
//!
//!   `sum` is the scale times the sum of the codes: with a minimum near the middle of its weights,
//!   the errors of codes and minimum then nearly cancel, which they would not with the sum of the
//!   inputs themselves;
//! * an output: for the blocks in order, `acc = fma(dw * dx, idot, acc)`, then, in a format with
//!   minima, `acc = fma(m, sum, acc)`. `idot` is the sum of codes times codes, less a format's
//!   offset (8, 16, 32; 0 with minima), converted to `f32` exactly. The K formats have
//!   `dw = d * scale` and `m = -(dmin * minimum)`, both exact; Q6_K has two `idot`s of 16 each
//!   with their own `dw`, in order;
//! * F32, F16 and BF16 weights meet the `f32` inputs: four chains of fused multiply-adds, one for
//!   each `k % 4`, then `(a0 + a1) + (a2 + a3)`.
//!
//! So an output depends on its own row and token alone: not on the batch, the threads, the panel
//! or the processor. Nothing here knows of models or of attention.

mod activations;
mod arena;
mod drive;
mod kind;
mod lanes;
mod matrix;
mod parse;
mod quantize;
mod scalar;
mod tier;
mod tile;

#[cfg(target_arch = "x86_64")]
mod avx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_four;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;

#[cfg(test)]
mod tests;

pub use activations::{Activations, Digits};
pub use drive::products;
pub use matrix::Packed;
pub use tier::{Tier, TierCheck, TierOutcome, tier, tier_report};
