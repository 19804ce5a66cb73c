//! Products shared among threads: which panel is whose, and which kernel it gets.
#![expect(unsafe_code, reason = "outputs of several threads in one slice, and the kernels")]

use core::mem::MaybeUninit;
use core::ops::Range;

use super::activations::{Activations, BLOCK, Digits};
use super::kind::{self, Element, Kind, ROWS};
use super::lanes::{Lanes, Token};
use super::matrix::Packed;
use super::scalar::Scalar;
use super::tier::{Claimed, Tier, chosen};
use super::tile::{FloatTile, Tile, UNPACKED_SCALES};
use crate::format::Format;
use crate::matrix::ShapeError;
use crate::pool::Pool;

/// Products below this number of multiplications are done by the caller alone: sharing them costs
/// more than doing them.
const SHARED_MIN: usize = 1 << 16;

/// Tokens from which on blocks are unpacked before tokens pass: for fewer it does not pay. Codes
/// of 4 and 8 bits are cheap to take as they lie.
const fn unpacked_min<K: Kind>() -> usize {
    if matches!(K::BITS, 4 | 8) { 24 } else { 8 }
}

/// Activations that pass together, so that they stay in the second-level cache while all panels
/// of a thread pass: weights are read again for the next.
const PASSING: usize = 96 << 10;

/// Blocks unpacked at a time: with the tokens that pass they fill the first-level cache.
const CHUNK: usize = 24;

/// Tokens that pass together.
const TOKENS: usize = 4;

/// The largest unpacked block, of any tier.
const UNPACKED_MAX: usize = UNPACKED_SCALES + 1024;

/// `out[i]`, `[tokens, weights[i].rows()]`, becomes `x * weights[i]^T`. All share `x` and one job
/// of the pool.
///
/// # Errors
/// Weights of other columns than `x`; an `out` of another length than its shape. Nothing is
/// written then.
pub fn products(
    pool: &Pool,
    weights: &mut [(&Packed, &mut [f32])],
    x: &Activations,
) -> Result<(), ShapeError> {
    run(chosen(), pool, weights, x)
}

/// One of the matrices of a job.
struct Job<'a> {
    weights: &'a Packed,
    /// Panels times their bytes of the matrices before it.
    before: usize,
    /// `[tokens, rows]`.
    out: *mut f32,
}

/// The matrices of a job, to be seen by all threads.
struct Jobs<'a>(Vec<Job<'a>>);

// SAFETY: a thread writes the outputs of its own panels alone.
unsafe impl Sync for Jobs<'_> {}

/// As [`products`], with a given tier.
pub(super) fn run(
    claimed: Claimed,
    pool: &Pool,
    weights: &mut [(&Packed, &mut [f32])],
    x: &Activations,
) -> Result<(), ShapeError> {
    let mut work = 0usize;
    for (packed, out) in &*weights {
        ShapeError::check("the input of a product", x.cols(), packed.cols())?;
        let expected = x.tokens().saturating_mul(packed.rows());
        ShapeError::check("the output of a product", out.len(), expected)?;
        work = work.saturating_add(expected.saturating_mul(x.cols()));
    }
    let mut bytes = 0;
    let jobs = weights.iter_mut().map(|(weights, out)| {
        let job = Job { weights, before: bytes, out: out.as_mut_ptr() };
        bytes += weights.bytes();
        job
    });
    let jobs = Jobs(jobs.collect());
    if work == 0 {
        weights.iter_mut().for_each(|(_, out)| out.fill(0.0));
        return Ok(());
    }
    let parts = if work < SHARED_MIN { 1 } else { pool.threads() };
    pool.run(parts, &|part| {
        let jobs = &jobs;
        for job in &jobs.0 {
            // A panel belongs to the part in whose share of all bytes it begins.
            let size = job.weights.panel_bytes();
            let boundary = |part: usize| {
                let at = (bytes as u128 * part as u128 / parts as u128) as usize;
                at.saturating_sub(job.before).div_ceil(size).min(job.weights.panels())
            };
            let panels = boundary(part)..boundary(part + 1);
            if !panels.is_empty() {
                // SAFETY: the tier is claimed, the shapes were checked above, and the shares of
                // the parts do not overlap.
                unsafe { share(claimed, job, panels, x) }
            }
        }
    });
    Ok(())
}

/// One thread's panels of one matrix, with the kernels of a tier.
///
/// # Safety
/// The job's output is `[tokens, rows]` and no one else uses the rows of these panels.
unsafe fn share(claimed: Claimed, job: &Job<'_>, panels: Range<usize>, x: &Activations) {
    // SAFETY: the caller's; a tier is claimed if the processor has its features.
    unsafe {
        match claimed.tier() {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => formats::<super::avx::Avx2>(job, panels, x),
            #[cfg(target_arch = "x86_64")]
            Tier::AvxVnni => formats::<super::avx::AvxVnni>(job, panels, x),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512Vnni => formats::<super::avx512::Avx512Vnni>(job, panels, x),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Tier::NeonDot => formats::<super::neon::NeonDot>(job, panels, x),
            _ => formats::<Scalar>(job, panels, x),
        }
    }
}

/// The kernels of a format.
///
/// # Safety
/// As [`share`].
unsafe fn formats<S: Lanes>(job: &Job<'_>, panels: Range<usize>, x: &Activations) {
    let passes = (x.tokens() * x.cols()).div_ceil(PASSING);
    let step = x.tokens().div_ceil(passes).next_multiple_of(TOKENS);
    for first in (0..x.tokens()).step_by(step) {
        let tokens = first..x.tokens().min(first + step);
        for panel in panels.clone() {
            // SAFETY: the caller's.
            unsafe { pass::<S>(job, panel, x, tokens.clone()) }
        }
    }
}

/// Some tokens pass a panel.
///
/// # Safety
/// As [`share`].
unsafe fn pass<S: Lanes>(job: &Job<'_>, panel: usize, x: &Activations, tokens: Range<usize>) {
    let size = job.weights.panel_bytes();
    let rows = ROWS.min(job.weights.rows() - panel * ROWS);
    let stride = job.weights.rows();
    // SAFETY: the panel is one of the matrix, and so are its rows of the output.
    unsafe {
        let target = Target { out: job.out.add(panel * ROWS), stride, rows };
        let weights = job.weights.start().add(panel * size);
        match job.weights.format() {
            Format::F32 => floats::<S, kind::F32>(weights, x, tokens, target),
            Format::F16 => floats::<S, kind::F16>(weights, x, tokens, target),
            Format::Bf16 => floats::<S, kind::Bf16>(weights, x, tokens, target),
            Format::Q4_0 => integers::<S, kind::Q40>(weights, size, x, tokens, target),
            Format::Q4_1 => integers::<S, kind::Q41>(weights, size, x, tokens, target),
            Format::Q5_0 => integers::<S, kind::Q50>(weights, size, x, tokens, target),
            Format::Q5_1 => integers::<S, kind::Q51>(weights, size, x, tokens, target),
            Format::Q8_0 => integers::<S, kind::Q80>(weights, size, x, tokens, target),
            Format::Q4K => integers::<S, kind::Q4K>(weights, size, x, tokens, target),
            Format::Q5K => integers::<S, kind::Q5K>(weights, size, x, tokens, target),
            Format::Q6K => integers::<S, kind::Q6K>(weights, size, x, tokens, target),
        }
    }
}

/// Where a panel's outputs go.
#[derive(Clone, Copy)]
struct Target {
    /// The first token's.
    out: *mut f32,
    /// Outputs of a token, all panels'.
    stride: usize,
    /// Outputs of this panel: 16 but in the last.
    rows: usize,
}

impl Target {
    /// Calls `tile` with room for 16 outputs of `T` tokens, which hold what they held.
    ///
    /// # Safety
    /// The tokens' outputs are there.
    #[inline(always)]
    unsafe fn with<const T: usize>(self, first: usize, tile: impl FnOnce([*mut f32; T])) {
        let out: [*mut f32; T] =
            core::array::from_fn(|t| self.out.wrapping_add((first + t) * self.stride));
        if self.rows == ROWS {
            tile(out);
            return;
        }
        let mut spare = [[0.0f32; ROWS]; T];
        for t in 0..T {
            // SAFETY: the caller's: `rows` outputs of the token.
            unsafe { spare[t].as_mut_ptr().copy_from_nonoverlapping(out[t], self.rows) };
        }
        tile(spare.each_mut().map(|spare| spare.as_mut_ptr()));
        for t in 0..T {
            // SAFETY: as above.
            unsafe { out[t].copy_from_nonoverlapping(spare[t].as_ptr(), self.rows) };
        }
    }
}

/// Room for unpacked blocks, aligned as the widest registers.
#[repr(C, align(64))]
struct Scratch(MaybeUninit<[u8; CHUNK * UNPACKED_MAX]>);

/// A panel of an integer format times all tokens.
///
/// # Safety
/// As [`share`]; `size` bytes of weights.
unsafe fn integers<S: Lanes, K: Kind>(
    panel: *const u8,
    size: usize,
    x: &Activations,
    tokens: Range<usize>,
    target: Target,
) {
    // SAFETY: the caller's.
    unsafe {
        if K::BITS != 8 && x.digits() == Digits::Outliers {
            tiles::<S, K, true>(panel, size, x, tokens, target);
        } else {
            tiles::<S, K, false>(panel, size, x, tokens, target);
        }
    }
}

/// The same; tokens have upper digits in their outliers alone if `D`.
///
/// # Safety
/// As [`integers`].
unsafe fn tiles<S: Lanes, K: Kind, const D: bool>(
    panel: *const u8,
    size: usize,
    x: &Activations,
    tokens: Range<usize>,
    target: Target,
) {
    let blocks = x.cols() / BLOCK;
    let mut done = tokens.start;
    // SAFETY: the caller's; tokens are below their number.
    unsafe {
        if tokens.len() >= unpacked_min::<K>() {
            let tiles = tokens.len() / TOKENS;
            done += tiles * TOKENS;
            let mut scratch = Scratch(MaybeUninit::uninit());
            let scratch: *mut u8 = scratch.0.as_mut_ptr().cast();
            let chunks = blocks.div_ceil(CHUNK);
            let height = blocks.div_ceil(chunks);
            let lines = size.div_ceil(64 * chunks * tiles);
            let mut ahead = panel.wrapping_add(size);
            for first in (0..blocks).step_by(height) {
                let blocks = height.min(blocks - first);
                S::unpack_blocks::<K>(panel, first, blocks, scratch);
                for token in (tokens.start..done).step_by(TOKENS) {
                    target.with::<TOKENS>(token, |out| {
                        let mut tile = tile::<S, K, TOKENS>(scratch, first, blocks, x, token, out);
                        (tile.carry, tile.ahead, tile.lines) = (first > 0, ahead, lines);
                        S::integers::<K::Plain, true, D, TOKENS>(&tile);
                    });
                    ahead = ahead.wrapping_add(64 * lines);
                }
            }
        }
        while tokens.end - done >= TOKENS {
            direct::<S, K, D, TOKENS>(panel, x, done, target);
            done += TOKENS;
        }
        if tokens.end - done >= 2 {
            direct::<S, K, D, 2>(panel, x, done, target);
            done += 2;
        }
        if tokens.end > done {
            direct::<S, K, D, 1>(panel, x, done, target);
        }
    }
}

/// A panel as it lies times `T` tokens.
///
/// # Safety
/// As [`integers`].
unsafe fn direct<S: Lanes, K: Kind, const D: bool, const T: usize>(
    panel: *const u8,
    x: &Activations,
    token: usize,
    target: Target,
) {
    // SAFETY: the caller's.
    unsafe {
        target.with::<T>(token, |out| {
            let tile = tile::<S, K, T>(panel, 0, x.cols() / BLOCK, x, token, out);
            S::integers::<K, false, D, T>(&tile);
        });
    }
}

/// The tile of `blocks` blocks from the block `first` on, and of the tokens from `token` on.
fn tile<S: Lanes, K: Kind, const T: usize>(
    weights: *const u8,
    first: usize,
    blocks: usize,
    x: &Activations,
    token: usize,
    out: [*mut f32; T],
) -> Tile<T> {
    let at = |t: usize| (token + t) * (x.cols() / BLOCK) + first;
    let codes: *const i8 = match S::token_bytes::<K>() {
        BLOCK => x.all_high().as_ptr(),
        _ => x.all_wide().as_ptr().cast(),
    };
    Tile {
        weights,
        blocks,
        codes: core::array::from_fn(|t| Token {
            codes: codes.wrapping_add(at(t) * S::token_bytes::<K>()),
            low: x.all_low().as_ptr().wrapping_add(at(t) * BLOCK),
        }),
        marks: core::array::from_fn(|t| x.all_marks().as_ptr().wrapping_add(at(t))),
        out,
        carry: false,
        ahead: weights,
        lines: 0,
    }
}

/// A panel of floating point times all tokens.
///
/// # Safety
/// As [`share`].
unsafe fn floats<S: Lanes, E: Element>(
    panel: *const u8,
    x: &Activations,
    tokens: Range<usize>,
    target: Target,
) {
    let mut done = tokens.start;
    // SAFETY: the caller's; tokens are below their number.
    unsafe {
        while tokens.end - done >= TOKENS {
            float_tile::<S, E, TOKENS>(panel, x, done, target);
            done += TOKENS;
        }
        while tokens.end > done {
            float_tile::<S, E, 1>(panel, x, done, target);
            done += 1;
        }
    }
}

/// A panel of floating point times `T` tokens.
///
/// # Safety
/// As [`floats`].
unsafe fn float_tile<S: Lanes, E: Element, const T: usize>(
    weights: *const u8,
    x: &Activations,
    token: usize,
    target: Target,
) {
    let (values, cols) = (x.all_values(), x.cols());
    // SAFETY: the caller's.
    unsafe {
        target.with::<T>(token, |out| {
            let values = core::array::from_fn(|t| values.as_ptr().wrapping_add((token + t) * cols));
            S::products::<E, T>(&FloatTile { weights, cols, values, out });
        });
    }
}
