//! An adapter's matrices as the words of an arena.

/// How an arena stores numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArenaFormat {
    /// Half precision, to the nearest.
    F16,
    /// Eight bits: A has a scale per rank and 32 inputs, B one per rank; each is the largest
    /// magnitude divided by 127. Inputs stay in 32 bits.
    #[default]
    Q8,
}

impl ArenaFormat {
    /// Words of matrix A, `[rank, cols]`.
    pub(super) const fn a_words(self, rank: usize, cols: usize) -> usize {
        match self {
            Self::F16 => rank * (cols / 4) * 2,
            Self::Q8 => rank * (cols.div_ceil(32) + cols / 4),
        }
    }

    /// Words of matrix B, `[rows, rank]`.
    pub(super) const fn b_words(self, rank: usize, rows: usize) -> usize {
        match self {
            Self::F16 => rank * (rows / 4) * 2,
            Self::Q8 => rank * (1 + rows / 4),
        }
    }

    /// Appends A: rank after rank.
    pub(super) fn put_a(self, a: &[f32], cols: usize, out: &mut Vec<u32>) {
        match self {
            Self::F16 => a.chunks_exact(2).for_each(|pair| out.push(halves(pair))),
            Self::Q8 => {
                let blocks = || a.chunks_exact(cols).flat_map(|row| row.chunks(32));
                out.extend(blocks().map(|block| scale_of(block.iter()).to_bits()));
                for block in blocks() {
                    let inverse = inverse_of(scale_of(block.iter()));
                    out.extend(block.chunks_exact(4).map(|four| codes(four.iter(), inverse)));
                }
            }
        }
    }

    /// Appends B, turned so that a rank's outputs follow each other.
    pub(super) fn put_b(self, b: &[f32], rank: usize, out: &mut Vec<u32>) {
        let column = |r: usize| b.iter().skip(r).step_by(rank);
        match self {
            Self::F16 => {
                for r in 0..rank {
                    let column: Vec<f32> = column(r).copied().collect();
                    column.chunks_exact(2).for_each(|pair| out.push(halves(pair)));
                }
            }
            Self::Q8 => {
                out.extend((0..rank).map(|r| scale_of(column(r)).to_bits()));
                for r in 0..rank {
                    let inverse = inverse_of(scale_of(column(r)));
                    let column: Vec<f32> = column(r).copied().collect();
                    out.extend(column.chunks_exact(4).map(|four| codes(four.iter(), inverse)));
                }
            }
        }
    }
}

fn halves(pair: &[f32]) -> u32 {
    let half = |i: usize| pair.get(i).map_or(0, |x| half_of(*x));
    u32::from(half(0)) | u32::from(half(1)) << 16
}

/// The half-precision number nearest to `x`, of two the even one.
fn half_of(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7FFF_FFFF;
    let unsigned = if magnitude > 0x7F80_0000 {
        0x7E00
    } else if magnitude >= 0x4780_0000 {
        0x7C00
    } else if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 aligns the digits so that the addition itself rounds them.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3F00_0000) as u16
    } else {
        ((magnitude + 0x0FFF + (magnitude >> 13 & 1)).wrapping_sub(0x3800_0000) >> 13) as u16
    };
    sign | unsigned
}

/// The scale of codes for these numbers; NaN where one is not finite, so that results show it.
fn scale_of<'a>(x: impl Iterator<Item = &'a f32>) -> f32 {
    let (mut peak, mut sound) = (0.0f32, true);
    for x in x {
        sound &= x.is_finite();
        peak = peak.max(x.abs());
    }
    if sound { peak / 127.0 } else { f32::NAN }
}

fn inverse_of(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Four codes in a word, the first in its low bits.
fn codes<'a>(four: impl Iterator<Item = &'a f32>, inverse: f32) -> u32 {
    let mut bytes = [0; 4];
    for (byte, x) in bytes.iter_mut().zip(four) {
        // What is no number becomes 0; its scale tells of it.
        *byte = ((x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned();
    }
    u32::from_le_bytes(bytes)
}
