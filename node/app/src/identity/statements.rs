//! What the owner signed for a network: delegation, payout binding, revocations.
//!
//! They lie in the network's folder. Bindings and revocations wait in `outgoing/` until the
//! coordinator has taken them.

use std::fs;
use std::path::{Path, PathBuf};

use openledger_wire::eip712::{PayoutBinding, Typed};
use openledger_wire::identity::{Binding, Delegation, Revocation};
use openledger_wire::keys::KeyError;
use openledger_wire::phrase::{Phrase, PhraseError};
use openledger_wire::{
    EncodeError, Envelope, EvmAddress, EvmSignature, NodeId, SettlementKey, UnixMs,
};
use thiserror::Error;

use crate::data_dir::{DataDirError, read_bounded, write_private};
use crate::limits;
use crate::network::Network;

/// Why a statement could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// A file.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The words.
    #[error(transparent)]
    Phrase(#[from] PhraseError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The signature is not of the payout address.
    #[error(
        "bind payout address 0x{0}: the signature is not this address's; sign the printed data with that address's wallet"
    )]
    NotOfPayout(EvmAddress),
}

/// A statement that waits for the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A payout binding.
    Bind(Envelope),
    /// A revocation.
    Revoke(Envelope),
}

/// The statements of one network.
#[derive(Clone, Debug)]
pub struct Statements {
    network: Network,
}

const ENVELOPE_BYTES_MAX: u64 = 64 * 1024;

impl Statements {
    /// Those of a network.
    #[must_use]
    pub fn of(network: &Network) -> Self {
        Self { network: network.clone() }
    }

    /// The delegation of a node key, if it still holds for a while. `words` renews it.
    ///
    /// Gives `None` when there is none and there are no words to make one.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn delegation(
        &self,
        node: NodeId,
        words: Option<&Phrase>,
        now: UnixMs,
    ) -> Result<Option<(Envelope, Delegation)>, StatementError> {
        let network = self.network.profile.network();
        let path = self.network.folder.join("delegation.cbor");
        let kept = read_envelope(&path)?;
        let opened = kept.as_ref().and_then(|kept| kept.open::<Delegation>(network).ok());
        let holds = opened.filter(|kept| kept.value.node == node && kept.value.holds_at(now));
        let fresh_until = now.plus_ms(limits::DELEGATION_RENEW_MS);
        if let (Some(envelope), Some(kept)) = (kept, holds)
            && (kept.value.expires > fresh_until || words.is_none())
        {
            return Ok(Some((envelope, kept.value)));
        }
        let Some(words) = words else { return Ok(None) };
        let from = UnixMs(now.0.saturating_sub(limits::DELEGATION_EARLY_MS));
        let delegation = Delegation {
            node,
            not_before: from,
            expires: now.plus_ms(limits::DELEGATION_MS),
            serial: now.0,
        };
        let envelope = Envelope::seal_as_owner(&delegation, network, &words.owner_key()?)?;
        write_private(&path, &envelope.to_bytes()?)?;
        Ok(Some((envelope, delegation)))
    }

    /// What a payout address has to sign.
    ///
    /// # Errors
    /// The words' errors.
    pub fn payout_terms(
        &self,
        words: &Phrase,
        payout: EvmAddress,
        nonce: u64,
    ) -> Result<PayoutBinding, StatementError> {
        let account = words.owner_key()?.public().account();
        Ok(PayoutBinding { network: self.network.profile.network(), account, payout, nonce })
    }

    /// Binds the address of a key that is at hand.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn bind_key(
        &self,
        words: &Phrase,
        key: &SettlementKey,
        nonce: u64,
    ) -> Result<Binding, StatementError> {
        let terms = self.payout_terms(words, key.address(), nonce)?;
        let signature = terms.sign(&self.network.profile.domain(), key)?;
        self.bind(words, terms, signature)
    }

    /// Binds an address that signed the terms elsewhere; it is sent at the next occasion.
    ///
    /// # Errors
    /// [`StatementError::NotOfPayout`], and others.
    pub fn bind(
        &self,
        words: &Phrase,
        typed: PayoutBinding,
        payout_signature: EvmSignature,
    ) -> Result<Binding, StatementError> {
        let domain = self.network.profile.domain();
        typed
            .verify(&domain, &payout_signature, &typed.payout)
            .map_err(|_| StatementError::NotOfPayout(typed.payout))?;
        let former = self.binding()?.map(|binding| binding.typed.payout);
        let own = words.payout_key()?;
        let former_signature = match former {
            Some(former) if former != typed.payout && former == own.address() => {
                Some(typed.sign(&domain, &own)?)
            }
            _ => None,
        };
        let binding = Binding { typed, payout_signature, former_signature };
        let network = self.network.profile.network();
        let envelope = Envelope::seal_as_owner(&binding, network, &words.owner_key()?)?;
        let bytes = envelope.to_bytes()?;
        write_private(&self.network.folder.join("binding.cbor"), &bytes)?;
        self.put_outgoing("bind.cbor", &bytes)?;
        Ok(binding)
    }

    /// The latest binding made here.
    ///
    /// # Errors
    /// A damaged file.
    pub fn binding(&self) -> Result<Option<Binding>, StatementError> {
        let envelope = read_envelope(&self.network.folder.join("binding.cbor"))?;
        let network = self.network.profile.network();
        let opened = envelope.and_then(|envelope| envelope.open::<Binding>(network).ok());
        Ok(opened.map(|opened| opened.value))
    }

    /// Revokes all delegations of a node key so far; sent at the next occasion.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn revoke(&self, words: &Phrase, node: NodeId, now: UnixMs) -> Result<(), StatementError> {
        let revocation = Revocation { node, serial: now.0 };
        let network = self.network.profile.network();
        let envelope = Envelope::seal_as_owner(&revocation, network, &words.owner_key()?)?;
        self.put_outgoing(&format!("revoke-{}.cbor", node.short()), &envelope.to_bytes()?)
    }

    /// What waits for the coordinator, with the file to remove once it is taken.
    #[must_use]
    pub fn outgoing(&self) -> Vec<(PathBuf, Outgoing)> {
        let Ok(files) = fs::read_dir(self.network.folder.join("outgoing")) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for path in files.filter_map(Result::ok).map(|file| file.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (is_bind, is_revoke) = (name == "bind.cbor", name.starts_with("revoke-"));
            if !name.ends_with(".cbor") || !(is_bind || is_revoke) {
                continue;
            }
            if let Ok(Some(envelope)) = read_envelope(&path) {
                let one =
                    if is_bind { Outgoing::Bind(envelope) } else { Outgoing::Revoke(envelope) };
                found.push((path, one));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn put_outgoing(&self, name: &str, bytes: &[u8]) -> Result<(), StatementError> {
        let folder = self.network.folder.join("outgoing");
        fs::create_dir_all(&folder).map_err(|source| DataDirError::Io {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        Ok(write_private(&folder.join(name), bytes)?)
    }
}

fn read_envelope(path: &Path) -> Result<Option<Envelope>, StatementError> {
    let bytes = read_bounded(path, ENVELOPE_BYTES_MAX)?;
    // A damaged file is as good as none: all of this can be signed anew.
    Ok(bytes.and_then(|bytes| Envelope::from_bytes(&bytes).ok()))
}
