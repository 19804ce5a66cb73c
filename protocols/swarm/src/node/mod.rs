//! The libp2p node: finds peers, gossips small signed things, carries requests.
//!
//! QUIC, and TCP with noise and yamux; mDNS, Kademlia, identify, ping, gossipsub, request-response,
//! AutoNAT v2, relay and DCUtR under connection and memory limits. Everything runs in one task; the
//! [`SwarmHandle`] talks to it. Names of protocols and topics carry the network's id, so two
//! networks never mix.
//!
//! Deliberately absent: the worth of a message ([`Admission`] decides before it is forwarded), bulk
//! content ([`crate::blobs`]), the coordinator ([`crate::link`]).

mod addresses;
mod behaviour;
mod codec;
mod config;
mod events;
mod file;
mod handle;
mod reach;
mod relays;
mod run;
mod score;
mod transport;

pub use config::{SwarmConfig, SwarmLimits};
pub use handle::{
    Acceptance, Admission, Answer, PeerInfo, PublishError, RequestError, Swarm, SwarmError,
    SwarmEvent, SwarmHandle,
};
pub use reach::Reachability;
