//! Getting blobs from their holders: one after the other, each within its time, nothing unverified.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::iroh::endpoint::{Connection, VarInt};
use ::iroh::{EndpointAddr, EndpointId};
use bytes::Bytes;
use futures::StreamExt;
use iroh_blobs::HashAndFormat;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::{ExportMode, ExportOptions};
use iroh_blobs::api::remote::GetProgressItem;
use iroh_blobs::store::fs::FsStore;
use openledger_wire::BlobId;
use openledger_wire::gossip::Holder;
use tokio::time::timeout;

use super::iroh::{Inner, hash, tag};
use super::{FetchError, StoreError};
use crate::defaults::blobs as defaults;

/// Why one holder did not deliver.
pub(super) enum Miss {
    /// It is longer than wanted; that holds for all holders.
    TooLarge(u64),
    /// Anything else: try the next one.
    Reason(String),
}

fn miss(e: impl std::fmt::Display) -> Miss {
    Miss::Reason(e.to_string())
}

impl Inner {
    /// From one holder into memory.
    pub(super) async fn fetch_from(
        &self,
        id: BlobId,
        bytes_max: usize,
        holder: &Holder,
    ) -> Result<Bytes, Miss> {
        let len = self.receive_from(id, bytes_max as u64, holder, &|_| {}).await?;
        let bytes = self.shelf.store().blobs().get_bytes(hash(id)).await.map_err(miss)?;
        if bytes.len() as u64 != len || BlobId::of(&bytes) != id {
            let _ = self.shelf.store().tags().delete(tag(id)).await;
            return Err(Miss::Reason("what arrived has another hash".to_owned()));
        }
        Ok(bytes)
    }

    /// From one holder into the store; gives the length.
    pub(super) async fn receive_from(
        &self,
        id: BlobId,
        bytes_max: u64,
        holder: &Holder,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, Miss> {
        let connection = self.connect(holder).await?;
        let got = receive(&self.shelf.store(), id, bytes_max, &connection, progress).await;
        connection.close(VarInt::from_u32(0), b"done");
        let len = got?;
        self.keep(id).await.map_err(miss)?;
        Ok(len)
    }

    /// From one holder into a file, where the store believes that it has the blob; gives the
    /// length. It goes through a store of its own beside the file store's, so that nothing
    /// unverified gets into the file.
    pub(super) async fn mend_from(
        &self,
        id: BlobId,
        bytes_max: u64,
        holder: &Holder,
        target: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, Miss> {
        let connection = self.connect(holder).await?;
        let dir = self.shelf.dir().join(format!("mend-{id}"));
        // What a crash left of an earlier try.
        let _ = tokio::fs::remove_dir_all(&dir).await;
        let store = FsStore::load(&dir).await.map_err(miss)?;
        let got = async {
            let len = receive(&store, id, bytes_max, &connection, progress).await?;
            let (target, mode) = (target.to_owned(), ExportMode::TryReference);
            let options = ExportOptions { hash: hash(id), target, mode };
            store.blobs().export_with_opts(options).finish().await.map_err(miss)?;
            Ok(len)
        };
        let got = got.await;
        connection.close(VarInt::from_u32(0), b"done");
        let _ = store.shutdown().await;
        let _ = tokio::fs::remove_dir_all(&dir).await;
        got
    }

    /// A connection to a holder, all its addresses tried at once.
    async fn connect(&self, holder: &Holder) -> Result<Connection, Miss> {
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
        let connected = timeout(within, connecting).await;
        connected.map_err(|_| Miss::Reason("no connection in time".to_owned()))?.map_err(miss)
    }

    /// Asks one holder after the other until one delivers.
    pub(super) async fn ask_each<'a, T, F: Future<Output = Result<T, Miss>>>(
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
            if !self.shelf.answers().await {
                // Its own fault, not the holder's.
                return Err(self.shelf.ended().into());
            }
            self.count_holder(holder.node, |h| h.failures += 1);
            tries.push((holder.node, reason));
        }
        self.count(|s| s.fetch_failures += 1);
        Err(FetchError::AllFailed { id, tries })
    }
}

/// What one holder gives, verified as it comes, into a store; gives the length.
async fn receive(
    store: &Store,
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
    let _spared = store.tags().temp_tag(HashAndFormat::raw(hash)).await.map_err(miss)?;
    let coming = store.remote().fetch(connection.clone(), HashAndFormat::raw(hash));
    let mut coming = std::pin::pin!(coming.stream());
    loop {
        match timeout(stall, coming.next()).await.map_err(|_| silent())? {
            Some(GetProgressItem::Progress(here)) => progress(here),
            Some(GetProgressItem::Done(_)) => break,
            Some(GetProgressItem::Error(e)) => return Err(miss(e)),
            None => return Err(Miss::Reason("the transfer ended early".to_owned())),
        }
    }
    Ok(len)
}

/// Reads a file through and fails unless it has this content; gives its length.
pub(super) async fn verify(id: BlobId, path: &Path) -> Result<u64, StoreError> {
    let failed =
        |reason: String| StoreError::File { action: "verify", path: path.to_owned(), reason };
    let at = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(at)?)?;
        Ok::<_, std::io::Error>((hasher.count(), BlobId(*hasher.finalize().as_bytes())))
    });
    let hashed = hashing.await.map_err(|e| failed(e.to_string()))?;
    match hashed.map_err(|e| failed(e.to_string()))? {
        (len, found) if found == id => Ok(len),
        (_, found) => Err(failed(format!("it is blob {found}, not {id}"))),
    }
}
