//! The coordinator link: one QUIC connection per node, authenticated by raw node keys.
//!
//! Both sides show their ed25519 key as a raw public key (RFC 7250) in TLS 1.3; the node pins the
//! coordinator's key from its profile, the coordinator learns who the node is. A request is one
//! two-way stream: four bytes of length (big endian), then canonical CBOR; the answer likewise.
//! Pushes are one-way streams of the server, in order. The first request is `Hello`.
//!
//! Deliberately absent: what requests mean ([`LinkService`]) and what must be durable before it is
//! acknowledged.

mod bucket;
mod client;
mod error;
mod frame;
mod server;
mod session;
mod tls;

#[cfg(test)]
mod tests;

pub use bucket::{Buckets, Rate};
pub use client::{LinkClient, LinkClientConfig, LinkEvent};
pub use error::LinkError;
pub use server::{LinkLimits, LinkServer, LinkServerConfig, LinkService, LinkStats, Peer, refused};
