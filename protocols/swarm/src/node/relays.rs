//! What the node does about being reached: it serves and relays when others can dial it, and lets
//! relays take calls for it when they cannot. What it knows about that is in [`super::reach`].
//!
//! A relayed connection is only a beginning: DCUtR tries to open a direct one beside it, and the
//! relayed one is closed when that worked.

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use openledger_wire::UnixMs;

use super::addresses::node_of;
use super::behaviour::{relay_status, table_mode};
use super::events::remote;
use super::reach::Reachability;
use super::run::{Runner, now};
use crate::defaults::node as defaults;

/// The connections with one peer.
#[derive(Default)]
pub(super) struct Links {
    relayed: Vec<ConnectionId>,
    direct: u32,
    /// When the first of the direct ones was made.
    direct_since: UnixMs,
}

impl Runner {
    /// An own address was found good, or a relay took calls under it.
    pub(super) fn on_external(&mut self, address: Multiaddr) {
        if !self.reach.confirmed(&address) {
            self.swarm.remove_external_address(&address);
            return;
        }
        {
            let mut view = self.view.lock();
            if !view.external.contains(&address) {
                view.external.push(address);
            }
        }
        self.settle(now());
        self.tell_addresses();
    }

    /// An own address is not good any more.
    pub(super) fn on_external_lost(&mut self, address: &Multiaddr) {
        self.reach.expired(address);
        self.view.lock().external.retain(|a| a != address);
        self.settle(now());
        self.tell_addresses();
    }

    /// Once a second: acts on what is known about reaching this node.
    pub(super) fn look_outside(&mut self, now: UnixMs) {
        let anybody = !self.view.lock().peers.is_empty();
        self.reach.met(anybody, now);
        self.settle(now);
        if self.view.lock().reachability == Reachability::Hidden {
            self.reserve(now);
        }
        self.close_upgraded(now);
    }

    /// Serves and relays if others can dial us, and only then.
    fn settle(&mut self, now: UnixMs) {
        let standing = self.reach.standing(now);
        if std::mem::replace(&mut self.view.lock().reachability, standing) == standing {
            return;
        }
        tracing::info!(?standing, "whether others can dial this node");
        let reachable = standing == Reachability::Direct;
        let behaviour = self.swarm.behaviour_mut();
        behaviour.kad.set_mode(Some(table_mode(reachable)));
        if let Some(relay) = behaviour.relay_server.as_mut() {
            relay.set_status(Some(relay_status(reachable)));
        }
        if reachable {
            for listener in self.reach.give_up() {
                self.swarm.remove_listener(listener);
            }
        }
    }

    /// Asks one more relay to take calls for us.
    fn reserve(&mut self, now: UnixMs) {
        let Some((relay, address)) = self.reach.next_relay(now) else { return };
        let circuit = address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(circuit) {
            Ok(listener) => self.reach.reserving(listener, relay),
            Err(e) => {
                self.reach.refused(&relay, now);
                tracing::debug!("failed to be reached through {relay}: {e}");
            }
        }
    }

    /// Tells connected peers our addresses; the library does so for listeners only.
    fn tell_addresses(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }

    /// Notes a connection. Where a peer is, is where the direct connection leads, if there is one.
    pub(super) fn link(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let links = self.links.entry(peer).or_default();
        if endpoint.is_relayed() {
            links.relayed.push(id);
            return;
        }
        links.direct = links.direct.saturating_add(1);
        if links.direct > 1 || links.relayed.is_empty() {
            return;
        }
        links.direct_since = now();
        let Some(node) = node_of(&peer) else { return };
        let (address, outbound) = (remote(endpoint).to_string(), endpoint.is_dialer());
        let mut view = self.view.lock();
        for info in [self.greeted.get_mut(&node), view.peers.get_mut(&node)].into_iter().flatten() {
            info.address.clone_from(&address);
            info.outbound = outbound;
        }
    }

    /// Forgets a connection.
    pub(super) fn unlink(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(links) = self.links.get_mut(peer) else { return };
        match links.relayed.iter().position(|relayed| *relayed == id) {
            Some(at) => drop(links.relayed.swap_remove(at)),
            None => links.direct = links.direct.saturating_sub(1),
        }
        if links.relayed.is_empty() && links.direct == 0 {
            self.links.remove(peer);
        }
    }

    /// Closes relayed connections beside which there has been a direct one for a while.
    fn close_upgraded(&mut self, now: UnixMs) {
        for links in self.links.values() {
            let age = now.0.saturating_sub(links.direct_since.0);
            if links.direct > 0 && age >= defaults::UPGRADE_LINGER_MS {
                for id in &links.relayed {
                    self.swarm.close_connection(*id);
                }
            }
        }
    }
}
