//! The blob store on disk and its exchange with peers, through iroh and iroh-blobs.
//!
//! The endpoint carries the node's own key and listens on the given address only: no relay, no
//! name service, no port mapping. The library's store is not yet declared production quality, so
//! nothing of it is believed unverified.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use ::iroh::SecretKey;
use ::iroh::endpoint::{
    Endpoint, PortmapperConfig, QuicTransportConfig, RelayMode, VarInt, presets,
};
use ::iroh::protocol::Router;
use async_trait::async_trait;
use bytes::Bytes;
use iroh_blobs::api::blobs::{AddPathOptions, ExportMode, ExportOptions, ImportMode};
use iroh_blobs::{BlobFormat, Hash, HashAndFormat};
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, NodeId, NodeKey};
use tokio::sync::Semaphore;

use super::limiter::{self, Served};
use super::shelf::Shelf;
use super::transfer;
use super::{BlobStats, Blobs, FetchError, StoreError};
use crate::defaults::blobs as defaults;

/// What a store needs.
#[derive(Clone, Debug)]
pub struct BlobsConfig {
    /// The node's key: peers know the store by it.
    pub key: NodeKey,
    /// Where to listen (UDP); port 0 takes a free one.
    pub bind: SocketAddr,
    /// Addresses to name to others instead of the bound ones (behind address translation).
    pub public: Vec<SocketAddr>,
    /// The store's folder; created if missing.
    pub dir: PathBuf,
}

impl BlobsConfig {
    /// A store that listens on a free port of this address.
    #[must_use]
    pub fn new(key: NodeKey, bind: IpAddr, dir: impl Into<PathBuf>) -> Self {
        Self { key, bind: SocketAddr::new(bind, 0), public: Vec::new(), dir: dir.into() }
    }
}

/// Blobs in a folder, exchanged over QUIC; clones share the store.
#[derive(Clone)]
pub struct IrohBlobs {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) shelf: Arc<Shelf>,
    pub(super) router: Router,
    addresses: Vec<SocketAddr>,
    fetches: Semaphore,
    puts: Semaphore,
    served: Arc<Served>,
    stats: Mutex<BlobStats>,
}

impl IrohBlobs {
    /// Opens the store and starts to serve. Must be called inside a tokio runtime.
    pub async fn start(config: BlobsConfig) -> Result<Self, StoreError> {
        let open = |reason: String| StoreError::Open { path: config.dir.clone(), reason };
        tokio::fs::create_dir_all(&config.dir).await.map_err(|e| open(e.to_string()))?;
        // Absolute, because the store's own threads must not depend on the working directory.
        let dir = tokio::fs::canonicalize(&config.dir).await.map_err(|e| open(e.to_string()))?;
        let served = Arc::new(Served::default());
        let shelf = Arc::new(Shelf::open(dir, limiter::start(Arc::clone(&served))).await?);
        let endpoint = endpoint(&config)
            .await
            .map_err(|reason| StoreError::Bind { address: config.bind, reason })?;
        let addresses =
            if config.public.is_empty() { endpoint.bound_sockets() } else { config.public.clone() };
        let serving = Arc::clone(&shelf);
        let router = Router::builder(endpoint).accept(iroh_blobs::ALPN, serving).spawn();
        let inner = Inner {
            shelf,
            router,
            addresses,
            fetches: Semaphore::new(defaults::FETCHES_MAX),
            puts: Semaphore::new(defaults::PUTS_MAX),
            served,
            stats: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stops serving and closes the store; pending writes are finished.
    pub async fn shutdown(&self) {
        // The router closes the store too.
        if let Err(e) = self.inner.router.shutdown().await {
            tracing::warn!("failed to stop serving blobs: {e}");
        }
    }

    /// Whether the store can be used.
    ///
    /// # Errors
    /// [`StoreError::Ended`] once it has ended, by a full disk or because it was shut down.
    pub async fn check(&self) -> Result<(), StoreError> {
        let shelf = self.shelf();
        if shelf.answers().await { Ok(()) } else { Err(shelf.ended()) }
    }

    /// Opens a store again that has ended by itself; says whether it had.
    ///
    /// # Errors
    /// Where the cause lasts.
    pub async fn reopen(&self) -> Result<bool, StoreError> {
        self.shelf().reopen().await
    }

    pub(super) fn shelf(&self) -> &Shelf {
        &self.inner.shelf
    }
}

async fn endpoint(config: &BlobsConfig) -> Result<Endpoint, String> {
    let transport = QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(defaults::STREAMS_PER_CONNECTION_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .build();
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.key.seed()))
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport)
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|e| e.to_string())?
        .bind()
        .await
        .map_err(|e| e.to_string())
}

pub(super) fn hash(id: BlobId) -> Hash {
    Hash::from_bytes(id.0)
}

/// Each kept blob has a tag with its id as the name; the clean-up spares tagged blobs.
pub(super) fn tag(id: BlobId) -> String {
    format!("keep-{id}")
}

impl Inner {
    pub(super) fn count(&self, f: impl FnOnce(&mut BlobStats)) {
        f(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn count_holder(&self, node: NodeId, f: impl FnOnce(&mut super::HolderStats)) {
        self.count(|s| {
            if s.by_holder.len() < defaults::HOLDER_STATS_MAX || s.by_holder.contains_key(&node) {
                f(s.by_holder.entry(node).or_default());
            }
        });
    }

    pub(super) async fn keep(&self, id: BlobId) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Io { action: "keep", id, reason };
        let content = HashAndFormat::raw(hash(id));
        self.shelf.store().tags().set(tag(id), content).await.map_err(|e| failed(e.to_string()))?;
        self.shelf.store().sync_db().await.map_err(|e| failed(e.to_string()))
    }

    async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        let failed = |reason: String| StoreError::Io { action: "store", id, reason };
        let _permit = self.puts.acquire().await.map_err(|e| failed(e.to_string()))?;
        let added = self.shelf.store().blobs().add_bytes(bytes).temp_tag().await;
        let spared = added.map_err(|e| failed(e.to_string()))?;
        if spared.hash() != hash(id) {
            return Err(failed(format!("it was stored as {}", spared.hash())));
        }
        self.keep(id).await?;
        self.count(|s| s.put += 1);
        Ok(id)
    }

    async fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError> {
        if !self.has(id).await? {
            return Ok(None);
        }
        let failed = |reason: String| StoreError::Io { action: "read", id, reason };
        let read = self.shelf.store().blobs().get_bytes(hash(id)).await;
        let bytes = read.map_err(|e| failed(e.to_string()))?;
        if BlobId::of(&bytes) != id {
            return Err(failed("its bytes have another hash".to_owned()));
        }
        Ok(Some(bytes))
    }

    async fn has(&self, id: BlobId) -> Result<bool, StoreError> {
        let failed = |reason: String| StoreError::Io { action: "look for", id, reason };
        self.shelf.store().blobs().has(hash(id)).await.map_err(|e| failed(e.to_string()))
    }

    async fn fetch(
        &self,
        id: BlobId,
        bytes_max: usize,
        holders: &[Holder],
    ) -> Result<Bytes, FetchError> {
        let failed = |reason: String| StoreError::Io { action: "fetch", id, reason };
        let _permit = self.fetches.acquire().await.map_err(|e| failed(e.to_string()))?;
        if let Some(bytes) = self.get(id).await? {
            if bytes.len() > bytes_max {
                return Err(FetchError::TooLarge { id, len: bytes.len() as u64, max: bytes_max });
            }
            self.keep(id).await?;
            self.count(|s| s.found_here += 1);
            return Ok(bytes);
        }
        let from = |holder| self.fetch_from(id, bytes_max, holder);
        let (max, ms_max) = (bytes_max as u64, defaults::FETCH_MS_MAX);
        self.ask_each(id, max, holders, ms_max, from, |bytes| bytes.len() as u64).await
    }

    async fn import(&self, path: &Path) -> Result<BlobId, StoreError> {
        let failed =
            |reason: String| StoreError::File { action: "import", path: path.to_owned(), reason };
        let _permit = self.puts.acquire().await.map_err(|e| failed(e.to_string()))?;
        let path = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        let (format, mode) = (BlobFormat::Raw, ImportMode::TryReference);
        let options = AddPathOptions { path, format, mode };
        let added = self.shelf.store().blobs().add_path_with_opts(options).temp_tag().await;
        let spared = added.map_err(|e| failed(e.to_string()))?;
        let id = BlobId(*spared.hash().as_bytes());
        self.keep(id).await?;
        self.count(|s| s.put += 1);
        Ok(id)
    }

    async fn fetch_to(
        &self,
        id: BlobId,
        bytes_max: u64,
        holders: &[Holder],
        path: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, FetchError> {
        let failed = |reason: String| StoreError::Io { action: "fetch", id, reason };
        let _permit = self.fetches.acquire().await.map_err(|e| failed(e.to_string()))?;
        let target = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        let ms_max = defaults::FETCH_FILE_MS_MAX;
        if !self.has(id).await? {
            let from = |holder| self.receive_from(id, bytes_max, holder, progress);
            self.ask_each(id, bytes_max, holders, ms_max, from, |len| *len).await?;
            return Ok(self.refer_to(id, &target).await?);
        }
        match self.found(id, &target).await {
            Ok(len) => {
                // It may have been forgotten and not yet dropped.
                self.keep(id).await?;
                self.count(|s| s.found_here += 1);
                Ok(len)
            }
            Err(error) => {
                // A file outside the store was cut short, changed or lost.
                tracing::warn!("failed to {error}; getting it again");
                let from = |holder| self.mend_from(id, bytes_max, holder, &target, progress);
                let len = self.ask_each(id, bytes_max, holders, ms_max, from, |len| *len).await?;
                self.import(&target).await?;
                Ok(len)
            }
        }
    }

    /// Moves a blob into a file that the store refers to from then on; gives its length.
    async fn refer_to(&self, id: BlobId, target: &Path) -> Result<u64, StoreError> {
        let failed = |reason: String| StoreError::Io { action: "export", id, reason };
        let (target, mode) = (target.to_owned(), ExportMode::TryReference);
        let options = ExportOptions { hash: hash(id), target, mode };
        let exported = self.shelf.store().blobs().export_with_opts(options).finish().await;
        exported.map_err(|e| failed(e.to_string()))
    }

    /// What is here as a file with that content, not just with that name; gives its length.
    async fn found(&self, id: BlobId, target: &Path) -> Result<u64, StoreError> {
        if let Ok(len) = transfer::verify(id, target).await {
            return Ok(len);
        }
        // The store may refer to this very file, and would copy it onto itself.
        let _ = tokio::fs::remove_file(target).await;
        self.refer_to(id, target).await?;
        transfer::verify(id, target).await
    }

    async fn export(&self, id: BlobId, path: &Path) -> Result<u64, StoreError> {
        if !self.has(id).await? {
            return Err(StoreError::Missing { id });
        }
        let failed = |reason: String| StoreError::Io { action: "export", id, reason };
        let target = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        // A copy, never the store's own file: whoever writes to the export must not change it. What
        // is to lie on the disk once is got with `fetch_to`.
        let options = ExportOptions { hash: hash(id), target, mode: ExportMode::Copy };
        let exported = self.shelf.store().blobs().export_with_opts(options).finish().await;
        exported.map_err(|e| failed(e.to_string()))
    }

    async fn forget(&self, id: BlobId) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Io { action: "forget", id, reason };
        self.shelf.store().tags().delete(tag(id)).await.map_err(|e| failed(e.to_string()))?;
        Ok(())
    }
}

/// An error of a store that has ended says so, whatever it was that did not work.
async fn judged<T>(inner: &Inner, result: Result<T, StoreError>) -> Result<T, StoreError> {
    match result {
        Ok(done) => Ok(done),
        Err(error) => Err(inner.shelf.judge(error).await),
    }
}

async fn judged_fetch<T>(inner: &Inner, result: Result<T, FetchError>) -> Result<T, FetchError> {
    match result {
        Err(FetchError::Store(error)) => Err(inner.shelf.judge(error).await.into()),
        other => other,
    }
}

#[async_trait]
impl Blobs for IrohBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        judged(&self.inner, self.inner.put(bytes).await).await
    }

    async fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError> {
        judged(&self.inner, self.inner.get(id).await).await
    }

    async fn has(&self, id: BlobId) -> Result<bool, StoreError> {
        judged(&self.inner, self.inner.has(id).await).await
    }

    async fn fetch(
        &self,
        id: BlobId,
        bytes_max: usize,
        holders: &[Holder],
    ) -> Result<Bytes, FetchError> {
        judged_fetch(&self.inner, self.inner.fetch(id, bytes_max, holders).await).await
    }

    async fn import(&self, path: &Path) -> Result<BlobId, StoreError> {
        judged(&self.inner, self.inner.import(path).await).await
    }

    async fn fetch_to(
        &self,
        id: BlobId,
        bytes_max: u64,
        holders: &[Holder],
        path: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, FetchError> {
        let fetched = self.inner.fetch_to(id, bytes_max, holders, path, progress).await;
        judged_fetch(&self.inner, fetched).await
    }

    async fn export(&self, id: BlobId, path: &Path) -> Result<u64, StoreError> {
        judged(&self.inner, self.inner.export(id, path).await).await
    }

    async fn forget(&self, id: BlobId) -> Result<(), StoreError> {
        judged(&self.inner, self.inner.forget(id).await).await
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.addresses.clone()
    }

    fn stats(&self) -> BlobStats {
        let mut stats = self.inner.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.served = self.inner.served.served.load(Ordering::Relaxed);
        stats.turned_away = self.inner.served.turned_away.load(Ordering::Relaxed);
        stats
    }
}
