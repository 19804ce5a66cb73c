//! Blobs in memory: for tests of crates that use [`Blobs`], and for nothing else. It is public, and
//! not behind a feature, because tests of other crates need it; no program of ours uses it.
//!
//! Several stores made by [`MemoryBlobs::linked`] fetch from each other without a network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, NodeId};

use super::{BlobStats, Blobs, FetchError, StoreError};

type Store = BTreeMap<BlobId, Bytes>;
type World = Arc<Mutex<BTreeMap<NodeId, Store>>>;

/// A store in memory, for tests; it knows the stores it is linked with. Nothing is durable, bounded
/// or fetched over a network.
#[derive(Clone, Debug)]
pub struct MemoryBlobs {
    me: NodeId,
    world: World,
    stats: Arc<Mutex<BlobStats>>,
}

impl MemoryBlobs {
    /// A store of its own.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self::with_world(me, World::default())
    }

    /// Another node's store that can be fetched from here and fetches from here.
    #[must_use]
    pub fn linked(&self, other: NodeId) -> Self {
        Self::with_world(other, Arc::clone(&self.world))
    }

    fn with_world(me: NodeId, world: World) -> Self {
        Self { me, world, stats: Arc::default() }
    }

    fn find(&self, node: NodeId, id: BlobId) -> Option<Bytes> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.get(&node).and_then(|store| store.get(&id)).cloned()
    }

    fn keep(&self, id: BlobId, bytes: Bytes) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.entry(self.me).or_default().insert(id, bytes);
    }

    fn count(&self, f: impl FnOnce(&mut BlobStats)) {
        f(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        self.keep(id, bytes);
        self.count(|s| s.put += 1);
        Ok(id)
    }

    async fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.find(self.me, id))
    }

    async fn has(&self, id: BlobId) -> Result<bool, StoreError> {
        Ok(self.find(self.me, id).is_some())
    }

    async fn fetch(
        &self,
        id: BlobId,
        bytes_max: usize,
        holders: &[Holder],
    ) -> Result<Bytes, FetchError> {
        if let Some(bytes) = self.find(self.me, id) {
            self.count(|s| s.found_here += 1);
            return Ok(bytes);
        }
        if holders.is_empty() {
            return Err(FetchError::NoHolder { id });
        }
        let found = holders.iter().find_map(|h| Some((h.node, self.find(h.node, id)?)));
        let Some((node, bytes)) = found else {
            self.count(|s| s.fetch_failures += 1);
            let tries = holders.iter().map(|h| (h.node, "does not have it".to_owned())).collect();
            return Err(FetchError::AllFailed { id, tries });
        };
        if bytes.len() > bytes_max {
            return Err(FetchError::TooLarge { id, len: bytes.len() as u64, max: bytes_max });
        }
        self.keep(id, bytes.clone());
        self.count(|s| {
            s.fetched += 1;
            s.fetched_bytes += bytes.len() as u64;
            let holder = s.by_holder.entry(node).or_default();
            holder.blobs += 1;
            holder.bytes += bytes.len() as u64;
        });
        Ok(bytes)
    }

    async fn export(&self, id: BlobId, path: &Path) -> Result<u64, StoreError> {
        let bytes = self.find(self.me, id).ok_or(StoreError::Missing { id })?;
        tokio::fs::write(path, &bytes).await.map_err(|e| StoreError::Io {
            action: "export",
            id,
            reason: e.to_string(),
        })?;
        Ok(bytes.len() as u64)
    }

    async fn forget(&self, id: BlobId) -> Result<(), StoreError> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.entry(self.me).or_default().remove(&id);
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn stats(&self) -> BlobStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
