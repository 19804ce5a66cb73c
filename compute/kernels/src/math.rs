//! Functions that a processor lacks, from additions and multiplications alone.
//!
//! A platform's own `exp` or `sin` differs in its last bits from the next platform's; these
//! give the same bits everywhere. Series are Taylor's about zero after an argument reduction
//! in two parts (Cody and Waite 1980); errors stated are measured by the tests.

/// 1.5 * 2^23: adding it rounds a small `f32` to an integer, held in the low bits.
const ROUND_F32: f32 = 12_582_912.0;
/// 1.5 * 2^52: the same for `f64`.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// The upper bits of ln 2, so few that a multiple by up to 2^10 is exact.
const LN2_HIGH_F32: f32 = 355.0 / 512.0;
/// ln 2 less [`LN2_HIGH_F32`].
const LN2_LOW_F32: f32 = -2.121_944_4e-4;
/// The upper 32 bits of ln 2.
const LN2_HIGH_F64: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
/// ln 2 less [`LN2_HIGH_F64`].
const LN2_LOW_F64: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);

/// The exponential function; below -87 it is 0, above 88 it is that of 88. Relative error below 2e-7.
#[inline(always)]
#[must_use]
pub fn exp_f32(x: f32) -> f32 {
    let bounded = x.clamp(-87.0, 88.0);
    let shifted = bounded * core::f32::consts::LOG2_E + ROUND_F32;
    let power = shifted - ROUND_F32;
    let r = (bounded - power * LN2_HIGH_F32) - power * LN2_LOW_F32;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    // The low bits of `shifted` hold the power of two; the bias of an f32 exponent is 127.
    let bits = shifted.to_bits().wrapping_sub(ROUND_F32.to_bits()).wrapping_add(127) << 23;
    let scaled = sum * f32::from_bits(bits);
    if x < -87.0 { 0.0 } else { scaled }
}

/// The exponential function; below -700 it is 0, above 700 it is that of 700. Relative error below 1e-15.
#[must_use]
pub fn exp_f64(x: f64) -> f64 {
    let bounded = x.clamp(-700.0, 700.0);
    let shifted = bounded * core::f64::consts::LOG2_E + ROUND_F64;
    let power = shifted - ROUND_F64;
    let r = (bounded - power * LN2_HIGH_F64) - power * LN2_LOW_F64;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..=14u32 {
        term *= r / f64::from(n);
        sum += term;
    }
    let bits = shifted.to_bits().wrapping_sub(ROUND_F64.to_bits()).wrapping_add(1023) << 52;
    if x < -700.0 { 0.0 } else { sum * f64::from_bits(bits) }
}

/// The natural logarithm of a normal positive number; nothing else is asked for here. Relative
/// error below 1e-15.
#[must_use]
pub fn ln_f64(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut power = f64::from((((bits >> 52) & 0x7FF) as i32) - 1023);
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa > core::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        power += 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most 0.172.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let mut sum = 0.0;
    for n in (0..=11u32).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    (power * LN2_LOW_F64 + 2.0 * t * sum) + power * LN2_HIGH_F64
}

/// A positive number to a power. Relative error below 1e-13 for results that are normal.
#[must_use]
pub fn pow_f64(base: f64, exponent: f64) -> f64 {
    exp_f64(exponent * ln_f64(base))
}

/// pi/2 in three parts; products of the first two with integers up to 2^20 are exact.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3FF9_21FB_5440_0000),
    f64::from_bits(0x3DD0_B461_1A60_0000),
    f64::from_bits(0x3BA3_198A_2E03_7073),
];

/// Sine and cosine of an angle in radians, up to a million. Absolute error below 1e-15.
#[must_use]
pub fn sin_cos_f64(x: f64) -> (f64, f64) {
    let quarters = (x * core::f64::consts::FRAC_2_PI + ROUND_F64) - ROUND_F64;
    let r = ((x - quarters * HALF_PI[0]) - quarters * HALF_PI[1]) - quarters * HALF_PI[2];
    let square = r * r;
    let (mut sine, mut cosine) = (0.0, 0.0);
    for n in (0..=8u32).rev() {
        let k = f64::from(2 * n);
        sine = 1.0 - sine * square / ((k + 2.0) * (k + 3.0));
        cosine = 1.0 - cosine * square / ((k + 1.0) * (k + 2.0));
    }
    sine *= r;
    match (quarters as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close_to_the_platforms() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp_f32(x)) / expected - 1.0).abs() < 2e-7, "{x}");
            let wide = f64::from(step) / 130.0;
            assert!((exp_f64(wide) / wide.exp() - 1.0).abs() < 1e-15, "{wide}");
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-88.0), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f64(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(1e30), exp_f32(88.0));
        assert!(exp_f32(f32::NAN).is_nan() && exp_f64(f64::NAN).is_nan());
    }

    #[test]
    fn logarithm_power_sine_and_cosine_are_close_to_the_platforms() {
        for step in 1..100_000u32 {
            let x = f64::from(step) * 0.37;
            assert!((ln_f64(x) - x.ln()).abs() <= 1e-15 * x.ln().abs().max(0.1), "{x}");
            let exponent = -f64::from(step) / 100_000.0;
            let expected = 500_000f64.powf(exponent);
            assert!((pow_f64(500_000.0, exponent) / expected - 1.0).abs() < 1e-13);
            let angle = f64::from(step) * 9.7;
            let (sine, cosine) = sin_cos_f64(angle);
            assert!((sine - angle.sin()).abs() < 1e-15, "{angle}");
            assert!((cosine - angle.cos()).abs() < 1e-15, "{angle}");
        }
    }
}
