//! Points and OPEN amounts as checked integers.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Integer credit for accepted work.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Points(pub u64);

impl Points {
    /// No points.
    pub const ZERO: Self = Self(0);

    /// The sum, or `None` past `u64::MAX`.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount of OPEN in units of 10^-18.
///
/// On the wire 16 big-endian bytes, because CBOR integers end at 64 bits; in JSON and
/// TOML a string of whole OPEN (`"1.5"`), because their numbers end at 53 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Open(pub u128);

impl Open {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One OPEN.
    pub const ONE: Self = Self(1_000_000_000_000_000_000);

    /// The sum, or `None` past `u128::MAX`.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Open {
    /// Whole OPEN with as many decimals as are needed: `1.5`, `0.000000000000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / Self::ONE.0, self.0 % Self::ONE.0);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:018}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why an amount was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("read an OPEN amount from {0:?}: write digits, at most 18 of them behind one point")]
pub struct ParseOpenError(String);

impl FromStr for Open {
    type Err = ParseOpenError;

    fn from_str(text: &str) -> Result<Self, ParseOpenError> {
        let refuse = || ParseOpenError(text.chars().take(80).collect());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || decimals.len() > 18 || !digits(whole) || !digits(decimals) {
            return Err(refuse());
        }
        let whole: u128 = whole.parse().map_err(|_| refuse())?;
        let rest: u128 = format!("{decimals:0<18}").parse().map_err(|_| refuse())?;
        let units = whole.checked_mul(Self::ONE.0).and_then(|units| units.checked_add(rest));
        units.map(Self).ok_or_else(refuse)
    }
}

impl Serialize for Open {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(self)
        } else {
            s.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Open {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            return text.parse::<Self>().map_err(de::Error::custom);
        }
        crate::ids::deserialize_array("an OPEN amount", d).map(|b| Self(u128::from_be_bytes(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_and_parse_exactly() {
        for (units, text) in
            [(0, "0"), (1, "0.000000000000000001"), (1_500 * 10u128.pow(15), "1.5")]
        {
            assert_eq!(Open(units).to_string(), text);
            assert_eq!(text.parse::<Open>().unwrap(), Open(units));
            let json = serde_json::to_string(&Open(units)).unwrap();
            assert_eq!(serde_json::from_str::<Open>(&json).unwrap(), Open(units));
        }
        for bad in ["", ".5", "1.0000000000000000001", "-1", "1e3", "9".repeat(40).as_str()] {
            assert!(bad.parse::<Open>().is_err(), "{bad}");
        }
    }
}
