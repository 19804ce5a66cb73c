//! What may pass by gossip, decided before anything is forwarded.
//!
//! Signature, network, version and bounds, and that people speak for themselves. Whether a proof
//! is any good is not judged here. Heads of the coordinator are remembered, so that two different
//! ones of one height are noticed: that is proof of a lie.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use openledger_wire::eip712::{Domain, SignedHead, Typed};
use openledger_wire::gossip::{
    Announcement, GossipedHead, GossipedProof, Offer, ProofAt, TOPIC_HEADS, TOPIC_NODES,
    TOPIC_PROOFS,
};
use openledger_wire::proof::Proof;
use openledger_wire::{
    Envelope, EvmAddress, EvmSignature, Height, List, LogHead, NetworkId, NodeId, NodeKey, Text,
    UnixMs, decode, encode, limits,
};
use serde::Serialize;

/// How old or early an announcement may be, in milliseconds.
const ANNOUNCEMENT_MS_MAX: u64 = 15 * 60 * 1_000;
/// Heads that are remembered: at one every five seconds, the last 14 hours.
const HEADS_MAX: usize = 10_000;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Forward it.
    Accept,
    /// Drop it and think less of who sent it.
    Reject,
    /// Drop it.
    Ignore,
}

/// Two heads of one height, both signed by the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Equivocation {
    /// The first.
    pub first: GossipedHead,
    /// The other.
    pub second: GossipedHead,
}

/// Decides about gossip of one network.
#[derive(Debug)]
pub struct Admission {
    network: NetworkId,
    domain: Domain,
    coordinator: NodeId,
    settlement: EvmAddress,
    heads: Mutex<Heads>,
}

#[derive(Debug, Default)]
struct Heads {
    by_height: BTreeMap<Height, (LogHead, EvmSignature)>,
    equivocation: Option<Equivocation>,
}

impl Admission {
    /// For a network and its coordinator.
    #[must_use]
    pub fn new(
        network: NetworkId,
        domain: Domain,
        coordinator: NodeId,
        settlement: EvmAddress,
    ) -> Self {
        Self { network, domain, coordinator, settlement, heads: Mutex::default() }
    }

    /// Decides about one message that `source` published at `now`.
    #[must_use]
    pub fn judge(&self, topic: &str, source: NodeId, bytes: &[u8], now: UnixMs) -> Admit {
        match topic {
            TOPIC_PROOFS => self.proof(source, bytes),
            TOPIC_NODES => self.announcement(source, bytes, now),
            TOPIC_HEADS => self.head(bytes),
            _ => Admit::Ignore,
        }
    }

    /// The first lie of the coordinator that was seen.
    #[must_use]
    pub fn equivocation(&self) -> Option<Equivocation> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).equivocation.clone()
    }

    /// Takes a head note of, wherever it came from.
    pub fn head_seen(&self, gossiped: &GossipedHead) -> Admit {
        let head = &gossiped.head;
        let signed = head.verify(&self.domain, &gossiped.signature, &self.settlement);
        if head.network != self.network || signed.is_err() {
            return Admit::Reject;
        }
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, signature)) = heads.by_height.get(&head.height) {
            if *known == head.head {
                return Admit::Accept;
            }
            let first = SignedHead { head: *known, ..*head };
            let first = GossipedHead { head: first, signature: *signature };
            let second = gossiped.clone();
            heads.equivocation.get_or_insert(Equivocation { first, second });
            return Admit::Accept;
        }
        heads.by_height.insert(head.height, (head.head, gossiped.signature));
        if heads.by_height.len() > HEADS_MAX {
            heads.by_height.pop_first();
        }
        Admit::Accept
    }

    fn proof(&self, source: NodeId, bytes: &[u8]) -> Admit {
        let Ok(gossiped) = decode::<GossipedProof>(bytes, limits::GOSSIP_MAX) else {
            return Admit::Reject;
        };
        let signer = match &gossiped {
            GossipedProof::Whole(envelope) => match envelope.open::<Proof>(self.network) {
                Ok(proof) if proof.value.node == proof.signer => proof.signer,
                _ => return Admit::Reject,
            },
            GossipedProof::AtNode(header) => match header.signed.open::<ProofAt>(self.network) {
                Ok(at) => at.signer,
                Err(_) => return Admit::Reject,
            },
        };
        self.own_voice(source, signer)
    }

    fn announcement(&self, source: NodeId, bytes: &[u8], now: UnixMs) -> Admit {
        let Ok(envelope) = decode::<Envelope>(bytes, limits::GOSSIP_MAX) else {
            return Admit::Reject;
        };
        match envelope.open::<Announcement>(self.network) {
            Ok(said) if said.value.at.0.abs_diff(now.0) > ANNOUNCEMENT_MS_MAX => Admit::Ignore,
            Ok(said) => self.own_voice(source, said.signer),
            Err(_) => Admit::Reject,
        }
    }

    fn head(&self, bytes: &[u8]) -> Admit {
        match decode::<GossipedHead>(bytes, limits::GOSSIP_MAX) {
            Ok(head) => self.head_seen(&head),
            Err(_) => Admit::Reject,
        }
    }

    /// Nodes publish for themselves; the coordinator may publish for all.
    fn own_voice(&self, source: NodeId, signer: NodeId) -> Admit {
        if source == signer || source == self.coordinator { Admit::Accept } else { Admit::Reject }
    }
}

/// A proof as it is gossiped: whole where it fits, else the place of its envelope, which the
/// caller must hold as a blob. Gives the message and the blob's bytes.
///
/// # Errors
/// What does not encode.
pub fn gossiped_proof(
    envelope: &Envelope,
    key: &NodeKey,
    network: NetworkId,
    blob_addresses: &[std::net::SocketAddr],
) -> Result<(Vec<u8>, Option<Vec<u8>>), openledger_wire::EncodeError> {
    let whole = encode(&GossipedProof::Whole(envelope.clone()))?;
    if whole.len() <= limits::GOSSIP_MAX {
        return Ok((whole, None));
    }
    let bytes = envelope.to_bytes()?;
    let at = ProofAt {
        envelope: openledger_wire::BlobId::of(&bytes),
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        blob_addresses: address_texts(blob_addresses),
    };
    let signed = Envelope::seal(&at, network, key)?;
    let header = openledger_wire::gossip::ProofHeader { signed };
    Ok((encode(&GossipedProof::AtNode(header))?, Some(bytes)))
}

/// An announcement, signed.
///
/// # Errors
/// What does not encode.
pub fn announcement(
    key: &NodeKey,
    network: NetworkId,
    now: UnixMs,
    blob_addresses: &[std::net::SocketAddr],
    kinds: &[u8],
    offers: Vec<Offer>,
) -> Result<Vec<u8>, openledger_wire::EncodeError> {
    let said = Announcement {
        at: now,
        blob_addresses: address_texts(blob_addresses),
        kinds: List::new(kinds).unwrap_or_default(),
        blobs: List::default(),
        offers: List::new(offers).unwrap_or_default(),
    };
    encode(&Envelope::seal(&said, network, key)?)
}

/// Socket addresses as the wire writes them, as many as fit.
#[must_use]
pub fn address_texts<const N: usize, const MAX: usize>(
    addresses: &[std::net::SocketAddr],
) -> List<Text<N>, MAX> {
    let texts: Vec<Text<N>> =
        addresses.iter().take(MAX).map(|address| Text::clipped(&address.to_string())).collect();
    List::new(texts).unwrap_or_default()
}

/// Bytes of a blob that a proof's envelope makes at most.
pub const PROOF_BLOB_BYTES_MAX: usize = limits::ENVELOPE_MAX + 512;

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::proof::ProofBody;
    use openledger_wire::task::TaskKind;
    use openledger_wire::{
        Blob, BlobId, Commitment, OutputRoot, Round, SecretNonce, SettlementKey, TaskId,
    };

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const DOMAIN: Domain = Domain { chain_id: 31_337, contract: EvmAddress([2; 20]) };

    fn node(n: u8) -> NodeKey {
        NodeKey::from_seed(&[n; 32])
    }

    fn admission() -> Admission {
        let settlement = SettlementKey::from_secret(&[9; 32]).unwrap().address();
        Admission::new(NETWORK, DOMAIN, node(9).public(), settlement)
    }

    fn proof(signer: &NodeKey, named: NodeId, bytes: usize) -> Envelope {
        let proof = Proof {
            task: TaskId([1; 32]),
            node: named,
            wave: 0,
            round: Round(1),
            seq: 1,
            input: BlobId::ZERO,
            output: OutputRoot::ZERO,
            commitment: Commitment::ZERO,
            nonce: SecretNonce::ZERO,
            body: ProofBody {
                kind: TaskKind::Fetch,
                version: 1,
                bytes: Blob::new(vec![0; bytes]).unwrap(),
            },
        };
        Envelope::seal(&proof, NETWORK, signer).unwrap()
    }

    fn judged(envelope: &Envelope, source: &NodeKey) -> Admit {
        let (message, _) = gossiped_proof(envelope, &node(1), NETWORK, &[]).unwrap();
        admission().judge(TOPIC_PROOFS, source.public(), &message, UnixMs(0))
    }

    #[test]
    fn nodes_gossip_their_own_proofs_and_the_coordinator_anybodys() {
        let own = proof(&node(1), node(1).public(), 100);
        assert_eq!(judged(&own, &node(1)), Admit::Accept);
        assert_eq!(judged(&own, &node(9)), Admit::Accept);
        assert_eq!(judged(&own, &node(2)), Admit::Reject);
        let of_another = proof(&node(1), node(2).public(), 100);
        assert_eq!(judged(&of_another, &node(1)), Admit::Reject);
    }

    #[test]
    fn large_proofs_travel_as_their_place() {
        let large = proof(&node(1), node(1).public(), 30_000);
        let (message, blob) = gossiped_proof(&large, &node(1), NETWORK, &[]).unwrap();
        assert!(message.len() < 1_024);
        let blob = blob.unwrap();
        assert!(blob.len() <= PROOF_BLOB_BYTES_MAX);
        assert_eq!(Envelope::from_bytes(&blob).unwrap(), large);
        assert_eq!(judged(&large, &node(1)), Admit::Accept);
    }

    #[test]
    fn garbage_other_networks_and_stale_announcements_do_not_pass() {
        let admission = admission();
        let source = node(1).public();
        for topic in [TOPIC_PROOFS, TOPIC_NODES, TOPIC_HEADS] {
            assert_eq!(admission.judge(topic, source, b"garbage", UnixMs(0)), Admit::Reject);
        }
        assert_eq!(admission.judge("other", source, b"", UnixMs(0)), Admit::Ignore);
        let said =
            |network| announcement(&node(1), network, UnixMs(0), &[], &[1], Vec::new()).unwrap();
        let judge = |bytes: &[u8], now| admission.judge(TOPIC_NODES, source, bytes, UnixMs(now));
        assert_eq!(judge(&said(NETWORK), 0), Admit::Accept);
        assert_eq!(judge(&said(NETWORK), ANNOUNCEMENT_MS_MAX + 1), Admit::Ignore);
        assert_eq!(judge(&said(NetworkId([2; 32])), 0), Admit::Reject);
    }

    #[test]
    fn two_heads_of_one_height_are_kept_as_proof() {
        let admission = admission();
        let key = SettlementKey::from_secret(&[9; 32]).unwrap();
        let head = |height, head, key: &SettlementKey| {
            let head =
                SignedHead { network: NETWORK, height: Height(height), head: LogHead([head; 32]) };
            GossipedHead { signature: head.sign(&DOMAIN, key).unwrap(), head }
        };
        assert_eq!(admission.head_seen(&head(1, 1, &key)), Admit::Accept);
        assert_eq!(admission.head_seen(&head(1, 1, &key)), Admit::Accept);
        let other = SettlementKey::from_secret(&[8; 32]).unwrap();
        assert_eq!(admission.head_seen(&head(1, 2, &other)), Admit::Reject);
        assert!(admission.equivocation().is_none());
        admission.head_seen(&head(1, 2, &key));
        let lie = admission.equivocation().unwrap();
        assert_eq!((lie.first.head.head.0[0], lie.second.head.head.0[0]), (1, 2));
        assert!(lie.first.head.verify(&DOMAIN, &lie.first.signature, &key.address()).is_ok());
    }
}
