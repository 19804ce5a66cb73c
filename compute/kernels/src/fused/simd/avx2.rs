//! The operations in 256-bit registers of x86-64.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

use core::arch::x86_64::*;

use super::{ROUND, Simd};

/// Proof that AVX2, FMA and F16C may be used.
#[derive(Clone, Copy, Debug)]
pub(in crate::fused) struct Avx2(());

impl Avx2 {
    /// The token, if the processor and the system support all three.
    pub(super) fn detect() -> Option<Self> {
        let all = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }
}

/// An expression of intrinsics that touch no memory, or only what a reference covers.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: `self` exists, so `detect` found AVX2, FMA and F16C; loads and stores are
        // unaligned ones of exactly the bytes that their array reference covers.
        unsafe { $value }
    }};
}

impl Simd for Avx2 {
    type F = __m256;
    type I = __m256i;
    /// The codes eight times, and their magnitudes.
    type Quad = (__m256i, __m256i);
    type Pairs = __m256i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        intrinsics!(_mm256_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; 8]) -> __m256 {
        intrinsics!(_mm256_loadu_ps(x.as_ptr()))
    }

    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32; 8]) {
        intrinsics!(_mm256_storeu_ps(out.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; 8]) -> __m256 {
        intrinsics!(_mm256_cvtph_ps(_mm_loadu_si128(bits.as_ptr().cast())))
    }

    #[inline(always)]
    fn store_f16(self, v: __m256, out: &mut [u16; 8]) {
        intrinsics!(_mm_storeu_si128(
            out.as_mut_ptr().cast(),
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)
        ));
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; 8]) -> __m256 {
        intrinsics!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
            _mm_loadu_si128(bits.as_ptr().cast())
        ))))
    }

    #[inline(always)]
    fn load_i8(self, codes: &[i8; 8]) -> __m256 {
        intrinsics!(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(
            codes.as_ptr().cast()
        ))))
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        intrinsics!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn larger(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn smaller(self, a: __m256, b: __m256) -> __m256 {
        intrinsics!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn zero_below(self, v: __m256, x: __m256, limit: __m256) -> __m256 {
        intrinsics!(_mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, limit), v))
    }

    #[inline(always)]
    fn power_of_two(self, shifted: __m256) -> __m256 {
        // The bias of an f32 exponent is 127.
        let offset = 127i32.wrapping_sub(ROUND.to_bits() as i32);
        intrinsics!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
            _mm256_castps_si256(shifted),
            _mm256_set1_epi32(offset)
        ))))
    }

    #[inline(always)]
    fn swap_pairs(self, v: __m256) -> __m256 {
        intrinsics!(_mm256_permute_ps::<0b10_11_00_01>(v))
    }

    #[inline(always)]
    fn store_codes(self, x: [__m256; 4], out: &mut [i8; 32]) {
        intrinsics!({
            let (top, low) = (_mm256_set1_ps(127.0), _mm256_set1_ps(-127.0));
            let [a, b, c, d] =
                x.map(|x| _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(x, low), top)));
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            // Packing twice takes fours of registers in turn; the permutation puts them in order.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(bytes, order));
        });
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        intrinsics!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn to_f32(self, v: __m256i) -> __m256 {
        intrinsics!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn quad(self, codes: &[i8; 4]) -> (__m256i, __m256i) {
        let four = i32::from_le_bytes(codes.map(|code| code as u8));
        intrinsics!({
            let codes = _mm256_set1_epi32(four);
            (codes, _mm256_abs_epi8(codes))
        })
    }

    #[inline(always)]
    fn dot_quads(self, sums: __m256i, codes: &[i8; 32], x: (__m256i, __m256i)) -> __m256i {
        // |x| times the code with the sign of x; two such products fit 16 bits: 2 * 127 * 128.
        intrinsics!({
            let codes = _mm256_loadu_si256(codes.as_ptr().cast());
            let products = _mm256_maddubs_epi16(x.1, _mm256_sign_epi8(codes, x.0));
            _mm256_add_epi32(sums, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
        })
    }

    #[inline(always)]
    fn pairs(self, codes: &[i8; 16]) -> __m256i {
        intrinsics!(_mm256_cvtepi8_epi16(_mm_loadu_si128(codes.as_ptr().cast())))
    }

    #[inline(always)]
    fn splat_pair(self, pair: [i16; 2]) -> __m256i {
        let both = i32::from(pair[0]) & 0xFFFF | i32::from(pair[1]) << 16;
        intrinsics!(_mm256_set1_epi32(both))
    }

    #[inline(always)]
    fn dot_pairs(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!(_mm256_add_epi32(sums, _mm256_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn prefetch<T>(self, at: Option<&T>) {
        if let Some(at) = at {
            intrinsics!(_mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(at).cast()));
        }
    }
}
