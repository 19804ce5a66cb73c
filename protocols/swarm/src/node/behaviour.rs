//! All protocols of a node, put together. Limits come first, so that a refused connection costs
//! the others nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity,
    TopicHash, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::metrics::Registry;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, autonat, dcutr, identify, kad, mdns, memory_connection_limits, ping,
    relay,
};
use openledger_wire::NetworkId;

use super::codec::Opaque;
use super::config::SwarmConfig;
use super::score;
use crate::defaults::node as defaults;

/// The router with its filter: only topics of this network exist.
pub(super) type Gossip = gossipsub::Behaviour<
    IdentityTransform,
    MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>,
>;

/// All protocols.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) memory: memory_connection_limits::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<BlockedPeers>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) gossip: Gossip,
    pub(super) requests: request_response::Behaviour<Opaque>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) autonat_client: autonat::v2::client::Behaviour,
    pub(super) autonat_server: Toggle<autonat::v2::server::Behaviour>,
    pub(super) relay_client: relay::client::Behaviour,
    pub(super) relay_server: Toggle<relay::Behaviour>,
    pub(super) dcutr: dcutr::Behaviour,
}

/// What a peer must call its protocol in identify to be of our network.
pub(super) fn protocol_version(network: &NetworkId) -> String {
    format!("openledger/1/{network}")
}

fn protocol(name: &str, network: &NetworkId) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(format!("/openledger/{name}/1/{network}"))
        .map_err(|e| e.to_string())
}

/// The network's own names of topics, and back.
pub(super) fn topics(config: &SwarmConfig) -> BTreeMap<TopicHash, String> {
    let hash = |topic: &String| topic_of(topic, &config.network).hash();
    config.topics.iter().map(|topic| (hash(topic), topic.clone())).collect()
}

/// A topic as the network names it.
pub(super) fn topic_of(topic: &str, network: &NetworkId) -> IdentTopic {
    IdentTopic::new(format!("{topic}/{network}"))
}

/// Puts the protocols together.
pub(super) fn build(
    config: &SwarmConfig,
    key: &Keypair,
    relay_client: relay::client::Behaviour,
    trusted: &[PeerId],
    registry: &mut Registry,
) -> Result<Behaviour, String> {
    let me = key.public().to_peer_id();
    let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me));
    let mdns = match mdns.transpose() {
        Ok(mdns) => mdns,
        Err(e) => {
            tracing::warn!("failed to look around in the local network: {e}; going on without");
            None
        }
    };
    let relay_server = config.relay_server.then(|| {
        let mut relay = relay::Behaviour::new(me, relay_config());
        relay.set_status(Some(relay_status(config.is_surely_reachable())));
        relay
    });
    let autonat_server = config.autonat_server.then(autonat::v2::server::Behaviour::default);
    let requests = request_response::Config::default()
        .with_request_timeout(Duration::from_millis(defaults::REQUEST_MS_MAX))
        .with_max_concurrent_streams(defaults::REQUEST_STREAMS_MAX);
    let request_protocol = (protocol("request", &config.network)?, ProtocolSupport::Full);
    let ping = ping::Config::new().with_interval(Duration::from_millis(defaults::PING_MS));
    Ok(Behaviour {
        limits: connection_limits(config, trusted),
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.limits.memory_bytes_max),
        blocked: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(
            identify::Config::new(protocol_version(&config.network), key.public())
                .with_agent_version(config.agent.clone())
                .with_interval(Duration::from_millis(defaults::IDENTIFY_MS))
                .with_push_listen_addr_updates(true)
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::new(ping),
        kad: kad_behaviour(config, me)?,
        gossip: gossip(config, key, registry)?,
        requests: request_response::Behaviour::new([request_protocol], requests),
        mdns: mdns.into(),
        autonat_client: autonat::v2::client::Behaviour::default(),
        autonat_server: autonat_server.into(),
        relay_client,
        relay_server: relay_server.into(),
        dcutr: dcutr::Behaviour::new(me),
    })
}

fn connection_limits(config: &SwarmConfig, trusted: &[PeerId]) -> connection_limits::Behaviour {
    let l = &config.limits;
    let limits = ConnectionLimits::default()
        .with_max_established(Some(l.established_max))
        .with_max_established_incoming(Some(l.established_incoming_max))
        .with_max_established_per_peer(Some(l.established_per_peer_max))
        .with_max_pending_outgoing(Some(l.pending_outgoing_max))
        .with_max_pending_incoming(Some(l.pending_incoming_max));
    let mut behaviour = connection_limits::Behaviour::new(limits);
    for peer in trusted {
        behaviour.bypass_peer_id(peer);
    }
    behaviour
}

fn kad_behaviour(config: &SwarmConfig, me: PeerId) -> Result<kad::Behaviour<MemoryStore>, String> {
    // The table finds peers; nobody stores records with us.
    let store = MemoryStoreConfig {
        max_records: 0,
        max_value_bytes: 0,
        max_providers_per_key: 0,
        max_provided_keys: 0,
    };
    let mut table = kad::Config::new(protocol("kad", &config.network)?);
    table
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .disjoint_query_paths(true)
        .set_query_timeout(Duration::from_millis(defaults::KAD_QUERY_MS_MAX))
        .set_periodic_bootstrap_interval(Some(Duration::from_millis(defaults::KAD_REFRESH_MS)));
    let mut behaviour = kad::Behaviour::with_config(me, MemoryStore::with_config(me, store), table);
    behaviour.set_mode(Some(table_mode(config.is_surely_reachable())));
    Ok(behaviour)
}

/// Only who can be dialled serves the table. Not left to the library: for it an address through a
/// relay would do.
pub(super) fn table_mode(reachable: bool) -> kad::Mode {
    if reachable { kad::Mode::Server } else { kad::Mode::Client }
}

/// Only who can be dialled relays; see [`table_mode`].
pub(super) fn relay_status(reachable: bool) -> relay::Status {
    if reachable { relay::Status::Enable } else { relay::Status::Disable }
}

fn gossip(config: &SwarmConfig, key: &Keypair, registry: &mut Registry) -> Result<Gossip, String> {
    let names = topics(config);
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(names.keys().cloned().collect()),
        max_subscribed_topics: names.len().max(1),
        max_subscriptions_per_request: names.len().max(1) * 2,
    };
    let authenticity = MessageAuthenticity::Signed(key.clone());
    let mut gossip = Gossip::new_with_subscription_filter(authenticity, score::config()?, filter)?
        .with_metrics(
            registry.sub_registry_with_prefix("gossipsub"),
            gossipsub::MetricsConfig::default(),
        );
    gossip.with_peer_score(
        score::params(names.keys().cloned(), config.colocation),
        score::thresholds(),
    )?;
    for topic in names.values() {
        gossip.subscribe(&topic_of(topic, &config.network)).map_err(|e| format!("{e:?}"))?;
    }
    Ok(gossip)
}

fn relay_config() -> relay::Config {
    relay::Config {
        max_reservations: defaults::RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: defaults::RELAY_RESERVATIONS_PER_PEER_MAX,
        reservation_duration: Duration::from_millis(defaults::RELAY_RESERVATION_MS),
        max_circuits: defaults::RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: defaults::RELAY_CIRCUITS_PER_PEER_MAX,
        max_circuit_bytes: defaults::RELAY_CIRCUIT_BYTES_MAX,
        max_circuit_duration: Duration::from_millis(defaults::RELAY_CIRCUIT_MS_MAX),
        // The rates per peer and per address are the library's: 30 in two minutes, 60 in one.
        ..relay::Config::default()
    }
}
