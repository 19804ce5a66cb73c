//! The kernels: a panel of 16 rows times up to four tokens, for any tier.
//!
//! One token or a few read packed blocks as they lie and ask for memory ahead of use. For more,
//! some blocks are unpacked first (scales to `f32`, codes to bytes), to stay in the first-level
//! cache while all tokens pass. Both give the same sums in the same order.
#![expect(unsafe_code, reason = "unchecked reads of packed weights")]
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts tokens or lanes of several arrays"
)]

use super::activations::Mark;
use super::kind::{Element, Kind, ROWS, Second};
use super::lanes::{Lanes, Token};

/// Bytes of 16 numbers.
const FLOATS: usize = 4 * ROWS;

/// Bytes of the two lists of scales before an unpacked block's codes.
pub(super) const UNPACKED_SCALES: usize = 2 * FLOATS;

/// Bytes ahead of use at which streamed weights are asked for: what a memory that takes 100 ns
/// delivers meanwhile, twice over.
const AHEAD: usize = 4096;

/// Some blocks of a panel and the tokens that they meet.
pub(super) struct Tile<const T: usize> {
    /// Packed blocks, or unpacked ones.
    pub(super) weights: *const u8,
    /// How many.
    pub(super) blocks: usize,
    /// The tokens' codes of the first of these blocks, [`Lanes::token_bytes`] a block.
    pub(super) codes: [Token; T],
    /// The tokens' marks of the first of these blocks.
    pub(super) marks: [*const Mark; T],
    /// Room for 16 outputs of each token.
    pub(super) out: [*mut f32; T],
    /// The sums go on from what `out` holds.
    pub(super) carry: bool,
    /// Memory that will be read next, and how many lines of it to ask for.
    pub(super) ahead: *const u8,
    /// See `ahead`.
    pub(super) lines: usize,
}

/// Outputs of a tile; blocks are unpacked if `U`, and tokens have upper digits in their outliers
/// alone if `D`.
///
/// # Safety
/// As [`Lanes`]: `blocks` (whole groups unless `U`) of weights, codes and marks.
#[inline(always)]
pub(super) unsafe fn integers<S: Lanes, K: Kind, const U: bool, const D: bool, const T: usize>(
    tile: &Tile<T>,
) {
    // SAFETY: the caller's; blocks are passed one by one, a group's header before them.
    unsafe {
        let mut sums = [S::zero(); T];
        if tile.carry {
            for t in 0..T {
                sums[t] = S::floats(tile.out[t].cast_const().cast());
            }
        }
        for line in 0..tile.lines {
            S::prefetch(tile.ahead.wrapping_add(64 * line));
        }
        if U {
            let bytes = UNPACKED_SCALES + S::unpacked_bytes::<K>();
            for block in 0..tile.blocks {
                let at = tile.weights.add(block * bytes);
                let scales = || (S::floats(at), S::floats(at.add(FLOATS)));
                add_block::<S, K, U, D, T>(tile, block, at.add(UNPACKED_SCALES), scales, &mut sums);
            }
        } else {
            for group in 0..tile.blocks / K::GROUP {
                let header = tile.weights.add(group * K::STRIDE);
                for i in 0..K::GROUP {
                    let at = header.add(K::HEADER + i * K::RECORD);
                    for line in 0..K::RECORD.div_ceil(64) {
                        S::prefetch(at.wrapping_add(AHEAD + 64 * line));
                    }
                    let scales = || K::scales::<S>(header, at.add(K::CODES));
                    add_block::<S, K, U, D, T>(tile, group * K::GROUP + i, at, scales, &mut sums);
                }
            }
        }
        for t in 0..T {
            S::store(sums[t], tile.out[t].cast());
        }
    }
}

/// Adds one block to the sums. Its scales are only fetched when its codes have passed, so that these
/// have the registers.
#[inline(always)]
unsafe fn add_block<S: Lanes, K: Kind, const U: bool, const D: bool, const T: usize>(
    tile: &Tile<T>,
    block: usize,
    codes: *const u8,
    scales: impl FnOnce() -> (S::Floats, S::Floats),
    sums: &mut [S::Floats; T],
) {
    // SAFETY: the caller's; `block` is below the tile's number.
    unsafe {
        let first = block * S::token_bytes::<K>();
        let x: [Token; T] = core::array::from_fn(|t| tile.codes[t].on(first));
        let offset = if S::SIGNED && K::BITS == 8 { 0 } else { K::OFFSET };
        let marks = tile.marks.map(|marks| marks.wrapping_add(block));
        if U && T > 2 {
            S::keep(sums);
        }
        if matches!(K::SECOND, Second::Scale) {
            let dots = if D {
                S::sparse_half_dots::<K, U, T, 0>(codes, x, marks)
            } else {
                S::half_dots::<K, U, T, 0>(codes, x)
            };
            let scales = scales();
            for t in 0..T {
                let mark = &*tile.marks[t].add(block);
                let dot = S::to_floats(S::less(dots[t], offset, i32::from(mark.first)));
                sums[t] = S::fma(S::mul(scales.0, S::splat(mark.scale)), dot, sums[t]);
            }
            let dots = if D {
                S::sparse_half_dots::<K, U, T, 1>(codes, x, marks)
            } else {
                S::half_dots::<K, U, T, 1>(codes, x)
            };
            for t in 0..T {
                let mark = &*tile.marks[t].add(block);
                let second = mark.codes.wrapping_sub(i32::from(mark.first));
                let dot = S::to_floats(S::less(dots[t], offset, second));
                sums[t] = S::fma(S::mul(scales.1, S::splat(mark.scale)), dot, sums[t]);
            }
            return;
        }
        let dots = if D {
            S::sparse_dots::<K, U, T>(codes, x, marks)
        } else {
            S::dots::<K, U, T>(codes, x)
        };
        let scales = scales();
        for t in 0..T {
            let mark = &*tile.marks[t].add(block);
            let dot = if offset == 0 { dots[t] } else { S::less(dots[t], offset, mark.codes) };
            let scale = S::mul(scales.0, S::splat(mark.scale));
            sums[t] = S::fma(scale, S::to_floats(dot), sums[t]);
            if matches!(K::SECOND, Second::Minimum) {
                sums[t] = S::fma(scales.1, S::splat(mark.sum), sums[t]);
            }
        }
    }
}

/// Unpacks `count` blocks of a panel, from the block `first` on.
///
/// # Safety
/// As [`Lanes`]: those blocks, and as many unpacked ones.
#[inline(always)]
pub(super) unsafe fn unpack<S: Lanes, K: Kind>(
    panel: *const u8,
    first: usize,
    count: usize,
    out: *mut u8,
) {
    let bytes = UNPACKED_SCALES + S::unpacked_bytes::<K>();
    // SAFETY: the caller's.
    unsafe {
        for i in 0..count {
            let block = first + i;
            let header = panel.add(block / K::GROUP * K::STRIDE);
            let at = header.add(K::HEADER + block % K::GROUP * K::RECORD);
            let out = out.add(i * bytes);
            let (scale, second) = K::scales::<S>(header, at.add(K::CODES));
            S::store(scale, out);
            S::store(second, out.add(FLOATS));
            S::unpack::<K>(at, out.add(UNPACKED_SCALES));
        }
    }
}

/// A panel of floating point and the tokens that it meets.
pub(super) struct FloatTile<const T: usize> {
    /// `[cols, 16]`.
    pub(super) weights: *const u8,
    /// Columns, a multiple of 4.
    pub(super) cols: usize,
    /// The tokens' inputs.
    pub(super) values: [*const f32; T],
    /// Room for 16 outputs of each token.
    pub(super) out: [*mut f32; T],
}

/// Outputs of a tile of floating point. One token's four chains go side by side; those of more
/// one after the other, so that as many tokens fit into the registers.
///
/// # Safety
/// As [`Lanes`]: the panel and `cols` inputs of each token.
#[inline(always)]
pub(super) unsafe fn floats<S: Lanes, E: Element, const T: usize>(tile: &FloatTile<T>) {
    let column = |k: usize| tile.weights.wrapping_add(k * ROWS * E::BYTES);
    // SAFETY: the caller's; columns are below `cols`.
    unsafe {
        let mut chains = [[S::zero(); T]; 4];
        if T == 1 {
            for k in (0..tile.cols).step_by(4) {
                for i in 0..4 {
                    S::prefetch(column(k + i).wrapping_add(AHEAD));
                    let x = S::splat(*tile.values[0].add(k + i));
                    chains[i][0] = S::fma(E::load::<S>(column(k + i)), x, chains[i][0]);
                }
            }
        } else {
            for i in 0..4 {
                let mut sums = [S::zero(); T];
                for k in (i..tile.cols).step_by(4) {
                    let weights = E::load::<S>(column(k));
                    for t in 0..T {
                        sums[t] = S::fma(weights, S::splat(*tile.values[t].add(k)), sums[t]);
                    }
                }
                chains[i] = sums;
            }
        }
        for t in 0..T {
            let sum =
                S::add(S::add(chains[0][t], chains[1][t]), S::add(chains[2][t], chains[3][t]));
            S::store(sum, tile.out[t].cast());
        }
    }
}
