//! What the protocols report, and what the node makes of it.

use std::cmp::Reverse;

use bytes::Bytes;
use futures::FutureExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::metrics::Recorder;
use libp2p::multiaddr::Protocol;
use libp2p::relay::client::Event as RelayEvent;
use libp2p::request_response::{self, Message};
use libp2p::swarm::{DialError, SwarmEvent as Event};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identify, kad, mdns, relay};
use openledger_wire::limits::GOSSIP_MAX;
use tokio::sync::oneshot;

use super::addresses::{self, ip_of, is_plausible, is_relayed, node_of};
use super::behaviour::{BehaviourEvent, protocol_version};
use super::handle::{Acceptance, Answer, PeerInfo, RequestError, SwarmEvent};
use super::run::{Runner, now};
use crate::defaults::node as defaults;
use crate::peers::Origin;

/// Where a connection leads; for a call that a relay took for us, to that relay.
pub(super) fn remote(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            bare(local_addr.clone())
        }
        _ => bare(endpoint.get_remote_address().clone()),
    }
}

impl Runner {
    /// Takes one report of the swarm.
    pub(super) fn on_event(&mut self, event: Event<BehaviourEvent>) {
        self.metrics.record(&event);
        match event {
            Event::Behaviour(event) => self.on_protocol(event),
            Event::NewListenAddr { address, .. } => {
                if self.reachable && !is_relayed(&address) {
                    self.swarm.add_external_address(address.clone());
                }
                self.view.lock().listen.push(address);
            }
            Event::ExpiredListenAddr { address, .. } => {
                self.view.lock().listen.retain(|a| *a != address);
            }
            Event::ListenerClosed { listener_id, addresses, reason } => {
                if self.reach.closed(listener_id, now()) {
                    tracing::debug!(?reason, "a relay takes no calls for us any more");
                }
                self.view.lock().listen.retain(|a| !addresses.contains(a));
            }
            Event::ExternalAddrConfirmed { address } => self.on_external(address),
            Event::ExternalAddrExpired { address } => self.on_external_lost(&address),
            Event::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection(peer_id, &endpoint);
                self.link(peer_id, connection_id, &endpoint);
            }
            Event::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.unlink(&peer_id, connection_id);
                if num_established == 0 {
                    self.on_left(peer_id);
                }
            }
            Event::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                let already = matches!(error, DialError::DialPeerConditionFalse(_));
                if already || self.swarm.is_connected(&peer) {
                    return;
                }
                if let Some(node) = node_of(&peer) {
                    self.book.failed(node, now());
                    tracing::debug!(%node, "failed to dial: {error}");
                }
            }
            _ => {}
        }
    }

    fn on_protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(event) => {
                self.metrics.record(&event);
                if let identify::Event::Received { peer_id, info, .. } = event {
                    self.on_identified(peer_id, info);
                }
            }
            BehaviourEvent::Gossip(event) => {
                self.metrics.record(&event);
                if let gossipsub::Event::Message { propagation_source, message_id, message } = event
                {
                    self.on_gossip(propagation_source, &message_id, message);
                }
            }
            BehaviourEvent::Kad(event) => {
                self.metrics.record(&event);
                self.on_table(event);
            }
            BehaviourEvent::Requests(event) => self.on_request(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.learn(peer, std::slice::from_ref(&address), ip_of(&address));
                }
            }
            // A good one is reported as an external address.
            BehaviourEvent::AutonatClient(test) if test.result.is_err() => {
                self.reach.test_failed(&test.tested_addr, now());
            }
            BehaviourEvent::RelayClient(RelayEvent::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => self.reach.reserved(&relay_peer_id),
            BehaviourEvent::Ping(event) => self.metrics.record(&event),
            BehaviourEvent::Dcutr(event) => self.metrics.record(&event),
            BehaviourEvent::RelayServer(event) => self.metrics.record(&event),
            _ => {}
        }
    }

    /// Notes a connection; the peer counts only once it has said that it is of our network.
    fn on_connection(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        let Some(node) = node_of(&peer) else {
            // Not an ed25519 key, so no node.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        let since = now();
        let info = PeerInfo {
            node,
            address: remote(endpoint).to_string(),
            outbound: endpoint.is_dialer(),
            agent: String::new(),
            since,
        };
        self.greeted.entry(node).or_insert(info);
    }

    fn on_left(&mut self, peer: PeerId) {
        let Some(node) = node_of(&peer) else { return };
        self.greeted.remove(&node);
        self.reach.withdrawn(&peer);
        let known = self.view.lock().peers.remove(&node).is_some();
        if known {
            self.book.disconnected(node, now());
            self.emit(SwarmEvent::Disconnected(node));
        } else {
            self.book.failed(node, now());
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(node) = node_of(&peer) else { return };
        if info.protocol_version != protocol_version(&self.network) {
            self.counters.other_network.inc();
            self.ban(node, defaults::OTHER_NETWORK_BAN_MS);
            let _ = self.swarm.disconnect_peer_id(peer);
            let theirs = info.protocol_version.chars().take(128).collect();
            self.emit(SwarmEvent::OtherNetwork { peer: node, theirs });
            return;
        }
        let Some(greeted) = self.greeted.get_mut(&node) else { return };
        greeted.agent = info.agent_version.chars().take(64).collect();
        let greeted = greeted.clone();
        let seen_from = greeted.address.parse().ok().as_ref().and_then(ip_of);
        let named: Vec<Multiaddr> =
            info.listen_addrs.into_iter().filter(|a| is_plausible(a, seen_from)).collect();
        let offers = |name: &StreamProtocol| info.protocols.contains(name);
        let serves_table = self.swarm.behaviour().kad.protocol_names().iter().any(offers);
        let direct = || named.iter().filter(|a| !is_relayed(a));
        if serves_table {
            for address in direct() {
                self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
            }
        }
        // Others call us under the relay's address, so the one that reaches farthest.
        let farthest = direct().min_by_key(|a| Reverse(ip_of(a).map_or(2, addresses::reach)));
        match farthest.filter(|_| offers(&relay::HOP_PROTOCOL_NAME)) {
            Some(address) => self.reach.offered(peer, address.clone()),
            None => self.reach.withdrawn(&peer),
        }
        self.learn(peer, &named, seen_from);
        let dialled = greeted.outbound.then(|| greeted.address.clone());
        self.book.connected(node, dialled, now());
        let new = self.view.lock().peers.insert(node, greeted).is_none();
        if new {
            self.emit(SwarmEvent::Connected(node));
        }
    }

    fn learn(&mut self, peer: PeerId, named: &[Multiaddr], seen_from: Option<std::net::IpAddr>) {
        let Some(node) = node_of(&peer) else { return };
        let plausible = named.iter().filter(|a| is_plausible(a, seen_from));
        let texts: Vec<String> = plausible.map(|a| bare(a.clone()).to_string()).collect();
        if !texts.is_empty() {
            self.book.learn(node, &texts, Origin::Heard);
        }
    }

    fn on_gossip(&mut self, via: PeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        let author = message.source.as_ref().and_then(node_of);
        let topic = self.topics.get(&message.topic).cloned();
        let acceptance = match (&topic, author) {
            (Some(topic), Some(author)) if message.data.len() <= GOSSIP_MAX => {
                self.admission.gossip(topic, author, &message.data)
            }
            (Some(_), _) => Acceptance::Reject,
            (None, _) => Acceptance::Ignore,
        };
        let (verdict, counter) = match acceptance {
            Acceptance::Accept => (MessageAcceptance::Accept, &self.counters.accepted),
            Acceptance::Reject => (MessageAcceptance::Reject, &self.counters.rejected),
            Acceptance::Ignore => (MessageAcceptance::Ignore, &self.counters.ignored),
        };
        counter.inc();
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &via, verdict);
        let Some(via) = node_of(&via) else { return };
        match (acceptance, topic, author) {
            (Acceptance::Accept, Some(topic), Some(author)) => {
                let bytes = Bytes::from(message.data);
                self.emit(SwarmEvent::Gossip { topic, author, via, bytes });
            }
            (Acceptance::Reject, ..) => {
                if let Some(ms) = self.book.strike(via, now()) {
                    self.counters.bans.inc();
                    tracing::info!(node = %via, ms, "peer banned for invalid messages");
                    self.ban(via, ms);
                }
            }
            _ => {}
        }
    }

    fn on_table(&mut self, event: kad::Event) {
        use kad::{GetClosestPeersError as Failed, QueryResult};
        let found = match event {
            kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetClosestPeers(result),
                ..
            } => match result {
                Ok(found) => found.peers,
                Err(Failed::Timeout { peers, .. }) => peers,
            },
            _ => return,
        };
        // Hearsay may name addresses that reach as far as our own, not less.
        let own = {
            let view = self.view.lock();
            view.listen.iter().filter_map(ip_of).max_by_key(|ip| addresses::reach(*ip))
        };
        for info in found {
            self.learn(info.peer_id, &info.addrs, own);
        }
    }

    fn on_request(&mut self, event: request_response::Event<Bytes, Bytes>) {
        use request_response::Event as E;
        match event {
            E::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(node) = node_of(&peer) else { return };
                if self.answers.len() >= defaults::REQUESTS_IN_MAX {
                    self.counters.dropped.inc();
                    return;
                }
                let (sender, answer) = oneshot::channel();
                let answer_to = Answer(sender);
                self.emit(SwarmEvent::Request { peer: node, bytes: request, answer: answer_to });
                self.answers.push(async move { (channel, answer.await.ok()) }.boxed());
            }
            E::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some((_, reply)) = self.asked.remove(&request_id) {
                    let _ = reply.send(Ok(response));
                }
            }
            E::OutboundFailure { request_id, error, .. } => {
                if let Some((node, reply)) = self.asked.remove(&request_id) {
                    let reason = error.to_string();
                    let _ = reply.send(Err(RequestError::Failed { node, reason }));
                }
            }
            _ => {}
        }
    }

    /// Tells the application; what it does not read in time is dropped and counted.
    fn emit(&self, event: SwarmEvent) {
        if self.events.try_send(event).is_err() {
            self.counters.dropped.inc();
        }
    }
}

/// An address without the peer id at its end.
fn bare(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}
