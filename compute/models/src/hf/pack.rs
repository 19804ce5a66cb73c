//! Packing weights at load: plain, and the same bytes on every machine.
//!
//! Each block of 32 is packed by itself, to the nearest of what its scale can say, as llama.cpp's
//! reference does it. Rows that are no whole blocks keep 16 bits.

use crate::floats::{all_finite, to_bf16, to_f16};
use crate::gguf::TensorKind;
use crate::safetensors::FloatKind;

/// Numbers of a block.
const BLOCK: usize = 32;

/// How the weights of a folder are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As the files have them, in their map; 8-bit floats with their scales as BF16.
    AsStored,
    /// 8 bits and a scale per 32: a quarter of 32 bits, and no loss that anybody sees.
    #[default]
    Q8_0,
    /// 4 bits with scale and minimum per 32; embeddings and head with 8.
    Q4_1,
}

/// How a matrix is to be kept: nothing to leave it in its file.
pub(super) fn target(
    precision: Precision,
    is_table: bool,
    stored: FloatKind,
    cols: usize,
) -> Option<TensorKind> {
    let unpacked = match stored {
        FloatKind::F8E4m3 => Some(TensorKind::Bf16),
        _ => None,
    };
    match precision {
        _ if !cols.is_multiple_of(BLOCK) => unpacked,
        Precision::AsStored => unpacked,
        Precision::Q4_1 if !is_table => Some(TensorKind::Q4_1),
        Precision::Q4_1 | Precision::Q8_0 => Some(TensorKind::Q8_0),
    }
}

/// What a number of this type is called in GGUF, where it stays as it is.
pub(super) const fn kept(stored: FloatKind) -> TensorKind {
    match stored {
        FloatKind::F32 => TensorKind::F32,
        FloatKind::F16 => TensorKind::F16,
        // 8-bit floats never stay.
        FloatKind::Bf16 | FloatKind::F8E4m3 => TensorKind::Bf16,
    }
}

/// Appends a row; `false` if it has numbers that cannot be packed.
pub(super) fn pack(kind: TensorKind, row: &[f32], packed: &mut Vec<u8>) -> bool {
    if !all_finite(row) {
        return false;
    }
    match kind {
        TensorKind::Q8_0 => row.chunks(BLOCK).all(|block| pack_q8_0(block, packed)),
        TensorKind::Q4_1 => row.chunks(BLOCK).all(|block| pack_q4_1(block, packed)),
        TensorKind::Bf16 => {
            packed.extend(row.iter().flat_map(|float| to_bf16(*float)));
            true
        }
        _ => {
            packed.extend(row.iter().flat_map(|float| float.to_le_bytes()));
            true
        }
    }
}

/// Whether a scale is one of 16 bits.
fn fits(scale: f32) -> bool {
    half::f16::from_f32(scale).is_finite()
}

fn pack_q8_0(block: &[f32], packed: &mut Vec<u8>) -> bool {
    let largest = block.iter().fold(0.0f32, |largest, float| largest.max(float.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    packed.extend(to_f16(scale));
    packed.extend(block.iter().map(|float| ((float * inverse).round() as i8).cast_unsigned()));
    fits(scale)
}

fn pack_q4_1(block: &[f32], packed: &mut Vec<u8>) -> bool {
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / 15.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    packed.extend(to_f16(scale));
    packed.extend(to_f16(least));
    let code = |float: &f32| ((float - least) * inverse + 0.5).min(15.0) as u8;
    let (low, high) = block.split_at(block.len() / 2);
    packed.extend(low.iter().zip(high).map(|(low, high)| code(low) | code(high) << 4));
    fits(scale) && fits(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize) -> Vec<f32> {
        (0..length).map(|n| ((n * 37 + 5) % 101) as f32 / 50.0 - 0.7).collect()
    }

    fn f16(bytes: &[u8]) -> f32 {
        half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    #[test]
    fn eight_bits_are_within_half_a_step() {
        let (row, mut packed) = (row(96), Vec::new());
        assert!(pack(TensorKind::Q8_0, &row, &mut packed));
        assert_eq!(packed.len(), 3 * 34);
        for (block, packed) in row.chunks(32).zip(packed.chunks(34)) {
            let scale = f16(packed);
            for (float, code) in block.iter().zip(&packed[2..]) {
                let found = scale * f32::from(code.cast_signed());
                assert!((found - float).abs() <= 0.51 * scale + 0.001 * float.abs());
            }
        }
        packed.clear();
        assert!(pack(TensorKind::Q8_0, &[0.0; 32], &mut packed));
        assert_eq!(packed, [0; 34]);
    }

    #[test]
    fn four_bits_are_within_half_a_step() {
        let (row, mut packed) = (row(64), Vec::new());
        assert!(pack(TensorKind::Q4_1, &row, &mut packed));
        assert_eq!(packed.len(), 2 * 20);
        for (block, packed) in row.chunks(32).zip(packed.chunks(20)) {
            let (scale, least) = (f16(packed), f16(&packed[2..]));
            for (index, float) in block.iter().enumerate() {
                let pair = packed[4 + index % 16];
                let code = if index < 16 { pair & 15 } else { pair >> 4 };
                let found = scale * f32::from(code) + least;
                assert!((found - float).abs() <= 0.52 * scale + 0.001, "{found} {float}");
            }
        }
        packed.clear();
        assert!(pack(TensorKind::Q4_1, &[2.5; 32], &mut packed));
        assert_eq!((f16(&packed), f16(&packed[2..])), (0.0, 2.5));
    }

    #[test]
    fn what_cannot_be_packed_is_said() {
        for kind in [TensorKind::Q8_0, TensorKind::Q4_1] {
            assert!(!pack(kind, &[1e30; 32], &mut Vec::new()));
            assert!(!pack(kind, &[f32::NAN; 32], &mut Vec::new()));
        }
        let mut packed = Vec::new();
        assert!(pack(TensorKind::Bf16, &[1.0, -2.0], &mut packed));
        assert_eq!(packed, [0x80, 0x3f, 0x00, 0xc0]);
    }

    #[test]
    fn tables_keep_eight_bits_and_odd_rows_stay() {
        let bf16 = FloatKind::Bf16;
        assert_eq!(target(Precision::Q4_1, false, bf16, 64), Some(TensorKind::Q4_1));
        assert_eq!(target(Precision::Q4_1, true, bf16, 64), Some(TensorKind::Q8_0));
        assert_eq!(target(Precision::Q8_0, false, bf16, 48), None);
        assert_eq!(target(Precision::AsStored, false, bf16, 64), None);
        let f8 = FloatKind::F8E4m3;
        assert_eq!(target(Precision::AsStored, false, f8, 64), Some(TensorKind::Bf16));
        assert_eq!(target(Precision::Q8_0, false, f8, 33), Some(TensorKind::Bf16));
    }
}
