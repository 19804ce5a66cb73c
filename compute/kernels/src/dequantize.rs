//! What the bytes of each format mean, block by block.
//!
//! The layouts are those of GGUF files (ggml's `block_q4_0` and so on); `d` is a block's scale,
//! `m` its minimum, both half precision. Each function fills one block; callers check lengths.

use crate::format::Format;

/// A half-precision number as `f32`, exactly. Without branches, because it is in inner loops.
#[inline(always)]
pub(crate) fn half(bytes: [u8; 2]) -> f32 {
    half_of(u32::from(u16::from_le_bytes(bytes)))
}

/// The same from the lower 16 bits of a number whose upper ones are 0.
#[inline(always)]
fn half_of(bits: u32) -> f32 {
    let magnitude = (bits & 0x7FFF) << 13;
    // The same digits under an exponent 112 too small; scaling mends it, subnormals included.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let infinite = magnitude | 0x7F80_0000;
    let unsigned = if bits & 0x7C00 == 0x7C00 { infinite } else { finite };
    f32::from_bits(unsigned | (bits & 0x8000) << 16)
}

/// Dequantises whole blocks: as many as both slices hold.
#[inline(always)]
pub(crate) fn blocks(format: Format, data: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => each(data, out, |block: &[u8; 4], out: &mut [f32; 1]| {
            out[0] = f32::from_le_bytes(*block);
        }),
        Format::F16 => each(data, out, |block: &[u8; 2], out: &mut [f32; 1]| {
            out[0] = half(*block);
        }),
        Format::Bf16 => each(data, out, |block: &[u8; 2], out: &mut [f32; 1]| {
            out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
        }),
        Format::Q4_0 => each_scaled(data, out, q4_0),
        Format::Q4_1 => each_scaled(data, out, q4_1),
        Format::Q5_0 => each_scaled(data, out, q5_0),
        Format::Q5_1 => each_scaled(data, out, q5_1),
        Format::Q8_0 => each_scaled(data, out, q8_0),
        Format::Q4K => each(data, out, q4_k),
        Format::Q5K => each(data, out, q5_k),
        Format::Q6K => each(data, out, q6_k),
    }
}

#[inline(always)]
fn each<const BYTES: usize, const LEN: usize>(
    data: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (bytes, out) in data.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

/// Blocks whose scales are converted together, in vector registers: one by one they would cost
/// more than the blocks themselves.
const SCALES: usize = 32;

/// As [`each`], for blocks of 32 elements that start with a scale and, in the formats that have
/// one, a minimum: hands both over as numbers.
#[inline(always)]
fn each_scaled<const BYTES: usize>(
    data: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], f32, f32, &mut [f32; 32]),
) {
    let has_minimum = matches!(BYTES, 20 | 24);
    let mask = if has_minimum { u32::MAX } else { 0xFFFF };
    let blocks = data.as_chunks::<BYTES>().0;
    let outs = out.as_chunks_mut::<32>().0;
    for (blocks, outs) in blocks.chunks(SCALES).zip(outs.chunks_mut(SCALES)) {
        let mut pairs = [0u32; SCALES];
        for (pair, bytes) in pairs.iter_mut().zip(blocks) {
            *pair = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & mask;
        }
        let scales = pairs.map(|pair| half_of(pair & 0xFFFF));
        let minima = pairs.map(|pair| half_of(pair >> 16));
        let numbers = scales.iter().zip(&minima);
        for ((bytes, out), (scale, minimum)) in blocks.iter().zip(outs).zip(numbers) {
            block(bytes, *scale, *minimum, out);
        }
    }
}

#[inline(always)]
fn q4_0(block: &[u8; 18], d: f32, _: f32, out: &mut [f32; 32]) {
    for j in 0..16 {
        let byte = block[2 + j];
        out[j] = d * (i32::from(byte & 15) - 8) as f32;
        out[j + 16] = d * (i32::from(byte >> 4) - 8) as f32;
    }
}

#[inline(always)]
fn q4_1(block: &[u8; 20], d: f32, m: f32, out: &mut [f32; 32]) {
    for j in 0..16 {
        let byte = block[4 + j];
        out[j] = d * i32::from(byte & 15) as f32 + m;
        out[j + 16] = d * i32::from(byte >> 4) as f32 + m;
    }
}

/// The fifth bits of a block of 32: bit `j` for the element `j`.
#[inline(always)]
fn fifth(bits: u32, j: usize) -> i32 {
    (((bits >> j) & 1) << 4) as i32
}

#[inline(always)]
fn q5_0(block: &[u8; 22], d: f32, _: f32, out: &mut [f32; 32]) {
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let byte = block[6 + j];
        out[j] = d * ((i32::from(byte & 15) | fifth(high, j)) - 16) as f32;
        out[j + 16] = d * ((i32::from(byte >> 4) | fifth(high, j + 16)) - 16) as f32;
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], d: f32, m: f32, out: &mut [f32; 32]) {
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let byte = block[8 + j];
        out[j] = d * (i32::from(byte & 15) | fifth(high, j)) as f32 + m;
        out[j + 16] = d * (i32::from(byte >> 4) | fifth(high, j + 16)) as f32 + m;
    }
}

#[inline(always)]
fn q8_0(block: &[u8; 34], d: f32, _: f32, out: &mut [f32; 32]) {
    for j in 0..32 {
        out[j] = d * i32::from(block[2 + j].cast_signed()) as f32;
    }
}

/// Scale and minimum, 6 bits each, of the sub-block `j` of 8, from the 12 packed bytes.
#[inline(always)]
fn six_bits(packed: &[u8; 12], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4,
            (packed[j + 4] >> 4) | (packed[j] >> 6) << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// Scale and minimum of each sub-block of 32 of a K block: the block's own two, times 6 bits each.
#[inline(always)]
fn sub_scales<const BYTES: usize>(block: &[u8; BYTES]) -> [(f32, f32); 8] {
    let d = half([block[0], block[1]]);
    let m = half([block[2], block[3]]);
    let packed = core::array::from_fn(|i| block[4 + i]);
    core::array::from_fn(|j| {
        let (scale, minimum) = six_bits(&packed, j);
        (d * scale, m * minimum)
    })
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let scales = sub_scales(block);
    for pair in 0..4 {
        let ((d_low, m_low), (d_high, m_high)) = (scales[2 * pair], scales[2 * pair + 1]);
        for l in 0..32 {
            let byte = block[16 + 32 * pair + l];
            out[64 * pair + l] = d_low * i32::from(byte & 15) as f32 - m_low;
            out[64 * pair + 32 + l] = d_high * i32::from(byte >> 4) as f32 - m_high;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let scales = sub_scales(block);
    for pair in 0..4 {
        let ((d_low, m_low), (d_high, m_high)) = (scales[2 * pair], scales[2 * pair + 1]);
        for l in 0..32 {
            let byte = block[48 + 32 * pair + l];
            let high = i32::from(block[16 + l]) >> (2 * pair);
            let (low_q, high_q) = ((high & 1) << 4, (high & 2) << 3);
            out[64 * pair + l] = d_low * (i32::from(byte & 15) | low_q) as f32 - m_low;
            out[64 * pair + 32 + l] = d_high * (i32::from(byte >> 4) | high_q) as f32 - m_high;
        }
    }
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half([block[208], block[209]]);
    let scale = |j: usize| d * f32::from(block[192 + j].cast_signed());
    for side in 0..2 {
        for l in 0..32 {
            let low = i32::from(block[64 * side + l]);
            let next = i32::from(block[64 * side + 32 + l]);
            let high = i32::from(block[128 + 32 * side + l]);
            let first = 8 * side + l / 16;
            let quants = [
                (low & 15) | (high & 3) << 4,
                (next & 15) | ((high >> 2) & 3) << 4,
                (low >> 4) | ((high >> 4) & 3) << 4,
                (next >> 4) | ((high >> 6) & 3) << 4,
            ];
            for (quarter, quant) in quants.into_iter().enumerate() {
                out[128 * side + 32 * quarter + l] =
                    scale(first + 2 * quarter) * (quant - 32) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Hand-made blocks against formulas in `f64`, written from the format's definition and not
    //! from the code above: one element at a time, by its index.

    use super::*;

    /// A small fixed sequence of bytes.
    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect()
    }

    /// Half precision by its definition.
    fn f16(b: &[u8]) -> f64 {
        let bits = u16::from_le_bytes([b[0], b[1]]);
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let fraction = f64::from(bits & 1023);
        match (bits >> 10) & 31 {
            0 => sign * fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            exponent => sign * (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
        }
    }

    /// The element `i` of a block, by the definition of its format.
    fn element(format: Format, b: &[u8], i: usize) -> f64 {
        let nibble = |base: usize, i: usize| {
            let byte = b[base + i % 16];
            f64::from(if i < 16 { byte % 16 } else { byte / 16 })
        };
        let fifth = |base: usize, i: usize| f64::from((b[base + i / 8] >> (i % 8)) & 1) * 16.0;
        // 6-bit scale and minimum of the K formats, sub-block i / 32.
        let k_scales = || {
            let (j, s) = (i / 32, &b[4..16]);
            if j < 4 {
                (f64::from(s[j] % 64), f64::from(s[j + 4] % 64))
            } else {
                (
                    f64::from(s[j + 4] % 16) + 16.0 * f64::from(s[j - 4] / 64),
                    f64::from(s[j + 4] / 16) + 16.0 * f64::from(s[j] / 64),
                )
            }
        };
        let k_nibble = |base: usize| {
            let byte = b[base + 32 * (i / 64) + i % 32];
            f64::from(if i % 64 < 32 { byte % 16 } else { byte / 16 })
        };
        match format {
            Format::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Format::F16 => f16(b),
            Format::Bf16 => f64::from(f32::from_le_bytes([0, 0, b[0], b[1]])),
            Format::Q4_0 => f16(b) * (nibble(2, i) - 8.0),
            Format::Q4_1 => f16(b) * nibble(4, i) + f16(&b[2..]),
            Format::Q5_0 => f16(b) * (nibble(6, i) + fifth(2, i) - 16.0),
            Format::Q5_1 => f16(b) * (nibble(8, i) + fifth(4, i)) + f16(&b[2..]),
            Format::Q8_0 => f16(b) * f64::from(b[2 + i].cast_signed()),
            Format::Q4K => {
                let (scale, minimum) = k_scales();
                f16(b) * scale * k_nibble(16) - f16(&b[2..]) * minimum
            }
            Format::Q5K => {
                let (scale, minimum) = k_scales();
                let fifth = f64::from((b[16 + i % 32] >> (i / 32)) & 1) * 16.0;
                f16(b) * scale * (k_nibble(48) + fifth) - f16(&b[2..]) * minimum
            }
            Format::Q6K => {
                let (side, within) = (i / 128, i % 128);
                let byte = b[64 * side + within % 64];
                let low = if within < 64 { byte % 16 } else { byte / 16 };
                let high = (b[128 + 32 * side + within % 32] >> (2 * (within / 32))) % 4;
                let quant = f64::from(low) + 16.0 * f64::from(high) - 32.0;
                f16(&b[208..]) * f64::from(b[192 + i / 16].cast_signed()) * quant
            }
        }
    }

    /// A block of ordinary size: its half-precision scales are set, the rest is arbitrary.
    fn block(format: Format, seed: u64) -> Vec<u8> {
        let mut block = bytes(format.block_bytes(), seed);
        let scales: &[usize] = match format {
            Format::F32 | Format::F16 | Format::Bf16 => &[],
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
            Format::Q6K => &[208],
        };
        for &at in scales {
            // An exponent of 8 to 15, any sign and fraction.
            block[at + 1] = block[at + 1] & 0x9F | 0x20;
        }
        if matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
            let top = block.len() - 1;
            block[top] = block[top] & 0x80 | 0x3B;
        }
        block
    }

    #[test]
    fn every_format_gives_the_values_of_its_definition() {
        for format in Format::ALL {
            for seed in 0..64 {
                let data: Vec<u8> = (0..3).flat_map(|b| block(format, 3 * seed + b)).collect();
                let len = format.block_len();
                let mut out = vec![f32::NAN; 3 * len];
                blocks(format, &data, &mut out);
                for (i, &found) in out.iter().enumerate() {
                    let own = &data[i / len * format.block_bytes()..];
                    let expected = element(format, own, i % len);
                    // Two roundings, of terms that may be larger than their sum.
                    let slack = 4.0 * f64::from(f32::EPSILON) * (expected.abs() + 64.0);
                    assert!(
                        (f64::from(found) - expected).abs() <= slack,
                        "{} element {i}: {found} instead of {expected}",
                        format.name()
                    );
                }
            }
        }
    }

    #[test]
    fn a_block_made_by_hand_gives_its_numbers() {
        // d = 0.5, m = -1, the nibbles 0, 1, 2 ... 15 below and 15, 14 ... 0 above.
        let mut block = vec![0x00, 0x38, 0x00, 0xBC];
        block.extend((0..16u8).map(|j| j | (15 - j) << 4));
        let mut out = [0.0; 32];
        blocks(Format::Q4_1, &block, &mut out);
        for (j, value) in (0..16u8).zip(out) {
            assert_eq!(value, 0.5 * f32::from(j) - 1.0);
        }
        assert_eq!(&out[16..20], &[6.5, 6.0, 5.5, 5.0]);
        // d = 2, the numbers -128, -127 ...
        let mut block = vec![0x00, 0x40];
        block.extend((0..32u8).map(|j| 128 + j));
        blocks(Format::Q8_0, &block, &mut out);
        assert_eq!(&out[..3], &[-256.0, -254.0, -252.0]);
    }

    #[test]
    fn all_half_precision_numbers_are_exact() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            let (found, expected) = (f64::from(half(bytes)), f16(&bytes));
            assert!(found == expected || (found.is_nan() && expected.is_nan()), "{bits:#x}");
            assert_eq!(half(bytes).is_sign_negative(), bits >> 15 == 1, "{bits:#x}");
        }
    }
}
