//! What the rest of the program sees of the node: a handle, events, and the admission of gossip.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use openledger_wire::limits::GOSSIP_MAX;
use openledger_wire::{NodeId, UnixMs};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::addresses;
use super::config::SwarmConfig;
use super::reach::Reachability;
use super::run::Runner;
use crate::defaults::node as defaults;

/// Why a node could not start or an address was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// A part could not be set up.
    #[error("set up the swarm node: {reason}; check the node key and the configuration")]
    SetUp {
        /// The library's words.
        reason: String,
    },
    /// A listen address cannot be used.
    #[error("listen on {address}: {reason}; choose another address or port, or stop what uses it")]
    Listen {
        /// The address.
        address: String,
        /// The library's words.
        reason: String,
    },
    /// An address that is none.
    #[error(
        "understand the peer address {address:?}: {reason}; write it like /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…"
    )]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node is not running any more.
    #[error("reach the swarm node: it has stopped; start it again")]
    Stopped,
}

/// Why a message was not published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not a topic of this node.
    #[error(
        "publish on {topic:?}: this node does not take part in that topic; name it in the configuration"
    )]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// Too long for gossip.
    #[error(
        "publish {len} bytes: gossip carries at most {GOSSIP_MAX}; put the body into a blob and gossip its id"
    )]
    TooLong {
        /// Length of the message.
        len: usize,
    },
    /// Nobody listens.
    #[error(
        "publish: no connected peer takes part in that topic; publish again once there are peers"
    )]
    NoPeers,
    /// Peers do not take it.
    #[error("publish: {reason}; publish again later")]
    Busy {
        /// The library's words.
        reason: String,
    },
    /// The node is not running any more.
    #[error("publish: the swarm node has stopped; start it again")]
    Stopped,
}

/// Why a request got no response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too long.
    #[error("ask {node:?}: {len} bytes are more than the limit of {max}; ask for less at a time")]
    TooLong {
        /// Who should be asked.
        node: NodeId,
        /// Length of the request.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer did not answer.
    #[error("ask {node:?}: {reason}; try another peer or try later")]
    Failed {
        /// Who was asked.
        node: NodeId,
        /// The library's words.
        reason: String,
    },
    /// Too many requests wait.
    #[error("ask {node:?}: too many requests are in progress; try later")]
    Busy {
        /// Who should be asked.
        node: NodeId,
    },
    /// The node is not running any more.
    #[error("ask {node:?}: the swarm node has stopped; start it again")]
    Stopped {
        /// Who should be asked.
        node: NodeId,
    },
}

/// What becomes of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Valid: hand it to the application and forward it.
    Accept,
    /// Invalid beyond doubt: drop it, and hold it against who forwarded it.
    Reject,
    /// Useless here, or of a version unknown here: drop it, nobody is to blame.
    Ignore,
}

/// Decides about gossip before it is forwarded.
pub trait Admission: Send + Sync + 'static {
    /// Judges a message. Must be pure and quick: it runs in the node's own task. `author` signed
    /// the message on the transport; `bytes` are at most [`GOSSIP_MAX`].
    fn gossip(&self, topic: &str, author: NodeId, bytes: &[u8]) -> Acceptance;
}

/// The place for the answer to a peer's request; dropping it refuses the request.
#[derive(Debug)]
pub struct Answer(pub(super) oneshot::Sender<Bytes>);

impl Answer {
    /// Answers; at most [`crate::defaults::node::RESPONSE_BYTES_MAX`] bytes arrive.
    pub fn send(self, bytes: Bytes) {
        // A peer that is gone does not wait for it.
        let _ = self.0.send(bytes);
    }
}

/// What happens in the swarm.
#[derive(Debug)]
#[non_exhaustive]
pub enum SwarmEvent {
    /// A gossip message that the admission accepted.
    Gossip {
        /// The topic.
        topic: String,
        /// Who made it.
        author: NodeId,
        /// Which peer gave it to us.
        via: NodeId,
        /// The message.
        bytes: Bytes,
    },
    /// A peer asks something.
    Request {
        /// Who asks.
        peer: NodeId,
        /// The request.
        bytes: Bytes,
        /// Where the answer goes.
        answer: Answer,
    },
    /// A peer of our network is connected.
    Connected(NodeId),
    /// The last connection to a peer ended.
    Disconnected(NodeId),
    /// A peer of another network was sent away.
    OtherNetwork {
        /// Who.
        peer: NodeId,
        /// What it called its protocol, cut to 128 bytes.
        theirs: String,
    },
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer.
    pub node: NodeId,
    /// Its end of the first connection, or of the first direct one once there is one; while it calls
    /// us through a relay, where that relay took the call.
    pub address: String,
    /// Whether we dialled.
    pub outbound: bool,
    /// What it calls itself; not to be trusted.
    pub agent: String,
    /// Since when.
    pub since: UnixMs,
}

/// What is asked of the node's task.
pub(super) enum Command {
    Publish { topic: String, bytes: Bytes, reply: oneshot::Sender<Result<(), PublishError>> },
    AddPeer { peer: PeerId, address: Multiaddr },
    Request { node: NodeId, bytes: Bytes, reply: oneshot::Sender<Result<Bytes, RequestError>> },
    Ban { node: NodeId, ms: u64 },
    Metrics { reply: oneshot::Sender<String> },
    Shutdown { reply: oneshot::Sender<()> },
}

/// What can be read without asking the task.
#[derive(Debug, Default)]
pub(super) struct View(Mutex<Seen>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) peers: BTreeMap<NodeId, PeerInfo>,
    pub(super) listen: Vec<Multiaddr>,
    pub(super) external: Vec<Multiaddr>,
    pub(super) reachability: Reachability,
}

impl View {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts nodes.
#[derive(Clone, Copy, Debug)]
pub struct Swarm;

impl Swarm {
    /// Starts a node; it listens when this returns. Must be called inside a tokio runtime. Events
    /// must be read: what does not fit is dropped and counted.
    pub async fn start(
        config: SwarmConfig,
        admission: Arc<dyn Admission>,
    ) -> Result<(SwarmHandle, mpsc::Receiver<SwarmEvent>), SwarmError> {
        let me = config.key.public();
        let (events, receiver) = mpsc::channel(defaults::EVENTS_MAX);
        let (commands, orders) = mpsc::channel(defaults::COMMANDS_MAX);
        let mut runner = Runner::new(config, admission, events)?;
        runner.listen().await?;
        let view = runner.view();
        tokio::spawn(runner.run(orders));
        Ok((SwarmHandle { me, commands, view }, receiver))
    }
}

/// Talks to a running node; clones share it. The node stops when all are dropped.
#[derive(Clone)]
pub struct SwarmHandle {
    me: NodeId,
    commands: mpsc::Sender<Command>,
    view: Arc<View>,
}

impl SwarmHandle {
    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.me
    }

    /// Gossips a message. Repeating an own message within two minutes is no error and does nothing.
    pub async fn publish(&self, topic: &str, bytes: Bytes) -> Result<(), PublishError> {
        if bytes.len() > GOSSIP_MAX {
            return Err(PublishError::TooLong { len: bytes.len() });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish { topic: topic.to_owned(), bytes, reply };
        self.commands.send(command).await.map_err(|_| PublishError::Stopped)?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }

    /// Connected peers of our network.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.view.lock().peers.values().cloned().collect()
    }

    /// Where this node listens: multiaddrs with its peer id, fit for another node's `bootstrap`.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<String> {
        self.named(&self.view.lock().listen)
    }

    /// Whether others can dial this node, as far as it knows.
    #[must_use]
    pub fn reachability(&self) -> Reachability {
        self.view.lock().reachability
    }

    /// Where others were seen to reach this node: directly, or through the relays that take calls
    /// for it.
    #[must_use]
    pub fn external_addresses(&self) -> Vec<String> {
        self.named(&self.view.lock().external)
    }

    fn named(&self, list: &[Multiaddr]) -> Vec<String> {
        let Some(peer) = addresses::peer_of(&self.me) else { return Vec::new() };
        let name = |a: &Multiaddr| a.clone().with_p2p(peer).map(|a| a.to_string());
        list.iter().filter_map(|a| name(a).ok()).collect()
    }

    /// Learns a peer by its multiaddr with `/p2p/` and dials it soon.
    pub async fn add_peer(&self, address: &str) -> Result<(), SwarmError> {
        let (peer, address) = addresses::with_peer(address)
            .map_err(|reason| SwarmError::Address { address: address.to_owned(), reason })?;
        let command = Command::AddPeer { peer, address };
        self.commands.send(command).await.map_err(|_| SwarmError::Stopped)
    }

    /// Asks a peer, dialling it if need be: opaque bytes both ways.
    pub async fn request(&self, node: NodeId, bytes: Bytes) -> Result<Bytes, RequestError> {
        let (len, max) = (bytes.len(), defaults::REQUEST_BYTES_MAX);
        if len > max {
            return Err(RequestError::TooLong { node, len, max });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Request { node, bytes, reply };
        self.commands.send(command).await.map_err(|_| RequestError::Stopped { node })?;
        answer.await.map_err(|_| RequestError::Stopped { node })?
    }

    /// Disconnects a peer and refuses it for some milliseconds.
    pub async fn ban(&self, node: NodeId, ms: u64) -> Result<(), SwarmError> {
        self.commands.send(Command::Ban { node, ms }).await.map_err(|_| SwarmError::Stopped)
    }

    /// Counters in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, SwarmError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Metrics { reply };
        self.commands.send(command).await.map_err(|_| SwarmError::Stopped)?;
        answer.await.map_err(|_| SwarmError::Stopped)
    }

    /// Stops the node; when this returns, the peers are remembered on disk.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Shutdown { reply }).await.is_ok() {
            let _ = done.await;
        }
    }
}
