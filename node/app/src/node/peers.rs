//! Peers: gossip out, gossip in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openledger_swarm::{Acceptance, Swarm, SwarmConfig, SwarmError, SwarmEvent, SwarmHandle};
use openledger_wire::gossip::{Announcement, GossipedProof, TOPIC_NODES, TOPIC_PROOFS};
use openledger_wire::profile::Profile;
use openledger_wire::{Envelope, NetworkId, NodeId, NodeKey, decode, limits};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

use super::Enrolment;
use crate::conduct::Conduct;
use crate::config::Config;
use crate::gossip::{Admission, Admit, announcement, gossiped_proof};
use crate::limits as own_limits;
use crate::routing::{Guests, Line};
use crate::serving::Offers;
use crate::time;

/// Why peers could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeersError {
    /// libp2p did not start.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
}

/// The node's part in libp2p.
pub struct Peers {
    handle: SwarmHandle,
}

/// Where a network's part in libp2p lies among those of the node.
pub struct Place<'a> {
    /// What the owner configured.
    pub config: &'a Config,
    /// The network's folder.
    pub folder: &'a Path,
    /// Its number: each network has a swarm of its own, since each has its own protocols.
    pub number: u16,
    /// Whether the node is in no other network.
    pub is_only: bool,
}

impl Place<'_> {
    /// The port to listen on: the configured one for the first network, the next for the next.
    fn port(&self) -> u16 {
        match self.config.network.peer_port {
            0 => 0,
            first => first.saturating_add(self.number),
        }
    }
}

/// Our decision in the swarm's words.
struct Gate(Arc<Admission>);

impl openledger_swarm::Admission for Gate {
    fn gossip(&self, topic: &str, source: NodeId, bytes: &[u8]) -> Acceptance {
        match self.0.judge(topic, source, bytes, time::now()) {
            Admit::Accept => Acceptance::Accept,
            Admit::Reject => Acceptance::Reject,
            Admit::Ignore => Acceptance::Ignore,
        }
    }
}

impl Peers {
    /// Joins the peers of a network.
    ///
    /// # Errors
    /// [`PeersError`].
    pub(super) async fn start(
        place: &Place<'_>,
        profile: &Profile,
        key: &NodeKey,
        admission: Arc<Admission>,
        hearing: Hearing,
    ) -> Result<Self, PeersError> {
        let config = &place.config.network;
        let mut swarm =
            SwarmConfig::new(key.clone(), profile.network()).listen_on(config.bind, place.port());
        swarm.bootstrap = profile.bootstrap.iter().map(|peer| peer.to_string()).collect();
        if place.number == 0 {
            swarm.bootstrap.extend(config.peers.iter().cloned());
        }
        swarm.data_dir = Some(place.folder.join("peers"));
        // An announcement in the local network does not say which network it is for. With several,
        // peers would meet the wrong one of this node's swarms under its one key, and shun both.
        swarm.mdns = config.mdns && place.is_only;
        if profile.is_local() {
            // Many nodes of one machine share its address and can all be dialled.
            swarm.reachable = true;
            swarm.colocation = None;
        }
        let (handle, events) = Swarm::start(swarm, Arc::new(Gate(admission))).await?;
        tokio::spawn(hearing.listen(events));
        Ok(Self { handle })
    }

    /// Connected peers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.handle.peers().len() as u64
    }

    /// Where libp2p listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.handle.listen_addresses()
    }

    /// The way to peers for requests.
    pub(super) fn line(&self) -> Arc<dyn Line> {
        Arc::new(self.handle.clone())
    }

    /// Leaves.
    pub async fn stop(&self) {
        self.handle.shutdown().await;
    }
}

/// Who wants to know what peers say.
pub(super) struct Hearing {
    pub(super) network: NetworkId,
    pub(super) conduct: Arc<dyn Conduct>,
    pub(super) offers: Arc<Offers>,
    pub(super) announcing: Arc<Notify>,
    pub(super) guests: Arc<Guests>,
}

impl Hearing {
    /// Gossip was judged before it came here: offers are remembered, proofs are for conducts.
    async fn listen(self, mut events: mpsc::Receiver<SwarmEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                SwarmEvent::Gossip { topic, bytes, .. } => self.gossip(&topic, &bytes),
                // Who is new has heard nothing yet.
                SwarmEvent::Connected(_) => self.announcing.notify_one(),
                SwarmEvent::Request { peer, bytes, answer } => {
                    // As many at a time as the swarm lets in.
                    let guests = Arc::clone(&self.guests);
                    tokio::spawn(async move {
                        if let Some(bytes) = guests.answer(peer, &bytes).await {
                            answer.send(bytes);
                        }
                    });
                }
                _ => {}
            }
        }
    }

    fn gossip(&self, topic: &str, bytes: &[u8]) {
        match topic {
            TOPIC_PROOFS => {
                if let Ok(GossipedProof::Whole(proof)) = decode(bytes, limits::GOSSIP_MAX) {
                    self.conduct.heard(&proof);
                }
            }
            TOPIC_NODES => {
                if let Ok(envelope) = decode::<Envelope>(bytes, limits::GOSSIP_MAX)
                    && let Ok(said) = envelope.open::<Announcement>(self.network)
                {
                    self.offers.heard(said.signer, &said.value, time::now());
                }
            }
            _ => {}
        }
    }
}

impl Enrolment {
    /// Publishes a proof, in the background.
    pub(crate) fn gossip_proof(self: &Arc<Self>, envelope: Envelope) {
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let network = own.network.profile.network();
            let made = gossiped_proof(&envelope, &own.machine.key, network, &own.reach);
            let (message, blob) = match made {
                Ok(made) => made,
                Err(error) => return tracing::warn!("failed to {error}"),
            };
            if let Some(blob) = blob
                && let Err(error) = own.machine.blobs.put(blob.into()).await
            {
                return tracing::warn!("failed to {error}");
            }
            match own.peers.handle.publish(TOPIC_PROOFS, message.into()).await {
                Ok(()) => {
                    own.gossiped.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => tracing::debug!("a proof was not gossiped: {error}"),
            }
        });
    }

    /// Tells peers from time to time where this node's blobs are and which models it serves, and
    /// soon after that changed or somebody new came; ends with the network.
    pub(crate) async fn keep_announced(self: Arc<Self>) {
        let mut changes = self.machine.models.changes();
        let mut wait = own_limits::ANNOUNCE_LINGER;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.announcing.notified() => {
                    tokio::time::sleep(own_limits::ANNOUNCE_LINGER).await;
                }
                // The sender lives as long as the node.
                _ = changes.changed() => {
                    tokio::time::sleep(own_limits::ANNOUNCE_LINGER).await;
                }
            }
            let heard = self.announce().await;
            self.machine.measure_disk().await;
            tokio::time::sleep(own_limits::ANNOUNCE_GAP).await;
            // Without peers, or before they take part in the topic, nobody heard it.
            wait = if heard { own_limits::ANNOUNCE_EVERY } else { own_limits::ANNOUNCE_GAP };
        }
    }

    /// Tells peers; says whether any took it.
    async fn announce(&self) -> bool {
        let network = self.network.profile.network();
        let (reach, kinds) = (&self.reach, &self.machine.kinds());
        let offers = self.machine.models.shared_offers();
        match announcement(&self.machine.key, network, time::now(), reach, kinds, offers) {
            Ok(message) => {
                let published = self.peers.handle.publish(TOPIC_NODES, message.into()).await;
                if let Err(error) = &published {
                    tracing::debug!("no announcement: {error}");
                }
                published.is_ok()
            }
            Err(error) => {
                tracing::warn!("failed to {error}");
                true
            }
        }
    }

    /// Gets the base model that the owner wants served, if it is not here; ends with the network.
    pub(crate) async fn keep_base(self: Arc<Self>) {
        let models = &self.machine.models;
        let name = models.config.base.clone();
        if name.is_empty() {
            return;
        }
        let mut due = tokio::time::interval(own_limits::ANNOUNCE_GAP);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            due.tick().await;
            if models.library.find(&name).is_ok_and(|entry| entry.problem.is_none()) {
                continue;
            }
            let got = match models.wanted(&name, std::slice::from_ref(&self.offers)) {
                Ok((offer, holders)) => models.obtain(&offer, &holders).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = got {
                let error = error.to_string();
                if error != told {
                    tracing::warn!("failed to {error}; trying again");
                    told = error;
                }
            }
        }
    }
}
