//! The three kinds of keys and what each may sign.
//!
//! *Owner key* (ed25519, from the 24 words, kept offline): delegations, revocations, payout
//! bindings. *Node key* (ed25519, hot, expiring): commitments, proofs, transport identity.
//! *Settlement key* (secp256k1, hot): what a contract may have to check.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use k256::ecdsa::{RecoveryId, SigningKey as K256Key, VerifyingKey as K256Public};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ids::{
    AccountId, EvmAddress, EvmSignature, Keccak, NodeId, OwnerPublic, Signature, tagged_hash,
};

/// Why a key or a signature was refused.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are not a point of the curve, or a weak one.
    #[error("read a public key: these bytes are not a valid key; ask the sender for the right one")]
    NotAKey,
    /// The signature does not belong to this key and these bytes.
    #[error(
        "verify a signature: it does not match; the message was altered or signed by another key"
    )]
    BadSignature,
    /// The secret bytes are zero or past the group order.
    #[error("read a secret key: these bytes are not usable; create a new key")]
    BadSecret,
}

macro_rules! ed25519_key {
    ($(#[$doc:meta])* $name:ident, $public:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// The key of a 32-byte secret seed.
            #[must_use]
            pub fn from_seed(seed: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(seed))
            }

            /// A fresh key from the system's randomness.
            pub fn generate() -> Result<Self, getrandom::Error> {
                let mut seed = Zeroizing::new([0u8; 32]);
                getrandom::fill(seed.as_mut())?;
                Ok(Self::from_seed(&seed))
            }

            /// The secret seed; it is wiped when dropped.
            #[must_use]
            pub fn seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public half.
            #[must_use]
            pub fn public(&self) -> $public {
                $public(self.0.verifying_key().to_bytes())
            }

            /// Signs raw bytes. Callers put a domain prefix before what they sign; see
            /// [`crate::envelope`].
            #[must_use]
            pub fn sign(&self, bytes: &[u8]) -> Signature {
                Signature(self.0.sign(bytes).to_bytes())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}, secret hidden)", stringify!($name), self.public().short())
            }
        }
    };
}

ed25519_key!(
    /// A node's hot key: proofs and transport.
    NodeKey,
    NodeId
);
ed25519_key!(
    /// An account's owner key.
    OwnerKey,
    OwnerPublic
);

/// Checks an ed25519 signature by the strict rules (RFC 8032, small-order keys refused), so that
/// two verifiers never disagree.
pub fn verify_ed25519(
    public: &[u8; 32],
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), KeyError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::NotAKey)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(bytes, &signature).map_err(|_| KeyError::BadSignature)
}

impl OwnerPublic {
    /// The account that this key owns.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId(tagged_hash("openledger account v1", &[&self.0]))
    }
}

/// A secp256k1 key for what a contract may have to judge.
#[derive(Clone)]
pub struct SettlementKey(K256Key);

impl SettlementKey {
    /// The key of a 32-byte secret.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, KeyError> {
        K256Key::from_slice(secret).map(Self).map_err(|_| KeyError::BadSecret)
    }

    /// A fresh key from the system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        loop {
            let mut secret = Zeroizing::new([0u8; 32]);
            getrandom::fill(secret.as_mut())?;
            if let Ok(key) = Self::from_secret(&secret) {
                return Ok(key);
            }
        }
    }

    /// The secret; it is wiped when dropped.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    /// The EVM address of this key.
    #[must_use]
    pub fn address(&self) -> EvmAddress {
        evm_address(self.0.verifying_key())
    }

    /// Signs an EIP-712 digest: deterministic (RFC 6979), low `s`, `v` 27 or 28.
    pub fn sign_digest(&self, digest: &Keccak) -> Result<EvmSignature, KeyError> {
        let (signature, recovery) =
            self.0.sign_prehash_recoverable(&digest.0).map_err(|_| KeyError::BadSecret)?;
        let mut bytes = [0u8; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Ok(EvmSignature(bytes))
    }
}

impl fmt::Debug for SettlementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SettlementKey({}, secret hidden)", self.address())
    }
}

fn evm_address(key: &K256Public) -> EvmAddress {
    let point = key.to_encoded_point(false);
    let hash = alloy_primitives::keccak256(&point.as_bytes()[1..]);
    let mut address = [0u8; 20];
    address.copy_from_slice(&hash[12..]);
    EvmAddress(address)
}

impl EvmSignature {
    /// The address that signed this digest (EIP-2: high `s` is refused).
    pub fn recover(&self, digest: &Keccak) -> Result<EvmAddress, KeyError> {
        let signature = k256::ecdsa::Signature::from_slice(&self.0[..64])
            .map_err(|_| KeyError::BadSignature)?;
        if signature.normalize_s().is_some() {
            return Err(KeyError::BadSignature);
        }
        let parity = self.0[64].checked_sub(27).filter(|v| *v < 2);
        let recovery = parity.and_then(RecoveryId::from_byte).ok_or(KeyError::BadSignature)?;
        K256Public::recover_from_prehash(&digest.0, &signature, recovery)
            .map(|key| evm_address(&key))
            .map_err(|_| KeyError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secp256k1_addresses_match_the_well_known_first_key_of_anvil() {
        let secret: [u8; 32] =
            hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
                .unwrap()
                .try_into()
                .unwrap();
        let key = SettlementKey::from_secret(&secret).unwrap();
        assert_eq!(key.address().to_string(), "f39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        let digest = Keccak([9; 32]);
        let signature = key.sign_digest(&digest).unwrap();
        assert_eq!(signature.recover(&digest).unwrap(), key.address());
        assert_ne!(signature.recover(&Keccak([8; 32])), Ok(key.address()));
    }

    #[test]
    fn a_signature_covers_every_byte() {
        let key = NodeKey::from_seed(&[3; 32]);
        let signature = key.sign(b"work");
        assert_eq!(verify_ed25519(&key.public().0, b"work", &signature), Ok(()));
        assert_eq!(
            verify_ed25519(&key.public().0, b"worK", &signature),
            Err(KeyError::BadSignature)
        );
        assert!(!format!("{key:?}").contains(&hex::encode([3; 32])));
    }
}
