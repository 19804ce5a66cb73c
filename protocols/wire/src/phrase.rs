//! The 24 words and what is derived from them.
//!
//! | key | standard | path |
//! |---|---|---|
//! | owner key (ed25519) | SLIP-0010 | `m/44'/1612'/0'/0'` |
//! | payout address (secp256k1) | BIP-32, BIP-44 | `m/44'/60'/0'/0/0` |
//!
//! 1612 is the chain id of the network's main chain. The payout path is the one that wallets use,
//! so the same words in a wallet show the same address. The BIP-39 passphrase is empty.

use bip39::Mnemonic;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::{KeyError, OwnerKey, SettlementKey};

/// SLIP-0010 path of the owner key, all steps hardened.
pub const OWNER_PATH: [u32; 4] = [44, 1612, 0, 0];
/// BIP-44 path of the default payout address.
pub const PAYOUT_PATH: &str = "m/44'/60'/0'/0/0";

/// Why words were refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Not 24 words of the English list with a right checksum.
    #[error("read the recovery phrase: {0}; write the 24 words in their order, with single spaces")]
    Words(String),
    /// Key derivation failed (probability below 2^-127).
    #[error("derive a key from the recovery phrase: {0}")]
    Derive(String),
    /// The system gave no randomness.
    #[error("create a recovery phrase: the system's random source failed: {0}")]
    Random(String),
}

impl From<KeyError> for PhraseError {
    fn from(error: KeyError) -> Self {
        Self::Derive(error.to_string())
    }
}

/// A recovery phrase of 24 English words (256 bits, BIP-39).
pub struct Phrase(Mnemonic);

impl Phrase {
    /// Fresh words.
    pub fn generate() -> Result<Self, PhraseError> {
        let mut entropy = Zeroizing::new([0u8; 32]);
        getrandom::fill(entropy.as_mut()).map_err(|e| PhraseError::Random(e.to_string()))?;
        Self::from_entropy(&entropy)
    }

    /// The words of 32 bytes of entropy.
    pub fn from_entropy(entropy: &[u8; 32]) -> Result<Self, PhraseError> {
        Mnemonic::from_entropy(entropy).map(Self).map_err(|e| PhraseError::Words(e.to_string()))
    }

    /// Reads words, in any case and spacing.
    pub fn parse(words: &str) -> Result<Self, PhraseError> {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let phrase = Mnemonic::parse(&words).map_err(|e| PhraseError::Words(e.to_string()))?;
        if phrase.word_count() != 24 {
            let count = phrase.word_count();
            return Err(PhraseError::Words(format!("{count} words instead of 24")));
        }
        Ok(Self(phrase))
    }

    /// The 32 bytes behind the words.
    #[must_use]
    pub fn entropy(&self) -> Zeroizing<[u8; 32]> {
        let (bytes, _) = self.0.to_entropy_array();
        let mut entropy = Zeroizing::new([0u8; 32]);
        entropy.copy_from_slice(&bytes[..32]);
        entropy
    }

    /// The words, to be shown once.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }

    /// The account's owner key.
    pub fn owner_key(&self) -> Result<OwnerKey, PhraseError> {
        let seed = Zeroizing::new(self.0.to_seed(""));
        let secret = slip10_ed25519(seed.as_ref(), &OWNER_PATH)?;
        Ok(OwnerKey::from_seed(&secret))
    }

    /// The key of the default payout address.
    pub fn payout_key(&self) -> Result<SettlementKey, PhraseError> {
        let derive = |e: bip32::Error| PhraseError::Derive(e.to_string());
        let seed = Zeroizing::new(self.0.to_seed(""));
        let path: bip32::DerivationPath = PAYOUT_PATH.parse().map_err(derive)?;
        let key = bip32::XPrv::derive_from_path(seed.as_ref(), &path).map_err(derive)?;
        Ok(SettlementKey::from_secret(&key.to_bytes())?)
    }
}

/// SLIP-0010 for ed25519: every step is hardened, which is the only kind that curve allows.
fn slip10_ed25519(seed: &[u8], path: &[u32]) -> Result<Zeroizing<[u8; 32]>, PhraseError> {
    let (mut key, mut chain) = hmac_halves(b"ed25519 seed", &[seed])?;
    for index in path {
        let hardened = (index | 0x8000_0000).to_be_bytes();
        (key, chain) = hmac_halves(chain.as_ref(), &[&[0], key.as_ref(), &hardened])?;
    }
    Ok(key)
}

type Halves = (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>);

fn hmac_halves(key: &[u8], parts: &[&[u8]]) -> Result<Halves, PhraseError> {
    let mut mac =
        Hmac::<Sha512>::new_from_slice(key).map_err(|e| PhraseError::Derive(e.to_string()))?;
    for part in parts {
        mac.update(part);
    }
    let out = Zeroizing::new(<[u8; 64]>::from(mac.finalize().into_bytes()));
    let (mut left, mut right) = (Zeroizing::new([0u8; 32]), Zeroizing::new([0u8; 32]));
    left.copy_from_slice(&out[..32]);
    right.copy_from_slice(&out[32..]);
    Ok((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip10_matches_its_published_vector_1_for_ed25519() {
        let seed = hex::decode("000102030405060708090a0b0c0d0e0f").unwrap();
        let key = slip10_ed25519(&seed, &[0, 1, 2, 2, 1_000_000_000]).unwrap();
        assert_eq!(
            hex::encode(key.as_ref()),
            "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793"
        );
    }

    #[test]
    fn the_words_of_zero_entropy_give_the_address_that_wallets_show() {
        let phrase = Phrase::from_entropy(&[0; 32]).unwrap();
        assert!(phrase.words().ends_with("art"));
        let again = Phrase::parse(&phrase.words().to_uppercase()).unwrap();
        assert_eq!(again.entropy().as_ref(), &[0u8; 32]);
        // The well-known address of "abandon ... art" at m/44'/60'/0'/0/0.
        assert_eq!(
            phrase.payout_key().unwrap().address().to_string(),
            "f278cf59f82edcf871d630f28ecc8056f25c1cdb"
        );
        assert!(Phrase::parse("abandon abandon").is_err());
    }
}
