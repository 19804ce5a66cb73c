//! The coordinator's keys, kept in a vault.
//!
//! The node key is its identity on the link and in gossip; the settlement key signs heads,
//! receipts, verdicts and posts. Both start unattended from the key file beside the vault, unless
//! a passphrase comes from systemd or the environment.

use std::path::Path;

use openledger_vault::{GetError, SecretName, UnlockSource, Vault, VaultError, VaultOptions};
use openledger_wire::keys::KeyError;
use openledger_wire::{NodeKey, SettlementKey};
use thiserror::Error;

use crate::clock;

/// Environment variable with the vault's passphrase.
pub const PASSPHRASE_VARIABLE: &str = "OPENLEDGER_PASSPHRASE";

/// Why there are no keys.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The vault refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A key is missing or of another length.
    #[error(transparent)]
    Get(#[from] GetError),
    /// No passphrase and no key file.
    #[error(
        "unlock {path}: there is no key file beside it; set {PASSPHRASE_VARIABLE} or give \
             systemd the credential openledger-passphrase"
    )]
    Locked {
        /// The vault.
        path: String,
    },
    /// A role without a key.
    #[error("find a {role} in the vault: there is none; make one with openledger-coordinator init")]
    Missing {
        /// The role.
        role: &'static str,
    },
    /// A key that is not usable.
    #[error("use the settlement key: {0}")]
    Unusable(#[from] KeyError),
    /// No randomness.
    #[error("make a key: the system gave no randomness ({0}); try again")]
    NoRandomness(getrandom::Error),
}

/// Both keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Link and gossip.
    pub node: NodeKey,
    /// Heads, receipts, verdicts, posts.
    pub settlement: SettlementKey,
}

impl Keys {
    /// Fresh keys, in memory only: for tests.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeysError> {
        let node = NodeKey::generate().map_err(KeysError::NoRandomness)?;
        let settlement = SettlementKey::generate().map_err(KeysError::NoRandomness)?;
        Ok(Self { node, settlement })
    }

    /// Makes a vault with fresh keys.
    ///
    /// # Errors
    /// When there is one already or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, KeysError> {
        let source =
            UnlockSource::detect(path, PASSPHRASE_VARIABLE).unwrap_or(UnlockSource::KeyFile);
        let mut vault = Vault::create(path, &source, VaultOptions::default())?;
        let keys = Self::generate()?;
        let now_s = clock::now_s();
        vault.rotate(SecretName::NODE_KEY_ROLE, keys.node.seed().as_slice(), now_s)?;
        let secret = keys.settlement.secret();
        vault.rotate(SecretName::SETTLEMENT_KEY_ROLE, secret.as_slice(), now_s)?;
        Ok(keys)
    }

    /// Reads the current keys from a vault and says what its owner should know.
    ///
    /// # Errors
    /// When it cannot be unlocked or holds no such keys.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        let locked = || KeysError::Locked { path: path.display().to_string() };
        let source = UnlockSource::detect(path, PASSPHRASE_VARIABLE).ok_or_else(locked)?;
        let vault = Vault::open(path, &source)?;
        for warning in vault.warnings() {
            tracing::warn!("{warning}");
        }
        let find = |role: &'static str| vault.current(role).ok_or(KeysError::Missing { role });
        let node = vault.get_array::<32>(&find(SecretName::NODE_KEY_ROLE)?)?;
        let settlement = vault.get_array::<32>(&find(SecretName::SETTLEMENT_KEY_ROLE)?)?;
        let settlement = SettlementKey::from_secret(&settlement)?;
        Ok(Self { node: NodeKey::from_seed(&node), settlement })
    }
}
