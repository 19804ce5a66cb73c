//! Everything that is signed, hashed or sent between the parts of the swarm.
//!
//! Ids, keys and delegations, the network profile, strict canonical CBOR, the signed envelope,
//! the coordinator's log lines, task and proof bodies of all six kinds, link and gossip messages,
//! and the EIP-712 digests that a contract may have to judge. Every length is bounded before it
//! is allocated ([`limits`]); unknown versions are refused by name.
//!
//! Deliberately absent: sockets, clocks, files, and any opinion about what a message is worth;
//! that is `openledger-rules`.

pub mod amount;
pub mod bounded;
pub mod call;
pub mod codec;
pub mod eip712;
pub mod envelope;
pub mod gossip;
pub mod identity;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod link;
pub mod log;
pub mod merkle;
pub mod phrase;
pub mod profile;
pub mod proof;
pub mod task;
pub mod worker;

pub use amount::{Open, Points};
pub use bounded::{Blob, List, Prose, Text};
pub use codec::{DecodeError, EncodeError, decode, encode};
pub use envelope::{Envelope, EnvelopeError, Signable, Verified};
pub use ids::*;
pub use keys::{NodeKey, OwnerKey, SettlementKey};
