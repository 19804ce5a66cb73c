//! Activations of several tokens, quantised once for all matrices that they meet.

use std::sync::Mutex;

use super::quantize::{Blocks, quantize};
use crate::matrix::ShapeError;
use crate::pool::Pool;

/// Activations in a block.
pub(super) const BLOCK: usize = 32;

/// Inputs below this number are quantised by the caller alone: sharing costs more.
const SHARED_MIN: usize = 1 << 15;

/// What a product needs to know of a block of activations beside its codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Mark {
    /// What a code of 1 stands for, of all 12 bits.
    pub(super) scale: f32,
    /// The sum of the codes times the scale.
    pub(super) sum: f32,
    /// The sum of the codes.
    pub(super) codes: i32,
    /// The sum of the first half's codes.
    pub(super) first: i32,
}

/// Activations `[tokens, cols]`, in 12 bits and as they were. Its memory is used again by the next
/// [`Activations::quantize`].
#[derive(Clone, Debug, Default)]
pub struct Activations {
    tokens: usize,
    cols: usize,
    /// The upper 8 bits, rounded.
    codes: Vec<i8>,
    /// What remains, in sixteenths of those: -8 to 7.
    low: Vec<i8>,
    /// All 12 bits: of each four the first, third, second, fourth.
    wide: Vec<i16>,
    scales: Vec<f32>,
    marks: Vec<Mark>,
    values: Vec<f32>,
}

impl Activations {
    /// No tokens yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the contents by `x`, `[tokens, cols]`.
    ///
    /// # Errors
    /// `cols` that is no multiple of 32; `x` that is not whole rows. The contents stay.
    pub fn quantize(&mut self, pool: &Pool, x: &[f32], cols: usize) -> Result<(), ShapeError> {
        ShapeError::check(
            "a row of activations, in whole blocks of 32,",
            cols,
            cols.next_multiple_of(BLOCK),
        )?;
        let tokens = x.len().checked_div(cols).unwrap_or(0);
        ShapeError::check("the activations", x.len(), tokens * cols)?;
        (self.tokens, self.cols) = (tokens, cols);
        self.values.clear();
        self.values.extend_from_slice(x);
        grow(&mut self.codes, x.len());
        grow(&mut self.low, x.len());
        grow(&mut self.wide, x.len());
        grow(&mut self.scales, x.len() / BLOCK);
        grow(&mut self.marks, x.len() / BLOCK);
        self.spread(pool);
        Ok(())
    }

    /// Quantises `values`, shared among the threads if there are enough.
    fn spread(&mut self, pool: &Pool) {
        let blocks = self.values.len() / BLOCK;
        let parts = if self.values.len() < SHARED_MIN { 1 } else { pool.threads() };
        let share = blocks.div_ceil(parts).max(1);
        if parts == 1 {
            quantize(Blocks {
                x: &self.values,
                codes: &mut self.codes,
                low: &mut self.low,
                wide: &mut self.wide,
                scales: &mut self.scales,
                marks: &mut self.marks,
            });
            return;
        }
        let x = self.values.chunks(share * BLOCK);
        let codes = self.codes.chunks_mut(share * BLOCK);
        let low = self.low.chunks_mut(share * BLOCK);
        let wide = self.wide.chunks_mut(share * BLOCK);
        let own = self.scales.chunks_mut(share).zip(self.marks.chunks_mut(share));
        let blocks =
            x.zip(codes.zip(low.zip(wide))).zip(own).map(|((x, (codes, (low, wide))), own)| {
                let (scales, marks) = own;
                Mutex::new(Some(Blocks { x, codes, low, wide, scales, marks }))
            });
        // Each part takes its own share once; the lock is never waited for.
        let blocks: Vec<Mutex<_>> = blocks.collect();
        pool.run(blocks.len(), &|part| {
            if let Some(Ok(mut blocks)) = blocks.get(part).map(Mutex::lock)
                && let Some(blocks) = blocks.take()
            {
                quantize(blocks);
            }
        });
    }

    /// Tokens held.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Activations of a token.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// A token's codes in 8 bits, `[cols]`: the 12 of products rounded. Empty past the last.
    #[must_use]
    pub fn codes(&self, token: usize) -> &[i8] {
        self.row(&self.codes, token, self.cols)
    }

    /// What a code of 1 in 8 bits stands for, `[cols / 32]`; empty past the last.
    #[must_use]
    pub fn scales(&self, token: usize) -> &[f32] {
        self.row(&self.scales, token, self.cols / BLOCK)
    }

    /// A token's activations as they were given, `[cols]`; empty past the last.
    #[must_use]
    pub fn values(&self, token: usize) -> &[f32] {
        self.row(&self.values, token, self.cols)
    }

    fn row<'a, T>(&self, all: &'a [T], token: usize, width: usize) -> &'a [T] {
        let first = if token < self.tokens { token * width } else { return &[] };
        all.get(first..first + width).unwrap_or_default()
    }

    /// The upper 8 bits of all codes, row after row; there may be older ones behind, as behind the
    /// following.
    pub(super) fn all_codes(&self) -> &[i8] {
        &self.codes
    }

    /// What remains of all codes.
    pub(super) fn all_low(&self) -> &[i8] {
        &self.low
    }

    /// All 12 bits of all codes, of each four the first, third, second, fourth.
    pub(super) fn all_wide(&self) -> &[i16] {
        &self.wide
    }

    /// All marks.
    pub(super) fn all_marks(&self) -> &[Mark] {
        &self.marks
    }

    /// All activations.
    pub(super) fn all_values(&self) -> &[f32] {
        &self.values
    }
}

/// Makes room; what is there stays, so that rows of several widths in turn cost nothing.
fn grow<T: Copy + Default>(all: &mut Vec<T>, len: usize) {
    if all.len() < len {
        all.resize(len, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of ordinary size from a fixed sequence.
    fn values(len: usize) -> Vec<f32> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn codes_and_scales_are_those_of_the_rule() {
        let (tokens, cols) = (3, 96);
        let x = values(tokens * cols);
        let mut quantized = Activations::new();
        quantized.quantize(&Pool::new(1), &x, cols).unwrap();
        assert_eq!((quantized.tokens(), quantized.cols()), (tokens, cols));
        for (token, row) in x.chunks(cols).enumerate() {
            assert_eq!(quantized.values(token), row);
            for (b, block) in row.chunks(BLOCK).enumerate() {
                let amax = block.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                assert_eq!(quantized.scales(token)[b], 16.0 * (amax / 2032.0));
                let at = token * cols + b * BLOCK;
                let high = &quantized.codes(token)[b * BLOCK..][..BLOCK];
                let low = &quantized.low[at..at + BLOCK];
                assert!(low.iter().all(|low| (-8..8).contains(low)));
                let codes: Vec<i32> =
                    high.iter().zip(low).map(|(h, l)| 16 * i32::from(*h) + i32::from(*l)).collect();
                for (&x, &code) in block.iter().zip(&codes) {
                    assert_eq!(code as f32, (x * (2032.0 / amax)).round_ties_even());
                }
                let mark = quantized.marks[token * 3 + b];
                let total = |codes: &[i32]| codes.iter().sum::<i32>();
                assert_eq!((mark.codes, mark.first), (total(&codes), total(&codes[..16])));
                assert_eq!(mark.scale, amax / 2032.0);
                assert_eq!(mark.sum, mark.scale * mark.codes as f32);
            }
        }
        assert!(quantized.codes(tokens).is_empty() && quantized.codes(usize::MAX).is_empty());
    }

    #[test]
    fn threads_change_no_bit() {
        let (tokens, cols) = (41, 1024);
        let x = values(tokens * cols);
        let mut one = Activations::new();
        one.quantize(&Pool::new(1), &x, cols).unwrap();
        let code = |at: usize| 16 * i16::from(one.codes[at]) + i16::from(one.low[at]);
        assert_eq!(&one.wide[4..8], [4, 6, 5, 7].map(code));
        for threads in 2..4 {
            let mut shared = Activations::new();
            shared.quantize(&Pool::new(threads), &x, cols).unwrap();
            assert_eq!((&one.codes, &one.low), (&shared.codes, &shared.low));
            assert_eq!(&one.wide, &shared.wide);
            assert_eq!((&one.scales, &one.marks), (&shared.scales, &shared.marks));
        }
    }

    #[test]
    fn hostile_values_are_bounded_and_not_numbers_are_kept() {
        let mut x = vec![0.0f32; 5 * BLOCK];
        x[BLOCK..2 * BLOCK].fill(f32::MIN_POSITIVE / 8.0);
        x[2 * BLOCK] = f32::NAN;
        x[2 * BLOCK + 1] = 1.0;
        x[3 * BLOCK] = f32::INFINITY;
        x[4 * BLOCK] = f32::MAX;
        let mut quantized = Activations::new();
        quantized.quantize(&Pool::new(1), &x, BLOCK).unwrap();
        assert_eq!(quantized.scales(0), [0.0]);
        assert_eq!(quantized.scales(1), [0.0]);
        assert!(quantized.codes(1).iter().all(|&code| code == 0));
        assert!(quantized.scales(2)[0].is_nan());
        assert!(quantized.scales(3)[0].is_nan());
        assert_eq!(quantized.scales(4), [16.0 * (f32::MAX / 2032.0)]);
        assert_eq!(quantized.codes(4)[0], 127);
        assert!((0..5).all(|token| quantized.codes(token).iter().all(|&code| code >= -127)));
    }

    #[test]
    fn shapes_that_disagree_are_refused() {
        let (pool, mut quantized) = (Pool::new(1), Activations::new());
        assert!(quantized.quantize(&pool, &[0.0; 33], 33).is_err());
        assert!(quantized.quantize(&pool, &[0.0; 33], 32).is_err());
        assert!(quantized.quantize(&pool, &[], 0).is_ok());
        assert!(quantized.quantize(&pool, &[0.0; 32], 0).is_err());
    }
}
