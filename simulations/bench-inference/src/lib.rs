//! The inference engine beside llama.cpp, on the same file in the same call.
//!
//! llama.cpp runs as a process of its own ([`peer`]) and answers requests one at a time, so that
//! the two never compute at once. [`parity`] compares what they say, [`speed`] how fast.
//!
//! Deliberately absent: vectors to compare with later (the engine's and the tokenizer's own tests
//! have those), and setting the peer up (`openledger-sim setup peers` does).

pub mod accuracy;
pub mod adapters;
pub mod cpu;
pub mod fingerprints;
pub mod gpu;
pub mod limits;
pub mod memory;
pub mod parity;
pub mod peer;
pub mod sequences;
pub mod soak;
pub mod speed;
pub mod strings;
pub mod subject;
pub mod tiers;
mod varint;

pub use peer::{Peer, PeerError};
pub use subject::{Choice, Class, MissingError, Subject};
