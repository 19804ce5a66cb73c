//! The running node: link, gossip, blobs, workers and outbox, tied together.
//!
//! Nothing here decides about trust or money. Leases come in, are checked, worked on, promised
//! through the outbox and sent; what the coordinator says goes through the outbox too.

mod account;
mod cleaning;
mod jobs;
mod links;
mod peers;
mod sending;
mod start;
mod state;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openledger_outbox::{Action, Event, Handled, Key, Outbox, OutboxError};
use openledger_swarm::{Blobs, LinkClient};
use openledger_wire::{Envelope, NodeId, NodeKey};
use tokio::sync::{RwLock, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::gossip::Admission;
use crate::identity::{Public, Statements};
use crate::network::Network;
use crate::tasks::Bench;
use crate::time;

pub use peers::Peers;
pub use start::{OnReady, RunError, RunOptions, run};
pub use state::{BlobCounts, Earnings, LinkState, Mode, Status, WorkCounts};

pub(crate) use start::outbox_path;

/// What the parts of a running node share.
pub struct Node {
    pub(crate) network: Network,
    pub(crate) public: Public,
    pub(crate) key: NodeKey,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) bench: Bench,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) link: Option<LinkClient>,
    pub(crate) peers: Peers,
    pub(crate) admission: Arc<Admission>,
    pub(crate) statements: Statements,
    pub(crate) options: NodeOptions,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) stop: CancellationToken,
    pub(crate) sender: mpsc::Sender<sending::Item>,
    pub(crate) shared: Mutex<state::Shared>,
    /// Leases that a job of this process is at.
    pub(crate) in_hand: Mutex<BTreeSet<Key>>,
    /// Items on their way over the link.
    pub(crate) in_flight: Mutex<BTreeSet<(sending::What, Key)>>,
    /// Inputs that were in a worker's hand, with others, when it died: they run alone.
    pub(crate) suspects: Mutex<BTreeSet<Key>>,
    pub(crate) alone: RwLock<()>,
    pub(crate) fetch_slots: Semaphore,
    pub(crate) refine_slots: Semaphore,
    pub(crate) gossiped: AtomicU64,
    pub(crate) disk_bytes: AtomicU64,
}

/// What of the configuration a running node looks at.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// Task kinds offered, as codes.
    pub(crate) kinds: Vec<u8>,
    /// Blobs may take this much disk.
    pub(crate) disk_bytes_max: u64,
    /// Where peers reach this node's blobs.
    pub(crate) reach: Vec<std::net::SocketAddr>,
    /// Where blobs are kept.
    pub(crate) blob_folder: std::path::PathBuf,
    /// Proofs go by gossip instead of over the link.
    pub(crate) proofs_by_gossip: bool,
}

impl Node {
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.public.node
    }

    /// Uses the outbox off the reactor, because it syncs to disk.
    pub(crate) async fn outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let outbox = Arc::clone(&self.outbox);
        match tokio::task::spawn_blocking(move || work(&outbox)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Applies events and does what follows from them.
    pub(crate) async fn events(self: &Arc<Self>, events: Vec<(Key, Event)>) {
        if events.is_empty() {
            return;
        }
        let handled = self.outbox(move |outbox| outbox.events(time::now(), &events)).await;
        self.handle(handled);
    }

    /// Does what a batch of events led to.
    pub(crate) fn handle(self: &Arc<Self>, handled: Result<Handled, OutboxError>) {
        match handled {
            Ok(handled) => {
                for refused in &handled.refused {
                    tracing::debug!(lease = ?refused.key.map(|key| key.to_string()), "not applied: {}", refused.why);
                }
                self.act(handled.actions);
            }
            Err(error) => self.outbox_failed(&error),
        }
    }

    /// Starts everything that the outbox asks for. Never waits.
    pub(crate) fn act(self: &Arc<Self>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Work(leased) => self.begin(*leased),
                Action::SendCommit { key, envelope } => {
                    self.send(sending::Item::Commit(key, envelope));
                }
                Action::SendProof { key, envelope, .. } => match self.conducted(envelope) {
                    Some(envelope) if self.options.proofs_by_gossip => self.gossip_proof(envelope),
                    Some(envelope) => self.send(sending::Item::Proof(key, envelope)),
                    None => {}
                },
                Action::GossipProof { envelope, .. } => {
                    if let Some(envelope) = self.conducted(envelope) {
                        self.gossip_proof(envelope);
                    }
                }
                Action::Decline(declined) => self.send(sending::Item::Decline(declined)),
            }
        }
    }

    /// The proof as this node's conduct sends it.
    fn conducted(&self, proof: Envelope) -> Option<Envelope> {
        self.bench.conduct.proof(proof, &self.key, self.network.profile.network())
    }

    /// A disk that does not keep what is promised ends the node: better late than lying.
    pub(crate) fn outbox_failed(&self, error: &OutboxError) {
        tracing::error!("failed to {error}");
        self.shared().fatal = Some(error.to_string());
        self.stop.cancel();
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, state::Shared> {
        lock(&self.shared)
    }

    /// What the node does at the moment.
    #[must_use]
    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
