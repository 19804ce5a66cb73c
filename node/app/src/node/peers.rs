//! Peers: gossip out, gossip in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openledger_swarm::{Acceptance, Swarm, SwarmConfig, SwarmError, SwarmEvent, SwarmHandle};
use openledger_wire::gossip::{GossipedProof, TOPIC_NODES, TOPIC_PROOFS};
use openledger_wire::profile::Profile;
use openledger_wire::{Envelope, NodeId, NodeKey, decode, limits};
use thiserror::Error;
use tokio::sync::mpsc;

use super::Node;
use super::start::folder_bytes;
use crate::conduct::Conduct;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::gossip::{Admission, Admit, announcement, gossiped_proof};
use crate::time;

/// Why peers could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeersError {
    /// libp2p did not start.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// The folder of remembered peers.
    #[error(transparent)]
    File(#[from] DataDirError),
}

/// The node's part in libp2p.
pub struct Peers {
    handle: SwarmHandle,
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
    pub async fn start(
        data: &DataDir,
        config: &Config,
        profile: &Profile,
        key: &NodeKey,
        admission: Arc<Admission>,
        conduct: Arc<dyn Conduct>,
    ) -> Result<Self, PeersError> {
        let mut swarm = SwarmConfig::new(key.clone(), profile.network())
            .listen_on(config.network.bind, config.network.peer_port);
        swarm.bootstrap = profile.bootstrap.iter().map(|peer| peer.to_string()).collect();
        swarm.bootstrap.extend(config.network.peers.iter().cloned());
        swarm.data_dir = Some(data.make("peers")?);
        swarm.mdns = config.network.mdns;
        if profile.is_local() {
            // Many nodes of one machine share its address and can all be dialled.
            swarm.reachable = true;
            swarm.colocation = None;
        }
        let (handle, events) = Swarm::start(swarm, Arc::new(Gate(admission))).await?;
        tokio::spawn(listen(events, conduct));
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

    /// Leaves.
    pub async fn stop(&self) {
        self.handle.shutdown().await;
    }
}

/// Gossip was judged before it came here. An honest node needs none of it; others may.
async fn listen(mut events: mpsc::Receiver<SwarmEvent>, conduct: Arc<dyn Conduct>) {
    while let Some(event) = events.recv().await {
        let SwarmEvent::Gossip { topic, bytes, .. } = event else { continue };
        if topic != TOPIC_PROOFS {
            continue;
        }
        if let Ok(GossipedProof::Whole(proof)) = decode(&bytes, limits::GOSSIP_MAX) {
            conduct.heard(&proof);
        }
    }
}

impl Node {
    /// Publishes a proof, in the background.
    pub(crate) fn gossip_proof(self: &Arc<Self>, envelope: Envelope) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let network = node.network.profile.network();
            let made = gossiped_proof(&envelope, &node.key, network, &node.options.reach);
            let (message, blob) = match made {
                Ok(made) => made,
                Err(error) => return tracing::warn!("failed to {error}"),
            };
            if let Some(blob) = blob
                && let Err(error) = node.blobs.put(blob.into()).await
            {
                return tracing::warn!("failed to {error}");
            }
            match node.peers.handle.publish(TOPIC_PROOFS, message.into()).await {
                Ok(()) => {
                    node.gossiped.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => tracing::debug!("a proof was not gossiped: {error}"),
            }
        });
    }

    /// Tells peers where this node's blobs are, and looks at the disk; in the background.
    pub(crate) fn announce(self: &Arc<Self>) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let network = node.network.profile.network();
            let (reach, kinds) = (&node.options.reach, &node.options.kinds);
            match announcement(&node.key, network, time::now(), reach, kinds) {
                Ok(message) => {
                    if let Err(error) = node.peers.handle.publish(TOPIC_NODES, message.into()).await
                    {
                        tracing::debug!("no announcement: {error}");
                    }
                }
                Err(error) => tracing::warn!("failed to {error}"),
            }
            let folder = node.options.blob_folder.clone();
            let bytes = tokio::task::spawn_blocking(move || folder_bytes(&folder)).await;
            node.disk_bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
        });
    }
}
