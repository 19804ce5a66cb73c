//! The node in one network: a link, an outbox, peers, and what was earned there.
//!
//! Nothing of one network reaches another: leases, running numbers, promises, receipts and sums are
//! in the enrolment's own outbox, whose file names network and node; what is signed carries the
//! network's id.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use openledger_outbox::{Action, Event, Handled, Key, Outbox, OutboxError};
use openledger_swarm::LinkClient;
use openledger_wire::{Envelope, NodeId};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::introduction::Introduction;
use super::machine::{Machine, Slots};
use super::{Mode, Peers, lock, sending, state};
use crate::gossip::Admission;
use crate::identity::Statements;
use crate::network::Network;
use crate::serving::Offers;
use crate::tasks::Bench;
use crate::time;

/// The node in one network.
pub struct Enrolment {
    pub(crate) machine: Arc<Machine>,
    pub(crate) network: Network,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) bench: Bench,
    /// What the coordinator is told of this node.
    pub(crate) introduction: Arc<Introduction>,
    pub(crate) link: Option<LinkClient>,
    pub(crate) peers: Peers,
    pub(crate) admission: Arc<Admission>,
    /// What peers of this network hold and serve.
    pub(crate) offers: Arc<Offers>,
    /// Asks for an announcement soon.
    pub(crate) announcing: Arc<Notify>,
    pub(crate) statements: Statements,
    /// Where peers of this network reach this node's blobs.
    pub(crate) reach: Vec<SocketAddr>,
    /// Proofs go by gossip instead of over the link.
    pub(crate) proofs_by_gossip: bool,
    pub(crate) mode: watch::Sender<Mode>,
    /// Ends the node's part in this network.
    pub(crate) stop: CancellationToken,
    pub(crate) sender: mpsc::Sender<sending::Item>,
    pub(crate) shared: Mutex<state::Shared>,
    /// Leases that a job of this process is at.
    pub(crate) in_hand: Mutex<BTreeSet<Key>>,
    /// Items on their way over the link.
    pub(crate) in_flight: Mutex<BTreeSet<(sending::What, Key)>>,
    /// Inputs that were in a worker's hand, with others, when it died: they run alone.
    pub(crate) suspects: Mutex<BTreeSet<Key>>,
    /// Leases of this network that are at a worker or next in line for one.
    pub(crate) queues: Slots,
    pub(crate) gossiped: AtomicU64,
}

impl Enrolment {
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.machine.public.node
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
                    Some(envelope) if self.proofs_by_gossip => self.gossip_proof(envelope),
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
        self.bench.conduct.proof(proof, &self.machine.key, self.network.profile.network())
    }

    /// A disk that does not keep what is promised ends the node: better late than lying.
    pub(crate) fn outbox_failed(&self, error: &OutboxError) {
        self.machine.fail(error.to_string());
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, state::Shared> {
        lock(&self.shared)
    }

    /// What the node does in this network at the moment.
    #[must_use]
    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }
}
