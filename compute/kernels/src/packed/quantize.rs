//! Blocks of activations in 12 bits, by the rules that [`super`] states: plainly, and with AVX2.

use super::activations::{BLOCK, Digits, Mark};

/// Whole blocks and where their codes go; slices of other lengths are done as far as all reach.
pub(super) struct Blocks<'a> {
    /// Which codes have which digits.
    pub(super) digits: Digits,
    /// The activations.
    pub(super) x: &'a [f32],
    /// The upper digits of their codes.
    pub(super) high: &'a mut [i8],
    /// The lower digits.
    pub(super) low: &'a mut [i8],
    /// All 12 bits: of each four the first, third, second, fourth.
    pub(super) wide: &'a mut [i16],
    /// Codes in 8 bits, if they are not the upper digits.
    pub(super) rounded: &'a mut [i8],
    /// What a code of 1 in 8 bits stands for, by block.
    pub(super) scales: &'a mut [f32],
    /// A block's mark.
    pub(super) marks: &'a mut [Mark],
}

/// Quantises blocks.
pub(super) fn quantize(blocks: Blocks<'_>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function for a detected feature")]
        // SAFETY: the processor and the system support AVX2.
        unsafe {
            avx2::quantize(blocks);
        }
        return;
    }
    plainly(blocks);
}

/// Quantises blocks without any instructions of a tier.
fn plainly(blocks: Blocks<'_>) {
    match blocks.digits {
        Digits::All => each(blocks, all),
        Digits::Outliers => each(blocks, outliers),
    }
}

/// Where the codes of a block go.
struct Codes<'a> {
    high: &'a mut [i8; BLOCK],
    low: &'a mut [i8; BLOCK],
    wide: &'a mut [i16; BLOCK],
    rounded: &'a mut [i8; BLOCK],
}

/// Calls `block` for each block; it returns its mark and the scale of its codes in 8 bits.
#[inline(always)]
fn each(blocks: Blocks<'_>, block: impl Fn(&[f32; BLOCK], Codes<'_>) -> (Mark, f32)) {
    let x = blocks.x.as_chunks().0.iter();
    let high = blocks.high.as_chunks_mut().0.iter_mut();
    let codes = high.zip(blocks.low.as_chunks_mut().0);
    let others = blocks.wide.as_chunks_mut().0.iter_mut().zip(blocks.rounded.as_chunks_mut().0);
    let marks = blocks.scales.iter_mut().zip(blocks.marks);
    for (((x, (high, low)), (wide, rounded)), (scale, mark)) in x.zip(codes).zip(others).zip(marks)
    {
        (*mark, *scale) = block(x, Codes { high, low, wide, rounded });
    }
}

/// The largest code of 8 bits.
const ONE_DIGIT: f32 = 127.0;

/// The largest code of 12: 127 sixteens, so that the upper bits of none leave a byte.
const TWO_DIGITS: f32 = 2032.0;

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer, held in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The bits of a magnitude. Of numbers without sign, bits are ordered as the numbers are, and what
/// is none comes last.
#[inline(always)]
const fn size(x: f32) -> u32 {
    x.to_bits() & 0x7FFF_FFFF
}

/// To the nearest integer, ties to even; `x` is far below 2^22.
#[inline(always)]
fn rounded(x: f32) -> i32 {
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

/// Quantises one block, every code in 12 bits.
fn all(x: &[f32; BLOCK], to: Codes<'_>) -> (Mark, f32) {
    let peak = x.iter().map(|x| size(*x)).fold(0, u32::max);
    let Some((scale, inverse)) = scale(peak) else { return nothing(peak, to) };
    let mut halves = [0; 2];
    for i in 0..BLOCK {
        let scaled = x[i] * inverse;
        let above = if scaled > -TWO_DIGITS { scaled } else { -TWO_DIGITS };
        let code = rounded(if above < TWO_DIGITS { above } else { TWO_DIGITS });
        halves[i / 16] += code;
        let high = (code + 8) >> 4;
        to.high[i] = high as i8;
        to.low[i] = (code - 16 * high) as i8;
        to.wide[i & !3 | [0, 2, 1, 3][i & 3]] = code as i16;
    }
    (mark(scale, halves), 16.0 * scale)
}

/// Quantises one block, codes in 8 bits but for one quad.
fn outliers(x: &[f32; BLOCK], to: Codes<'_>) -> (Mark, f32) {
    let mut peaks = [0; QUADS];
    for (peak, x) in peaks.iter_mut().zip(x.as_chunks::<4>().0) {
        *peak = x.iter().map(|x| size(*x)).fold(0, u32::max);
    }
    let peak = peaks.into_iter().fold(0, u32::max);
    let quad = peaks.iter().position(|one| *one == peak).unwrap_or_default();
    let others = peaks.iter().enumerate().filter(|(number, _)| *number != quad);
    let second = others.map(|(_, peak)| *peak).fold(0, u32::max);
    let Some(scale) = scale_beside(peak, second) else { return nothing(peak, to) };
    let mut halves = [0; 2];
    for i in 0..BLOCK {
        let code = rounded(x[i] * scale.inverse);
        halves[i / 16] += code;
        let high = if i / 4 == quad { (code + 8) >> 4 } else { 0 };
        to.high[i] = high as i8;
        to.low[i] = (code - 16 * high) as i8;
        to.wide[i & !3 | [0, 2, 1, 3][i & 3]] = code as i16;
        to.rounded[i] = rounded(x[i] * scale.inverse_in_8_bits) as i8;
    }
    (mark_of_outlier(scale.scale, halves, quad, to.high), scale.scale_in_8_bits)
}

/// Quads of a block.
const QUADS: usize = BLOCK / 4;

/// The scale of a block and its inverse; nothing where all codes are 0.
#[inline(always)]
fn scale(peak: u32) -> Option<(f32, f32)> {
    let amax = f32::from_bits(peak);
    let inverse = TWO_DIGITS / amax;
    (amax <= f32::MAX && inverse <= f32::MAX).then(|| (amax / TWO_DIGITS, inverse))
}

/// The scales of a block with an outlier.
struct Scale {
    scale: f32,
    inverse: f32,
    scale_in_8_bits: f32,
    inverse_in_8_bits: f32,
}

/// The scale of a block whose outlier has this peak and whose other quads have the second; nothing
/// where all codes are 0.
#[inline(always)]
fn scale_beside(peak: u32, second: u32) -> Option<Scale> {
    let (least, least_inverse) = scale(peak)?;
    let (amax, beside) = (f32::from_bits(peak), f32::from_bits(second));
    let inverse = ONE_DIGIT / beside;
    let wide = inverse < least_inverse;
    Some(Scale {
        scale: if wide { beside / ONE_DIGIT } else { least },
        inverse: if wide { inverse } else { least_inverse },
        scale_in_8_bits: amax / ONE_DIGIT,
        inverse_in_8_bits: ONE_DIGIT / amax,
    })
}

/// What is kept of a block's sums of codes, its first and its second half's.
#[inline(always)]
fn mark(scale: f32, [first, second]: [i32; 2]) -> Mark {
    let codes = first + second;
    // 16 codes of at most 2032 fit into 16 bits.
    Mark { scale, sum: scale * codes as f32, codes, first: first as i16, ..Mark::default() }
}

/// The same, of a block whose upper digits lie in one quad.
#[inline(always)]
fn mark_of_outlier(scale: f32, halves: [i32; 2], quad: usize, high: &[i8; BLOCK]) -> Mark {
    let digits = high.as_chunks::<4>().0.get(quad).copied().unwrap_or_default();
    let digits = i32::from_ne_bytes(digits.map(i8::cast_unsigned));
    Mark { quad: quad as u16, digits, ..mark(scale, halves) }
}

/// A block whose codes are all 0: nothing in it is large enough, or something is not finite.
fn nothing(peak: u32, to: Codes<'_>) -> (Mark, f32) {
    (*to.high, *to.low, *to.wide) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    *to.rounded = [0; BLOCK];
    let scale = if f32::from_bits(peak) <= f32::MAX { 0.0 } else { f32::NAN };
    (mark(scale, [0; 2]), scale)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2, 32 activations in four registers.
    #![expect(unsafe_code, reason = "loads and stores of whole registers")]

    use core::arch::x86_64::*;

    use super::{
        BLOCK, Blocks, Codes, Digits, Mark, TWO_DIGITS, each, mark, mark_of_outlier, nothing,
        scale, scale_beside,
    };

    /// Quantises blocks.
    #[target_feature(enable = "avx2")]
    pub(super) fn quantize(blocks: Blocks<'_>) {
        match blocks.digits {
            Digits::All => each(blocks, |x, to| all(x, to)),
            Digits::Outliers => each(blocks, |x, to| outliers(x, to)),
        }
    }

    /// The block in four registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(x: &[f32; BLOCK]) -> [__m256; 4] {
        // SAFETY: four registers of 8 numbers each are the block.
        core::array::from_fn(|i| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) })
    }

    /// The bits of magnitudes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sizes(x: __m256) -> __m256i {
        _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX))
    }

    /// The largest of 8 lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn largest(x: __m256i) -> u32 {
        let four = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01>(two));
        _mm_cvtsi128_si32(one).cast_unsigned()
    }

    /// Quantises one block, every code in 12 bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn all(x: &[f32; BLOCK], to: Codes<'_>) -> (Mark, f32) {
        let x = load(x);
        let [a, b, c, d] = x.map(|x| sizes(x));
        let peak = largest(_mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d)));
        let Some((scale, inverse)) = scale(peak) else { return nothing(peak, to) };
        let inverse = _mm256_set1_ps(inverse);
        let ints = x.map(|x| {
            let above = _mm256_max_ps(_mm256_mul_ps(x, inverse), _mm256_set1_ps(-TWO_DIGITS));
            _mm256_cvtps_epi32(_mm256_min_ps(above, _mm256_set1_ps(TWO_DIGITS)))
        });
        let halves = store(ints, [_mm256_set1_epi16(-1); 2], to.high, to.low, to.wide);
        (mark(scale, halves), 16.0 * scale)
    }

    /// The largest of each four, of the quads 0, 2, 4, 6 and then 1, 3, 5, 7.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn peaks(x: [__m256; 4]) -> __m256i {
        let [a, b, c, d] = x.map(|x| {
            let four = sizes(x);
            let two = _mm256_max_epu32(four, _mm256_shuffle_epi32::<0b01_00_11_10>(four));
            _mm256_max_epu32(two, _mm256_shuffle_epi32::<0b10_11_00_01>(two))
        });
        _mm256_unpacklo_epi64(_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d))
    }

    /// Quantises one block, codes in 8 bits but for one quad.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn outliers(x: &[f32; BLOCK], to: Codes<'_>) -> (Mark, f32) {
        let x = load(x);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let peaks = _mm256_permutevar8x32_epi32(peaks(x), order);
        let peak = largest(peaks);
        let equal = _mm256_cmpeq_epi32(peaks, _mm256_set1_epi32(peak.cast_signed()));
        let quad = _mm256_movemask_ps(_mm256_castsi256_ps(equal)).trailing_zeros() % 8;
        let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let own = _mm256_cmpeq_epi32(numbers, _mm256_set1_epi32(quad.cast_signed()));
        let second = largest(_mm256_andnot_si256(own, peaks));
        let Some(scale) = scale_beside(peak, second) else { return nothing(peak, to) };
        let inverse = _mm256_set1_ps(scale.inverse);
        let ints = x.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
        let quad16 = _mm256_set1_epi16(quad as i16);
        let masks = [
            _mm256_setr_epi16(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
            _mm256_setr_epi16(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7),
        ];
        let masks = masks.map(|quads| _mm256_cmpeq_epi16(quads, quad16));
        let halves = store(ints, masks, to.high, to.low, to.wide);
        let inverse = _mm256_set1_ps(scale.inverse_in_8_bits);
        let [a, b, c, d] = x.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        // Packing twice takes fours of registers in turn; the permutation puts them in order.
        let bytes = _mm256_permutevar8x32_epi32(bytes, order);
        // SAFETY: the block's 32 bytes.
        unsafe { _mm256_storeu_si256(to.rounded.as_mut_ptr().cast(), bytes) }
        (mark_of_outlier(scale.scale, halves, quad as usize, to.high), scale.scale_in_8_bits)
    }

    /// Takes codes apart, upper digits where the masks say so, and returns the sums of both halves.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(
        ints: [__m256i; 4],
        masks: [__m256i; 2],
        to_high: &mut [i8; BLOCK],
        to_low: &mut [i8; BLOCK],
        to_wide: &mut [i16; BLOCK],
    ) -> [i32; 2] {
        // Packing takes halves of registers in turn; the permutation puts their fours in order.
        let wide = [
            _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi32(ints[0], ints[1])),
            _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi32(ints[2], ints[3])),
        ];
        let mut high = wide;
        let mut low = wide;
        for i in 0..2 {
            let rounded = _mm256_srai_epi16::<4>(_mm256_add_epi16(wide[i], _mm256_set1_epi16(8)));
            high[i] = _mm256_and_si256(rounded, masks[i]);
            low[i] = _mm256_sub_epi16(wide[i], _mm256_slli_epi16::<4>(high[i]));
        }
        let high = _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(high[0], high[1]));
        let low = _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(low[0], low[1]));
        // SAFETY: twice the block's 32 bytes, and twice 16 numbers of 16 bits.
        unsafe {
            _mm256_storeu_si256(to_high.as_mut_ptr().cast(), high);
            _mm256_storeu_si256(to_low.as_mut_ptr().cast(), low);
            for (i, sequence) in wide.into_iter().enumerate() {
                let swapped =
                    _mm256_shufflehi_epi16::<0xD8>(_mm256_shufflelo_epi16::<0xD8>(sequence));
                _mm256_storeu_si256(to_wide.as_mut_ptr().add(16 * i).cast(), swapped);
            }
        }
        wide.map(|x| total(_mm256_madd_epi16(x, _mm256_set1_epi16(1))))
    }

    /// The sum of 8 lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn total(x: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_bits() {
        let blocks = 600;
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut x: Vec<f32> = (0..blocks * BLOCK)
            .map(|i| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let value = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                // Every tenth a half exactly, of every size.
                let value = if i % 10 == 0 { (value * 8.0).round() / 2.0 } else { value };
                value * f32::from_bits((i as u32 / BLOCK as u32 % 250 + 1) << 23)
            })
            .collect();
        for (i, value) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0].iter().enumerate()
        {
            x[i * 7 * BLOCK + i * 5] = *value;
        }
        x[64 * BLOCK..65 * BLOCK].fill(0.0);
        x[65 * BLOCK..66 * BLOCK].fill(f32::NAN);
        x[66 * BLOCK..67 * BLOCK].fill(-f32::MAX);
        let run = |way: fn(Blocks<'_>), digits| {
            let (mut high, mut low) = (vec![1; x.len()], vec![1; x.len()]);
            let (mut wide, mut rounded) = (vec![1; x.len()], vec![1; x.len()]);
            let (mut scales, mut marks) = (vec![1.0; blocks], vec![Mark::default(); blocks]);
            way(Blocks {
                digits,
                x: &x,
                high: &mut high,
                low: &mut low,
                wide: &mut wide,
                rounded: &mut rounded,
                scales: &mut scales,
                marks: &mut marks,
            });
            let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            let sums = |m: &Mark| (bits(m.scale), bits(m.sum), m.codes, m.first, m.quad, m.digits);
            let marks: Vec<_> = marks.iter().map(sums).collect();
            let scales: Vec<_> = scales.into_iter().map(bits).collect();
            (high, low, wide, rounded, marks, scales)
        };
        for digits in [Digits::All, Digits::Outliers] {
            assert!(run(quantize, digits) == run(plainly, digits));
        }
    }
}
