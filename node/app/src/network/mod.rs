//! Networks joined: each a folder with its signed profile and all that a node keeps for it.
//!
//! A profile is read from a file once and kept under its name, word for word. Whoever signed it
//! first must sign it ever after, and a name stays with the network that had it first. A network
//! that is removed keeps its folder aside: running numbers, promises and receipts come back with
//! it, so that leaving and coming again never makes a node sign twice.

mod changes;
mod error;
mod kept;
mod layout;
mod registry;

pub use error::NetworkError;
pub use layout::settle_peers;
pub use registry::{Added, Network, News};

#[cfg(test)]
pub(crate) use registry::tests::profile;
