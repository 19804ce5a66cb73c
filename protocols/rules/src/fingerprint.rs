//! How far two fingerprints of activations lie apart, in integers.
//!
//! A fingerprint holds four signed sums of the hidden state that each token was drawn from, in
//! chunks of 32 tokens that share a scale. Two honest machines differ by noise, which has a size
//! and no direction. Another model, text or number of bits lies further away; an adapter that was
//! left out or scaled moves the sums along a direction that a checker knows, because he has run
//! the tokens with and without it. On that direction noise averages out, so a small share shows
//! (least squares with one unknown; `openledger-inference` has the same in floating point).
//!
//! Scales come as 32-bit floats. They are taken apart into whole numbers here, so that every
//! machine comes to the same verdict. Deliberately absent: making fingerprints, and what follows
//! from their distance.

/// Numbers of a token.
const SKETCH: usize = 4;
/// Tokens that share a scale.
const CHUNK_TOKENS: usize = 32;
/// Bytes of a whole chunk: the scale, and two for each number.
const CHUNK_BYTES: usize = 4 + CHUNK_TOKENS * SKETCH * 2;
/// Fewer tokens than this at the end are compared together with the chunk before: their distance
/// alone would be a matter of luck.
const TAIL_TOKENS_MIN: usize = CHUNK_TOKENS / 2;
/// Bits of a scale's mantissa that are dropped, so that squares and sums of all numbers fit 128
/// bits. What is lost is a millionth.
const SCALE_BITS_DROPPED: u32 = 4;
/// Millionths of one.
const MICRO: u128 = 1_000_000;

/// Numbers that share a scale of `mantissa * 2^exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    mantissa: i64,
    exponent: i32,
    codes: Vec<i16>,
}

/// A fingerprint as whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    chunks: Vec<Chunk>,
}

impl Fingerprint {
    /// Reads the fingerprint of so many tokens; nothing for bytes of another length, or with a
    /// scale that is no size.
    #[must_use]
    pub fn read(bytes: &[u8], tokens: usize) -> Option<Self> {
        let numbers = tokens.checked_mul(SKETCH)?.checked_mul(2)?;
        let scales = tokens.div_ceil(CHUNK_TOKENS).checked_mul(4)?;
        if bytes.len() != numbers.checked_add(scales)? {
            return None;
        }
        let chunks = bytes.chunks(CHUNK_BYTES).map(Chunk::read);
        Some(Self { chunks: chunks.collect::<Option<_>>()? })
    }

    /// Whether a chunk of it says nothing: no model computes zeros alone.
    #[must_use]
    pub fn has_blanks(&self) -> bool {
        let is_blank =
            |chunk: &Chunk| chunk.mantissa == 0 || chunk.codes.iter().all(|code| *code == 0);
        self.chunks.iter().any(is_blank)
    }

    /// Whether every chunk of the first `tokens` tokens lies within so many millionths of the
    /// shorter one's length. Symmetric; a fingerprint lies at 0 from itself.
    #[must_use]
    pub fn is_near(&self, other: &Self, tokens: usize, distance_micro: u32) -> bool {
        let exponent = self.exponent().max(other.exponent());
        let (a, b) = (self.numbers(exponent, tokens), other.numbers(exponent, tokens));
        if a.len() != b.len() {
            return false;
        }
        let mut units = (a.len() / UNIT).max(usize::from(!a.is_empty()));
        if a.len() % UNIT >= TAIL_TOKENS_MIN * SKETCH && a.len() > UNIT {
            units = units.saturating_add(1);
        }
        (0..units).all(|unit| {
            let first = unit.saturating_mul(UNIT);
            let last =
                if unit.saturating_add(1) == units { a.len() } else { first.saturating_add(UNIT) };
            match (a.get(first..last), b.get(first..last)) {
                (Some(a), Some(b)) => is_chunk_near(a, b, distance_micro),
                _ => false,
            }
        })
    }

    /// Whether what lies between a fingerprint and one's own has no more of an effect's direction
    /// in it than noise would have: at most so many millionths of one's own length, for each square
    /// root of the count of numbers. Nothing can be told where there is no effect.
    #[must_use]
    pub fn is_whole(&self, other: &Self, effect: &Self, tokens: usize, effect_micro: u32) -> bool {
        let exponent = self.exponent().max(other.exponent());
        let (own, other) = (self.numbers(exponent, tokens), other.numbers(exponent, tokens));
        let effect = effect.numbers(effect.exponent(), tokens);
        if own.len() != other.len() || own.len() != effect.len() {
            return false;
        }
        let difference: Vec<i64> =
            own.iter().zip(&other).map(|(a, b)| b.saturating_sub(*a)).collect();
        let along = dot(&difference, &effect).unsigned_abs();
        let (own, effect) = (square(&own).isqrt(), square(&effect).isqrt());
        let count = (difference.len() as u128).saturating_mul(MICRO.saturating_mul(MICRO)).isqrt();
        let allowed = u128::from(effect_micro).saturating_mul(own).saturating_mul(effect);
        along.saturating_mul(count) <= allowed
    }

    /// The largest exponent of a scale; the lowest there is for what is all zero.
    fn exponent(&self) -> i32 {
        let scaled = self.chunks.iter().filter(|chunk| chunk.mantissa != 0);
        scaled.map(|chunk| chunk.exponent).max().unwrap_or(i32::MIN)
    }

    /// The numbers of the first tokens, in units of `2^exponent`. Below 2^36 each, since no scale
    /// has a larger exponent.
    fn numbers(&self, exponent: i32, tokens: usize) -> Vec<i64> {
        let all = self.chunks.iter().flat_map(|chunk| {
            let behind = i64::from(exponent).saturating_sub(i64::from(chunk.exponent));
            let unit = u32::try_from(behind).ok().and_then(|bits| 1i64.checked_shl(bits));
            // So small that it is nothing beside the others.
            let unit = unit.filter(|unit| *unit > 0).unwrap_or(i64::MAX);
            let number = move |code: &i16| {
                i64::from(*code).saturating_mul(chunk.mantissa).checked_div(unit).unwrap_or(0)
            };
            chunk.codes.iter().map(number)
        });
        all.take(tokens.saturating_mul(SKETCH)).collect()
    }
}

/// Numbers of a chunk.
const UNIT: usize = CHUNK_TOKENS * SKETCH;

impl Chunk {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (scale, codes) = bytes.split_first_chunk()?;
        let (mantissa, exponent) = scale_of(u32::from_le_bytes(*scale))?;
        let codes = codes.as_chunks().0.iter().map(|code| i16::from_le_bytes(*code)).collect();
        Some(Self { mantissa, exponent, codes })
    }
}

/// A 32-bit float as `mantissa * 2^exponent` (IEEE 754), if it is finite and not below 0.
fn scale_of(bits: u32) -> Option<(i64, i32)> {
    let (exponent, fraction) = (bits >> 23, bits & 0x7F_FFFF);
    // The sign is the exponent's ninth bit; 255 is for what is no number.
    let (mantissa, exponent) = match exponent {
        0 => (fraction, 1),
        1..=254 => (fraction | 0x80_0000, exponent),
        _ => return None,
    };
    let exponent = i32::try_from(exponent).ok()?;
    // The bias of 127 does not matter: only differences of exponents do.
    Some((i64::from(mantissa >> SCALE_BITS_DROPPED), exponent))
}

fn is_chunk_near(a: &[i64], b: &[i64], distance_micro: u32) -> bool {
    let difference: Vec<i64> = a.iter().zip(b).map(|(a, b)| a.saturating_sub(*b)).collect();
    let shorter = square(a).min(square(b));
    let micro = u128::from(distance_micro);
    let allowed = micro.saturating_mul(micro).saturating_mul(shorter);
    square(&difference).saturating_mul(MICRO.saturating_mul(MICRO)) <= allowed
}

/// The square of a length.
fn square(numbers: &[i64]) -> u128 {
    dot(numbers, numbers).unsigned_abs()
}

fn dot(a: &[i64], b: &[i64]) -> i128 {
    let products = a.iter().zip(b).map(|(a, b)| i128::from(*a).saturating_mul(i128::from(*b)));
    products.fold(0, i128::saturating_add)
}
