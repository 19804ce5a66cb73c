//! Who may fetch how much from us: one task that answers the provider's questions.
//!
//! Only plain reads of single blobs are served; nobody writes into our store or observes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode,
};
use openledger_wire::NodeId;
use tokio::sync::{Semaphore, mpsc};

use crate::defaults::blobs as defaults;
use crate::link::{Buckets, Rate};

/// What was served and turned away.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) served: AtomicU64,
    pub(super) turned_away: AtomicU64,
}

/// Starts the limiter; it ends with the provider.
pub(super) fn start(served: Arc<Served>) -> EventSender {
    let mask = EventMask {
        connected: ConnectMode::Intercept,
        get: RequestMode::Intercept,
        get_many: RequestMode::Disabled,
        push: RequestMode::Disabled,
        observe: ObserveMode::Intercept,
        ..EventMask::DEFAULT
    };
    let (sender, messages) = EventSender::channel(defaults::EVENTS_MAX, mask);
    let limiter = Limiter {
        connections: BTreeMap::new(),
        per_peer: BTreeMap::new(),
        buckets: Buckets::new(
            Rate { per_s: defaults::REQUESTS_PER_S, burst: defaults::REQUESTS_BURST },
            defaults::BUCKETS_MAX,
        ),
        uploads: Arc::new(Semaphore::new(defaults::UPLOADS_MAX)),
        started: Instant::now(),
        served,
    };
    tokio::spawn(limiter.run(messages));
    sender
}

struct Limiter {
    connections: BTreeMap<u64, NodeId>,
    per_peer: BTreeMap<NodeId, usize>,
    buckets: Buckets,
    uploads: Arc<Semaphore>,
    started: Instant,
    served: Arc<Served>,
}

impl Limiter {
    async fn run(mut self, mut messages: mpsc::Receiver<ProviderMessage>) {
        while let Some(message) = messages.recv().await {
            match message {
                ProviderMessage::ClientConnected(m) => {
                    let node = m.endpoint_id.map(|id| NodeId(*id.as_bytes()));
                    let verdict = self.connect(m.connection_id, node);
                    self.count(&verdict);
                    let _ = m.tx.send(verdict).await;
                }
                ProviderMessage::ConnectionClosed(m) => self.close(m.connection_id),
                ProviderMessage::GetRequestReceived(mut m) => {
                    let verdict = self.request(m.connection_id, m.request.ranges.is_blob());
                    self.count(&verdict);
                    let permit = Arc::clone(&self.uploads).try_acquire_owned();
                    let (verdict, permit) = match (verdict, permit) {
                        (Ok(()), Ok(permit)) => (Ok(()), Some(permit)),
                        (Ok(()), Err(_)) => (Err(AbortReason::RateLimited), None),
                        (Err(reason), _) => (Err(reason), None),
                    };
                    if m.tx.send(verdict).await.is_ok() && permit.is_some() {
                        // The update channel closes when the transfer is over.
                        tokio::spawn(async move {
                            while let Ok(Some(_)) = m.rx.recv().await {}
                            drop(permit);
                        });
                    }
                }
                ProviderMessage::ObserveRequestReceived(m) => {
                    let _ = m.tx.send(Err(AbortReason::Permission)).await;
                }
                _ => {}
            }
        }
    }

    fn count(&self, verdict: &Result<(), AbortReason>) {
        if verdict.is_err() {
            self.served.turned_away.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn connect(&mut self, connection: u64, node: Option<NodeId>) -> Result<(), AbortReason> {
        let node = node.ok_or(AbortReason::Permission)?;
        let of_peer = self.per_peer.get(&node).copied().unwrap_or(0);
        if self.connections.len() >= defaults::CONNECTIONS_MAX
            || of_peer >= defaults::CONNECTIONS_PER_PEER_MAX
        {
            return Err(AbortReason::RateLimited);
        }
        self.connections.insert(connection, node);
        self.per_peer.insert(node, of_peer + 1);
        Ok(())
    }

    fn close(&mut self, connection: u64) {
        let Some(node) = self.connections.remove(&connection) else { return };
        if let Some(n) = self.per_peer.get_mut(&node) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.per_peer.remove(&node);
            }
        }
    }

    fn request(&mut self, connection: u64, one_blob: bool) -> Result<(), AbortReason> {
        let node = self.connections.get(&connection).ok_or(AbortReason::Permission)?;
        if !one_blob {
            return Err(AbortReason::Permission);
        }
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.buckets.take(*node, now_ms).map_err(|_| AbortReason::RateLimited)?;
        self.served.served.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
