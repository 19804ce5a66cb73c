//! Rows of a model file as `MatMulNBits` takes them: codes of 4 bits around 8, scales per block.
//!
//! The library multiplies codes of 8 bits with 32-bit activations by unpacking the whole matrix
//! each time, twenty times slower than codes of 4 bits. So a wider code is two of them: with
//! `low = ((v + 8) & 15) - 8`, a code `v` of 5 or 6 bits is `16 * high + low`, with both in -8..=7;
//! a code of 8 bits is `16 * (v >> 4) + (v & 15)`, and the second half, 0..=15, is 8 more than its
//! code. What a format adds to each code of a block (its minimum, and eights and sixteens that
//! were taken off) meets the sum of the block's inputs. Every step is exact but the last addition
//! of those constants, which rounds once in `f32`.

use openledger_kernels::Format;

/// How a format is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Columns that share a scale.
    pub(super) block: usize,
    /// Whether something meets the sums of the inputs.
    pub(super) offsets: bool,
}

/// How a format is cut up; nothing for floats.
pub(super) const fn cut(format: Format) -> Option<Cut> {
    let (block, offsets) = match format {
        Format::F32 | Format::F16 | Format::Bf16 => return None,
        Format::Q4_0 | Format::Q5_0 => (32, false),
        Format::Q4_1 | Format::Q4K | Format::Q5_1 | Format::Q5K | Format::Q8_0 => (32, true),
        Format::Q6K => (16, false),
    };
    Some(Cut { block, offsets })
}

/// One row, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Codes with their offset taken off, `[cols]`.
    pub(super) codes: Vec<i8>,
    /// What a code of 1 stands for, `[cols / block]`.
    pub(super) scales: Vec<f32>,
    /// What is added to each number of a block, `[cols / 32]`; zeros where there is nothing.
    pub(super) offsets: Vec<f32>,
}

/// A half-precision number as `f32`, exactly.
fn half(bytes: &[u8]) -> f32 {
    let bits = match bytes {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    // The same digits under an exponent 112 too small; scaling mends it, subnormals included.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let unsigned = if bits & 0x7C00 == 0x7C00 { magnitude | 0x7F80_0000 } else { finite };
    f32::from_bits(unsigned | u32::from(bits & 0x8000) << 16)
}

/// Bytes of a block from `at` on.
fn tail(block: &[u8], at: usize) -> &[u8] {
    block.get(at..).unwrap_or_default()
}

/// A byte of a block; callers hand in whole blocks.
fn byte(block: &[u8], at: usize) -> u8 {
    block.get(at).copied().unwrap_or_default()
}

/// Codes of 4 bits, element `j` with `j + 16`.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    core::array::from_fn(|j| byte(bytes, j % 16) >> (j / 16 * 4) & 15)
}

/// Adds the fifth bits of a block: bit `j` for the element `j`.
fn with_fifth(mut codes: [u8; 32], bits: &[u8]) -> [u8; 32] {
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (byte(bits, j / 8) >> (j % 8) & 1) << 4;
    }
    codes
}

/// Scale and minimum, 6 bits each, of the sub-block `j` of 8, from the 12 packed bytes.
fn six_bits(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (byte(packed, j) & 63, byte(packed, j + 4) & 63)
    } else {
        (
            byte(packed, j + 4) & 15 | byte(packed, j - 4) >> 6 << 4,
            byte(packed, j + 4) >> 4 | byte(packed, j) >> 6 << 4,
        )
    }
}

impl Row {
    /// Takes a row of whole blocks apart.
    pub(super) fn read(&mut self, format: Format, bytes: &[u8]) {
        self.codes.clear();
        self.scales.clear();
        self.offsets.clear();
        for block in bytes.chunks_exact(format.block_bytes()) {
            let minimum = || Some(half(tail(block, 2)));
            match format {
                Format::Q4_0 => self.block(8, half(block), None, &nibbles(tail(block, 2))),
                Format::Q4_1 => self.block(8, half(block), minimum(), &nibbles(tail(block, 4))),
                Format::Q5_0 => {
                    let codes = with_fifth(nibbles(tail(block, 6)), tail(block, 2));
                    self.block(16, half(block), None, &codes);
                }
                Format::Q5_1 => {
                    let codes = with_fifth(nibbles(tail(block, 8)), tail(block, 4));
                    self.block(16, half(block), minimum(), &codes);
                }
                Format::Q8_0 => {
                    let d = half(block);
                    self.codes.extend(tail(block, 2).iter().map(|code| code.cast_signed()));
                    self.scales.push(d);
                    // The lower half of a code is stored 8 less than it is.
                    self.offsets.push(8.0 * d);
                }
                Format::Q4K | Format::Q5K => self.sub_blocks(format, block),
                Format::Q6K => self.six(block),
                Format::F32 | Format::F16 | Format::Bf16 => {}
            }
        }
    }

    /// 32 numbers: `d * (code - centre)` without a minimum, `d * code + minimum` with one.
    fn block(&mut self, centre: u8, d: f32, minimum: Option<f32>, codes: &[u8; 32]) {
        self.codes.extend(codes.iter().map(|code| code.wrapping_sub(centre).cast_signed()));
        self.scales.push(d);
        self.offsets.push(minimum.map_or(0.0, |m| d.mul_add(f32::from(centre), m)));
    }

    /// The 8 sub-blocks of a block of Q4_K or Q5_K.
    fn sub_blocks(&mut self, format: Format, block: &[u8]) {
        let (d, m) = (half(block), half(tail(block, 2)));
        let fifth = format == Format::Q5K;
        let (quants, centre) = if fifth { (tail(block, 48), 16) } else { (tail(block, 16), 8) };
        for j in 0..8 {
            let (scale, minimum) = six_bits(tail(block, 4), j);
            let codes = core::array::from_fn(|l| {
                let low = byte(quants, 32 * (j / 2) + l) >> (4 * (j % 2)) & 15;
                let high = if fifth { byte(block, 16 + l) >> j & 1 } else { 0 };
                low | high << 4
            });
            self.block(centre, d * f32::from(scale), Some(-m * f32::from(minimum)), &codes);
        }
    }

    /// A block of Q6_K: 16 scales.
    fn six(&mut self, block: &[u8]) {
        let d = half(tail(block, 208));
        for j in 0..8 {
            let (side, quarter) = (j / 4, j % 4);
            self.codes.extend((0..32).map(|l| {
                let at = 64 * side + 32 * (quarter % 2) + l;
                let low = byte(block, at) >> (4 * (quarter / 2)) & 15;
                let high = byte(block, 128 + 32 * side + l) >> (2 * quarter) & 3;
                (low | high << 4).wrapping_sub(32).cast_signed()
            }));
            let scale = |half: usize| d * f32::from(byte(block, 192 + 2 * j + half).cast_signed());
            self.scales.extend([scale(0), scale(1)]);
            self.offsets.push(0.0);
        }
    }
}

/// Writes the codes of a plane, two to a byte, the first in the lower bits, each 8 more than it
/// is. Of two planes the first is the upper one, whose codes count 16.
pub(super) fn pack(codes: &[i8], plane: Plane, out: &mut [u8]) {
    let nibble = |code: i8| -> u8 {
        let code = i16::from(code);
        let stored = match plane {
            Plane::Whole | Plane::Low => code + 8,
            // What the lower plane, -8..=7, leaves.
            Plane::High => ((code + 8) >> 4) + 8,
            Plane::LowByte => code,
            Plane::HighByte => (code >> 4) + 8,
        };
        (stored & 15) as u8
    };
    for (byte, pair) in out.iter_mut().zip(codes.chunks(2)) {
        *byte = match pair {
            [first, second] => nibble(*first) | nibble(*second) << 4,
            [first] => nibble(*first),
            _ => 0,
        };
    }
}

/// Which part of each code a plane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    /// All 4 bits.
    Whole,
    /// What counts 16, of 5 or 6 bits.
    High,
    /// The rest.
    Low,
    /// The upper half of 8 bits.
    HighByte,
    /// The lower half.
    LowByte,
}

impl Plane {
    /// The planes of a format.
    pub(super) const fn of(format: Format) -> &'static [Self] {
        match format {
            Format::Q4_0 | Format::Q4_1 | Format::Q4K => &[Self::Whole],
            Format::Q5_0 | Format::Q5_1 | Format::Q5K | Format::Q6K => &[Self::High, Self::Low],
            Format::Q8_0 => &[Self::HighByte, Self::LowByte],
            Format::F32 | Format::F16 | Format::Bf16 => &[],
        }
    }

    /// What a code of 1 counts.
    pub(super) const fn factor(self) -> f32 {
        match self {
            Self::High | Self::HighByte => 16.0,
            Self::Whole | Self::Low | Self::LowByte => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use openledger_kernels::reference::dequantize;

    use super::*;

    /// Bytes of blocks with ordinary scales.
    fn blocks(format: Format, count: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut bytes: Vec<u8> = (0..count * format.block_bytes())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let scales: &[usize] = match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q6K => &[208],
            _ => &[0, 2],
        };
        for block in bytes.chunks_mut(format.block_bytes()) {
            for at in scales {
                block[at + 1] = block[at + 1] & 0x9F | 0x20;
            }
        }
        bytes
    }

    /// What the planes of a row mean, as the library reads them.
    fn meaning(format: Format, row: &Row) -> Vec<f64> {
        let cut = cut(format).unwrap();
        let mut out = vec![0.0; row.codes.len()];
        for plane in Plane::of(format) {
            let mut packed = vec![0; row.codes.len() / 2];
            pack(&row.codes, *plane, &mut packed);
            for (j, out) in out.iter_mut().enumerate() {
                let code = i32::from(packed[j / 2] >> (j % 2 * 4) & 15) - 8;
                *out += f64::from(code) * f64::from(row.scales[j / cut.block] * plane.factor());
            }
        }
        for (j, out) in out.iter_mut().enumerate() {
            *out += f64::from(row.offsets[j / 32]);
        }
        out
    }

    #[test]
    fn planes_scales_and_offsets_mean_what_the_format_means() {
        for format in Format::ALL {
            let Some(cut) = cut(format) else { continue };
            for seed in 0..32 {
                let bytes = blocks(format, 3, seed);
                let mut expected = vec![0.0; 3 * format.block_len()];
                dequantize(format, &bytes, &mut expected).unwrap();
                let mut row = Row::default();
                row.read(format, &bytes);
                assert_eq!(row.codes.len(), expected.len());
                assert_eq!(row.scales.len(), expected.len() / cut.block);
                assert_eq!(row.offsets.len(), expected.len() / 32);
                assert!(cut.offsets || row.offsets.iter().all(|offset| *offset == 0.0));
                for (found, expected) in meaning(format, &row).into_iter().zip(expected) {
                    let slack = 1e-6 * (f64::from(expected).abs() + 64.0);
                    assert!(
                        (found - f64::from(expected)).abs() <= slack,
                        "{}: {found} instead of {expected}",
                        format.name()
                    );
                }
            }
        }
    }
}
