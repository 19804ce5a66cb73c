//! The coordinator's end of the link: accepts, counts, limits, and pushes.
//!
//! What one connection does is in [`super::session`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use openledger_wire::link::{LinkPush, LinkRequest, LinkResponse};
use openledger_wire::{NodeId, NodeKey, Text, limits};
use quinn::VarInt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bucket::{Buckets, Rate};
use super::error::LinkError;
use super::session::{self, Session};
use super::{frame, tls};
use crate::defaults::link as defaults;

/// Close code: another connection of the same node took over.
pub(super) const CLOSE_REPLACED: VarInt = VarInt::from_u32(1);
/// Close code: the server stops.
pub(super) const CLOSE_STOPPING: VarInt = VarInt::from_u32(2);
/// Close code: pushes are not read.
pub(super) const CLOSE_SLOW: VarInt = VarInt::from_u32(3);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node whose key the connection proved.
    pub node: NodeId,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// What requests mean.
///
/// Nothing may be acknowledged before it is durable. A handler that runs longer than
/// [`LinkLimits::request_ms_max`] is dropped at its next await; requests are idempotent, so the
/// node asks again.
#[async_trait]
pub trait LinkService: Send + Sync + 'static {
    /// Answers one request. `Hello` comes first on each connection; until one was answered with
    /// `Welcome`, nothing else arrives here.
    async fn handle(&self, peer: Peer, request: LinkRequest) -> LinkResponse;

    /// The last connection of this node is gone.
    fn left(&self, _node: NodeId) {}
}

/// Bounds of a server; [`LinkLimits::default`] gives those of [`crate::defaults::link`].
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one IP address.
    pub connections_per_ip_max: usize,
    /// Requests of one connection in progress.
    pub streams_per_connection_max: u32,
    /// Handlers that run at the same time.
    pub handlers_max: usize,
    /// Requests of one node.
    pub requests: Rate,
    /// Milliseconds for one request.
    pub request_ms_max: u64,
    /// Milliseconds of silence before a connection counts as dead.
    pub idle_ms_max: u64,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            connections_max: defaults::CONNECTIONS_MAX,
            connections_per_ip_max: defaults::CONNECTIONS_PER_IP_MAX,
            streams_per_connection_max: defaults::STREAMS_PER_CONNECTION_MAX,
            handlers_max: defaults::HANDLERS_MAX,
            requests: Rate { per_s: defaults::REQUESTS_PER_S, burst: defaults::REQUESTS_BURST },
            request_ms_max: defaults::REQUEST_MS_MAX,
            idle_ms_max: defaults::IDLE_MS_MAX,
        }
    }
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct LinkServerConfig {
    /// The coordinator's node key.
    pub key: NodeKey,
    /// Where to listen (UDP); port 0 takes a free one.
    pub address: SocketAddr,
    /// Bounds.
    pub limits: LinkLimits,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Nodes connected and welcomed now.
    pub connected: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned away by a limit.
    pub turned_away: u64,
    /// Requests answered by the service.
    pub answered: u64,
    /// Requests refused because of a budget.
    pub busy: u64,
    /// Requests that were too long or not the protocol.
    pub malformed: u64,
    /// Pushes queued.
    pub pushed: u64,
    /// Pushes dropped because the node does not read.
    pub push_dropped: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) pushed: AtomicU64,
    pub(super) push_dropped: AtomicU64,
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Default)]
struct Registry {
    by_node: BTreeMap<NodeId, Arc<Session>>,
    per_ip: BTreeMap<IpAddr, usize>,
    total: usize,
}

pub(super) struct Inner {
    pub(super) service: Arc<dyn LinkService>,
    pub(super) limits: LinkLimits,
    pub(super) handlers: Semaphore,
    /// Permits of one KiB for large messages.
    pub(super) large_kib: Semaphore,
    pub(super) counters: Counters,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Until the shutdown takes it.
    endpoint: Mutex<Option<quinn::Endpoint>>,
    registry: Mutex<Registry>,
    buckets: Mutex<Buckets>,
    started: Instant,
}

/// A connection's place in the counts; given back when dropped.
pub(super) struct Place {
    inner: Arc<Inner>,
    ip: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.inner.registry();
        registry.total = registry.total.saturating_sub(1);
        if let Some(n) = registry.per_ip.get_mut(&self.ip) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                registry.per_ip.remove(&self.ip);
            }
        }
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut registry = self.registry();
        let of_ip = registry.per_ip.get(&ip).copied().unwrap_or(0);
        if registry.total >= self.limits.connections_max
            || of_ip >= self.limits.connections_per_ip_max
        {
            return None;
        }
        registry.total += 1;
        registry.per_ip.insert(ip, of_ip + 1);
        Some(Place { inner: Arc::clone(self), ip })
    }

    /// Makes this the node's connection; an older one is closed, since its owner may have lost it
    /// without noticing.
    pub(super) fn enter(&self, session: &Arc<Session>) {
        let older = self.registry().by_node.insert(session.peer.node, Arc::clone(session));
        if let Some(older) = older {
            older.connection.close(CLOSE_REPLACED, b"the same node connected again");
        }
    }

    /// Forgets a connection unless a newer one of the node took its place.
    pub(super) fn leave(&self, session: &Arc<Session>) {
        let mut registry = self.registry();
        let node = session.peer.node;
        if registry.by_node.get(&node).is_some_and(|s| Arc::ptr_eq(s, session)) {
            registry.by_node.remove(&node);
            drop(registry);
            self.service.left(node);
        }
    }

    /// Takes from the node's budget, or says when there is some again.
    pub(super) fn take_budget(&self, node: NodeId) -> Result<(), u32> {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(node, now_ms)
    }
}

/// A running server; clones share it.
#[derive(Clone)]
pub struct LinkServer {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl LinkServer {
    /// Starts to listen. Must be called inside a tokio runtime.
    pub async fn bind(
        config: LinkServerConfig,
        service: Arc<dyn LinkService>,
    ) -> Result<Self, LinkError> {
        let quic = quic_config(&config)?;
        let bind = |source| LinkError::Bind { address: config.address, source };
        let endpoint = quinn::Endpoint::server(quic, config.address).map_err(bind)?;
        let address = endpoint.local_addr().map_err(bind)?;
        let limits = config.limits;
        let inner = Arc::new(Inner {
            service,
            limits,
            handlers: Semaphore::new(limits.handlers_max.max(1)),
            large_kib: Semaphore::new(defaults::LARGE_BYTES_MAX / 1024),
            counters: Counters::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            endpoint: Mutex::new(Some(endpoint.clone())),
            registry: Mutex::default(),
            buckets: Mutex::new(Buckets::new(limits.requests, defaults::BUCKETS_MAX)),
            started: Instant::now(),
        });
        inner.tasks.spawn(accept(Arc::clone(&inner), endpoint));
        Ok(Self { inner, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Queues a push for a node; false if the node is not connected or does not read. A push is a
    /// hint: a node that missed one asks `Sync`.
    pub fn push(&self, node: NodeId, push: &LinkPush) -> bool {
        let session = self.inner.registry().by_node.get(&node).cloned();
        let Some(session) = session.filter(|s| s.is_welcome()) else { return false };
        let queued = match frame::frame(push) {
            Ok(frame) => session.queue(frame),
            Err(e) => {
                tracing::warn!(%node, "failed to push: {e}");
                false
            }
        };
        let counters = &self.inner.counters;
        count(if queued { &counters.pushed } else { &counters.push_dropped });
        queued
    }

    /// Nodes that are connected and were welcomed.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        let registry = self.inner.registry();
        registry.by_node.iter().filter(|(_, s)| s.is_welcome()).map(|(n, _)| *n).collect()
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let c = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStats {
            connected: self.connected().len() as u64,
            accepted: read(&c.accepted),
            turned_away: read(&c.turned_away),
            answered: read(&c.answered),
            busy: read(&c.busy),
            malformed: read(&c.malformed),
            pushed: read(&c.pushed),
            push_dropped: read(&c.push_dropped),
        }
    }

    /// Stops listening, closes all connections, and waits for handlers to end.
    pub async fn shutdown(&self) {
        let endpoint = self.inner.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(endpoint) = endpoint else { return };
        // First the reason, then the end: a connection that is merely dropped says nothing.
        endpoint.close(CLOSE_STOPPING, b"the coordinator stops");
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        // The sessions are gone; what remains are the goodbyes on the wire. The socket closes soon
        // after the endpoint was dropped here. On a busy machine they take their time.
        let goodbye = Duration::from_secs(2);
        let _ = tokio::time::timeout(goodbye, endpoint.wait_idle()).await;
    }
}

fn quic_config(config: &LinkServerConfig) -> Result<quinn::ServerConfig, LinkError> {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.limits.streams_per_connection_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(defaults::RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(defaults::RECEIVE_WINDOW / 2))
        .max_idle_timeout(idle(config.limits.idle_ms_max));
    let mut quic = quinn::ServerConfig::with_crypto(Arc::new(tls::server(&config.key)?));
    quic.transport_config(Arc::new(transport));
    quic.max_incoming(defaults::HANDSHAKES_MAX);
    Ok(quic)
}

/// An idle timeout in QUIC's units.
pub(super) fn idle(ms: u64) -> Option<quinn::IdleTimeout> {
    u32::try_from(ms).ok().map(|ms| quinn::IdleTimeout::from(VarInt::from_u32(ms)))
}

async fn accept(inner: Arc<Inner>, endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let ip = incoming.remote_address().ip();
        // With many handshakes in progress an address must first show that it can be reached, so
        // that forged ones cost us nothing.
        let crowded = inner.registry().total > inner.limits.connections_max / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        match inner.admit(ip) {
            Some(place) => {
                count(&inner.counters.accepted);
                inner.tasks.spawn(session::serve(Arc::clone(&inner), incoming, place));
            }
            None => {
                count(&inner.counters.turned_away);
                incoming.refuse();
            }
        }
    }
}

/// A refusal as a response; long messages are cut.
#[must_use]
pub fn refused(code: &str, message: &str, retry_after_ms: u32) -> LinkResponse {
    LinkResponse::Refused { code: cut(code), message: cut(message), retry_after_ms }
}

fn cut<const MAX: usize>(text: &str) -> Text<MAX> {
    let mut end = text.len().min(MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Text::new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// The refusal of a request that is longer than the link carries.
pub(super) fn too_long(len: usize) -> Bytes {
    let message = format!(
        "this message has {len} bytes, the link carries at most {}; send fewer items at a time",
        limits::LINK_MAX
    );
    frame::frame(&refused("too-long", &message, 0)).unwrap_or_default()
}
