//! The tiers of 256 bits: AVX2 (with FMA and F16C) and AVX-VNNI.
//!
//! AVX2 multiplies unsigned by signed bytes and adds neighbours in 16 bits (`vpmaddubsw`), which
//! hold at most 15 * 127 * 2 a step with codes of 4 bits: eight quads fit, of 5 bits four, of 6 bits
//! two, before sums are widened. A token's upper and lower bits pass as two tokens would. Codes of
//! 8 bits are multiplied in 16 (`vpmaddwd`), two products a step, with all 12 bits at once.
//! AVX-VNNI sums four products of bytes in 32 bits at once (`vpdpbusd`).
#![expect(unsafe_code, reason = "a tier's instructions and unchecked reads of packed weights")]

use core::arch::asm;
use core::arch::x86_64::*;

use super::activations::Mark;
use super::avx_four::{eight_quads, four_quads, two_quads, wide_quads};
use super::kind::{Element, Kind};
use super::lanes::{Lanes, Token, compiled, lower, operations, upper};
use super::tile::{FloatTile, Tile};

/// AVX2, FMA and F16C.
pub(super) struct Avx2;
/// AVX-VNNI beside those.
pub(super) struct AvxVnni;

type Floats = [__m256; 2];
/// Integers of 32 bits, or bytes, or their sums in 16 bits: of rows 0 to 7 and 8 to 15.
type Ints = [__m256i; 2];

/// 64 bytes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn load(at: *const u8) -> Ints {
    // SAFETY: the caller's.
    unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] }
}

/// One operation for both halves.
macro_rules! both {
    ($h:ident => $value:expr) => {
        [
            {
                let $h = 0;
                $value
            },
            {
                let $h = 1;
                $value
            },
        ]
    };
}

/// The low (0) or high (1) nibbles of bytes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn nibbles<const HIGH: usize>(bytes: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        if HIGH == 1 {
            _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)
        } else {
            _mm256_and_si256(bytes, mask)
        }
    }
}

/// Bytes shifted so that bit `FROM` comes to bit 4; what passes into a neighbour is masked later.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn to_fifth<const FROM: usize>(bytes: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        match FROM {
            0 => _mm256_slli_epi16::<4>(bytes),
            1 => _mm256_slli_epi16::<3>(bytes),
            2 => _mm256_slli_epi16::<2>(bytes),
            3 => _mm256_slli_epi16::<1>(bytes),
            4 => bytes,
            5 => _mm256_srli_epi16::<1>(bytes),
            6 => _mm256_srli_epi16::<2>(bytes),
            _ => _mm256_srli_epi16::<3>(bytes),
        }
    }
}

/// The codes of quad `Q`, one a byte.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn quad<K: Kind, const U: bool, const Q: usize>(codes: *const u8) -> Ints {
    // SAFETY: the caller's.
    unsafe {
        if U || K::BITS == 8 {
            return load(codes.add(64 * Q));
        }
        let bytes = load(codes.add(64 * (Q % 4)));
        let low = both!(h => if Q < 4 { nibbles::<0>(bytes[h]) } else { nibbles::<1>(bytes[h]) });
        match K::BITS {
            5 => {
                let high = load(codes.add(256));
                let mask = _mm256_set1_epi8(0x10);
                both!(h => _mm256_or_si256(low[h], _mm256_and_si256(to_fifth::<Q>(high[h]), mask)))
            }
            6 => {
                let high = load(codes.add(256 + 64 * (Q / 4)));
                let mask = _mm256_set1_epi8(0x30);
                let shifted = match Q % 4 {
                    0 => both!(h => to_fifth::<0>(high[h])),
                    1 => both!(h => to_fifth::<2>(high[h])),
                    2 => both!(h => to_fifth::<4>(high[h])),
                    _ => both!(h => to_fifth::<6>(high[h])),
                };
                both!(h => _mm256_or_si256(low[h], _mm256_and_si256(shifted[h], mask)))
            }
            _ => low,
        }
    }
}

/// The 4 codes of quad `Q` of a token, 8 times.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn token<const Q: usize>(x: *const i8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_set1_epi32(x.add(4 * Q).cast::<i32>().read_unaligned()) }
}

/// Keeps the sums of several tokens in registers at this point, in this order: left alone, the
/// compiler takes token after token and stores and loads all codes for each.
///
/// # Safety
/// As [`Lanes`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn hold<const T: usize>(sums: &mut [Ints; T]) {
    // SAFETY: there is no instruction.
    unsafe {
        match sums.as_mut_slice() {
            [a, b, c, d] => asm!("/* {} {} {} {} {} {} {} {} */",
                inout(ymm_reg) a[0], inout(ymm_reg) a[1], inout(ymm_reg) b[0], inout(ymm_reg) b[1],
                inout(ymm_reg) c[0], inout(ymm_reg) c[1], inout(ymm_reg) d[0], inout(ymm_reg) d[1],
                options(nomem, nostack, preserves_flags),
            ),
            [a, b] => asm!("/* {} {} {} {} */",
                inout(ymm_reg) a[0], inout(ymm_reg) a[1], inout(ymm_reg) b[0], inout(ymm_reg) b[1],
                options(nomem, nostack, preserves_flags),
            ),
            _ => {}
        }
    }
}

/// Sums of `COUNT` quads of unpacked codes, from the quad `first` on, with four tokens' codes.
///
/// # Safety
/// As [`Lanes::dots`]; there are four tokens.
#[inline(always)]
unsafe fn unpacked_quads<const COUNT: usize, const T: usize>(
    codes: *const u8,
    x: [*const i8; T],
    first: usize,
) -> [Ints; T] {
    let mut sums = [[zeros(); 2]; T];
    let [a, b, c, d] = x.as_slice() else { return sums };
    // SAFETY: the caller's.
    let four = unsafe {
        let (codes, x) = (codes.add(64 * first), [*a, *b, *c, *d].map(|x| x.add(4 * first)));
        match COUNT {
            8 => eight_quads(codes, x),
            4 => four_quads(codes, x),
            _ => two_quads(codes, x),
        }
    };
    for (sum, four) in sums.iter_mut().zip(four) {
        *sum = four;
    }
    sums
}

/// Sums of a block of unpacked codes of 8 bits, in 16, with tokens in 16.
///
/// # Safety
/// As [`Lanes::dots`]; there are four tokens.
#[inline(always)]
unsafe fn unpacked_bytes<const T: usize>(codes: *const u8, x: [Token; T]) -> [Ints; T] {
    let mut sums = [[zeros(); 2]; T];
    let [a, b, c, d] = x.as_slice() else { return sums };
    // SAFETY: the caller's.
    let four = unsafe { wide_quads(codes, [a.codes, b.codes, c.codes, d.codes]) };
    for (sum, four) in sums.iter_mut().zip(four) {
        *sum = four;
    }
    sums
}

/// Memory that stays memory at this point.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn held(at: *mut f32) {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {} */", in(reg) at, options(nostack, preserves_flags)) }
}

/// 32 bytes of 0.
#[inline(always)]
fn zeros() -> __m256i {
    // SAFETY: any bits are a register's.
    unsafe { core::mem::zeroed() }
}

/// Adds quad `Q` to sums in 16 bits.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn add_quad<K: Kind, const U: bool, const T: usize, const Q: usize>(
    codes: *const u8,
    x: [*const i8; T],
    sums: &mut [Ints; T],
) {
    // SAFETY: the caller's.
    unsafe {
        let codes = quad::<K, U, Q>(codes);
        for t in 0..T {
            let x = token::<Q>(x[t]);
            sums[t] = both!(h => _mm256_add_epi16(sums[t][h], _mm256_maddubs_epi16(codes[h], x)));
        }
        hold(sums);
    }
}

/// Sums of the quads given with so many lists of codes, in 16 bits, which they must not overflow.
macro_rules! narrow {
    ($codes:ident, $x:expr, $count:expr, $($q:literal)*) => {{
        let x = $x;
        let mut sums = [[_mm256_setzero_si256(); 2]; $count];
        $(add_quad::<K, U, { $count }, $q>($codes, x, &mut sums);)*
        sums
    }};
}

/// Sixteen times the upper sums and the lower ones, widened.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn join(upper: Ints, lower: Ints) -> Ints {
    // SAFETY: the caller's.
    unsafe {
        both!(h => {
            let upper = _mm256_madd_epi16(upper[h], _mm256_set1_epi16(16));
            _mm256_add_epi32(upper, _mm256_madd_epi16(lower[h], _mm256_set1_epi16(1)))
        })
    }
}

/// Sums widened to 32 bits, times `factor`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn widen<const T: usize>(mut sums: [Ints; T], factor: i16) -> [Ints; T] {
    for sum in &mut sums {
        // SAFETY: the caller's.
        *sum = unsafe { both!(h => _mm256_madd_epi16(sum[h], _mm256_set1_epi16(factor))) };
    }
    sums
}

/// Sums of the quads given with one digit; of unpacked codes and four tokens those from the first
/// on, so many.
macro_rules! one {
    ($codes:ident, $x:ident, $first:literal $count:literal: $($q:literal)*) => {
        if U && T == 4 {
            widen(unpacked_quads::<$count, T>($codes, $x, $first), 1)
        } else {
            widen(narrow!($codes, $x, T, $($q)*), 1)
        }
    };
}

/// Adds to the sums what the upper digits of each token's one quad add.
///
/// # Safety
/// As [`Lanes::sparse_dots`].
#[inline(always)]
unsafe fn add_outliers<const U: bool, const T: usize>(
    codes: *const u8,
    marks: [*const Mark; T],
    half: Option<usize>,
    mut sums: [Ints; T],
) -> [Ints; T] {
    for t in 0..T {
        // SAFETY: the caller's; a quad's number is below 8.
        unsafe {
            let (quad, digits) = (*marks[t]).outlier(half);
            let codes = if U {
                load(codes.add(64 * quad))
            } else {
                let bytes = load(codes.add(64 * (quad % 4)));
                let shift = _mm_cvtsi32_si128(quad as i32 & 4);
                let mask = _mm256_set1_epi8(15);
                both!(h => _mm256_and_si256(_mm256_srl_epi16(bytes[h], shift), mask))
            };
            let x = _mm256_set1_epi32(digits);
            let own = both!(h => _mm256_maddubs_epi16(codes[h], x));
            sums[t] = both!(h => {
                let own = _mm256_madd_epi16(own[h], _mm256_set1_epi16(16));
                _mm256_add_epi32(sums[t][h], own)
            });
        }
    }
    sums
}

/// Sums of the quads given with all 12 bits. Of one or two tokens both parts fit into the registers,
/// so that codes are taken apart once.
macro_rules! twelve {
    ($codes:ident, $x:ident, $first:literal $count:literal: $($q:literal)*) => {{
        let (upper, lower) = (upper($x), lower($x));
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        if U && T == 4 {
            let high = widen(unpacked_quads::<$count, T>($codes, upper, $first), 16);
            sums = add_all(high, widen(unpacked_quads::<$count, T>($codes, lower, $first), 1));
        } else if T == 1 {
            let [a, b] = narrow!($codes, [upper[0], lower[0]], 2, $($q)*);
            sums[0] = join(a, b);
        } else if T == 2 {
            let lists = [upper[0], upper[T - 1], lower[0], lower[T - 1]];
            let [a, b, c, d] = narrow!($codes, lists, 4, $($q)*);
            (sums[0], sums[T - 1]) = (join(a, c), join(b, d));
        } else {
            let high = narrow!($codes, upper, T, $($q)*);
            let low = narrow!($codes, lower, T, $($q)*);
            for t in 0..T {
                sums[t] = join(high[t], low[t]);
            }
        }
        sums
    }};
}

/// Sums of both, token by token.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn add_all<const T: usize>(mut a: [Ints; T], b: [Ints; T]) -> [Ints; T] {
    for t in 0..T {
        // SAFETY: the caller's.
        a[t] = unsafe { both!(h => _mm256_add_epi32(a[t][h], b[t][h])) };
    }
    a
}

/// The codes of quad `Q` in 16 bits: the first and third of each four, the second and fourth.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn wide_quad<const U: bool, const Q: usize>(codes: *const u8) -> [Ints; 2] {
    // SAFETY: the caller's.
    unsafe {
        if U {
            return [load(codes.add(128 * Q)), load(codes.add(128 * Q + 64))];
        }
        let bytes = load(codes.add(64 * Q));
        let low = _mm256_set1_epi16(0xFF);
        [both!(h => _mm256_and_si256(bytes[h], low)), both!(h => _mm256_srli_epi16::<8>(bytes[h]))]
    }
}

/// Adds quad `Q` of codes of 8 bits to sums in 32 bits.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn add_bytes<const U: bool, const T: usize, const Q: usize>(
    codes: *const u8,
    x: [*const i8; T],
    sums: &mut [Ints; T],
) {
    // SAFETY: the caller's.
    unsafe {
        let [even, odd] = wide_quad::<U, Q>(codes);
        for t in 0..T {
            let x = _mm256_set1_epi32(x[t].add(8 * Q).cast::<i32>().read_unaligned());
            sums[t] = both!(h => _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(even[h], x)));
        }
        hold(sums);
        for t in 0..T {
            let x = _mm256_set1_epi32(x[t].add(8 * Q + 4).cast::<i32>().read_unaligned());
            sums[t] = both!(h => _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(odd[h], x)));
        }
        hold(sums);
    }
}

/// Adds quads of codes of 8 bits.
macro_rules! bytes {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        $(add_bytes::<U, T, $q>($codes, $x, &mut sums);)*
        sums
    }};
}

/// Adds quad `Q` to sums in 32 bits.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn add_wide<K: Kind, const U: bool, const T: usize, const Q: usize>(
    codes: *const u8,
    x: [*const i8; T],
    sums: &mut [Ints; T],
) {
    // SAFETY: the caller's.
    unsafe {
        let codes = quad::<K, U, Q>(codes);
        for t in 0..T {
            let x = token::<Q>(x[t]);
            sums[t] = both!(h => _mm256_dpbusd_avx_epi32(sums[t][h], codes[h], x));
        }
        hold(sums);
    }
}

/// Adds quads to sums in 32 bits.
macro_rules! wide {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        $(add_wide::<K, U, T, $q>($codes, $x, &mut sums);)*
        sums
    }};
}

/// Sums of quads with all 12 bits.
macro_rules! split {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let (upper, lower) = (upper($x), lower($x));
        let mut sums = wide!($codes, upper, $($q)*);
        let low = wide!($codes, lower, $($q)*);
        for t in 0..T {
            sums[t] =
                both!(h => _mm256_add_epi32(_mm256_slli_epi32::<4>(sums[t][h]), low[t][h]));
        }
        sums
    }};
}

/// Adds to the sums what the upper digits of each token's one quad add; codes are unpacked.
///
/// # Safety
/// As [`Lanes::sparse_dots`].
#[inline(always)]
unsafe fn add_wide_outliers<const T: usize>(
    codes: *const u8,
    marks: [*const Mark; T],
    half: Option<usize>,
    mut sums: [Ints; T],
) -> [Ints; T] {
    for t in 0..T {
        // SAFETY: the caller's.
        unsafe {
            let (quad, digits) = (*marks[t]).outlier(half);
            let codes = load(codes.add(64 * quad));
            let x = _mm256_set1_epi32(digits);
            sums[t] = both!(h => {
                let own = _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), codes[h], x);
                _mm256_add_epi32(sums[t][h], _mm256_slli_epi32::<4>(own))
            });
        }
    }
    sums
}

/// Writes the codes of all quads, one a byte.
macro_rules! spread {
    ($codes:ident, $out:ident, $($q:literal)*) => {
        $(
            let [first, second] = quad::<K, false, $q>($codes);
            _mm256_storeu_si256($out.add(64 * $q).cast(), first);
            _mm256_storeu_si256($out.add(64 * $q + 32).cast(), second);
        )*
    };
}

/// Writes the codes of all quads in 16 bits.
macro_rules! spread_wide {
    ($codes:ident, $out:ident, $($q:literal)*) => {
        $(
            let [[a, b], [c, d]] = wide_quad::<false, $q>($codes);
            _mm256_storeu_si256($out.add(128 * $q).cast(), a);
            _mm256_storeu_si256($out.add(128 * $q + 32).cast(), b);
            _mm256_storeu_si256($out.add(128 * $q + 64).cast(), c);
            _mm256_storeu_si256($out.add(128 * $q + 96).cast(), d);
        )*
    };
}

/// What both tiers do alike.
macro_rules! shared {
    () => {
        type Floats = Floats;
        type Ints = Ints;

        operations! {
            fn zero() -> Floats = [_mm256_setzero_ps(); 2];
            fn splat(x: f32) -> Floats = [_mm256_set1_ps(x); 2];
            fn floats(at: *const u8) -> Floats = both!(h => _mm256_loadu_ps(at.add(32 * h).cast()));
            fn halves(at: *const u8) -> Floats =
                both!(h => _mm256_cvtph_ps(_mm_loadu_si128(at.add(16 * h).cast())));
            fn uppers(at: *const u8) -> Floats = both!(h => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(16 * h).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            });
            fn unsigned(at: *const u8) -> Floats = both!(h => {
                let bytes = _mm_loadl_epi64(at.add(8 * h).cast());
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
            });
            fn signed(at: *const u8) -> Floats = both!(h => {
                let bytes = _mm_loadl_epi64(at.add(8 * h).cast());
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
            });
            fn store(x: Floats, at: *mut u8) = {
                _mm256_storeu_ps(at.cast(), x[0]);
                _mm256_storeu_ps(at.add(32).cast(), x[1]);
            };
            fn negate(x: Floats) -> Floats = both!(h => _mm256_xor_ps(x[h], _mm256_set1_ps(-0.0)));
            fn add(a: Floats, b: Floats) -> Floats = both!(h => _mm256_add_ps(a[h], b[h]));
            fn mul(a: Floats, b: Floats) -> Floats = both!(h => _mm256_mul_ps(a[h], b[h]));
            fn fma(a: Floats, b: Floats, c: Floats) -> Floats =
                both!(h => _mm256_fmadd_ps(a[h], b[h], c[h]));
            fn less(x: Ints, offset: i32, codes: i32) -> Ints = {
                let by = _mm256_set1_epi32(offset.wrapping_mul(codes));
                both!(h => _mm256_sub_epi32(x[h], by))
            };
            fn to_floats(x: Ints) -> Floats = both!(h => _mm256_cvtepi32_ps(x[h]));
        }

        #[inline(always)]
        fn prefetch(at: *const u8) {
            // SAFETY: it only hints, whatever the address; SSE is part of the architecture.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    };
}

impl Lanes for Avx2 {
    shared!();

    #[inline(always)]
    fn unpacked_bytes<K: Kind>() -> usize {
        if K::BITS == 8 { 1024 } else { 512 }
    }

    #[inline(always)]
    fn token_bytes<K: Kind>() -> usize {
        if K::BITS == 8 { 64 } else { 32 }
    }

    #[inline(always)]
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            match K::BITS {
                4 => twelve!(codes, x, 0 8: 0 4 1 5 2 6 3 7),
                5 => {
                    let first = twelve!(codes, x, 0 4: 0 1 2 3);
                    add_all(first, twelve!(codes, x, 4 4: 4 5 6 7))
                }
                6 => {
                    let first = Self::half_dots::<K, U, T, 0>(codes, x);
                    add_all(first, Self::half_dots::<K, U, T, 1>(codes, x))
                }
                _ if U && T == 4 => unpacked_bytes(codes, x),
                _ => {
                    let x = upper(x);
                    bytes!(codes, x, 0 1 2 3 4 5 6 7)
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            if HALF == 0 {
                let first = twelve!(codes, x, 0 2: 0 1);
                add_all(first, twelve!(codes, x, 2 2: 2 3))
            } else {
                let first = twelve!(codes, x, 4 2: 4 5);
                add_all(first, twelve!(codes, x, 6 2: 6 7))
            }
        }
    }

    #[inline(always)]
    unsafe fn sparse_dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            let low = lower(x);
            match K::BITS {
                4 => {
                    let sums = one!(codes, low, 0 8: 0 4 1 5 2 6 3 7);
                    add_outliers::<U, T>(codes, marks, None, sums)
                }
                5 if U => {
                    let first = one!(codes, low, 0 4: 0 1 2 3);
                    let sums = add_all(first, one!(codes, low, 4 4: 4 5 6 7));
                    add_outliers::<U, T>(codes, marks, None, sums)
                }
                _ => Self::dots::<K, U, T>(codes, x),
            }
        }
    }

    #[inline(always)]
    unsafe fn sparse_half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            if !U {
                return Self::half_dots::<K, U, T, HALF>(codes, x);
            }
            let low = lower(x);
            let sums = if HALF == 0 {
                let first = one!(codes, low, 0 2: 0 1);
                add_all(first, one!(codes, low, 2 2: 2 3))
            } else {
                let first = one!(codes, low, 4 2: 4 5);
                add_all(first, one!(codes, low, 6 2: 6 7))
            };
            add_outliers::<U, T>(codes, marks, Some(HALF), sums)
        }
    }

    #[inline(always)]
    unsafe fn keep<const T: usize>(sums: &mut [Floats; T]) {
        // SAFETY: there is no instruction.
        unsafe { held(sums.as_mut_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn unpack<K: Kind>(codes: *const u8, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            if K::BITS != 8 {
                spread!(codes, out, 0 4 1 5 2 6 3 7);
                return;
            }
            spread_wide!(codes, out, 0 1 2 3 4 5 6 7);
        }
    }

    compiled!(Avx2, "avx2,fma,f16c");
}

impl Lanes for AvxVnni {
    shared!();

    #[inline(always)]
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { split!(codes, x, 0 4 1 5 2 6 3 7) }
    }

    #[inline(always)]
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { if HALF == 0 { split!(codes, x, 0 1 2 3) } else { split!(codes, x, 4 5 6 7) } }
    }

    #[inline(always)]
    unsafe fn sparse_dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            if !U {
                return Self::dots::<K, U, T>(codes, x);
            }
            let low = lower(x);
            let sums = wide!(codes, low, 0 4 1 5 2 6 3 7);
            add_wide_outliers(codes, marks, None, sums)
        }
    }

    #[inline(always)]
    unsafe fn sparse_half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe {
            if !U {
                return Self::half_dots::<K, U, T, HALF>(codes, x);
            }
            let low = lower(x);
            let sums =
                if HALF == 0 { wide!(codes, low, 0 1 2 3) } else { wide!(codes, low, 4 5 6 7) };
            add_wide_outliers(codes, marks, Some(HALF), sums)
        }
    }

    #[inline(always)]
    unsafe fn unpack<K: Kind>(codes: *const u8, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            spread!(codes, out, 0 4 1 5 2 6 3 7);
        }
    }

    compiled!(AvxVnni, "avx2,fma,f16c,avxvnni");
}
