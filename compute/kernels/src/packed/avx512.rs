//! The tier of 512 bits: AVX-512 with VNNI. One register holds a panel's 16 rows.
#![expect(unsafe_code, reason = "a tier's instructions and unchecked reads of packed weights")]

use core::arch::x86_64::*;

use super::activations::Mark;
use super::kind::{Element, Kind};
use super::lanes::{Lanes, Token, compiled, lower, operations, upper};
use super::tile::{FloatTile, Tile};

/// AVX-512F and AVX-512-VNNI.
pub(super) struct Avx512Vnni;

/// The low (0) or high (1) nibbles of bytes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn nibbles<const HIGH: usize>(bytes: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let mask = _mm512_set1_epi32(0x0F0F_0F0F);
        if HIGH == 1 {
            _mm512_and_si512(_mm512_srli_epi32::<4>(bytes), mask)
        } else {
            _mm512_and_si512(bytes, mask)
        }
    }
}

/// Bytes shifted so that bit `FROM` comes to bit 4; what passes into a neighbour is masked later.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn to_fifth<const FROM: usize>(bytes: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        match FROM {
            0 => _mm512_slli_epi32::<4>(bytes),
            1 => _mm512_slli_epi32::<3>(bytes),
            2 => _mm512_slli_epi32::<2>(bytes),
            3 => _mm512_slli_epi32::<1>(bytes),
            4 => bytes,
            5 => _mm512_srli_epi32::<1>(bytes),
            6 => _mm512_srli_epi32::<2>(bytes),
            _ => _mm512_srli_epi32::<3>(bytes),
        }
    }
}

/// The codes of quad `Q`, one a byte.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn quad<K: Kind, const U: bool, const Q: usize>(codes: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        if U || K::BITS == 8 {
            return _mm512_loadu_si512(codes.add(64 * Q).cast());
        }
        let bytes = _mm512_loadu_si512(codes.add(64 * (Q % 4)).cast());
        let low = if Q < 4 { nibbles::<0>(bytes) } else { nibbles::<1>(bytes) };
        match K::BITS {
            5 => {
                let high = to_fifth::<Q>(_mm512_loadu_si512(codes.add(256).cast()));
                _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi32(0x1010_1010)))
            }
            6 => {
                let high = _mm512_loadu_si512(codes.add(256 + 64 * (Q / 4)).cast());
                let high = match Q % 4 {
                    0 => to_fifth::<0>(high),
                    1 => to_fifth::<2>(high),
                    2 => to_fifth::<4>(high),
                    _ => to_fifth::<6>(high),
                };
                _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi32(0x3030_3030)))
            }
            _ => low,
        }
    }
}

/// Adds quad `Q` to the sums.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn add_quad<K: Kind, const U: bool, const T: usize, const Q: usize>(
    codes: *const u8,
    x: [*const i8; T],
    sums: &mut [__m512i; T],
) {
    // SAFETY: the caller's.
    unsafe {
        let codes = quad::<K, U, Q>(codes);
        for t in 0..T {
            let x = _mm512_set1_epi32(x[t].add(4 * Q).cast::<i32>().read_unaligned());
            sums[t] = _mm512_dpbusd_epi32(sums[t], codes, x);
        }
    }
}

/// Sums of quads.
macro_rules! quads {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let mut sums = [_mm512_setzero_si512(); T];
        $(add_quad::<K, U, T, $q>($codes, $x, &mut sums);)*
        sums
    }};
}

/// Sums of quads with all 12 bits.
macro_rules! both {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let (upper, lower) = (upper($x), lower($x));
        let mut sums = quads!($codes, upper, $($q)*);
        let low = quads!($codes, lower, $($q)*);
        for t in 0..T {
            sums[t] = _mm512_add_epi32(_mm512_slli_epi32::<4>(sums[t]), low[t]);
        }
        sums
    }};
}

/// Adds to the sums what the upper digits of each token's one quad add; codes are unpacked.
///
/// # Safety
/// As [`Lanes::sparse_dots`].
#[inline(always)]
unsafe fn add_outliers<const T: usize>(
    codes: *const u8,
    marks: [*const Mark; T],
    half: Option<usize>,
    mut sums: [__m512i; T],
) -> [__m512i; T] {
    for t in 0..T {
        // SAFETY: the caller's.
        unsafe {
            let (quad, digits) = (*marks[t]).outlier(half);
            let codes = _mm512_loadu_si512(codes.add(64 * quad).cast());
            let x = _mm512_set1_epi32(digits);
            let own = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x);
            sums[t] = _mm512_add_epi32(sums[t], _mm512_slli_epi32::<4>(own));
        }
    }
    sums
}

/// Writes the codes of all quads, one a byte.
macro_rules! spread {
    ($codes:ident, $out:ident, $($q:literal)*) => {
        $(_mm512_storeu_si512($out.add(64 * $q).cast(), quad::<K, false, $q>($codes));)*
    };
}

impl Lanes for Avx512Vnni {
    type Floats = __m512;
    type Ints = __m512i;

    operations! {
        fn zero() -> __m512 = _mm512_setzero_ps();
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn floats(at: *const u8) -> __m512 = _mm512_loadu_ps(at.cast());
        fn halves(at: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
        fn uppers(at: *const u8) -> __m512 = {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        };
        fn unsigned(at: *const u8) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
        fn signed(at: *const u8) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast())));
        fn store(x: __m512, at: *mut u8) = _mm512_storeu_ps(at.cast(), x);
        fn negate(x: __m512) -> __m512 = {
            let sign = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), sign))
        };
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn less(x: __m512i, offset: i32, codes: i32) -> __m512i =
            _mm512_sub_epi32(x, _mm512_set1_epi32(offset.wrapping_mul(codes)));
        fn to_floats(x: __m512i) -> __m512 = _mm512_cvtepi32_ps(x);
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: it only hints, whatever the address; SSE is part of the architecture.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [__m512i; T] {
        // SAFETY: the caller's.
        unsafe { both!(codes, x, 0 4 1 5 2 6 3 7) }
    }

    #[inline(always)]
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [__m512i; T] {
        // SAFETY: the caller's.
        unsafe { if HALF == 0 { both!(codes, x, 0 1 2 3) } else { both!(codes, x, 4 5 6 7) } }
    }

    #[inline(always)]
    unsafe fn sparse_dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [__m512i; T] {
        // SAFETY: the caller's.
        unsafe {
            if !U {
                return Self::dots::<K, U, T>(codes, x);
            }
            let low = lower(x);
            let sums = quads!(codes, low, 0 4 1 5 2 6 3 7);
            add_outliers(codes, marks, None, sums)
        }
    }

    #[inline(always)]
    unsafe fn sparse_half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [__m512i; T] {
        // SAFETY: the caller's.
        unsafe {
            if !U {
                return Self::half_dots::<K, U, T, HALF>(codes, x);
            }
            let low = lower(x);
            let sums =
                if HALF == 0 { quads!(codes, low, 0 1 2 3) } else { quads!(codes, low, 4 5 6 7) };
            add_outliers(codes, marks, Some(HALF), sums)
        }
    }

    #[inline(always)]
    unsafe fn unpack<K: Kind>(codes: *const u8, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            spread!(codes, out, 0 4 1 5 2 6 3 7);
        }
    }

    compiled!(Avx512Vnni, "avx2,fma,f16c,avx512f,avx512vnni");
}
