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
    /// What a code of 1 stands for.
    pub(super) scale: f32,
    /// The sum of the codes times the scale.
    pub(super) sum: f32,
    /// The sum of the codes.
    pub(super) codes: i32,
    /// The sum of the first half's codes.
    pub(super) first: i16,
    /// The quad that alone has upper digits, with [`Digits::Outliers`].
    pub(super) quad: u16,
    /// Its upper digits, four bytes as they lie.
    pub(super) digits: i32,
}

impl Mark {
    /// The quad that alone has upper digits and those, as far as it lies in the half asked for.
    #[inline(always)]
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code, reason = "the scalar tier reads all digits")
    )]
    pub(super) fn outlier(&self, half: Option<usize>) -> (usize, i32) {
        let quad = usize::from(self.quad);
        let within = half.is_none_or(|half| quad / 4 == half);
        (quad, if within { self.digits } else { 0 })
    }
}

/// Which of a block's codes have all 12 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digits {
    /// Every one.
    All,
    /// Four neighbours, the *outlier*: of the eight such quads that with the largest magnitude (of
    /// equal ones the first). The others have 8 bits, by a scale that need not reach the outlier:
    /// few inputs are far larger than their neighbours, and those would make all others' codes
    /// coarse. A product costs little more than one of 8 bits.
    #[default]
    Outliers,
}

/// Activations `[tokens, cols]`, in 12 bits and as they were. Its memory is used again by the next
/// [`Activations::quantize`].
#[derive(Clone, Debug, Default)]
pub struct Activations {
    tokens: usize,
    cols: usize,
    digits: Digits,
    /// The upper digits, in sixteens; 0 where a code has but one digit.
    high: Vec<i8>,
    /// The lower digits: -8 to 7, or the whole code where it has but one.
    low: Vec<i8>,
    /// All 12 bits: of each four the first, third, second, fourth.
    wide: Vec<i16>,
    /// Codes in 8 bits, where the upper digits are none.
    rounded: Vec<i8>,
    /// Of codes in 8 bits.
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
    pub fn quantize(
        &mut self,
        pool: &Pool,
        x: &[f32],
        cols: usize,
        digits: Digits,
    ) -> Result<(), ShapeError> {
        ShapeError::check(
            "a row of activations, in whole blocks of 32,",
            cols,
            cols.next_multiple_of(BLOCK),
        )?;
        let tokens = x.len().checked_div(cols).unwrap_or(0);
        ShapeError::check("the activations", x.len(), tokens * cols)?;
        (self.tokens, self.cols, self.digits) = (tokens, cols, digits);
        self.values.clear();
        self.values.extend_from_slice(x);
        grow(&mut self.high, x.len());
        grow(&mut self.low, x.len());
        grow(&mut self.wide, x.len());
        grow(&mut self.rounded, x.len());
        grow(&mut self.scales, x.len() / BLOCK);
        grow(&mut self.marks, x.len() / BLOCK);
        self.spread(pool);
        Ok(())
    }

    /// Quantises `values`, shared among the threads if there are enough.
    fn spread(&mut self, pool: &Pool) {
        let (blocks, digits) = (self.values.len() / BLOCK, self.digits);
        let parts = if self.values.len() < SHARED_MIN { 1 } else { pool.threads() };
        let share = blocks.div_ceil(parts).max(1);
        let x = self.values.chunks(share * BLOCK);
        let high = self.high.chunks_mut(share * BLOCK);
        let low = self.low.chunks_mut(share * BLOCK);
        let wide = self.wide.chunks_mut(share * BLOCK);
        let rounded = self.rounded.chunks_mut(share * BLOCK);
        let marks = self.scales.chunks_mut(share).zip(self.marks.chunks_mut(share));
        let blocks = x.zip(high.zip(low)).zip(wide.zip(rounded)).zip(marks).map(
            |(((x, (high, low)), (wide, rounded)), (scales, marks))| {
                let blocks = Blocks { digits, x, high, low, wide, rounded, scales, marks };
                Mutex::new(Some(blocks))
            },
        );
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

    /// A token's codes in 8 bits, `[cols]`; empty past the last. With [`Digits::All`] the 12 bits
    /// of products are rounded, else the activations themselves.
    #[must_use]
    pub fn codes(&self, token: usize) -> &[i8] {
        let codes = if self.digits == Digits::All { &self.high } else { &self.rounded };
        self.row(codes, token, self.cols)
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

    /// Which codes have which digits.
    pub(super) const fn digits(&self) -> Digits {
        self.digits
    }

    /// The upper digits of all codes, row after row; there may be older ones behind, as behind the
    /// following.
    pub(super) fn all_high(&self) -> &[i8] {
        &self.high
    }

    /// The lower digits of all codes.
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
        quantized.quantize(&Pool::new(1), &x, cols, Digits::All).unwrap();
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
                let first = i32::from(mark.first);
                assert_eq!((mark.codes, first), (total(&codes), total(&codes[..16])));
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
        for digits in [Digits::All, Digits::Outliers] {
            let mut one = Activations::new();
            one.quantize(&Pool::new(1), &x, cols, digits).unwrap();
            let code = |at: usize| 16 * i16::from(one.high[at]) + i16::from(one.low[at]);
            assert_eq!(&one.wide[4..8], [4, 6, 5, 7].map(code));
            for threads in 2..4 {
                let mut shared = Activations::new();
                shared.quantize(&Pool::new(threads), &x, cols, digits).unwrap();
                assert_eq!((&one.high, &one.low), (&shared.high, &shared.low));
                assert_eq!((&one.wide, &one.rounded), (&shared.wide, &shared.rounded));
                assert_eq!((&one.scales, &one.marks), (&shared.scales, &shared.marks));
            }
        }
    }

    #[test]
    fn an_outlier_alone_has_two_digits() {
        let mut x = values(4 * BLOCK);
        // As large as can be, larger than can be, as large as the others, and one of two alike.
        (x[9], x[BLOCK + 31], x[2 * BLOCK]) = (15.9, -400.0, 0.5);
        (x[3 * BLOCK + 4], x[3 * BLOCK + 30]) = (3.0, -3.0);
        let mut quantized = Activations::new();
        quantized.quantize(&Pool::new(1), &x, 4 * BLOCK, Digits::Outliers).unwrap();
        for (b, block) in x.chunks(BLOCK).enumerate() {
            let peaks: Vec<f32> = block
                .chunks(4)
                .map(|quad| quad.iter().fold(0.0f32, |a, x| a.max(x.abs())))
                .collect();
            let amax = peaks.iter().fold(0.0f32, |a, x| a.max(*x));
            let quad = peaks.iter().position(|peak| *peak == amax).unwrap();
            let others = peaks.iter().enumerate().filter(|(number, _)| *number != quad);
            let second = others.fold(0.0f32, |a, (_, x)| a.max(*x));
            let mark = quantized.marks[b];
            assert_eq!(usize::from(mark.quad), quad);
            assert_eq!(mark.scale, (second / 127.0).max(amax / 2032.0));
            let inverse = (127.0 / second).min(2032.0 / amax);
            let at = b * BLOCK;
            for (i, x) in block.iter().enumerate() {
                let (high, low) = (quantized.high[at + i], quantized.low[at + i]);
                assert!(i / 4 == quad && (-8..8).contains(&low) || high == 0);
                let code = 16 * i32::from(high) + i32::from(low);
                assert_eq!(code as f32, (x * inverse).round_ties_even());
                let rounded = f32::from(quantized.codes(0)[at + i]);
                assert_eq!(rounded, (x * (127.0 / amax)).round_ties_even());
            }
            let digits = mark.digits.to_ne_bytes().map(u8::cast_signed);
            assert_eq!(digits, quantized.high[at + 4 * quad..][..4]);
            assert_eq!(quantized.scales(0)[b], amax / 127.0);
            let codes: i32 = (at..at + BLOCK)
                .map(|i| 16 * i32::from(quantized.high[i]) + i32::from(quantized.low[i]))
                .sum();
            assert_eq!((mark.codes, mark.sum), (codes, mark.scale * codes as f32));
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
        quantized.quantize(&Pool::new(1), &x, BLOCK, Digits::All).unwrap();
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
        assert!(quantized.quantize(&pool, &[0.0; 33], 33, Digits::All).is_err());
        assert!(quantized.quantize(&pool, &[0.0; 33], 32, Digits::All).is_err());
        assert!(quantized.quantize(&pool, &[], 0, Digits::All).is_ok());
        assert!(quantized.quantize(&pool, &[0.0; 32], 0, Digits::All).is_err());
    }
}
