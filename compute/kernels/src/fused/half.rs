//! Half-precision numbers (IEEE 754 binary16) in software, with the bits of F16C's instructions.

/// A half-precision number as `f32`, exactly; NaNs become quiet.
#[inline(always)]
pub(super) fn f32_of(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    // The same digits under an exponent 112 too small; scaling mends it, subnormals included.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let quiet = if magnitude > 0x0F80_0000 { 0x0040_0000 } else { 0 };
    let infinite = magnitude | 0x7F80_0000 | quiet;
    let unsigned = if magnitude >= 0x0F80_0000 { infinite } else { finite };
    f32::from_bits(unsigned | u32::from(bits & 0x8000) << 16)
}

/// The half-precision number nearest to `x`, of two the even one; beyond 65,520 it is infinite.
/// NaNs become quiet.
#[inline(always)]
pub(super) fn f16_of(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7FFF_FFFF;
    let unsigned = if magnitude > 0x7F80_0000 {
        0x7E00 | (magnitude >> 13) as u16 & 0x01FF
    } else if magnitude >= 0x4780_0000 {
        // 65,536 and more.
        0x7C00
    } else if magnitude < 0x3880_0000 {
        // Subnormal: adding 0.5 aligns the digits so that the addition itself rounds them.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3F00_0000) as u16
    } else {
        // A carry out of the digits moves the exponent up, to infinity at last.
        let rounded = magnitude + 0x0FFF + (magnitude >> 13 & 1);
        (rounded.wrapping_sub(0x3800_0000) >> 13) as u16
    };
    sign | unsigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_its_value_and_comes_back() {
        for bits in 0..=u16::MAX {
            let (exponent, digits) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3FF));
            let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
            let found = f32_of(bits);
            match exponent {
                31 if digits == 0.0 => assert_eq!(f64::from(found), sign * f64::INFINITY),
                31 => assert!(found.is_nan()),
                0 => assert_eq!(f64::from(found), sign * digits * 2f64.powi(-24)),
                _ => {
                    let value = sign * (1024.0 + digits) * 2f64.powi(exponent - 25);
                    assert_eq!(f64::from(found), value);
                }
            }
            let quiet = if exponent == 31 && digits > 0.0 { 0x200 } else { 0 };
            assert_eq!(f16_of(found), bits | quiet);
        }
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_of_two_to_the_even_one() {
        for bits in 0..0x7BFFu16 {
            let (low, high) = (f32_of(bits), f32_of(bits + 1));
            let middle = (low + high) / 2.0;
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(f16_of(middle), even, "{middle}");
            assert_eq!(f16_of(middle.next_down()), bits);
            assert_eq!(f16_of(-middle.next_up()), 0x8000 | (bits + 1));
        }
        assert_eq!(f16_of(65_519.996), 0x7BFF);
        assert_eq!(f16_of(65_520.0), 0x7C00);
        assert_eq!(f16_of(f32::MAX), 0x7C00);
        assert_eq!(f16_of(f32::NEG_INFINITY), 0xFC00);
    }
}
