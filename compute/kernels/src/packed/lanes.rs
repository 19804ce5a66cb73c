//! What a tier of processors gives to the kernels: 16 lanes, one for each row of a panel.
//!
//! The kernels (`tile`) are written once over this trait; a tier says how it sums products of
//! codes and how it does the `f32` operations around them. All of these are exact or exactly
//! rounded, so tiers cannot differ. No lane ever meets another.
#![expect(unsafe_code, reason = "a tier's instructions and unchecked reads of packed weights")]

use super::activations::{BLOCK, Mark};
use super::kind::{Element, Kind};
use super::tile::{FloatTile, Tile};

/// A token's codes of a block, or of blocks one after the other.
#[derive(Clone, Copy)]
pub(super) struct Token {
    /// The upper digits, none of them -128; or all 12 bits in 16, as [`Lanes::token_bytes`] says.
    pub(super) codes: *const i8,
    /// The lower digits, none of them -128; nobody looks if the other has all.
    pub(super) low: *const i8,
}

impl Token {
    /// The codes so many bytes on; only tokens in bytes have something to be looked at in `low`.
    #[inline(always)]
    pub(super) const fn on(self, bytes: usize) -> Self {
        Self { codes: self.codes.wrapping_add(bytes), low: self.low.wrapping_add(bytes) }
    }
}

/// The upper or lower digits of tokens.
#[inline(always)]
pub(super) fn upper<const T: usize>(x: [Token; T]) -> [*const i8; T] {
    let mut codes = [core::ptr::null(); T];
    for t in 0..T {
        codes[t] = x[t].codes;
    }
    codes
}

/// The lower digits of tokens.
#[inline(always)]
pub(super) fn lower<const T: usize>(x: [Token; T]) -> [*const i8; T] {
    let mut codes = [core::ptr::null(); T];
    for t in 0..T {
        codes[t] = x[t].low;
    }
    codes
}

/// A tier of processors.
///
/// # Safety
/// All of these need the tier's processor features and, of pointers, readable (or writable)
/// memory of the length that is named; no alignment is asked for. Functions that no
/// `target_feature` marks are inlined into those that one does.
pub(super) trait Lanes {
    /// 16 numbers.
    type Floats: Copy;
    /// 16 integers of 32 bits.
    type Ints: Copy;

    /// Codes of 8 bits are multiplied as signed ones, so their offset of 128 is already gone.
    const SIGNED: bool = false;

    /// Bytes that the codes of a block take once unpacked.
    fn unpacked_bytes<K: Kind>() -> usize {
        512
    }

    /// Bytes that a token's codes of a block take: 32, or 64 where the tier wants them in 16 bits,
    /// of each four the first, third, second, fourth.
    fn token_bytes<K: Kind>() -> usize {
        BLOCK
    }

    /// 16 zeros.
    unsafe fn zero() -> Self::Floats;
    /// One number, 16 times.
    unsafe fn splat(x: f32) -> Self::Floats;
    /// 16 single-precision numbers: 64 bytes.
    unsafe fn floats(at: *const u8) -> Self::Floats;
    /// 16 half-precision numbers: 32 bytes.
    unsafe fn halves(at: *const u8) -> Self::Floats;
    /// 16 upper halves of single-precision numbers: 32 bytes.
    unsafe fn uppers(at: *const u8) -> Self::Floats;
    /// 16 unsigned bytes as numbers.
    unsafe fn unsigned(at: *const u8) -> Self::Floats;
    /// 16 signed bytes as numbers.
    unsafe fn signed(at: *const u8) -> Self::Floats;
    /// Writes 64 bytes.
    unsafe fn store(x: Self::Floats, at: *mut u8);
    /// The other sign.
    unsafe fn negate(x: Self::Floats) -> Self::Floats;
    /// Sums.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Products.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Less `offset` (at most 128) times the sum of 32 codes, 16 times.
    unsafe fn less(x: Self::Ints, offset: i32, codes: i32) -> Self::Ints;
    /// Integers below 2^24 as numbers.
    unsafe fn to_floats(x: Self::Ints) -> Self::Floats;
    /// Asks for a cache line that will be read soon. Any address will do.
    fn prefetch(at: *const u8);

    /// Products of a block's codes (`K::CODES` bytes, or as [`Lanes::unpack`] leaves them if `U`)
    /// with `T` tokens' 32 codes, summed; `x` as [`Lanes::token_bytes`] says.
    unsafe fn dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Self::Ints; T];

    /// As [`Lanes::dots`] for the 16 codes of the first (0) or second (1) half, in 6 bits.
    unsafe fn half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
    ) -> [Self::Ints; T];

    /// As [`Lanes::dots`], of tokens that have upper digits in their marks' outliers alone.
    unsafe fn sparse_dots<K: Kind, const U: bool, const T: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Self::Ints; T];

    /// As [`Lanes::half_dots`], of tokens that have upper digits in their marks' outliers alone.
    unsafe fn sparse_half_dots<K: Kind, const U: bool, const T: usize, const HALF: usize>(
        codes: *const u8,
        x: [Token; T],
        marks: [*const Mark; T],
    ) -> [Self::Ints; T];

    /// Keeps the sums in memory at this point: while the codes of a block pass, a tier may need all
    /// its registers for them.
    #[inline(always)]
    unsafe fn keep<const T: usize>(_: &mut [Self::Floats; T]) {}

    /// Spreads a block's codes to bytes: reads `K::CODES`, writes [`Lanes::unpacked_bytes`].
    unsafe fn unpack<K: Kind>(codes: *const u8, out: *mut u8);

    /// [`super::tile::integers`], compiled for this tier.
    unsafe fn integers<K: Kind, const U: bool, const D: bool, const T: usize>(tile: &Tile<T>);
    /// [`super::tile::unpack`], compiled for this tier.
    unsafe fn unpack_blocks<K: Kind>(panel: *const u8, first: usize, count: usize, out: *mut u8);
    /// [`super::tile::floats`], compiled for this tier.
    unsafe fn products<E: Element, const T: usize>(tile: &FloatTile<T>);
}

/// The functions of a tier that are compiled for its features: everything else is inlined there.
macro_rules! compiled {
    ($tier:ident $(, $features:literal)?) => {
        unsafe fn integers<K: Kind, const U: bool, const D: bool, const T: usize>(tile: &Tile<T>) {
            $(#[target_feature(enable = $features)])?
            unsafe fn run<K: Kind, const U: bool, const D: bool, const T: usize>(tile: &Tile<T>) {
                // SAFETY: the caller's, as the trait says.
                unsafe { $crate::packed::tile::integers::<$tier, K, U, D, T>(tile) }
            }
            // SAFETY: the caller's, as the trait says.
            unsafe { run::<K, U, D, T>(tile) }
        }

        unsafe fn unpack_blocks<K: Kind>(
            panel: *const u8,
            first: usize,
            count: usize,
            out: *mut u8,
        ) {
            $(#[target_feature(enable = $features)])?
            unsafe fn run<K: Kind>(panel: *const u8, first: usize, count: usize, out: *mut u8) {
                // SAFETY: the caller's, as the trait says.
                unsafe { $crate::packed::tile::unpack::<$tier, K>(panel, first, count, out) }
            }
            // SAFETY: the caller's, as the trait says.
            unsafe { run::<K>(panel, first, count, out) }
        }

        unsafe fn products<E: Element, const T: usize>(tile: &FloatTile<T>) {
            $(#[target_feature(enable = $features)])?
            unsafe fn run<E: Element, const T: usize>(tile: &FloatTile<T>) {
                // SAFETY: the caller's, as the trait says.
                unsafe { $crate::packed::tile::floats::<$tier, E, T>(tile) }
            }
            // SAFETY: the caller's, as the trait says.
            unsafe { run::<E, T>(tile) }
        }
    };
}
pub(super) use compiled;

/// Operations of a tier that are one expression each.
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $value:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's, as the trait says.
                unsafe { $value }
            }
        )*
    };
}
pub(super) use operations;
