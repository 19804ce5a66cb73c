//! The node's task: commands in, events out, and once a second a look after its peers.
//!
//! What the protocols report is handled in [`super::events`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::gossipsub::{self, TopicHash};
use libp2p::metrics::{Metrics, Registry};
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use openledger_wire::{NetworkId, NodeId, UnixMs};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::addresses::{self, node_of, peer_of};
use super::behaviour::{self, Behaviour};
use super::config::SwarmConfig;
use super::handle::{
    Admission, Command, PeerInfo, PublishError, RequestError, SwarmError, SwarmEvent, View,
};
use super::reach::Reach;
use super::relays::Links;
use super::{file, transport};
use crate::defaults::{node as defaults, peers as book_defaults};
use crate::peers::{Origin, PeerBook};

/// How long a fresh listener may take to say where it listens.
const LISTEN_MS_MAX: u64 = 5_000;

/// An answer of the application on its way to the peer that asked.
pub(super) type Answered = BoxFuture<'static, (ResponseChannel<Bytes>, Option<Bytes>)>;

/// A request to a peer: who was asked, and who waits.
pub(super) type Asked = (NodeId, oneshot::Sender<Result<Bytes, RequestError>>);

/// Our own counters.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: Counter,
    pub(super) rejected: Counter,
    pub(super) ignored: Counter,
    pub(super) dropped: Counter,
    pub(super) bans: Counter,
    pub(super) other_network: Counter,
}

impl Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        let own = registry.sub_registry_with_prefix("openledger_swarm");
        let mut add = |name: &str, help: &str, counter: &Counter| {
            own.register(name, help, counter.clone());
        };
        add("gossip_accepted", "Messages that were admitted", &counters.accepted);
        add("gossip_rejected", "Messages that were invalid", &counters.rejected);
        add("gossip_ignored", "Messages that were of no use", &counters.ignored);
        add("events_dropped", "Events that the application did not read", &counters.dropped);
        add("bans", "Peers sent away for misdeeds", &counters.bans);
        add("other_network", "Peers of other networks sent away", &counters.other_network);
        counters
    }
}

/// A node, before and while it runs.
pub(super) struct Runner {
    pub(super) swarm: libp2p::Swarm<Behaviour>,
    pub(super) network: NetworkId,
    pub(super) topics: BTreeMap<TopicHash, String>,
    pub(super) admission: Arc<dyn Admission>,
    pub(super) events: mpsc::Sender<SwarmEvent>,
    pub(super) book: PeerBook,
    pub(super) view: Arc<View>,
    /// Connected peers, whether or not they have said who they are.
    pub(super) greeted: BTreeMap<NodeId, PeerInfo>,
    pub(super) asked: BTreeMap<OutboundRequestId, Asked>,
    pub(super) answers: FuturesUnordered<Answered>,
    pub(super) counters: Counters,
    pub(super) metrics: Metrics,
    /// Our listen addresses are surely good.
    pub(super) reachable: bool,
    pub(super) reach: Reach,
    pub(super) links: BTreeMap<PeerId, Links>,
    blocked: BTreeSet<NodeId>,
    registry: Registry,
    listen: Vec<String>,
    data_dir: Option<PathBuf>,
    peers_target: usize,
    dials_per_tick: usize,
    last_search: UnixMs,
    last_save: UnixMs,
    saving: Option<tokio::task::JoinHandle<()>>,
}

/// Milliseconds since 1970.
pub(super) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Runner {
    /// Puts a node together; nothing is on the wire yet.
    pub(super) fn new(
        config: SwarmConfig,
        admission: Arc<dyn Admission>,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<Self, SwarmError> {
        let set_up = |reason: String| SwarmError::SetUp { reason };
        let key = addresses::keypair(&config.key).map_err(set_up)?;
        let book = open_book(&config).map_err(set_up)?;
        let surely = config.is_surely_reachable();
        let trusted: Vec<PeerId> =
            config.bootstrap.iter().filter_map(|b| Some(addresses::with_peer(b).ok()?.0)).collect();
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let counters = Counters::register(&mut registry);
        let (transport, relay_client) = transport::build(&key).map_err(set_up)?;
        let behaviour = behaviour::build(&config, &key, relay_client, &trusted, &mut registry)
            .map_err(set_up)?;
        let mut swarm = libp2p::Swarm::new(
            transport,
            behaviour,
            key.public().to_peer_id(),
            libp2p::swarm::Config::with_tokio_executor()
                .with_idle_connection_timeout(Duration::from_millis(defaults::IDLE_MS))
                .with_max_negotiating_inbound_streams(defaults::NEGOTIATING_STREAMS_MAX),
        );
        for text in &config.external {
            let address = text.parse().map_err(|e: libp2p::multiaddr::Error| {
                SwarmError::Address { address: text.clone(), reason: e.to_string() }
            })?;
            swarm.add_external_address(address);
        }
        let reach = Reach::new(surely, &trusted, salt().map_err(set_up)?);
        let view = Arc::<View>::default();
        view.lock().reachability = reach.standing(now());
        Ok(Self {
            swarm,
            network: config.network,
            topics: behaviour::topics(&config),
            admission,
            events,
            book,
            view,
            greeted: BTreeMap::new(),
            asked: BTreeMap::new(),
            answers: FuturesUnordered::new(),
            counters,
            metrics,
            reachable: config.reachable,
            reach,
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            registry,
            listen: config.listen,
            data_dir: config.data_dir,
            peers_target: config.limits.peers_target,
            dials_per_tick: config.limits.pending_outgoing_max as usize,
            last_search: UnixMs(0),
            last_save: now(),
            saving: None,
        })
    }

    /// What the handle reads.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Listens, and waits until each listener says where.
    pub(super) async fn listen(&mut self) -> Result<(), SwarmError> {
        let listen = std::mem::take(&mut self.listen);
        for text in &listen {
            let refused = |reason: String| SwarmError::Listen { address: text.clone(), reason };
            let address: Multiaddr = text.parse().map_err(|e| refused(format!("{e}")))?;
            self.swarm.listen_on(address).map_err(|e| refused(e.to_string()))?;
        }
        let all = async {
            while self.view.lock().listen.len() < listen.len() {
                let event = self.swarm.select_next_some().await;
                self.on_event(event);
            }
        };
        let within = Duration::from_millis(LISTEN_MS_MAX);
        tokio::time::timeout(within, all).await.map_err(|_| SwarmError::Listen {
            address: listen.join(", "),
            reason: format!("not all of them were ready after {LISTEN_MS_MAX} ms"),
        })
    }

    /// Runs until told to stop or until all handles are gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(Duration::from_millis(defaults::TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = commands.recv() => match command {
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some((channel, bytes)) = self.answers.next(), if !self.answers.is_empty() => {
                    // Dropping the channel tells the peer that there is no answer.
                    if let Some(bytes) = bytes {
                        let _ = self.swarm.behaviour_mut().requests.send_response(channel, bytes);
                    }
                }
                _ = tick.tick() => self.on_tick(),
            }
        };
        self.last_save = UnixMs(0);
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        self.save(now());
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        drop(self.swarm);
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, bytes, reply } => {
                let _ = reply.send(self.publish(&topic, bytes));
            }
            Command::AddPeer { peer, address } => {
                if let Some(node) = node_of(&peer) {
                    self.book.learn(node, &[address.to_string()], Origin::Bootstrap);
                    self.dial(node, vec![address]);
                }
            }
            Command::Request { node, bytes, reply } => self.request(node, bytes, reply),
            Command::Ban { node, ms } => self.ban(node, ms),
            Command::Metrics { reply } => {
                let mut text = String::new();
                if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
                    text.clear();
                }
                let _ = reply.send(text);
            }
            // The loop takes this one itself.
            Command::Shutdown { .. } => {}
        }
    }

    fn publish(&mut self, topic: &str, bytes: Bytes) -> Result<(), PublishError> {
        let name = behaviour::topic_of(topic, &self.network);
        if !self.topics.contains_key(&name.hash()) {
            return Err(PublishError::UnknownTopic { topic: topic.to_owned() });
        }
        let len = bytes.len();
        match self.swarm.behaviour_mut().gossip.publish(name, bytes) {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => Ok(()),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers),
            Err(gossipsub::PublishError::MessageTooLarge) => Err(PublishError::TooLong { len }),
            Err(e) => Err(PublishError::Busy { reason: e.to_string() }),
        }
    }

    fn request(
        &mut self,
        node: NodeId,
        bytes: Bytes,
        reply: oneshot::Sender<Result<Bytes, RequestError>>,
    ) {
        let Some(peer) = peer_of(&node).filter(|p| p != self.swarm.local_peer_id()) else {
            let reason = "it is no node that can be asked".to_owned();
            let _ = reply.send(Err(RequestError::Failed { node, reason }));
            return;
        };
        if self.asked.len() >= defaults::REQUESTS_OUT_MAX {
            let _ = reply.send(Err(RequestError::Busy { node }));
            return;
        }
        let known = self.book.addresses(&node);
        let known = known.iter().filter_map(|a| a.parse().ok()).collect();
        let requests = &mut self.swarm.behaviour_mut().requests;
        let id = requests.send_request_with_addresses(&peer, bytes, known);
        self.asked.insert(id, (node, reply));
    }

    /// Sends a peer away for some time.
    pub(super) fn ban(&mut self, node: NodeId, ms: u64) {
        self.book.ban(node, ms, now());
        if let Some(peer) = peer_of(&node) {
            self.blocked.insert(node);
            self.swarm.behaviour_mut().blocked.block_peer(peer);
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
    }

    fn dial(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        let Some(peer) = peer_of(&node) else { return };
        self.book.dialling(node, now());
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .build();
        match self.swarm.dial(options) {
            // Kademlia may be dialling it already: as good.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(e) => tracing::debug!(%node, "failed to dial: {e}"),
        }
    }

    fn on_tick(&mut self) {
        let now = now();
        self.lift_bans(now);
        let connected = self.view.lock().peers.len();
        if connected < self.peers_target {
            let alone = connected == 0;
            for (node, texts) in self.book.candidates(now, self.dials_per_tick, alone) {
                let connected = peer_of(&node).is_some_and(|p| self.swarm.is_connected(&p));
                if !connected {
                    self.dial(node, texts.iter().filter_map(|t| t.parse().ok()).collect());
                }
            }
            if !alone && now.0.saturating_sub(self.last_search.0) >= defaults::SEARCH_MS {
                self.last_search = now;
                let mut anywhere = vec![0u8; 32];
                let _ = getrandom::fill(&mut anywhere);
                self.swarm.behaviour_mut().kad.get_closest_peers(anywhere);
            }
        }
        self.look_outside(now);
        if now.0.saturating_sub(self.last_save.0) >= book_defaults::SAVE_MS {
            self.save(now);
        }
    }

    fn lift_bans(&mut self, now: UnixMs) {
        let over: Vec<NodeId> =
            self.blocked.iter().filter(|n| !self.book.is_banned(n, now)).copied().collect();
        for node in over {
            self.blocked.remove(&node);
            if let Some(peer) = peer_of(&node) {
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
        }
    }

    /// Writes the remembered peers, if they changed and no write is going on.
    fn save(&mut self, now: UnixMs) {
        let Some(dir) = self.data_dir.clone() else { return };
        if self.saving.as_ref().is_some_and(|s| !s.is_finished()) || !self.book.take_changed() {
            return;
        }
        self.last_save = now;
        let text = self.book.to_text();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(e) = file::save(&dir, &text) {
                tracing::warn!("failed to remember the peers in {}: {e}", dir.display());
            }
        }));
    }
}

/// What nobody else knows, for choices among peers.
fn salt() -> Result<[u8; 32], String> {
    let mut salt = [0u8; 32];
    getrandom::fill(&mut salt).map_err(|e| e.to_string())?;
    Ok(salt)
}

/// The book with what the configuration and the disk know.
fn open_book(config: &SwarmConfig) -> Result<PeerBook, String> {
    let mut book = PeerBook::new(config.key.public(), salt()?);
    for text in &config.bootstrap {
        match addresses::with_peer(text) {
            Ok((peer, address)) => {
                if let Some(node) = node_of(&peer) {
                    book.learn(node, &[address.to_string()], Origin::Bootstrap);
                }
            }
            Err(e) => tracing::warn!("failed to understand bootstrap peer {text:?}: {e}; skipped"),
        }
    }
    if let Some(text) = config.data_dir.as_deref().and_then(file::load) {
        match book.remember(&text) {
            Some(count) => tracing::debug!(count, "peers remembered"),
            None => tracing::warn!("failed to read the remembered peers: another format; skipped"),
        }
    }
    book.take_changed();
    Ok(book)
}
