//! Names of secrets.

use std::fmt;

use thiserror::Error;

use crate::limits;

/// The name of a secret: lower-case letters, digits, '-' and '.', at most
/// [`limits::NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{name:?} is no name of a secret: use lower-case letters, digits, '-' and '.', 1 to {} \
         bytes",
    limits::NAME_BYTES_MAX
)]
pub struct InvalidName {
    /// What was given, cut to the limit.
    pub name: String,
}

impl SecretName {
    /// The entropy that the 24 recovery words stand for (32 bytes).
    pub const RECOVERY: &'static str = "recovery-entropy";
    /// The role of node keys: `node-key-1` and its successors (32-byte seeds).
    pub const NODE_KEY_ROLE: &'static str = "node-key";
    /// The role of settlement keys: `settlement-key-1` and its successors (32 bytes).
    pub const SETTLEMENT_KEY_ROLE: &'static str = "settlement-key";

    /// Checks a name.
    ///
    /// # Errors
    /// When it is empty, too long or has other characters.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || !name.bytes().all(allowed) {
            let name = name.chars().take(limits::NAME_BYTES_MAX).collect();
            return Err(InvalidName { name });
        }
        Ok(Self(name.to_owned()))
    }

    /// The entropy of the recovery words.
    #[must_use]
    pub fn recovery() -> Self {
        Self(Self::RECOVERY.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of a name within `role`, such as 3 for `node-key-3`.
    pub(crate) fn number_in(&self, role: &str) -> Option<u32> {
        self.0.strip_prefix(role)?.strip_prefix('-')?.parse().ok()
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "node-key-1", SecretName::RECOVERY, "x.y"] {
            assert_eq!(SecretName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "a b", "../x", "\u{e4}", &"a".repeat(65)] {
            assert!(SecretName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_belong_to_their_role() {
        let name = SecretName::new("node-key-12").unwrap();
        assert_eq!(name.number_in("node-key"), Some(12));
        assert_eq!(name.number_in("node"), None);
        assert_eq!(name.number_in("settlement-key"), None);
    }
}
