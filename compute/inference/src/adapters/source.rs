//! Where adapters come from that are not in memory.

use openledger_models::Adapter;
use openledger_wire::ids::BlobId;
use thiserror::Error;

/// Why a source has no adapter to give.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("fetch an adapter: {reason}")]
pub struct SourceError {
    /// What was in the way, and what to do about it.
    pub reason: String,
}

/// A disk, a hub or a swarm: what gives an adapter by its id. It may block, so callers ask it on a
/// thread of their own; an engine never does of itself.
pub trait AdapterSource: Send + Sync {
    /// Reads an adapter.
    ///
    /// # Errors
    /// An adapter that cannot be had; the requests that wait for it fail with the reason.
    fn load(&self, id: &BlobId) -> Result<Adapter, SourceError>;
}
