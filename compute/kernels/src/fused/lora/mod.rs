//! Low-rank updates (Hu et al. 2021) of many adapters for one batch.
//!
//! Rows are grouped by adapter and each group's matrices are used where they lie, never gathered or
//! copied (SGMV of Punica, Chen et al. 2023): *shrink* makes `v = A x` of a row, *expand* adds
//! `scale * B v` to its output. What is computed for a row depends on its own input and the groups
//! that name it, in their order; not on what else is in a group, nor on threads.
//!
//! Orders of summation, in blocks of 32 ranks:
//! * [`LoraFormat::F32`] and [`LoraFormat::F16`]: `v` is four chains of fused multiply-adds along
//!   the `f32` input, one for each `k % 4`, then `(v0 + v1) + (v2 + v3)`; an output is a chain of
//!   `fma(v[r] * scale, b[r], out)`.
//! * [`LoraFormat::Q8`]: `v` is the chain of `fma(da * dx, idot, v)` over blocks of 32 inputs, as in
//!   [`packed`](crate::packed). `u[r] = (v[r] * db[r]) * scale` becomes 16-bit codes with one scale
//!   `du` per block of ranks (the largest magnitude divided by 32,767; codes rounded to even), and
//!   then `out = fma(du, idot, out)`. Products of codes are summed in integers, exactly.

mod bytes;
mod kernels;
mod pack;
mod site;

pub use self::bytes::LoraReadError;
use self::kernels::{Share, apply};
pub use self::site::{LoraFormat, LoraSite};
use super::share::Disjoint;
use super::simd::Level;
use crate::matrix::ShapeError;
use crate::packed::Activations;
use crate::pool::Pool;

/// Multiplications below which the caller works alone: sharing them costs more than doing them.
const SHARED_MIN: usize = 1 << 16;

/// The rows of a batch that share an adapter at one place of the model.
#[derive(Clone, Copy, Debug)]
pub struct LoraGroup<'a> {
    /// The adapter's matrices there.
    pub site: &'a LoraSite,
    /// The adapter's scale, times its weight in a mixture.
    pub scale: f32,
    /// Numbers of tokens. A number named twice is served twice.
    pub rows: &'a [u32],
}

/// `out += scale * B (A x)` for the rows of each group, one group after the other: a token may be in
/// several (mixtures). `out` is `[tokens, out_cols]`.
///
/// # Errors
/// Sites of another shape than `x` and `out`; a row that is no token.
pub fn lora(
    pool: &Pool,
    groups: &[LoraGroup<'_>],
    x: &Activations,
    out: &mut [f32],
    out_cols: usize,
) -> Result<(), ShapeError> {
    lora_at(Level::detect(), pool, groups, x, out, out_cols)
}

fn lora_at(
    level: Level,
    pool: &Pool,
    groups: &[LoraGroup<'_>],
    x: &Activations,
    out: &mut [f32],
    out_cols: usize,
) -> Result<(), ShapeError> {
    ShapeError::check("the output of adapters", out.len(), x.tokens().saturating_mul(out_cols))?;
    let mut work = 0;
    for group in groups {
        let site = group.site;
        ShapeError::check("the input of an adapter", x.cols(), site.cols())?;
        ShapeError::check("an output row of an adapter", out_cols, site.rows())?;
        if let Some(&row) = group.rows.iter().find(|row| **row as usize >= x.tokens()) {
            let (what, expected) = ("the batch that an adapter's row is in", row as usize + 1);
            return Err(ShapeError::Length { what, found: x.tokens(), expected });
        }
        work += group.rows.len() * site.rank() * (site.rows() + site.cols());
    }
    let parts = if work < SHARED_MIN { 1 } else { pool.threads() };
    let out = Disjoint::new(out);
    pool.run(parts, &|part| {
        for group in groups {
            let share = Share { part, parts, x, out: &out, out_cols };
            apply(level, group, &share);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
