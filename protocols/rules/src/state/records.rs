//! What the state remembers of nodes, accounts, campaigns, tasks and proofs.

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::identity::Member;
use openledger_wire::log::{ReasonCode, Role, Verdict, Whereabouts};
use openledger_wire::proof::Proof;
use openledger_wire::task::{Campaign, TaskKind, TaskSpec};
use openledger_wire::{
    AccountId, Commitment, Epoch, EvmAddress, Height, NodeId, Open, Points, ProofId, Round, UnixMs,
};

use crate::assign::TrustRecord;
use crate::vesting::VestingQueue;

/// A node.
#[derive(Clone, Debug)]
pub struct NodeRecord {
    /// Its checked registration.
    pub member: Member,
    /// Where its link came from.
    pub whereabouts: Whereabouts,
    /// The epoch in which it joined: nodes that came together are judged apart.
    pub cohort: u64,
    /// Named by the profile.
    pub founding: bool,
    /// Chance of being drawn, in thousandths; grows with accepted work, halves with each
    /// unanswered lease.
    pub weight_milli: u32,
    /// Accepted tasks.
    pub accepted: u64,
    /// Rejected proofs.
    pub rejected: u64,
    /// Trust per kind.
    pub trust: BTreeMap<TaskKind, TrustRecord>,
    /// Leases that it holds and has not answered.
    pub open_leases: u32,
}

impl NodeRecord {
    /// Whether the node has shown enough work to stand beside others in a replica set.
    #[must_use]
    pub fn vetted(&self, vetting_accepted: u64) -> bool {
        self.founding || self.accepted >= vetting_accepted
    }
}

/// An account.
#[derive(Clone, Debug, Default)]
pub struct AccountRecord {
    /// Bound payout address.
    pub payout: Option<EvmAddress>,
    /// Nonce of the last binding.
    pub payout_nonce: u64,
    /// A change of address that waits: from when it holds, and the address.
    pub payout_pending: Option<(UnixMs, EvmAddress)>,
    /// Points that wait.
    pub queue: VestingQueue,
    /// Accepted tasks.
    pub accepted: u64,
    /// Points that vested so far.
    pub vested: Points,
    /// Points lost to proven cheats.
    pub forfeited: Points,
    /// OPEN earned so far.
    pub cumulative: Open,
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct CampaignRecord {
    /// Its terms.
    pub campaign: Campaign,
    /// Points given so far.
    pub spent: Points,
    /// Tasks logged so far.
    pub tasks: u64,
}

/// Waves that a task may have: replicas, check and escalation, each with some replacements for
/// nodes that gave their lease back.
pub(super) const WAVES_MAX: usize = 12;

/// One draw of nodes for a task.
#[derive(Clone, Debug)]
pub struct Wave {
    /// Why they were drawn.
    pub role: Role,
    /// By which round's beacon.
    pub round: Round,
    /// When the leases were logged.
    pub at: UnixMs,
    /// Who, and until when to commit.
    pub leases: BTreeMap<NodeId, UnixMs>,
    /// What was closed.
    pub closed: Option<ClosedWave>,
}

/// A closed set of commitments.
#[derive(Clone, Debug)]
pub struct ClosedWave {
    /// Entry that closed it.
    pub height: Height,
    /// When.
    pub at: UnixMs,
    /// Who promised what.
    pub commits: BTreeMap<NodeId, Commitment>,
    /// The entry's set, as logged.
    pub set: openledger_wire::log::CommitSet,
}

/// A task with all that happened to it.
#[derive(Clone, Debug)]
pub struct TaskRecord {
    /// The task.
    pub spec: TaskSpec,
    /// Its place in the order of the log.
    pub order: u64,
    /// When it was logged.
    pub at: UnixMs,
    /// Draws so far.
    pub waves: Vec<Wave>,
    /// Whether the check draw hit; `None` before the draw.
    pub checked: Option<bool>,
    /// No more nodes can be drawn.
    pub exhausted: bool,
    /// Receipted proofs by node.
    pub proofs: BTreeMap<NodeId, ProofId>,
    /// Epoch in which the task was finished.
    pub done: Option<Epoch>,
    /// Whether it ended with an accepted proof.
    pub accepted: bool,
}

impl TaskRecord {
    /// A task of which nothing is known but that it was logged.
    pub(super) fn new(spec: TaskSpec, order: u64, at: UnixMs) -> Self {
        Self {
            spec,
            order,
            at,
            waves: Vec::new(),
            checked: None,
            exhausted: false,
            proofs: BTreeMap::new(),
            done: None,
            accepted: false,
        }
    }

    /// Whether a proof of this node for this wave is still expected.
    #[must_use]
    pub fn expects(&self, node: &NodeId, wave: u8) -> bool {
        let closed = self.waves.get(usize::from(wave)).and_then(|wave| wave.closed.as_ref());
        self.done.is_none()
            && closed.is_some_and(|closed| closed.commits.contains_key(node))
            && !self.proofs.contains_key(node)
    }

    /// All commitments of closed waves: node, wave, commitment, role.
    pub fn commits(&self) -> impl Iterator<Item = (NodeId, u8, Commitment, Role)> + '_ {
        (0u8..).zip(&self.waves).flat_map(|(index, wave)| {
            let closed = wave.closed.iter();
            closed.flat_map(move |closed| {
                closed.commits.iter().map(move |(node, c)| (*node, index, *c, wave.role))
            })
        })
    }

    /// Whether nobody is left to ask, or was asked often enough.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.exhausted || self.waves.len() >= WAVES_MAX
    }

    /// Nodes that must not be drawn for this task again: all that ever held a lease for it, but
    /// for those that gave it back in time.
    #[must_use]
    pub fn engaged(&self) -> BTreeSet<NodeId> {
        let waves = self.waves.iter().flat_map(|wave| {
            let declined = wave.closed.as_ref().map(|closed| &closed.set.declined);
            let gave_back = move |node: &NodeId| declined.is_some_and(|list| list.contains(node));
            wave.leases.keys().copied().filter(move |node| !gave_back(node))
        });
        waves.collect()
    }

    /// Whether every wave is closed.
    #[must_use]
    pub fn all_closed(&self) -> bool {
        self.waves.iter().all(|wave| wave.closed.is_some())
    }

    /// When the last wave was closed.
    #[must_use]
    pub fn closed_at(&self) -> Option<UnixMs> {
        self.waves.iter().filter_map(|wave| Some(wave.closed.as_ref()?.at)).max()
    }
}

/// A receipted proof.
#[derive(Clone, Debug)]
pub struct ProofRecord {
    /// What was claimed.
    pub proof: Proof,
    /// Whose it is.
    pub account: AccountId,
    /// The epoch in which it counts at the latest.
    pub count_by: Epoch,
    /// Its verdict with reason, points and epoch.
    pub verdict: Option<(Verdict, ReasonCode, Points, Epoch)>,
}
