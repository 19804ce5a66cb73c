//! Binary logarithm of a hash in fixed point, with integers only.
//!
//! The draw of nodes sorts by `-log2(u) / weight` (an exponential race, Efraimidis and Spirakis,
//! "Weighted random sampling with a reservoir", 2006), which makes a node of twice the weight win
//! twice as often against one other; `u / weight` would not. Floating point is left out on
//! purpose: its logarithms differ in the last digits from machine to machine, and everybody must
//! come to the same order.

/// A non-negative number with [`Fixed::FRACTION_BITS`] binary digits behind the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed(pub u64);

impl Fixed {
    /// Binary digits behind the point.
    pub const FRACTION_BITS: u32 = 32;
    /// One.
    pub const ONE: Self = Self(1 << Self::FRACTION_BITS);
}

/// `-log2(x)` of the fraction `x = first 128 bits of u / 2^128`; bits of zero count as one, so
/// that `x` is never 0.
///
/// The result lies in `1..=128 * 2^32` units of `2^-32`: above zero even for the largest `x`. It
/// is never below the true value, and above it by less than `2^-32 + 2^-60`: one unit because the
/// digits of the logarithm are cut off, the rest because the mantissa is kept to 63 digits behind
/// the point while it is squared.
#[must_use]
pub fn neg_log2(u: [u8; 32]) -> Fixed {
    let first: [u8; 16] = u.first_chunk().copied().unwrap_or_default();
    let bits = u128::from_be_bytes(first).max(1);
    let zeros = bits.leading_zeros();
    // x = mantissa * 2^-(zeros + 1) with the mantissa in [1, 2), so the whole part is zeros + 1
    // less the mantissa's logarithm, whose digits are found one by one by squaring.
    let mut mantissa = bits.checked_shl(zeros).unwrap_or(bits) >> 64;
    let mut logarithm: u64 = 0;
    for _ in 0..Fixed::FRACTION_BITS {
        // Below 2^64 before, so below 2^128 squared and below 2^65 behind the shift.
        mantissa = mantissa.saturating_mul(mantissa) >> 63;
        logarithm <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            logarithm |= 1;
        }
    }
    // At most 128 * 2^32, and the logarithm is below 2^32: neither operation meets its bound.
    let whole = u64::from(zeros).saturating_add(1) << Fixed::FRACTION_BITS;
    Fixed(whole.saturating_sub(logarithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First 16 bytes of u and the true value times 2^32, rounded down; computed to 120 digits
    /// with Python's `decimal` from `-ln(m / 2**128) / ln(2)`.
    const VECTORS: &[(&str, u64)] = &[
        ("ffffffffffffffffffffffffffffffff", 0),
        ("80000000000000000000000000000000", 4_294_967_296),
        ("40000000000000000000000000000000", 8_589_934_592),
        ("00000000000000000000000000000001", 549_755_813_888),
        ("7fffffffffffffffffffffffffffffff", 4_294_967_296),
        ("b504f333f9de6484597d89b3754abe9f", 2_147_483_648),
        ("0000000000000000c000000000000000", 276_660_479_430),
        ("d40a2661a8fb2ab06a6fa16792d14536", 1_167_414_023),
        ("41cffb51471fc44e3384cf34d15881ab", 8_416_898_284),
        ("62a1550a74d27515ff2e65c8d487aebb", 5_910_057_060),
        ("60538af810614bff7bd481ea32fecb28", 6_056_511_908),
        ("17c72976050bb17b63c3ac67543eea68", 14_725_063_292),
        ("c53a0e42708770b879c82d27b1d37ca1", 1_616_146_163),
        ("6bd827ad95ed4795771712894d9b45ef", 5_356_653_757),
        ("b609d49681308335c227a71237ea1730", 2_112_698_701),
        ("72faab87135703f672d2449892f19999", 4_959_704_390),
        ("0d81167aa076d664b0a235219f6f5cf4", 18_230_669_300),
        ("000279aa854417b4eefe9387c6e5dd9d", 63_103_467_622),
        ("24e9799da7cdeead8acf45c6f64575e6", 12_000_059_290),
    ];

    fn fraction(hex_digits: &str) -> [u8; 32] {
        let mut u = [0xa5; 32];
        hex::decode_to_slice(hex_digits, &mut u[..16]).unwrap();
        u
    }

    #[test]
    fn vectors_hold_within_the_stated_error() {
        for (digits, rounded_down) in VECTORS {
            let got = neg_log2(fraction(digits)).0;
            // True value in [rounded_down, +1), result in [true, true + 1 + 2^-28].
            assert!((*rounded_down..=rounded_down + 2).contains(&got), "{digits}: {got}");
        }
    }

    #[test]
    fn powers_of_two_are_exact_and_the_ends_are_bounded() {
        for shift in 0..128u32 {
            let mut u = [0; 32];
            u[..16].copy_from_slice(&(1u128 << shift).to_be_bytes());
            assert_eq!(neg_log2(u).0, u64::from(128 - shift) << 32);
        }
        assert_eq!(neg_log2([0; 32]), Fixed(128 << 32), "zero counts as the smallest fraction");
        assert_eq!(neg_log2([0xff; 32]), Fixed(1), "never zero");
    }

    #[test]
    fn larger_fractions_never_have_larger_results() {
        let mut last = u64::MAX;
        for step in 0..=u16::MAX {
            let mut u = [0; 32];
            u[..2].copy_from_slice(&step.to_be_bytes());
            let got = neg_log2(u).0;
            assert!(got <= last, "{step}");
            last = got;
        }
    }
}
