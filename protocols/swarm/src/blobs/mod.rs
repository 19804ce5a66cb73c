//! Bulk content by BLAKE3: put, get, and fetch from peers.
//!
//! [`Blobs`] is what the rest of the program sees; [`IrohBlobs`] keeps blobs in a directory and
//! exchanges them over QUIC, with no third party's relay or name service. Every fetched blob is
//! hashed again here before anybody sees it.
//!
//! Deliberately absent: who holds what (the coordinator and gossip say so), quotas and pins
//! (`storage/datanets`).

mod iroh;
mod keeper;
mod limiter;
mod memory;
mod shelf;
mod transfer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, NodeId};
use thiserror::Error;

pub use self::iroh::{BlobsConfig, IrohBlobs};
pub use self::keeper::lack_of_room;
pub use self::memory::MemoryBlobs;

/// Why the local store failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store could not be opened.
    #[error("open the blob store at {}: {reason}; check the folder's permissions and free space, and that no other node uses it", path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// The transport could not be started.
    #[error("serve blobs on {address}: {reason}; choose another address or port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The library's words.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{action} blob {id}: {reason}; check the disk and its free space")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The blob.
        id: BlobId,
        /// The library's words.
        reason: String,
    },
    /// A file of somebody else could not be used.
    #[error("{action} {}: {reason}; check the file, the disk and its free space", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The store has ended: a write failed, mostly for want of room, or it was shut down. What it
    /// had kept is on the disk; see [`IrohBlobs::keep_open`].
    #[error("use the blob store at {}: it has ended, as on a full disk; free some space there, then it is opened again", path.display())]
    Ended {
        /// Its folder.
        path: PathBuf,
    },
    /// The blob is not here.
    #[error("find blob {id}: it is not in this store; fetch it from a holder first")]
    Missing {
        /// The blob.
        id: BlobId,
    },
}

/// Why a blob could not be fetched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody is known to have it.
    #[error("fetch blob {id}: no holder with an address is known; ask the coordinator again")]
    NoHolder {
        /// The blob.
        id: BlobId,
    },
    /// It is larger than the caller takes. Its length is proven by its id, so no other holder has a
    /// shorter one.
    #[error("fetch blob {id}: it has {len} bytes, at most {max} are accepted here")]
    TooLarge {
        /// The blob.
        id: BlobId,
        /// Its length.
        len: u64,
        /// What the caller takes.
        max: usize,
    },
    /// No holder delivered.
    #[error("fetch blob {id}: no holder delivered it ({}); try again later", tried(.tries))]
    AllFailed {
        /// The blob.
        id: BlobId,
        /// Who was asked, and what went wrong.
        tries: Vec<(NodeId, String)>,
    },
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn tried(tries: &[(NodeId, String)]) -> String {
    let each: Vec<String> =
        tries.iter().map(|(node, reason)| format!("{}: {reason}", node.short())).collect();
    each.join("; ")
}

/// What one holder gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HolderStats {
    /// Blobs that it delivered.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Times that it did not deliver.
    pub failures: u64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobStats {
    /// Blobs put by this node.
    pub put: u64,
    /// Blobs fetched from peers and verified.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Fetches that found the blob here already.
    pub found_here: u64,
    /// Fetches that failed.
    pub fetch_failures: u64,
    /// Requests of peers that were served.
    pub served: u64,
    /// Requests and connections of peers that were turned away.
    pub turned_away: u64,
    /// What each holder gave, for a bounded number of holders.
    pub by_holder: BTreeMap<NodeId, HolderStats>,
}

/// A store of blobs that can fetch from others.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores bytes and keeps them until [`Blobs::forget`]; durable when it returns.
    async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError>;

    /// The bytes of a blob, if it is here as a whole.
    async fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError>;

    /// Whether a blob is here as a whole.
    async fn has(&self, id: BlobId) -> Result<bool, StoreError>;

    /// A blob of at most `bytes_max` bytes, from here or from the first holder that delivers it;
    /// verified by BLAKE3 and kept until [`Blobs::forget`].
    async fn fetch(
        &self,
        id: BlobId,
        bytes_max: usize,
        holders: &[Holder],
    ) -> Result<Bytes, FetchError>;

    /// Writes a blob to a file, replacing it; gives its length in bytes. The file system may share
    /// the bytes until one of the two is written to.
    async fn export(&self, id: BlobId, path: &Path) -> Result<u64, StoreError>;

    /// Keeps a file as a blob where it lies, and gives its id. The file must not be written to as
    /// long as it is kept; one that is goes to nobody, since what is sent is checked. A store that
    /// cannot refer to files takes a copy.
    async fn import(&self, path: &Path) -> Result<BlobId, StoreError> {
        let failed = |e: std::io::Error| StoreError::File {
            action: "import",
            path: path.to_owned(),
            reason: e.to_string(),
        };
        let bytes = tokio::fs::read(path).await.map_err(failed)?;
        self.put(bytes.into()).await
    }

    /// A blob of at most `bytes_max` bytes as a file, from here or from the first holder that
    /// delivers it; gives its length. The store refers to the file from then on, where it can: it
    /// must not be written to. `progress` is told how many bytes are here. Verified as it comes;
    /// for large blobs, which need not fit into memory.
    async fn fetch_to(
        &self,
        id: BlobId,
        bytes_max: u64,
        holders: &[Holder],
        path: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, FetchError> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let bytes = self.fetch(id, bytes_max, holders).await?;
        progress(bytes.len() as u64);
        Ok(self.export(id, path).await?)
    }

    /// Lets the store drop a blob when it next cleans up. Not an error if it is not here.
    async fn forget(&self, id: BlobId) -> Result<(), StoreError>;

    /// Where others can fetch from this store.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Counters since the start.
    fn stats(&self) -> BlobStats;
}
