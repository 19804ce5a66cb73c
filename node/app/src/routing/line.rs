//! The way to a peer: a request, and its answer or none.

use async_trait::async_trait;
use bytes::Bytes;
use openledger_swarm::{RequestError, SwarmHandle};
use openledger_wire::NodeId;

/// Carries requests to peers.
#[async_trait]
pub trait Line: Send + Sync {
    /// Asks a peer.
    ///
    /// # Errors
    /// When there is no answer.
    async fn ask(&self, node: NodeId, bytes: Bytes) -> Result<Bytes, RequestError>;
}

#[async_trait]
impl Line for SwarmHandle {
    async fn ask(&self, node: NodeId, bytes: Bytes) -> Result<Bytes, RequestError> {
        self.request(node, bytes).await
    }
}
