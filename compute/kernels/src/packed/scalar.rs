//! The tier that needs nothing: plain loops, and the measure of all others.
#![expect(unsafe_code, reason = "unchecked reads of packed weights")]
#![expect(
    clippy::needless_range_loop,
    reason = "an index counts tokens or lanes of several arrays"
)]

use super::activations::Mark;
use super::kind::{Element, Kind, ROWS};
use super::lanes::{Lanes, Token, compiled, operations};
use super::tile::{FloatTile, Tile};
use crate::dequantize::half;

/// Any processor.
pub(super) struct Scalar;

type Floats = [f32; ROWS];
type Ints = [i32; ROWS];

/// 16 values that lie one after the other.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn read<T: Copy>(at: *const u8) -> [T; ROWS] {
    // SAFETY: the caller's.
    unsafe { at.cast::<[T; ROWS]>().read_unaligned() }
}

#[inline(always)]
fn each(value: impl FnMut(usize) -> f32) -> Floats {
    core::array::from_fn(value)
}

/// The code of a row in column `4 * quad + i` of a block.
///
/// # Safety
/// The block's codes can be read.
#[inline(always)]
unsafe fn code<K: Kind, const U: bool>(codes: *const u8, quad: usize, row: usize, i: usize) -> i32 {
    let lane = 4 * row + i;
    // SAFETY: the caller's; `lane` is below 64.
    unsafe {
        if U || K::BITS == 8 {
            return i32::from(*codes.add(64 * quad + lane));
        }
        let low = *codes.add(64 * (quad % 4) + lane) >> (4 * (quad / 4)) & 15;
        let high = match K::BITS {
            5 => *codes.add(256 + lane) >> quad & 1,
            6 => *codes.add(256 + 64 * (quad / 4) + lane) >> (2 * (quad % 4)) & 3,
            _ => 0,
        };
        i32::from(low | high << 4)
    }
}

/// Products of the quads from `first` to `last`, summed.
///
/// # Safety
/// The block's codes and the tokens' 32 can be read.
#[inline(always)]
unsafe fn sums<K: Kind, const U: bool, const T: usize>(
    codes: *const u8,
    x: [Token; T],
    quads: core::ops::Range<usize>,
) -> [Ints; T] {
    let mut sums = [[0; ROWS]; T];
    for quad in quads {
        for row in 0..ROWS {
            for i in 0..4 {
                // SAFETY: the caller's.
                unsafe {
                    let code = code::<K, U>(codes, quad, row, i);
                    for t in 0..T {
                        let at = 4 * quad + i;
                        let (high, low) = (*x[t].codes.add(at), *x[t].low.add(at));
                        sums[t][row] += code * (16 * i32::from(high) + i32::from(low));
                    }
                }
            }
        }
    }
    sums
}

/// Operations that touch no memory.
macro_rules! plain {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $value:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $type),*) -> $result {
                $value
            }
        )*
    };
}

impl Lanes for Scalar {
    type Floats = Floats;
    type Ints = Ints;

    operations! {
        fn floats(at: *const u8) -> Floats = read(at);
        fn halves(at: *const u8) -> Floats = read::<u16>(at).map(|bits| half(bits.to_le_bytes()));
        fn uppers(at: *const u8) -> Floats =
            read::<u16>(at).map(|bits| f32::from_bits(u32::from(bits) << 16));
        fn unsigned(at: *const u8) -> Floats = read::<u8>(at).map(f32::from);
        fn signed(at: *const u8) -> Floats = read::<i8>(at).map(f32::from);
        fn store(x: Floats, at: *mut u8) = at.cast::<Floats>().write_unaligned(x);
    }

    plain! {
        fn zero() -> Floats = [0.0; ROWS];
        fn splat(x: f32) -> Floats = [x; ROWS];
        fn negate(x: Floats) -> Floats = x.map(|x| -x);
        fn add(a: Floats, b: Floats) -> Floats = each(|l| a[l] + b[l]);
        fn mul(a: Floats, b: Floats) -> Floats = each(|l| a[l] * b[l]);
        fn fma(a: Floats, b: Floats, c: Floats) -> Floats = each(|l| a[l].mul_add(b[l], c[l]));
        fn less(x: Ints, offset: i32, codes: i32) -> Ints =
            x.map(|x| x.wrapping_sub(offset.wrapping_mul(codes)));
        fn to_floats(x: Ints) -> Floats = x.map(|x| x as f32);
    }

    fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { sums::<K, U, T>(codes, x, 0..8) }
    }

    #[inline(always)]
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { sums::<K, U, T>(codes, x, 4 * HALF..4 * HALF + 4) }
    }

    #[inline(always)]
    unsafe fn sparse_dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
        _: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { sums::<K, U, T>(codes, x, 0..8) }
    }

    #[inline(always)]
    unsafe fn sparse_half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
        _: [*const Mark; T],
    ) -> [Ints; T] {
        // SAFETY: the caller's.
        unsafe { sums::<K, U, T>(codes, x, 4 * HALF..4 * HALF + 4) }
    }

    #[inline(always)]
    unsafe fn unpack<K: Kind>(codes: *const u8, out: *mut u8) {
        for quad in 0..8 {
            for lane in 0..64 {
                // SAFETY: the caller's.
                unsafe {
                    let code = code::<K, false>(codes, quad, lane / 4, lane % 4);
                    *out.add(64 * quad + lane) = code as u8;
                }
            }
        }
    }

    compiled!(Scalar);
}
