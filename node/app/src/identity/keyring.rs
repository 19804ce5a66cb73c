//! The keys of a node and what is derived from them.

use std::path::PathBuf;
use std::time::Instant;

use openledger_vault::{
    FileError, GetError, Passphrase, SecretName, UnlockSource, Vault, VaultError, VaultOptions,
};
use openledger_wire::keys::KeyError;
use openledger_wire::phrase::{Phrase, PhraseError};
use openledger_wire::{AccountId, EvmAddress, NodeId, NodeKey, OwnerPublic, SettlementKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data_dir::{DataDir, DataDirError, read_bounded, write_private};
use crate::limits;

/// Why an identity operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A secret of the vault.
    #[error(transparent)]
    Get(#[from] GetError),
    /// A file around it.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The words.
    #[error(transparent)]
    Phrase(#[from] PhraseError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system gave no randomness.
    #[error("create a key: the system gave no randomness ({0}); try again")]
    Random(String),
    /// There is none yet.
    #[error("find this node's identity: there is none in {}; run `openledger up` to create one, or `openledger identity restore` with your 24 words", .0.display())]
    None(PathBuf),
    /// There is one already.
    #[error("create an identity: there is one in {} already; choose another --data-dir, or move that folder away", .0.display())]
    Exists(PathBuf),
    /// The words are not here any more.
    #[error(
        "use the owner key: the 24 words were removed from this machine; put them back with `openledger identity restore`"
    )]
    WordsRemoved,
    /// The words are another account's.
    #[error(
        "restore the identity: these words are of account {found}, this folder is of account {known}; use another --data-dir"
    )]
    OtherAccount {
        /// Of the words.
        found: AccountId,
        /// Of the folder.
        known: AccountId,
    },
    /// The public file does not read.
    #[error("read {}: {reason}; remove the file and run `openledger identity show` to make it anew", path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What may be told about an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Who earns.
    pub account: AccountId,
    /// The owner key's public half.
    pub owner: OwnerPublic,
    /// This node.
    pub node: NodeId,
    /// What contracts may check comes from this address.
    pub settlement: EvmAddress,
    /// The payout address that the words give.
    pub default_payout: EvmAddress,
    /// Whether the words are still on this machine.
    pub has_words: bool,
}

/// The hot keys.
#[derive(Clone)]
pub struct NodeKeys {
    /// Proofs and transport.
    pub node: NodeKey,
    /// What contracts may check.
    pub settlement: SettlementKey,
}

/// An unlocked vault. It is locked for other processes while this lives, so keep it briefly.
pub struct Keyring {
    data: DataDir,
    vault: Vault,
}

const PUBLIC: &str = "identity/public.json";

impl Keyring {
    /// The vault's file.
    #[must_use]
    pub fn path(data: &DataDir) -> PathBuf {
        data.join("identity/vault")
    }

    /// Whether there is an identity.
    #[must_use]
    pub fn exists(data: &DataDir) -> bool {
        Self::path(data).is_file()
    }

    /// Makes a new identity from these words.
    ///
    /// # Errors
    /// [`IdentityError::Exists`], and the vault's errors.
    pub fn create(
        data: &DataDir,
        source: &UnlockSource,
        options: VaultOptions,
        phrase: &Phrase,
        now_s: u64,
    ) -> Result<Self, IdentityError> {
        if Self::exists(data) {
            return Err(IdentityError::Exists(data.join("identity")));
        }
        data.make("identity")?;
        let vault = Vault::create(Self::path(data), source, options)?;
        let mut ring = Self { data: data.clone(), vault };
        ring.vault.put(&SecretName::recovery(), phrase.entropy().as_ref(), now_s)?;
        ring.new_node_keys(now_s)?;
        Ok(ring)
    }

    /// Opens the identity. Where another command has it open, that is waited for a while: nobody
    /// keeps it for long.
    ///
    /// # Errors
    /// [`IdentityError::None`], and the vault's errors.
    pub fn open(data: &DataDir, source: &UnlockSource) -> Result<Self, IdentityError> {
        if !Self::exists(data) {
            return Err(IdentityError::None(data.join("identity")));
        }
        let begun = Instant::now();
        let vault = loop {
            match Vault::open(Self::path(data), source) {
                Err(VaultError::File(FileError::InUse { .. }))
                    if begun.elapsed() < limits::VAULT_WAIT =>
                {
                    std::thread::sleep(limits::VAULT_WAIT / 60);
                }
                opened => break opened?,
            }
        };
        Ok(Self { data: data.clone(), vault })
    }

    /// Makes an identity from an exported file.
    ///
    /// # Errors
    /// [`IdentityError::Exists`], and the vault's errors.
    pub fn import(
        data: &DataDir,
        exported: &std::path::Path,
        passphrase: &Passphrase,
        source: &UnlockSource,
    ) -> Result<Self, IdentityError> {
        if Self::exists(data) {
            return Err(IdentityError::Exists(data.join("identity")));
        }
        data.make("identity")?;
        let options = VaultOptions::default();
        let vault = Vault::import(exported, passphrase, Self::path(data), source, options)?;
        let ring = Self { data: data.clone(), vault };
        ring.publish()?;
        Ok(ring)
    }

    /// Writes all keys to a file under a passphrase of its own.
    ///
    /// # Errors
    /// The vault's errors.
    pub fn export(
        &self,
        to: &std::path::Path,
        passphrase: &Passphrase,
    ) -> Result<(), IdentityError> {
        Ok(self.vault.export(to, passphrase)?)
    }

    /// Encrypts all keys anew under another passphrase.
    ///
    /// # Errors
    /// The vault's errors; the former passphrase holds then.
    pub fn change_passphrase(
        &mut self,
        source: &UnlockSource,
        options: VaultOptions,
    ) -> Result<(), IdentityError> {
        Ok(self.vault.change_passphrase(source, options)?)
    }

    /// Puts the words back.
    ///
    /// # Errors
    /// [`IdentityError::OtherAccount`], and the vault's errors.
    pub fn put_words(&mut self, phrase: &Phrase, now_s: u64) -> Result<(), IdentityError> {
        let found = phrase.owner_key()?.public().account();
        let known = Self::public(&self.data)?.account;
        if found != known {
            return Err(IdentityError::OtherAccount { found, known });
        }
        if self.phrase().is_err() {
            self.vault.put(&SecretName::recovery(), phrase.entropy().as_ref(), now_s)?;
        }
        self.publish().map(|_| ())
    }

    /// Removes the words from this machine.
    ///
    /// # Errors
    /// The vault's errors.
    pub fn remove_words(&mut self) -> Result<(), IdentityError> {
        let mut public = self.publish()?;
        self.vault.remove(&SecretName::recovery())?;
        public.has_words = false;
        self.write_public(&public)
    }

    /// The words.
    ///
    /// # Errors
    /// [`IdentityError::WordsRemoved`].
    pub fn phrase(&self) -> Result<Phrase, IdentityError> {
        match self.vault.get_array::<32>(&SecretName::recovery()) {
            Ok(entropy) => Ok(Phrase::from_entropy(&entropy)?),
            Err(GetError::Missing { .. } | GetError::Revoked { .. }) => {
                Err(IdentityError::WordsRemoved)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The hot keys.
    ///
    /// # Errors
    /// The vault's errors.
    pub fn node_keys(&self) -> Result<NodeKeys, IdentityError> {
        let missing = || IdentityError::None(self.data.join("identity"));
        let node = self.vault.current(SecretName::NODE_KEY_ROLE).ok_or_else(missing)?;
        let settlement = self.vault.current(SecretName::SETTLEMENT_KEY_ROLE).ok_or_else(missing)?;
        let node = NodeKey::from_seed(&*self.vault.get_array::<32>(&node)?);
        let settlement = SettlementKey::from_secret(&*self.vault.get_array::<32>(&settlement)?)?;
        Ok(NodeKeys { node, settlement })
    }

    /// Makes new hot keys; the former ones are not used any more.
    ///
    /// # Errors
    /// The vault's errors.
    pub fn rotate(&mut self, now_s: u64) -> Result<Public, IdentityError> {
        self.new_node_keys(now_s)?;
        Self::public(&self.data)
    }

    /// What the owner should be told at each start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.vault.warnings().iter().map(ToString::to_string).collect()
    }

    /// What may be told about the identity; needs no passphrase.
    ///
    /// # Errors
    /// [`IdentityError::None`], or a damaged file.
    pub fn public(data: &DataDir) -> Result<Public, IdentityError> {
        let path = data.join(PUBLIC);
        let Some(bytes) = read_bounded(&path, 64 * 1024)? else {
            return Err(IdentityError::None(data.join("identity")));
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| IdentityError::Public { path, reason: error.to_string() })
    }

    fn new_node_keys(&mut self, now_s: u64) -> Result<(), IdentityError> {
        let random = |error: &dyn std::fmt::Display| IdentityError::Random(error.to_string());
        let node = NodeKey::generate().map_err(|error| random(&error))?;
        let settlement = SettlementKey::generate().map_err(|error| random(&error))?;
        self.vault.rotate(SecretName::NODE_KEY_ROLE, node.seed().as_ref(), now_s)?;
        let secret = settlement.secret();
        self.vault.rotate(SecretName::SETTLEMENT_KEY_ROLE, secret.as_ref(), now_s)?;
        self.publish().map(|_| ())
    }

    /// Writes what may be told; the words are needed for that once.
    fn publish(&self) -> Result<Public, IdentityError> {
        let keys = self.node_keys()?;
        let (node, settlement) = (keys.node.public(), keys.settlement.address());
        let public = match self.phrase() {
            Ok(phrase) => {
                let owner = phrase.owner_key()?.public();
                let default_payout = phrase.payout_key()?.address();
                let account = owner.account();
                Public { account, owner, node, settlement, default_payout, has_words: true }
            }
            Err(IdentityError::WordsRemoved) => {
                let known = Self::public(&self.data)?;
                Public { node, settlement, has_words: false, ..known }
            }
            Err(error) => return Err(error),
        };
        self.write_public(&public)?;
        Ok(public)
    }

    fn write_public(&self, public: &Public) -> Result<(), IdentityError> {
        let path = self.data.join(PUBLIC);
        let bytes = serde_json::to_vec_pretty(public)
            .map_err(|e| IdentityError::Public { path: path.clone(), reason: e.to_string() })?;
        Ok(write_private(&path, &bytes)?)
    }
}

impl From<FileError> for IdentityError {
    fn from(error: FileError) -> Self {
        Self::Vault(error.into())
    }
}
