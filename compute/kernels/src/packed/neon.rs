//! The tier of 64-bit Arm with the dot-product instructions.
//!
//! `sdot` sums four products of signed bytes in 32 bits; codes below 64 are signed bytes too, and
//! those of 8 bits have their offset taken off first. Its intrinsics are not stable in this
//! version of Rust, so the instruction is written out.
#![expect(unsafe_code, reason = "a tier's instructions and unchecked reads of packed weights")]

use core::arch::aarch64::*;
use core::arch::asm;

use super::activations::Mark;
use super::kind::{Element, Kind};
use super::lanes::{Lanes, Token, compiled, lower, operations, upper};
use super::tile::{FloatTile, Tile};

/// NEON with dot products.
pub(super) struct NeonDot;

/// Registers that hold 16 rows.
const PARTS: usize = 4;

type Floats = [float32x4_t; PARTS];
type Ints = [int32x4_t; PARTS];
/// 64 codes.
type Codes = [uint8x16_t; PARTS];

#[inline(always)]
fn each<T>(value: impl FnMut(usize) -> T) -> [T; PARTS] {
    core::array::from_fn(value)
}

/// 64 bytes.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn load(at: *const u8) -> Codes {
    // SAFETY: the caller's.
    each(|p| unsafe { vld1q_u8(at.add(16 * p)) })
}

/// Bytes shifted so that bit `FROM` comes to bit 4, and the bits of `mask` of them.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn to_fifth<const FROM: usize>(bytes: uint8x16_t, mask: u8) -> uint8x16_t {
    // SAFETY: the caller's.
    unsafe {
        let shifted = match FROM {
            0 => vshlq_n_u8::<4>(bytes),
            1 => vshlq_n_u8::<3>(bytes),
            2 => vshlq_n_u8::<2>(bytes),
            3 => vshlq_n_u8::<1>(bytes),
            4 => bytes,
            5 => vshrq_n_u8::<1>(bytes),
            6 => vshrq_n_u8::<2>(bytes),
            _ => vshrq_n_u8::<3>(bytes),
        };
        vandq_u8(shifted, vdupq_n_u8(mask))
    }
}

/// The codes of quad `Q`, one a byte; those of 8 bits signed.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn quad<K: Kind, const U: bool, const Q: usize>(codes: *const u8) -> Codes {
    // SAFETY: the caller's.
    unsafe {
        if U {
            return load(codes.add(64 * Q));
        }
        if K::BITS == 8 {
            return load(codes.add(64 * Q)).map(|bytes| veorq_u8(bytes, vdupq_n_u8(0x80)));
        }
        let bytes = load(codes.add(64 * (Q % 4)));
        let low = if Q < 4 {
            bytes.map(|bytes| vandq_u8(bytes, vdupq_n_u8(15)))
        } else {
            bytes.map(|bytes| vshrq_n_u8::<4>(bytes))
        };
        match K::BITS {
            5 => {
                let high = load(codes.add(256));
                each(|p| vorrq_u8(low[p], to_fifth::<Q>(high[p], 0x10)))
            }
            6 => {
                let high = load(codes.add(256 + 64 * (Q / 4)));
                let high = match Q % 4 {
                    0 => high.map(|high| to_fifth::<0>(high, 0x30)),
                    1 => high.map(|high| to_fifth::<2>(high, 0x30)),
                    2 => high.map(|high| to_fifth::<4>(high, 0x30)),
                    _ => high.map(|high| to_fifth::<6>(high, 0x30)),
                };
                each(|p| vorrq_u8(low[p], high[p]))
            }
            _ => low,
        }
    }
}

/// Adds the products of 16 codes with four codes of a token, those of quad `Q % 4` in `x`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn dot<const Q: usize>(mut sums: int32x4_t, codes: uint8x16_t, x: int8x16_t) -> int32x4_t {
    macro_rules! sdot {
        ($lane:literal) => {
            asm!(
                ".arch_extension dotprod",
                concat!("sdot {sums:v}.4s, {codes:v}.16b, {x:v}.4b[", $lane, "]"),
                sums = inout(vreg) sums,
                codes = in(vreg) codes,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            )
        };
    }
    // SAFETY: the caller's; the instruction touches its registers alone.
    unsafe {
        match Q % 4 {
            0 => sdot!("0"),
            1 => sdot!("1"),
            2 => sdot!("2"),
            _ => sdot!("3"),
        }
    }
    sums
}

/// Adds quad `Q` to the sums.
///
/// # Safety
/// As [`Lanes::dots`].
#[inline(always)]
unsafe fn add_quad<K: Kind, const U: bool, const T: usize, const Q: usize>(
    codes: *const u8,
    x: [*const i8; T],
    sums: &mut [Ints; T],
) {
    // SAFETY: the caller's; 16 of a token's 32 codes are read.
    unsafe {
        let codes = quad::<K, U, Q>(codes);
        for t in 0..T {
            let x = vld1q_s8(x[t].add(16 * (Q / 4)));
            sums[t] = each(|p| dot::<Q>(sums[t][p], codes[p], x));
        }
    }
}

/// Sums of quads.
macro_rules! quads {
    ($codes:ident, $x:ident, $($q:literal)*) => {{
        let mut sums = [[vdupq_n_s32(0); PARTS]; T];
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
            sums[t] = each(|p| vaddq_s32(vshlq_n_s32::<4>(sums[t][p]), low[t][p]));
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
    mut sums: [Ints; T],
) -> [Ints; T] {
    for t in 0..T {
        // SAFETY: the caller's.
        unsafe {
            let (quad, digits) = (*marks[t]).outlier(half);
            let codes = load(codes.add(64 * quad));
            let x = vreinterpretq_s8_s32(vdupq_n_s32(digits));
            let own: Ints = each(|p| dot::<0>(vdupq_n_s32(0), codes[p], x));
            sums[t] = each(|p| vaddq_s32(sums[t][p], vshlq_n_s32::<4>(own[p])));
        }
    }
    sums
}

/// Writes the codes of all quads, one a byte.
macro_rules! spread {
    ($codes:ident, $out:ident, $($q:literal)*) => {
        $(
            for (p, codes) in quad::<K, false, $q>($codes).into_iter().enumerate() {
                vst1q_u8($out.add(64 * $q + 16 * p), codes);
            }
        )*
    };
}

/// 16 half-precision numbers as floats.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn widen(at: *const u8) -> Floats {
    // SAFETY: the caller's; an unaligned read of bytes.
    each(|p| unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at.add(8 * p)))) })
}

impl Lanes for NeonDot {
    type Floats = Floats;
    type Ints = Ints;

    const SIGNED: bool = true;

    operations! {
        fn zero() -> Floats = [vdupq_n_f32(0.0); PARTS];
        fn splat(x: f32) -> Floats = [vdupq_n_f32(x); PARTS];
        fn floats(at: *const u8) -> Floats =
            each(|p| vreinterpretq_f32_u8(vld1q_u8(at.add(16 * p))));
        fn halves(at: *const u8) -> Floats = widen(at);
        fn uppers(at: *const u8) -> Floats = each(|p| {
            let bits = vreinterpret_u16_u8(vld1_u8(at.add(8 * p)));
            vreinterpretq_f32_u32(vshll_n_u16::<16>(bits))
        });
        fn unsigned(at: *const u8) -> Floats = {
            let bytes = vld1q_u8(at);
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(high))),
            ]
        };
        fn signed(at: *const u8) -> Floats = {
            let bytes = vreinterpretq_s8_u8(vld1q_u8(at));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ]
        };
        fn store(x: Floats, at: *mut u8) = {
            for (p, x) in x.into_iter().enumerate() {
                vst1q_u8(at.add(16 * p), vreinterpretq_u8_f32(x));
            }
        };
        fn negate(x: Floats) -> Floats = x.map(|x| vnegq_f32(x));
        fn add(a: Floats, b: Floats) -> Floats = each(|p| vaddq_f32(a[p], b[p]));
        fn mul(a: Floats, b: Floats) -> Floats = each(|p| vmulq_f32(a[p], b[p]));
        fn fma(a: Floats, b: Floats, c: Floats) -> Floats = each(|p| vfmaq_f32(c[p], a[p], b[p]));
        fn less(x: Ints, offset: i32, codes: i32) -> Ints =
            x.map(|x| vmlsq_s32(x, vdupq_n_s32(offset), vdupq_n_s32(codes)));
        fn to_floats(x: Ints) -> Floats = x.map(|x| vcvtq_f32_s32(x));
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: it only hints, whatever the address.
        unsafe {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { both!(codes, x, 0 4 1 5 2 6 3 7) }
    }

    #[inline(always)]
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { if HALF == 0 { both!(codes, x, 0 1 2 3) } else { both!(codes, x, 4 5 6 7) } }
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
            let sums = quads!(codes, low, 0 4 1 5 2 6 3 7);
            add_outliers(codes, marks, None, sums)
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

    compiled!(NeonDot, "neon,dotprod");
}
