//! Numbers of fewer bits as 32-bit floats, many at a time, so that an adapter of ten megabytes is
//! read in a millisecond or two.

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::safetensors::FloatKind;

/// Numbers widened at a time: they stay in the first-level cache.
const AT_ONCE: usize = 1_024;

/// The numbers of `bytes` in `out`, as far as both reach. Says whether all are numbers: no
/// infinity, nothing that is none; which is seen best before they are widened, and without an early
/// end, so that many are looked at together.
pub(crate) fn widen(kind: FloatKind, bytes: &[u8], out: &mut [f32]) -> bool {
    match kind {
        FloatKind::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
            all_finite(out)
        }
        FloatKind::F16 => {
            let mut halves = [f16::ZERO; AT_ONCE];
            let mut largest = 0;
            for (out, bytes) in out.chunks_mut(AT_ONCE).zip(bytes.chunks(2 * AT_ONCE)) {
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
                    let bits = u16::from_le_bytes(*bytes);
                    largest = (bits & 0x7fff).cast_signed().max(largest);
                    *half = f16::from_bits(bits);
                }
                let count = out.len().min(bytes.len() / 2);
                if let (Some(halves), Some(out)) = (halves.get(..count), out.get_mut(..count)) {
                    halves.convert_to_f32_slice(out);
                }
            }
            largest < f16::INFINITY.to_bits().cast_signed()
        }
        FloatKind::Bf16 => {
            let mut largest = 0;
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                let bits = u16::from_le_bytes(*bytes);
                largest = (bits & 0x7fff).cast_signed().max(largest);
                *out = f32::from_bits(u32::from(bits) << 16);
            }
            largest < bf16::INFINITY.to_bits().cast_signed()
        }
        FloatKind::F8E4m3 => {
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = f8_e4m3(*byte);
            }
            all_finite(out)
        }
    }
}

/// A list of them, as many as `bytes` has.
pub(crate) fn widened(kind: FloatKind, bytes: &[u8]) -> Vec<f32> {
    let mut floats = Vec::with_capacity(bytes.len() / kind.bytes());
    each_piece(kind, bytes, &mut |piece| floats.extend_from_slice(piece));
    floats
}

/// The same in a list whose memory is used again; says whether all are numbers: no infinity,
/// nothing that is none.
pub(crate) fn widen_into(kind: FloatKind, bytes: &[u8], floats: &mut Vec<f32>) -> bool {
    floats.clear();
    floats.reserve(bytes.len() / kind.bytes());
    each_piece(kind, bytes, &mut |piece| floats.extend_from_slice(piece))
}

/// Widens piece by piece: each is still in the cache when `each` sees it, and no memory is written
/// twice. Says whether all are numbers.
fn each_piece(kind: FloatKind, bytes: &[u8], each: &mut dyn FnMut(&[f32])) -> bool {
    let (mut floats, mut are_finite) = ([0.0; AT_ONCE], true);
    for bytes in bytes.chunks(AT_ONCE * kind.bytes()) {
        let count = bytes.len() / kind.bytes();
        if let Some(piece) = floats.get_mut(..count) {
            are_finite &= widen(kind, bytes, piece);
            each(piece);
        }
    }
    are_finite
}

/// Whether all are numbers: no infinity, nothing that is none.
pub(crate) fn all_finite(floats: &[f32]) -> bool {
    floats.iter().fold(true, |all, float| all & float.is_finite())
}

/// An 8-bit float with 4 bits of exponent, without infinities (OCP 8-bit Floating Point
/// Specification, E4M3): bias 7, and only all ones is no number.
pub(crate) fn f8_e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(byte >> 3) & 0xf, u32::from(byte) & 7);
    let magnitude = match (exponent, mantissa) {
        (0xf, 7) => f32::NAN,
        // 2^-6 / 8 for each step.
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + 127 - 7) << 23 | mantissa << 20),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The nearest of 16 bits, as bytes.
pub(crate) fn to_f16(float: f32) -> [u8; 2] {
    f16::from_f32(float).to_le_bytes()
}

/// The nearest whose upper half of 32 bits is all of it, as bytes.
pub(crate) fn to_bf16(float: f32) -> [u8; 2] {
    bf16::from_f32(float).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly_in_pieces_of_any_length() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (kind, exact) in [
            (FloatKind::F16, (|n| f16::from_bits(n).to_f32()) as fn(u16) -> f32),
            (FloatKind::Bf16, |n| bf16::from_bits(n).to_f32()),
        ] {
            let found = widened(kind, &bytes);
            assert_eq!(found.len(), 65_536);
            for (number, found) in (0..=u16::MAX).zip(found) {
                let expected = exact(number);
                let same = found == expected || (found.is_nan() && expected.is_nan());
                assert!(same, "{number}: {found} {expected}");
            }
        }
        let odd = widened(FloatKind::F16, &bytes[..2 * 1_025 + 1]);
        assert_eq!(odd.len(), 1_025);
        assert_eq!(odd[1_024], f16::from_bits(1_024).to_f32());
        assert_eq!(widened(FloatKind::F32, &1.5f32.to_le_bytes()), [1.5]);
    }

    #[test]
    fn eight_bits_are_what_the_specification_says() {
        for (byte, value) in [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x07, 7.0 * 2f32.powi(-9)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0x3c, 1.5),
            (0x7e, 448.0),
            (0xb8, -1.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(f8_e4m3(byte), value, "{byte:#x}");
        }
        assert!(f8_e4m3(0x7f).is_nan() && f8_e4m3(0xff).is_nan());
    }

    #[test]
    fn what_is_no_number_is_found() {
        assert!(all_finite(&[0.0, -1e38]));
        assert!(!all_finite(&[0.0, f32::NAN, 1.0]) && !all_finite(&[f32::NEG_INFINITY]));
        let mut floats = vec![7.0];
        for (kind, sound, wrong) in [
            (FloatKind::F16, 0xfbffu16, [0x7c00u16, 0xfc01, 0xffff]),
            (FloatKind::Bf16, 0xff7f, [0x7f80, 0xff80, 0xff81]),
        ] {
            let bytes = |last: u16| [0u16, sound, last].map(u16::to_le_bytes).concat();
            assert!(widen_into(kind, &bytes(sound), &mut floats));
            assert_eq!((floats.len(), floats[0]), (3, 0.0));
            for wrong in wrong {
                assert!(!widen_into(kind, &bytes(wrong), &mut floats), "{wrong:#x}");
            }
        }
        assert!(!widen_into(FloatKind::F32, &f32::NAN.to_le_bytes(), &mut floats));
        assert!(!widen_into(FloatKind::F8E4m3, &[0x00, 0x7f], &mut floats));
    }
}
