//! What is gossiped: small things only.

use serde::{Deserialize, Serialize};

use crate::bounded::{List, Text};
use crate::eip712::SignedHead;
use crate::envelope::{Envelope, Signable};
use crate::ids::{BlobId, EvmSignature, NodeId, UnixMs};
use crate::limits;

/// Topic of proofs whose last check has committed.
pub const TOPIC_PROOFS: &str = "openledger/proofs/1";
/// Topic of announcements of nodes.
pub const TOPIC_NODES: &str = "openledger/nodes/1";
/// Topic of the coordinator's heads and epoch summaries.
pub const TOPIC_HEADS: &str = "openledger/heads/1";

/// A proof as gossiped. The body is left out where it is large: the envelope is a blob then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum GossipedProof {
    /// The whole envelope.
    Whole(Envelope),
    /// The envelope is a blob at the node that made it.
    AtNode(ProofHeader),
}

/// Where a proof can be had: signed by the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofHeader {
    /// A [`ProofAt`] in the node's envelope.
    pub signed: Envelope,
}

/// A proof's envelope as a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofAt {
    /// BLAKE3 of the envelope's bytes.
    pub envelope: BlobId,
    /// Their length.
    pub bytes: u32,
    /// Socket addresses of the node's blobs, as text.
    pub blob_addresses: List<Text<{ limits::ADDRESS_MAX }>, { limits::ADDRESSES_MAX }>,
}

impl Signable for ProofAt {
    const DOMAIN: &'static str = "proof at";
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 2_048;
}

/// A node says where it is and what it can give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// When it said so.
    pub at: UnixMs,
    /// Socket addresses of its blobs, as text.
    pub blob_addresses: List<Text<{ limits::ADDRESS_MAX }>, { limits::ADDRESSES_MAX }>,
    /// Task kinds that it does, as codes.
    pub kinds: List<u8, 16>,
    /// Blobs worth knowing about, such as bundles of epochs.
    pub blobs: List<BlobId, 64>,
    /// Models and adapters that it holds and serves.
    pub offers: List<Offer, { limits::OFFERS_MAX }>,
}

/// A model file that a node holds. The name is the announcing node's word: what counts is the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What people call it.
    pub name: Text<64>,
    /// The file.
    pub blob: BlobId,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: OfferKind,
}

/// What a model file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum OfferKind {
    /// A base model (GGUF).
    Base,
    /// An adapter (safetensors with its PEFT configuration inside).
    Adapter {
        /// The base model that it was made for.
        base: BlobId,
    },
}

impl Signable for Announcement {
    const DOMAIN: &'static str = "announcement";
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = 12 * 1024;
}

/// The coordinator's head, gossiped so that two different stories meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GossipedHead {
    /// The head.
    pub head: SignedHead,
    /// The coordinator's signature (EIP-712).
    pub signature: EvmSignature,
}

/// Somebody who holds a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Socket addresses of its blobs, as text.
    pub addresses: List<Text<{ limits::ADDRESS_MAX }>, { limits::ADDRESSES_MAX }>,
}
