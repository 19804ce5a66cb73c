//! From a passphrase to a key: argon2id (RFC 9106), its cost stored with the vault.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::SealError;
use crate::limits;
use crate::unlock::Passphrase;

/// A key of XChaCha20-Poly1305, wiped when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The cost of deriving the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfParams {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfParams {
    fn default() -> Self {
        Self {
            memory_kib: limits::KDF_MEMORY_KIB,
            passes: limits::KDF_PASSES,
            lanes: limits::KDF_LANES,
        }
    }
}

impl KdfParams {
    /// The least that argon2 does, for tests: a guesser would try ten thousand passphrases in a
    /// second. A vault made so carries a warning.
    #[must_use]
    pub const fn weak_for_tests() -> Self {
        Self { memory_kib: 8, passes: 1, lanes: 1 }
    }

    /// Whether guessing passphrases is cheaper than it should be.
    #[must_use]
    pub const fn is_weak(&self) -> bool {
        self.memory_kib < limits::KDF_MEMORY_KIB_STRONG
    }

    fn check(&self) -> Result<(), SealError> {
        let bounds = [
            ("KiB", self.memory_kib, limits::KDF_MEMORY_KIB_MAX),
            ("passes", self.passes, limits::KDF_PASSES_MAX),
            ("lanes", self.lanes, limits::KDF_LANES_MAX),
        ];
        for (what, value, value_max) in bounds {
            if value == 0 || value > value_max {
                return Err(SealError::Derivation { what, value, value_max });
            }
        }
        Ok(())
    }

    /// Derives the key of a salt. The memory used is wiped.
    pub(crate) fn derive(
        &self,
        passphrase: &Passphrase,
        salt: &[u8; 16],
    ) -> Result<Key, SealError> {
        self.check()?;
        let mut key = Key::default();
        let unusable = |_| SealError::Damaged { detail: "its key derivation cannot be done" };
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len()))
            .map_err(unusable)?;
        let mut memory = vec![Block::default(); params.block_count()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let derived = argon2.hash_password_into_with_memory(
            passphrase.as_bytes(),
            salt,
            key.as_mut_slice(),
            &mut memory,
        );
        memory.iter_mut().for_each(Zeroize::zeroize);
        derived.map_err(unusable)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_passphrase_salt_and_cost() {
        let weak = KdfParams::weak_for_tests();
        let key = |kdf: KdfParams, passphrase: &str, salt: u8| {
            *kdf.derive(&Passphrase::new(passphrase), &[salt; 16]).unwrap()
        };
        let first = key(weak, "correct horse", 1);
        assert_eq!(first, key(weak, "correct horse", 1));
        assert_ne!(first, key(weak, "correct horsf", 1));
        assert_ne!(first, key(weak, "correct horse", 2));
        assert_ne!(first, key(KdfParams { passes: 2, ..weak }, "correct horse", 1));
    }

    #[test]
    fn costs_that_would_stop_the_machine_are_refused() {
        let passphrase = Passphrase::new("correct horse");
        for kdf in [
            KdfParams { memory_kib: u32::MAX, ..KdfParams::default() },
            KdfParams { passes: 1000, ..KdfParams::default() },
            KdfParams { lanes: 0, ..KdfParams::default() },
        ] {
            let error = kdf.derive(&passphrase, &[0; 16]).unwrap_err();
            assert!(matches!(error, SealError::Derivation { .. }), "{error:?}");
        }
        assert!(!KdfParams::default().is_weak() && KdfParams::weak_for_tests().is_weak());
    }
}
