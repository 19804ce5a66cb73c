//! Blocks of activations in 12 bits, by the rule that [`super`] states: plainly, and with AVX2.

use super::activations::{BLOCK, Mark};

/// Whole blocks and where their codes go; slices of other lengths are done as far as all reach.
pub(super) struct Blocks<'a> {
    /// The activations.
    pub(super) x: &'a [f32],
    /// The upper 8 bits of their codes, rounded.
    pub(super) codes: &'a mut [i8],
    /// What remains.
    pub(super) low: &'a mut [i8],
    /// All 12 bits: of each four the first, third, second, fourth.
    pub(super) wide: &'a mut [i16],
    /// A block's scale.
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
    each(blocks, plain);
}

/// Where the codes of a block go.
struct Codes<'a> {
    high: &'a mut [i8; BLOCK],
    low: &'a mut [i8; BLOCK],
    wide: &'a mut [i16; BLOCK],
}

/// Calls `block` for each block.
#[inline(always)]
fn each(blocks: Blocks<'_>, block: impl Fn(&[f32; BLOCK], Codes<'_>) -> Mark) {
    let x = blocks.x.as_chunks().0.iter();
    let low = blocks.low.as_chunks_mut().0.iter_mut();
    let codes = blocks.codes.as_chunks_mut().0.iter_mut().zip(low);
    let codes = codes.zip(blocks.wide.as_chunks_mut().0);
    let marks = blocks.scales.iter_mut().zip(blocks.marks);
    for ((x, ((high, low), wide)), (scale, mark)) in x.zip(codes).zip(marks) {
        *mark = block(x, Codes { high, low, wide });
        *scale = 16.0 * mark.scale;
    }
}

/// The largest code: 127 sixteens, so that the upper bits of none leave a byte.
const LARGEST: f32 = 2032.0;

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer, held in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Quantises one block.
fn plain(x: &[f32; BLOCK], to: Codes<'_>) -> Mark {
    // Of numbers without sign, bits are ordered as the numbers are, and what is none comes last.
    let peak = x.iter().map(|x| x.abs().to_bits()).fold(0, u32::max);
    let Some((scale, inverse)) = scale(peak) else { return nothing(peak, to) };
    let mut halves = [0; 2];
    for i in 0..BLOCK {
        let scaled = x[i] * inverse;
        let above = if scaled > -LARGEST { scaled } else { -LARGEST };
        let bounded = if above < LARGEST { above } else { LARGEST };
        let code = (bounded + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
        halves[i / 16] += code;
        let high = (code + 8) >> 4;
        to.high[i] = high as i8;
        to.low[i] = (code - 16 * high) as i8;
        to.wide[i & !3 | [0, 2, 1, 3][i & 3]] = code as i16;
    }
    mark(scale, halves)
}

/// The scale of a block and its inverse; nothing where all codes are 0.
#[inline(always)]
fn scale(peak: u32) -> Option<(f32, f32)> {
    let amax = f32::from_bits(peak);
    let inverse = LARGEST / amax;
    (amax <= f32::MAX && inverse <= f32::MAX).then(|| (amax / LARGEST, inverse))
}

/// What is kept of a block's sums of codes, its first and its second half's.
#[inline(always)]
fn mark(scale: f32, [first, second]: [i32; 2]) -> Mark {
    let codes = first + second;
    Mark { scale, sum: scale * codes as f32, codes, first }
}

/// A block whose codes are all 0: nothing in it is large enough, or something is not finite.
fn nothing(peak: u32, to: Codes<'_>) -> Mark {
    (*to.high, *to.low, *to.wide) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    mark(if f32::from_bits(peak) <= f32::MAX { 0.0 } else { f32::NAN }, [0; 2])
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2, 32 activations in four registers.
    #![expect(unsafe_code, reason = "loads and stores of whole registers")]

    use core::arch::x86_64::*;

    use super::{BLOCK, Blocks, Codes, LARGEST, Mark, each, mark, nothing, scale};

    /// Quantises blocks.
    #[target_feature(enable = "avx2")]
    pub(super) fn quantize(blocks: Blocks<'_>) {
        each(blocks, |x, to| block(x, to));
    }

    /// Quantises one block.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn block(x: &[f32; BLOCK], to: Codes<'_>) -> Mark {
        // SAFETY: four registers of 8 numbers each are the block.
        let x: [__m256; 4] =
            core::array::from_fn(|i| unsafe { _mm256_loadu_ps(&raw const x[8 * i]) });
        let size = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
        let mut peaks = _mm256_setzero_si256();
        for x in x {
            peaks = _mm256_max_epu32(_mm256_castps_si256(_mm256_and_ps(x, size)), peaks);
        }
        let four =
            _mm_max_epu32(_mm256_castsi256_si128(peaks), _mm256_extracti128_si256::<1>(peaks));
        let two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b01>(two));
        let peak = _mm_cvtsi128_si32(one).cast_unsigned();
        let Some((scale, inverse)) = scale(peak) else { return nothing(peak, to) };
        let inverse = _mm256_set1_ps(inverse);
        let mut ints = [_mm256_setzero_si256(); 4];
        for (int, x) in ints.iter_mut().zip(x) {
            let above = _mm256_max_ps(_mm256_mul_ps(x, inverse), _mm256_set1_ps(-LARGEST));
            *int = _mm256_cvtps_epi32(_mm256_min_ps(above, _mm256_set1_ps(LARGEST)));
        }
        let first = total(_mm256_add_epi32(ints[0], ints[1]));
        let second = total(_mm256_add_epi32(ints[2], ints[3]));
        // Packing takes halves of registers in turn; the permutation puts their fours in order.
        let wide = [
            _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi32(ints[0], ints[1])),
            _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi32(ints[2], ints[3])),
        ];
        let mut high = wide;
        let mut low = wide;
        for i in 0..2 {
            high[i] = _mm256_srai_epi16::<4>(_mm256_add_epi16(wide[i], _mm256_set1_epi16(8)));
            low[i] = _mm256_sub_epi16(wide[i], _mm256_slli_epi16::<4>(high[i]));
        }
        let high = _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(high[0], high[1]));
        let low = _mm256_permute4x64_epi64::<0xD8>(_mm256_packs_epi16(low[0], low[1]));
        // SAFETY: twice the block's 32 bytes, and twice 16 numbers of 16 bits.
        unsafe {
            _mm256_storeu_si256(to.high.as_mut_ptr().cast(), high);
            _mm256_storeu_si256(to.low.as_mut_ptr().cast(), low);
            for (i, sequence) in wide.into_iter().enumerate() {
                let swapped =
                    _mm256_shufflehi_epi16::<0xD8>(_mm256_shufflelo_epi16::<0xD8>(sequence));
                _mm256_storeu_si256(to.wide.as_mut_ptr().add(16 * i).cast(), swapped);
            }
        }
        mark(scale, [first, second])
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
        let run = |way: fn(Blocks<'_>)| {
            let (mut codes, mut low) = (vec![1; x.len()], vec![1; x.len()]);
            let mut wide = vec![1; x.len()];
            let (mut scales, mut marks) = (vec![1.0; blocks], vec![Mark::default(); blocks]);
            way(Blocks {
                x: &x,
                codes: &mut codes,
                low: &mut low,
                wide: &mut wide,
                scales: &mut scales,
                marks: &mut marks,
            });
            let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            let marks: Vec<_> =
                marks.iter().map(|m| (bits(m.scale), bits(m.sum), m.codes, m.first)).collect();
            (codes, low, wide, marks, scales.iter().map(|&x| bits(x)).collect::<Vec<_>>())
        };
        assert!(run(quantize) == run(|blocks| each(blocks, plain)));
    }
}
