//! What a node of the swarm needs to start.

use std::net::IpAddr;
use std::path::PathBuf;

use openledger_wire::gossip::{TOPIC_HEADS, TOPIC_NODES, TOPIC_PROOFS};
use openledger_wire::{NetworkId, NodeKey};

use crate::defaults::{gossip, node as defaults};

/// Bounds of a node; [`SwarmLimits::default`] gives those of [`crate::defaults::node`].
#[derive(Clone, Copy, Debug)]
pub struct SwarmLimits {
    /// Connections in all.
    pub established_max: u32,
    /// Of these, opened by others.
    pub established_incoming_max: u32,
    /// Connections with one peer.
    pub established_per_peer_max: u32,
    /// Dials in progress.
    pub pending_outgoing_max: u32,
    /// Handshakes begun by others in progress.
    pub pending_incoming_max: u32,
    /// Bytes of process memory above which no new connection is accepted.
    pub memory_bytes_max: usize,
    /// Connections below which the node looks for more.
    pub peers_target: usize,
}

impl Default for SwarmLimits {
    fn default() -> Self {
        Self {
            established_max: defaults::ESTABLISHED_MAX,
            established_incoming_max: defaults::ESTABLISHED_INCOMING_MAX,
            established_per_peer_max: defaults::ESTABLISHED_PER_PEER_MAX,
            pending_outgoing_max: defaults::PENDING_OUTGOING_MAX,
            pending_incoming_max: defaults::PENDING_INCOMING_MAX,
            memory_bytes_max: defaults::MEMORY_BYTES_MAX,
            peers_target: defaults::PEERS_TARGET,
        }
    }
}

/// A node's configuration. Addresses are multiaddrs as text.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The node's key: its PeerId is made of it.
    pub key: NodeKey,
    /// The network; peers of others are disconnected.
    pub network: NetworkId,
    /// Where to listen; see [`SwarmConfig::listen_on`].
    pub listen: Vec<String>,
    /// Addresses under which others surely reach this node, where it cannot know them itself.
    pub external: Vec<String>,
    /// Peers to start from, with `/p2p/`. Unreadable and dead ones are skipped with a warning.
    pub bootstrap: Vec<String>,
    /// Where `peers.txt` is kept; without it nothing is remembered.
    pub data_dir: Option<PathBuf>,
    /// Topics to take part in.
    pub topics: Vec<String>,
    /// Finds peers in the local network.
    pub mdns: bool,
    /// Carries calls for peers that cannot be dialled, while this node itself can be: then it says
    /// so to its peers, within the `RELAY_…` limits of [`crate::defaults::node`].
    pub relay_server: bool,
    /// Tests for others whether they can be dialled.
    pub autonat_server: bool,
    /// Other nodes can surely dial this one (a server, a devnet): it serves the distributed table
    /// at once and names its listen addresses as external.
    pub reachable: bool,
    /// Peers of one IP address that gossip tolerates; none turns that score off (devnets).
    pub colocation: Option<u32>,
    /// What the node calls itself, for people.
    pub agent: String,
    /// Bounds.
    pub limits: SwarmLimits,
}

impl SwarmConfig {
    /// A node with the defaults, which listens nowhere yet.
    #[must_use]
    pub fn new(key: NodeKey, network: NetworkId) -> Self {
        Self {
            key,
            network,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            data_dir: None,
            topics: [TOPIC_PROOFS, TOPIC_NODES, TOPIC_HEADS].map(str::to_owned).to_vec(),
            mdns: true,
            relay_server: false,
            autonat_server: true,
            reachable: false,
            colocation: Some(gossip::COLOCATION_THRESHOLD),
            agent: concat!("openledger/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: SwarmLimits::default(),
        }
    }

    /// Whether nobody has to test that this node can be dialled.
    pub(super) fn is_surely_reachable(&self) -> bool {
        self.reachable || !self.external.is_empty()
    }

    /// Listens on QUIC and TCP of one address and port; port 0 takes free ones. A taken QUIC port is
    /// an error; a TCP port may be shared between nodes, since it is reused for dialling out.
    #[must_use]
    pub fn listen_on(mut self, ip: IpAddr, port: u16) -> Self {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        self.listen.push(format!("/{family}/{ip}/udp/{port}/quic-v1"));
        self.listen.push(format!("/{family}/{ip}/tcp/{port}"));
        self
    }
}
