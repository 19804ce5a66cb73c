//! Peers, gossip, bulk content and the coordinator link: the only crate that names libp2p, iroh or quinn.
//!
//! Three networks, one job each, one ed25519 node key for all: [`node`] (libp2p) finds peers,
//! gossips small signed things and carries requests; [`blobs`] (iroh) moves content by BLAKE3;
//! [`link`] (quinn) is the direct line between a node and its coordinator. What arrives is bounded
//! here and judged elsewhere: whether a message is worth forwarding is the [`Admission`]'s decision.
//!
//! Deliberately absent: points, trust, storage of proofs. No type of the three libraries appears in
//! the public interface.

pub mod blobs;
pub mod defaults;
pub mod link;
pub mod node;
pub mod peers;

pub use blobs::{
    BlobStats, Blobs, BlobsConfig, FetchError, IrohBlobs, MemoryBlobs, StoreError, lack_of_room,
};
pub use link::{
    LinkClient, LinkClientConfig, LinkError, LinkEvent, LinkLimits, LinkServer, LinkServerConfig,
    LinkService, Peer,
};
pub use node::{
    Acceptance, Admission, Answer, PeerInfo, PublishError, Reachability, RequestError, Swarm,
    SwarmConfig, SwarmError, SwarmEvent, SwarmHandle, SwarmLimits,
};
