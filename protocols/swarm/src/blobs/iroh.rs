//! The blob store on disk and its exchange with peers, through iroh and iroh-blobs.
//!
//! The endpoint carries the node's own key and listens on the given address only: no relay, no
//! name service, no port mapping. The library's store is not yet declared production quality, so
//! nothing of it is believed unverified.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::iroh::endpoint::{
    Connection, Endpoint, PortmapperConfig, QuicTransportConfig, RelayMode, VarInt, presets,
};
use ::iroh::protocol::Router;
use ::iroh::{EndpointAddr, EndpointId, SecretKey};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::{AddPathOptions, ExportMode, ExportOptions, ImportMode};
use iroh_blobs::api::remote::GetProgressItem;
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::Options;
use iroh_blobs::{BlobFormat, BlobsProtocol, Hash, HashAndFormat};
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, NodeId, NodeKey};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::limiter::{self, Served};
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

struct Inner {
    store: Store,
    router: Router,
    addresses: Vec<SocketAddr>,
    fetches: Semaphore,
    puts: Semaphore,
    served: Arc<Served>,
    stats: Mutex<BlobStats>,
}

/// Why one holder did not deliver.
enum Miss {
    /// It is longer than wanted; that holds for all holders.
    TooLarge(u64),
    /// Anything else: try the next one.
    Reason(String),
}

fn miss(e: impl std::fmt::Display) -> Miss {
    Miss::Reason(e.to_string())
}

impl IrohBlobs {
    /// Opens the store and starts to serve. Must be called inside a tokio runtime.
    pub async fn start(config: BlobsConfig) -> Result<Self, StoreError> {
        let open = |reason: String| StoreError::Open { path: config.dir.clone(), reason };
        tokio::fs::create_dir_all(&config.dir).await.map_err(|e| open(e.to_string()))?;
        // Absolute, because the store's own threads must not depend on the working directory.
        let dir = tokio::fs::canonicalize(&config.dir).await.map_err(|e| open(e.to_string()))?;
        let mut options = Options::new(&dir);
        let interval = Duration::from_millis(defaults::CLEAN_UP_MS);
        options.gc = Some(GcConfig { interval, add_protected: None });
        let store = FsStore::load_with_opts(dir.join("blobs.db"), options)
            .await
            .map_err(|e| open(e.to_string()))?;
        let endpoint = endpoint(&config)
            .await
            .map_err(|reason| StoreError::Bind { address: config.bind, reason })?;
        let addresses =
            if config.public.is_empty() { endpoint.bound_sockets() } else { config.public.clone() };
        let served = Arc::new(Served::default());
        let events = limiter::start(Arc::clone(&served));
        let protocol = BlobsProtocol::new(&store, Some(events));
        let router = Router::builder(endpoint).accept(iroh_blobs::ALPN, protocol).spawn();
        let inner = Inner {
            store: store.into(),
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
        let _ = self.inner.store.sync_db().await;
        // The router shuts the store down too.
        if let Err(e) = self.inner.router.shutdown().await {
            tracing::warn!("failed to stop serving blobs: {e}");
        }
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

fn hash(id: BlobId) -> Hash {
    Hash::from_bytes(id.0)
}

/// Each kept blob has a tag with its id as the name; the clean-up spares tagged blobs.
fn tag(id: BlobId) -> String {
    format!("keep-{id}")
}

impl Inner {
    fn count(&self, f: impl FnOnce(&mut BlobStats)) {
        f(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count_holder(&self, node: NodeId, f: impl FnOnce(&mut super::HolderStats)) {
        self.count(|s| {
            if s.by_holder.len() < defaults::HOLDER_STATS_MAX || s.by_holder.contains_key(&node) {
                f(s.by_holder.entry(node).or_default());
            }
        });
    }

    /// From one holder into memory.
    async fn fetch_from(
        &self,
        id: BlobId,
        bytes_max: usize,
        holder: &Holder,
    ) -> Result<Bytes, Miss> {
        let len = self.receive_from(id, bytes_max as u64, holder, &|_| {}).await?;
        let bytes = self.store.blobs().get_bytes(hash(id)).await.map_err(miss)?;
        if bytes.len() as u64 != len || BlobId::of(&bytes) != id {
            let _ = self.store.tags().delete(tag(id)).await;
            return Err(Miss::Reason("what arrived has another hash".to_owned()));
        }
        Ok(bytes)
    }

    /// From one holder into the store, all its addresses at once; gives the length.
    async fn receive_from(
        &self,
        id: BlobId,
        bytes_max: u64,
        holder: &Holder,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, Miss> {
        let endpoint_id = EndpointId::from_bytes(&holder.node.0).map_err(miss)?;
        if endpoint_id == self.router.endpoint().id() {
            return Err(Miss::Reason("that is this node, and it is not here".to_owned()));
        }
        let addresses: Vec<SocketAddr> =
            holder.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            return Err(Miss::Reason("it names no usable address".to_owned()));
        }
        let mut target = EndpointAddr::new(endpoint_id);
        for address in addresses {
            target = target.with_ip_addr(address);
        }
        let within = Duration::from_millis(defaults::CONNECT_MS_MAX);
        let connecting = self.router.endpoint().connect(target, iroh_blobs::ALPN);
        let connection = timeout(within, connecting)
            .await
            .map_err(|_| Miss::Reason("no connection in time".to_owned()))?
            .map_err(miss)?;
        let got = self.receive(id, bytes_max, &connection, progress).await;
        connection.close(VarInt::from_u32(0), b"done");
        got
    }

    async fn receive(
        &self,
        id: BlobId,
        bytes_max: u64,
        connection: &Connection,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, Miss> {
        let hash = hash(id);
        let stall = Duration::from_millis(defaults::STALL_MS_MAX);
        let silent = || Miss::Reason("it went silent".to_owned());
        // The last chunk with its hash path proves the length before the rest is asked for.
        let sized = iroh_blobs::get::request::get_verified_size(connection, &hash);
        let (len, _) = timeout(stall, sized).await.map_err(|_| silent())?.map_err(miss)?;
        if len > bytes_max {
            return Err(Miss::TooLarge(len));
        }
        let _spared = self.store.tags().temp_tag(HashAndFormat::raw(hash)).await.map_err(miss)?;
        let coming = self.store.remote().fetch(connection.clone(), HashAndFormat::raw(hash));
        let mut coming = std::pin::pin!(coming.stream());
        loop {
            match timeout(stall, coming.next()).await.map_err(|_| silent())? {
                Some(GetProgressItem::Progress(here)) => progress(here),
                Some(GetProgressItem::Done(_)) => break,
                Some(GetProgressItem::Error(e)) => return Err(miss(e)),
                None => return Err(Miss::Reason("the transfer ended early".to_owned())),
            }
        }
        self.keep(id).await.map_err(miss)?;
        Ok(len)
    }

    /// Asks one holder after the other until one delivers.
    async fn ask_each<'a, T, F: Future<Output = Result<T, Miss>>>(
        &self,
        id: BlobId,
        bytes_max: u64,
        holders: &'a [Holder],
        ms_max: u64,
        from: impl Fn(&'a Holder) -> F,
        len_of: impl Fn(&T) -> u64,
    ) -> Result<T, FetchError> {
        if holders.is_empty() {
            return Err(FetchError::NoHolder { id });
        }
        let within = Duration::from_millis(ms_max);
        let mut tries = Vec::new();
        for holder in holders {
            let reason = match timeout(within, from(holder)).await {
                Ok(Ok(got)) => {
                    let len = len_of(&got);
                    self.count(|s| {
                        s.fetched += 1;
                        s.fetched_bytes += len;
                    });
                    self.count_holder(holder.node, |h| {
                        h.blobs += 1;
                        h.bytes += len;
                    });
                    return Ok(got);
                }
                Ok(Err(Miss::TooLarge(len))) => {
                    self.count(|s| s.fetch_failures += 1);
                    let max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                    return Err(FetchError::TooLarge { id, len, max });
                }
                Ok(Err(Miss::Reason(reason))) => reason,
                Err(_) => "it took too long".to_owned(),
            };
            self.count_holder(holder.node, |h| h.failures += 1);
            tries.push((holder.node, reason));
        }
        self.count(|s| s.fetch_failures += 1);
        Err(FetchError::AllFailed { id, tries })
    }

    async fn keep(&self, id: BlobId) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Io { action: "keep", id, reason };
        let content = HashAndFormat::raw(hash(id));
        self.store.tags().set(tag(id), content).await.map_err(|e| failed(e.to_string()))?;
        self.store.sync_db().await.map_err(|e| failed(e.to_string()))
    }
}

#[async_trait]
impl Blobs for IrohBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        let failed = |reason: String| StoreError::Io { action: "store", id, reason };
        let _permit = self.inner.puts.acquire().await.map_err(|e| failed(e.to_string()))?;
        let added = self.inner.store.blobs().add_bytes(bytes).temp_tag().await;
        let spared = added.map_err(|e| failed(e.to_string()))?;
        if spared.hash() != hash(id) {
            return Err(failed(format!("it was stored as {}", spared.hash())));
        }
        self.inner.keep(id).await?;
        self.inner.count(|s| s.put += 1);
        Ok(id)
    }

    async fn get(&self, id: BlobId) -> Result<Option<Bytes>, StoreError> {
        if !self.has(id).await? {
            return Ok(None);
        }
        let failed = |reason: String| StoreError::Io { action: "read", id, reason };
        let read = self.inner.store.blobs().get_bytes(hash(id)).await;
        let bytes = read.map_err(|e| failed(e.to_string()))?;
        if BlobId::of(&bytes) != id {
            return Err(failed("its bytes have another hash".to_owned()));
        }
        Ok(Some(bytes))
    }

    async fn has(&self, id: BlobId) -> Result<bool, StoreError> {
        let failed = |reason: String| StoreError::Io { action: "look for", id, reason };
        self.inner.store.blobs().has(hash(id)).await.map_err(|e| failed(e.to_string()))
    }

    async fn fetch(
        &self,
        id: BlobId,
        bytes_max: usize,
        holders: &[Holder],
    ) -> Result<Bytes, FetchError> {
        let failed = |reason: String| StoreError::Io { action: "fetch", id, reason };
        let _permit = self.inner.fetches.acquire().await.map_err(|e| failed(e.to_string()))?;
        if let Some(bytes) = self.get(id).await? {
            if bytes.len() > bytes_max {
                return Err(FetchError::TooLarge { id, len: bytes.len() as u64, max: bytes_max });
            }
            self.inner.keep(id).await?;
            self.inner.count(|s| s.found_here += 1);
            return Ok(bytes);
        }
        let from = |holder| self.inner.fetch_from(id, bytes_max, holder);
        let (max, ms_max) = (bytes_max as u64, defaults::FETCH_MS_MAX);
        self.inner.ask_each(id, max, holders, ms_max, from, |bytes| bytes.len() as u64).await
    }

    async fn import(&self, path: &Path) -> Result<BlobId, StoreError> {
        let failed =
            |reason: String| StoreError::File { action: "import", path: path.to_owned(), reason };
        let _permit = self.inner.puts.acquire().await.map_err(|e| failed(e.to_string()))?;
        let path = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        let (format, mode) = (BlobFormat::Raw, ImportMode::TryReference);
        let options = AddPathOptions { path, format, mode };
        let added = self.inner.store.blobs().add_path_with_opts(options).temp_tag().await;
        let spared = added.map_err(|e| failed(e.to_string()))?;
        let id = BlobId(*spared.hash().as_bytes());
        self.inner.keep(id).await?;
        self.inner.count(|s| s.put += 1);
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
        let _permit = self.inner.fetches.acquire().await.map_err(|e| failed(e.to_string()))?;
        if self.has(id).await? {
            self.inner.count(|s| s.found_here += 1);
        } else {
            let from = |holder| self.inner.receive_from(id, bytes_max, holder, progress);
            let ms_max = defaults::FETCH_FILE_MS_MAX;
            self.inner.ask_each(id, bytes_max, holders, ms_max, from, |len| *len).await?;
        }
        let target = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        let options = ExportOptions { hash: hash(id), target, mode: ExportMode::TryReference };
        let exported = self.inner.store.blobs().export_with_opts(options).finish().await;
        Ok(exported.map_err(|e| failed(e.to_string()))?)
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
        let exported = self.inner.store.blobs().export_with_opts(options).finish().await;
        exported.map_err(|e| failed(e.to_string()))
    }

    async fn forget(&self, id: BlobId) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::Io { action: "forget", id, reason };
        self.inner.store.tags().delete(tag(id)).await.map_err(|e| failed(e.to_string()))?;
        Ok(())
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
