//! Who may speak for whom: delegations, revocations, registrations, payout bindings.
//!
//! The owner key signs a [`Delegation`] of a node key with an expiry, and may end it with a
//! [`Revocation`]. A node joins with a [`Registration`] that carries its delegation. A
//! [`Binding`] names the payout address: it needs the owner key *and* the address's own signature.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::{List, Text};
use crate::eip712::{Domain, PayoutBinding, Typed};
use crate::envelope::{Envelope, EnvelopeError, Signable, Verified};
use crate::ids::{AccountId, EvmAddress, EvmSignature, NetworkId, NodeId, OwnerPublic, UnixMs};
use crate::keys::KeyError;
use crate::limits;

/// An owner lets a node key work for the account until a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The node key.
    pub node: NodeId,
    /// From when.
    pub not_before: UnixMs,
    /// Until when, exclusive; at most [`limits::DELEGATION_MS_MAX`] after `not_before`.
    pub expires: UnixMs,
    /// Rises with each delegation of this node; a lower one is stale.
    pub serial: u64,
}

impl Signable for Delegation {
    const DOMAIN: &'static str = "delegation";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 512;
}

/// An owner ends a delegation at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The node key.
    pub node: NodeId,
    /// Delegations up to this serial are void.
    pub serial: u64,
}

impl Signable for Revocation {
    const DOMAIN: &'static str = "revocation";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 512;
}

/// A node asks to join; signed with the node key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The owner's delegation of this node key.
    pub delegation: Envelope,
    /// The node's secp256k1 key for what contracts may have to judge.
    pub settlement: EvmAddress,
    /// Where its blobs can be had: socket addresses as text.
    pub blob_addresses: List<Text<{ limits::ADDRESS_MAX }>, { limits::ADDRESSES_MAX }>,
    /// Where its libp2p listens: multiaddrs as text.
    pub peer_addresses: List<Text<{ limits::ADDRESS_MAX }>, { limits::ADDRESSES_MAX }>,
    /// Task kinds it offers to do, as codes of [`crate::task::TaskKind`], ascending.
    pub kinds: List<u8, 16>,
    /// Program and version, for people.
    pub agent: Text<{ limits::NAME_MAX }>,
}

impl Signable for Registration {
    const DOMAIN: &'static str = "registration";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 8 * 1024;
}

/// The owner binds a payout address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// What the address signed.
    pub typed: PayoutBinding,
    /// The payout address's signature over it.
    pub payout_signature: EvmSignature,
    /// When rebinding: the former address's signature over it; without it the change waits seven
    /// days.
    pub former_signature: Option<EvmSignature>,
}

impl Signable for Binding {
    const DOMAIN: &'static str = "binding";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 1_024;
}

/// Why an identity statement was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Envelope or signature.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A delegation for another node.
    #[error(
        "accept a registration of {signer:?}: its delegation names {delegated:?}; ask the owner for one for this node key"
    )]
    OtherNode {
        /// Who registered.
        signer: NodeId,
        /// Whom the delegation names.
        delegated: NodeId,
    },
    /// Expired, not yet valid or longer than allowed.
    #[error(
        "accept a delegation valid from {from} to {to} (ms): it does not hold at {now} or is longer than allowed; let the owner renew it"
    )]
    NotValidNow {
        /// Start.
        from: UnixMs,
        /// End.
        to: UnixMs,
        /// Now.
        now: UnixMs,
    },
    /// The binding speaks for another account or network.
    #[error(
        "accept a payout binding: it is for another account or network; sign it anew with this account's owner key"
    )]
    OtherAccount,
    /// The payout address did not agree.
    #[error("accept a payout binding: signature of the payout address: {0}")]
    Payout(KeyError),
}

/// A registration whose signatures, names and dates were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: AccountId,
    /// Its owner key.
    pub owner: OwnerPublic,
    /// The delegation.
    pub delegation: Delegation,
    /// The registration.
    pub registration: Registration,
}

impl Delegation {
    /// Whether the delegation holds at `now`.
    #[must_use]
    pub fn holds_at(&self, now: UnixMs) -> bool {
        let span = self.expires.0.checked_sub(self.not_before.0);
        let allowed = span.is_some_and(|ms| ms <= limits::DELEGATION_MS_MAX);
        allowed && self.not_before <= now && now < self.expires
    }
}

/// Checks a registration from envelope to delegation dates.
pub fn open_registration(
    envelope: &Envelope,
    network: NetworkId,
    now: UnixMs,
) -> Result<Member, IdentityError> {
    let Verified { value: registration, signer: node, .. } =
        envelope.open::<Registration>(network)?;
    let Verified { value: delegation, signer: owner, .. } =
        registration.delegation.open::<Delegation>(network)?;
    if delegation.node != node {
        return Err(IdentityError::OtherNode { signer: node, delegated: delegation.node });
    }
    if !delegation.holds_at(now) {
        let (from, to) = (delegation.not_before, delegation.expires);
        return Err(IdentityError::NotValidNow { from, to, now });
    }
    let owner = OwnerPublic(owner.0);
    Ok(Member { node, account: owner.account(), owner, delegation, registration })
}

/// Checks a payout binding: owner envelope, account, network and the address's own signature.
pub fn open_binding(
    envelope: &Envelope,
    network: NetworkId,
    domain: &Domain,
) -> Result<Binding, IdentityError> {
    let Verified { value: binding, signer, .. } = envelope.open::<Binding>(network)?;
    let account = OwnerPublic(signer.0).account();
    if binding.typed.account != account || binding.typed.network != network {
        return Err(IdentityError::OtherAccount);
    }
    let payout = binding.typed.payout;
    binding
        .typed
        .verify(domain, &binding.payout_signature, &payout)
        .map_err(IdentityError::Payout)?;
    Ok(binding)
}
