//! What the node says of itself.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use openledger_outbox::{OutboxError, Totals};
use openledger_wire::link::AccountStatus;
use openledger_wire::{
    AccountId, Epoch, EvmAddress, Height, NetworkId, NodeId, Open, Round, UnixMs,
};
use serde::{Deserialize, Serialize};

use super::{Enrolment, lock};
use crate::routing::CallCounts;
use crate::serving::{EngineView, ModelCounts, UpstreamView};
use crate::time;

/// What the node does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Takes leases and works.
    Running,
    /// Takes no leases; gives those back that were not begun.
    Paused,
    /// Finishes what was begun, then stops.
    Finishing,
    /// Stops.
    Stopping,
}

impl Mode {
    /// The mode in a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finishing => "finishing",
            Self::Stopping => "stopping",
        }
    }
}

/// The coordinator link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Whether the node uses a link at all.
    pub used: bool,
    /// Whether there is a connection.
    pub connected: bool,
    /// Since when it is as it is.
    pub since: UnixMs,
    /// Connections so far.
    pub connections: u64,
    /// Why there is none.
    pub problem: Option<String>,
    /// The round, when last connected.
    pub round: Round,
    /// The epoch, when last connected or closed.
    pub epoch: Epoch,
    /// Height of the coordinator's log, when last connected.
    pub height: Height,
    /// This machine's clock less the coordinator's, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// Work counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCounts {
    /// Leases in a job's hand, waiting ones included.
    pub in_hand: u64,
    /// Pages fetched from the web.
    pub pages: u64,
    /// Documents made.
    pub documents: u64,
    /// Prompts of tasks answered.
    #[serde(default)]
    pub inferences: u64,
    /// Inputs fetched from peers as blobs, verified, and worked on.
    pub inputs_from_peers: u64,
}

/// Blob counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobCounts {
    /// Put by this node.
    pub put: u64,
    /// Fetched from peers and verified.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Fetches that failed.
    pub failed: u64,
    /// Requests of peers served.
    pub served: u64,
    /// Requests turned away.
    pub turned_away: u64,
}

/// Everything that `status` shows of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// What the node does.
    pub mode: Mode,
    /// Since when it runs.
    pub since: UnixMs,
    /// The network's name.
    pub network: String,
    /// Its id.
    pub network_id: NetworkId,
    /// This node.
    pub node: NodeId,
    /// Who earns.
    pub account: AccountId,
    /// Where contracts' statements come from.
    pub settlement: EvmAddress,
    /// The link.
    pub link: LinkState,
    /// Connected peers.
    pub peers: u64,
    /// Where libp2p listens.
    pub peer_addresses: Vec<String>,
    /// Where blobs can be had.
    pub blob_addresses: Vec<SocketAddr>,
    /// Kinds of work offered at the moment, by name.
    #[serde(default)]
    pub offers: Vec<String>,
    /// Work since the start.
    pub work: WorkCounts,
    /// Blobs since the start.
    pub blobs: BlobCounts,
    /// Models here, got from peers, and calls answered, since the start; of the whole node.
    #[serde(default)]
    pub models: ModelCounts,
    /// What answers calls.
    #[serde(default)]
    pub engine: EngineView,
    /// Servers of the owner that answer calls, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<UpstreamView>,
    /// Calls since the start, in all networks; they earn nothing.
    pub calls: CallCounts,
    /// Proofs and announcements published by gossip.
    pub gossiped: u64,
    /// Sums over everything this node ever did.
    pub totals: Totals,
    /// The account, as last heard.
    pub earnings: Option<Earnings>,
    /// When the node key's delegation ends.
    pub delegation_expires: UnixMs,
    /// What the owner should know.
    pub warnings: Vec<String>,
}

/// The account with what was claimed on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// When this was heard.
    pub at: UnixMs,
    /// The account, by the coordinator.
    pub account: AccountStatus,
    /// What was claimed on chain; `None` if the chain did not answer.
    pub claimed: Option<Open>,
}

/// What changes while the node runs.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) link: LinkState,
    pub(crate) earnings: Option<Earnings>,
    pub(crate) delegation_expires: UnixMs,
    pub(crate) warnings: Vec<String>,
}

impl Enrolment {
    /// Everything that `status` shows of this network.
    ///
    /// # Errors
    /// The outbox's.
    pub async fn status(&self) -> Result<Status, OutboxError> {
        let totals = self.outbox(|outbox| outbox.totals()).await?;
        let machine = &self.machine;
        let engine = machine.models.serve.engine().await;
        let blobs = machine.blobs.stats();
        let counts = &self.bench.counts;
        let in_hand = lock(&self.in_hand).len() as u64;
        let shared = self.shared();
        let mut warnings = machine.warnings.clone();
        warnings.extend(lock(&machine.no_room).clone());
        warnings.extend(engine.fallback.clone());
        warnings.extend(shared.warnings.iter().cloned());
        if self.admission.equivocation().is_some() {
            warnings.push(
                "the coordinator signed two different logs; do not trust its sums, keep this \
                 node's data folder as evidence"
                    .to_owned(),
            );
        }
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mode: self.mode(),
            since: machine.since,
            network: self.network.name().to_owned(),
            network_id: self.network.profile.network(),
            node: machine.public.node,
            account: machine.public.account,
            settlement: machine.public.settlement,
            link: shared.link.clone(),
            peers: self.peers.count(),
            peer_addresses: self.peers.addresses(),
            blob_addresses: machine.blobs.addresses(),
            offers: machine.kind_names().iter().map(|name| (*name).to_owned()).collect(),
            work: WorkCounts {
                in_hand,
                pages: counts.pages.load(Ordering::Relaxed),
                documents: counts.documents.load(Ordering::Relaxed),
                inferences: counts.inferences.load(Ordering::Relaxed),
                inputs_from_peers: counts.from_peers.load(Ordering::Relaxed),
            },
            blobs: BlobCounts {
                put: blobs.put,
                fetched: blobs.fetched,
                fetched_bytes: blobs.fetched_bytes,
                failed: blobs.fetch_failures,
                served: blobs.served,
                turned_away: blobs.turned_away,
            },
            models: machine.models.counts(),
            engine,
            upstreams: machine.models.upstreams.views(),
            calls: machine.calls(),
            gossiped: self.gossiped.load(Ordering::Relaxed),
            totals,
            earnings: shared.earnings.clone(),
            delegation_expires: shared.delegation_expires,
            warnings,
        })
    }

    /// Changes what the node does in this network; stopping cannot be taken back.
    pub fn set_mode(&self, mode: Mode) -> Mode {
        self.mode.send_modify(|now| {
            if *now != Mode::Stopping {
                *now = mode;
            }
        });
        tracing::info!(network = self.network.name(), "the node is {}", self.mode().name());
        self.mode()
    }

    /// Notes that the link came up or went down.
    pub(crate) fn link_changed(&self, connected: bool, problem: Option<String>) {
        let mut shared = self.shared();
        if shared.link.connected != connected || shared.link.since == UnixMs::default() {
            shared.link.since = time::now();
        }
        shared.link.connected = connected;
        shared.link.problem = problem;
        if connected {
            shared.link.connections += 1;
        }
    }
}
