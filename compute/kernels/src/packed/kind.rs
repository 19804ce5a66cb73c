//! How each format lies in memory once packed: panels of 16 rows, blocks of 32 columns.
//!
//! A block's record holds its 16 rows' codes and then their scales. Codes are unsigned (an
//! offset is subtracted after the sum) and lie as instructions want them: 64 bytes are 16 rows of
//! 4 consecutive columns, a *quad*; a block has 8. Codes of 4 bits share bytes: quads 0 to 3 in the
//! low nibbles, 4 to 7 in the high ones. The fifth bits of a block are 64 bytes more, whose bit `q`
//! belongs to the quad `q`; the fifth and sixth bits twice 64, bits `2q` and `2q + 1` of the first
//! to the quads 0 to 3, of the second to 4 to 7. Scales are 16 half-precision numbers each. The K
//! formats keep theirs in a header for each 8 blocks, and with the block two lists of 16 bytes.
#![expect(unsafe_code, reason = "unchecked reads of packed weights")]

use super::lanes::Lanes;

/// Rows of a panel.
pub(super) const ROWS: usize = 16;

/// What a block has beside its first scale.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    Nothing,
    /// A number that meets the sum of the inputs.
    Minimum,
    /// The scale of the second half.
    Scale,
}

/// Formats in integers.
pub(super) trait Kind {
    /// A kind of the same arithmetic, whose scales need no header: what an unpacked block is.
    type Plain: Kind;
    /// Bits of a code: 4, 5, 6 or 8.
    const BITS: usize;
    /// What a code of 0 stands for, negated.
    const OFFSET: i32;
    /// What else there is.
    const SECOND: Second;
    /// Blocks that share a header.
    const GROUP: usize = 1;
    /// Bytes of a header.
    const HEADER: usize = 0;
    /// Bytes of a block's own scales.
    const SCALES: usize;
    /// Bytes of a block's codes.
    const CODES: usize = 64 * Self::BITS;
    /// Bytes of a block.
    const RECORD: usize = Self::CODES + Self::SCALES;
    /// Bytes of blocks that share a header, with it.
    const STRIDE: usize = Self::HEADER + Self::GROUP * Self::RECORD;

    /// The first and the second scale (or minimum) of 16 rows.
    ///
    /// # Safety
    /// As [`Lanes`]: `HEADER` and `SCALES` bytes.
    unsafe fn scales<S: Lanes>(header: *const u8, own: *const u8) -> (S::Floats, S::Floats);
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident: $plain:ty, $bits:literal bits, less $offset:literal,
     $second:ident, $scales:literal of scales $(, $header:literal of header)?;
     |$h:ident, $own:ident| $value:expr) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Kind for $name {
            type Plain = $plain;
            const BITS: usize = $bits;
            const OFFSET: i32 = $offset;
            const SECOND: Second = Second::$second;
            $(const GROUP: usize = 8; const HEADER: usize = $header;)?
            const SCALES: usize = $scales;

            #[inline(always)]
            unsafe fn scales<S: Lanes>($h: *const u8, $own: *const u8) -> (S::Floats, S::Floats) {
                // SAFETY: the caller's.
                unsafe { $value }
            }
        }
    };
}

kind! {
    /// One half-precision scale.
    Q40: Self, 4 bits, less 8, Nothing, 32 of scales;
    |_header, own| (S::halves(own), S::zero())
}
kind! {
    /// Scale and minimum.
    Q41: Self, 4 bits, less 0, Minimum, 64 of scales;
    |_header, own| (S::halves(own), S::halves(own.add(32)))
}
kind! {
    /// One scale.
    Q50: Self, 5 bits, less 16, Nothing, 32 of scales;
    |_header, own| (S::halves(own), S::zero())
}
kind! {
    /// Scale and minimum.
    Q51: Self, 5 bits, less 0, Minimum, 64 of scales;
    |_header, own| (S::halves(own), S::halves(own.add(32)))
}
kind! {
    /// One scale.
    Q80: Self, 8 bits, less 128, Nothing, 32 of scales;
    |_header, own| (S::halves(own), S::zero())
}
kind! {
    /// Scale and minimum for 256; here, what they are multiplied by.
    Q4K: Q41, 4 bits, less 0, Minimum, 32 of scales, 64 of header;
    |header, own| sub_scales::<S>(header, own)
}
kind! {
    /// Scale and minimum for 256; here, what they are multiplied by.
    Q5K: Q51, 5 bits, less 0, Minimum, 32 of scales, 64 of header;
    |header, own| sub_scales::<S>(header, own)
}
kind! {
    /// A scale for 256; here, what it is multiplied by in each half.
    Q6K: Self, 6 bits, less 32, Scale, 32 of scales, 32 of header;
    |header, own| {
        let d = S::halves(header);
        (S::mul(d, S::signed(own)), S::mul(d, S::signed(own.add(ROWS))))
    }
}

/// Scale and (negative) minimum of Q4_K and Q5_K.
///
/// # Safety
/// As [`Kind::scales`].
#[inline(always)]
unsafe fn sub_scales<S: Lanes>(header: *const u8, own: *const u8) -> (S::Floats, S::Floats) {
    // SAFETY: the caller's.
    unsafe {
        let scale = S::mul(S::halves(header), S::unsigned(own));
        let minimum = S::mul(S::halves(header.add(32)), S::unsigned(own.add(ROWS)));
        (scale, S::negate(minimum))
    }
}

/// Formats in floating point: a panel is `[cols, 16]`.
pub(super) trait Element {
    /// Bytes of an element.
    const BYTES: usize;
    /// 16 rows' elements of one column.
    ///
    /// # Safety
    /// As [`Lanes`]: `16 * BYTES`.
    unsafe fn load<S: Lanes>(at: *const u8) -> S::Floats;
}

macro_rules! element {
    ($name:ident: $bytes:literal bytes, $load:ident) => {
        /// Elements of that name.
        pub(super) struct $name;

        impl Element for $name {
            const BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn load<S: Lanes>(at: *const u8) -> S::Floats {
                // SAFETY: the caller's.
                unsafe { S::$load(at) }
            }
        }
    };
}

element! { F32: 4 bytes, floats }
element! { F16: 2 bytes, halves }
element! { Bf16: 2 bytes, uppers }
