//! The swarm's state as a fold over the coordinator's log.
//!
//! [`State::apply`] takes one entry, checks that it is what the rules allow or demand at this
//! point, and changes the state. Lines that the rules determine (seals, leases, verdicts, epoch
//! closes) are recomputed and must be equal, so a coordinator that runs this code cannot log a
//! wrong one, and a stranger who replays the log notices one.

mod apply;
mod close;
mod compare;
mod draws;
mod judge;
mod members;
mod records;
mod rounds;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::log::{Beacon, EpochClose, first_head};
use openledger_wire::{
    AccountId, BlobId, CampaignId, DecodeError, EncodeError, Epoch, EvmAddress, Height, LogHead,
    NodeId, Open, ProofId, Round, TaskId, UnixMs,
};
use thiserror::Error;

pub use apply::Evidence;
pub use draws::Draw;
pub use judge::{CheckAsked, Judgement};
pub use records::{
    AccountRecord, CampaignRecord, ClosedWave, NodeRecord, ProofRecord, TaskRecord, Wave,
};

pub use verdicts::is_asked_again;

use crate::nodeset::NodeSet;
use crate::params::Setup;

/// What the rules need from above: judgements about content.
pub trait Judge: Send + Sync {
    /// Whether two fetch fingerprints show the same page.
    fn fetch_agrees(&self, a: &[u8], b: &[u8]) -> bool;
}

/// Why an entry was refused. A coordinator never logs such an entry; finding one is proof that the
/// log was not made by the rules.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Height, previous head or clock do not follow.
    #[error(
        "apply entry {height}: it does not follow the one before ({what}); get the log again from its start"
    )]
    Chain {
        /// The entry.
        height: Height,
        /// What does not fit.
        what: &'static str,
    },
    /// A line that the rules determine is different.
    #[error(
        "apply entry {height}: {line} differs from what the rules compute: logged {logged}, computed {computed}"
    )]
    Differs {
        /// The entry.
        height: Height,
        /// Which line.
        line: &'static str,
        /// As logged.
        logged: String,
        /// As computed.
        computed: String,
    },
    /// A line that is not allowed now.
    #[error("apply entry {height}: {line} is not allowed: {why}")]
    NotAllowed {
        /// The entry.
        height: Height,
        /// Which line.
        line: &'static str,
        /// Why not.
        why: String,
    },
    /// A receipted proof is missing from the evidence.
    #[error(
        "apply entry {height}: proof {proof} is not among the evidence; get the epoch's bundle again"
    )]
    MissingEvidence {
        /// The entry.
        height: Height,
        /// The proof.
        proof: ProofId,
    },
    /// Bytes that are not an entry.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A value that cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Closed epochs whose leaves are kept in memory: a week and a day of the main rule set.
pub(crate) const SETTLED_KEPT: usize = 8;

/// A sealed round that waits for its beacon or its leases.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The round.
    pub round: Round,
    /// When it was sealed; the beacon must be younger.
    pub at: UnixMs,
    /// Who could be drawn.
    pub set: NodeSet,
    /// What is drawn.
    pub draws: Vec<Draw>,
    /// The beacon, once it is there.
    pub beacon: Option<Beacon>,
}

/// The state after some entry.
#[derive(Clone)]
pub struct State {
    pub(crate) setup: Setup,
    pub(crate) started: bool,
    pub(crate) next_height: Height,
    pub(crate) head: LogHead,
    pub(crate) at: UnixMs,
    pub(crate) nodes: BTreeMap<NodeId, NodeRecord>,
    pub(crate) revoked: BTreeMap<NodeId, u64>,
    pub(crate) accounts: BTreeMap<AccountId, AccountRecord>,
    pub(crate) campaigns: BTreeMap<CampaignId, CampaignRecord>,
    pub(crate) tasks: BTreeMap<TaskId, TaskRecord>,
    /// Unfinished tasks by the order in which they were logged.
    pub(crate) active: BTreeMap<u64, TaskId>,
    pub(crate) tasks_logged: u64,
    pub(crate) proofs: BTreeMap<ProofId, ProofRecord>,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) round: Option<Round>,
    /// The epoch that is open.
    pub(crate) epoch: Epoch,
    pub(crate) verdict_number: u64,
    /// Verdicts of the open epoch: code and points.
    pub(crate) epoch_verdicts: BTreeMap<ProofId, (u8, u64)>,
    pub(crate) last_close: Option<EpochClose>,
    /// Leaves of the last closed epochs, for claims from a root that is good already.
    pub(crate) settled: BTreeMap<Epoch, BTreeMap<EvmAddress, Open>>,
    pub(crate) posted: BTreeSet<Epoch>,
    /// Who holds an accepted page.
    pub(crate) holders: BTreeMap<BlobId, Vec<NodeId>>,
    /// Refine tasks that accepted pages call for and that are not logged yet.
    pub(crate) derived: Vec<openledger_wire::task::TaskSpec>,
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let head = first_head(setup.network);
        let at = setup.genesis;
        Self {
            setup,
            started: false,
            next_height: Height(0),
            head,
            at,
            nodes: BTreeMap::new(),
            revoked: BTreeMap::new(),
            accounts: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            tasks: BTreeMap::new(),
            active: BTreeMap::new(),
            tasks_logged: 0,
            proofs: BTreeMap::new(),
            sealed: None,
            round: None,
            epoch: Epoch(1),
            verdict_number: 0,
            epoch_verdicts: BTreeMap::new(),
            last_close: None,
            settled: BTreeMap::new(),
            posted: BTreeSet::new(),
            holders: BTreeMap::new(),
            derived: Vec::new(),
        }
    }

    /// What the network started from.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The height that the next entry will have.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.next_height
    }

    /// The head after the last entry.
    #[must_use]
    pub fn head(&self) -> LogHead {
        self.head
    }

    /// Time of the last entry.
    #[must_use]
    pub fn at(&self) -> UnixMs {
        self.at
    }

    /// The round that `now` falls into.
    #[must_use]
    pub fn round(&self, now: UnixMs) -> Round {
        let since = now.0.saturating_sub(self.setup.genesis.0);
        Round(since.checked_div(self.setup.rules.round_ms).unwrap_or(0))
    }

    /// The epoch that is open: not yet closed, whatever the clock says.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When an epoch ends. Epochs count from 1, so that a chain's "last epoch" of 0 means none.
    #[must_use]
    pub fn epoch_end(&self, epoch: Epoch) -> UnixMs {
        self.setup.genesis.plus_ms(epoch.0.saturating_mul(self.setup.rules.epoch_ms))
    }

    /// The sealed round that waits for its beacon, and when it was sealed.
    #[must_use]
    pub fn wants_beacon(&self) -> Option<(Round, UnixMs)> {
        let sealed = self.sealed.as_ref()?;
        sealed.beacon.is_none().then_some((sealed.round, sealed.at))
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> Option<&NodeRecord> {
        self.nodes.get(node)
    }

    /// All nodes that ever joined, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
        self.nodes.iter()
    }

    /// An account.
    #[must_use]
    pub fn account(&self, account: &AccountId) -> Option<&AccountRecord> {
        self.accounts.get(account)
    }

    /// All accounts, by id.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountId, &AccountRecord)> {
        self.accounts.iter()
    }

    /// All campaigns, by id.
    pub fn campaigns(&self) -> impl Iterator<Item = (&CampaignId, &CampaignRecord)> {
        self.campaigns.iter()
    }

    /// A task that is unfinished or within the dispute time.
    #[must_use]
    pub fn task(&self, task: &TaskId) -> Option<&TaskRecord> {
        self.tasks.get(task)
    }

    /// Such tasks, by id.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskId, &TaskRecord)> {
        self.tasks.iter()
    }

    /// How many tasks are unfinished.
    #[must_use]
    pub fn tasks_open(&self) -> usize {
        self.active.len()
    }

    /// A receipted proof of an unfinished or recent task.
    #[must_use]
    pub fn proof(&self, proof: &ProofId) -> Option<&ProofRecord> {
        self.proofs.get(proof)
    }

    /// Such proofs, by id.
    pub fn proofs(&self) -> impl Iterator<Item = (&ProofId, &ProofRecord)> {
        self.proofs.iter()
    }

    /// The last closed epoch.
    #[must_use]
    pub fn last_close(&self) -> Option<&EpochClose> {
        self.last_close.as_ref()
    }

    /// Whether an epoch's root was posted on chain.
    #[must_use]
    pub fn is_posted(&self, epoch: Epoch) -> bool {
        self.posted.contains(&epoch)
    }

    /// Who holds a page that was accepted.
    #[must_use]
    pub fn holders(&self, page: &BlobId) -> &[NodeId] {
        self.holders.get(page).map_or(&[], Vec::as_slice)
    }

    /// Refine tasks that should be logged next.
    #[must_use]
    pub fn derived(&self) -> &[openledger_wire::task::TaskSpec] {
        &self.derived
    }

    /// The last round whose leases were logged.
    #[must_use]
    pub fn last_round(&self) -> Option<Round> {
        self.round
    }

    /// Whether a sealed round waits for its beacon or its leases.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// The leases of the sealed round, once its beacon is there.
    #[must_use]
    pub fn due_leases(&self, at: UnixMs) -> Option<Vec<openledger_wire::log::Lease>> {
        let sealed = self.sealed.as_ref()?;
        Some(self.leases(sealed, sealed.beacon.as_ref()?, at))
    }

    /// Unfinished tasks in the order of the log.
    pub fn active_tasks(&self) -> impl Iterator<Item = (TaskId, &TaskRecord)> {
        self.active.values().filter_map(|id| Some((*id, self.tasks.get(id)?)))
    }

    /// Number of the last verdicts line.
    #[must_use]
    pub fn verdict_number(&self) -> u64 {
        self.verdict_number
    }

    /// Whether a campaign's budget could run out with these verdicts and one more task.
    #[must_use]
    pub fn is_tight(
        &self,
        campaign: &CampaignId,
        rows: &[openledger_wire::log::VerdictRow],
    ) -> bool {
        let Some(campaign) = self.campaigns.get(campaign) else { return true };
        let given = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.points.0));
        let left = campaign.campaign.budget.0.saturating_sub(campaign.spent.0);
        // One task gives at most `replicas_max` times the dearest kind's points; a thousandfold
        // margin costs nothing but a tick.
        left < given.saturating_add(self.setup.rules.points_fetch.0.saturating_mul(1_000))
    }

    /// Leases of a node that it has not answered: lease, round and task.
    #[must_use]
    pub fn open_leases(
        &self,
        node: &NodeId,
    ) -> Vec<(openledger_wire::log::Lease, Round, &TaskRecord)> {
        let waves = self.active_tasks().flat_map(|(id, task)| {
            (0u8..).zip(&task.waves).filter(|(_, wave)| wave.closed.is_none()).filter_map(
                move |(index, wave)| {
                    let deadline = *wave.leases.get(node)?;
                    let lease = openledger_wire::log::Lease {
                        task: id,
                        wave: index,
                        node: *node,
                        role: wave.role,
                        deadline,
                    };
                    Some((lease, wave.round, task))
                },
            )
        });
        waves.collect()
    }

    /// Closed sets that hold this node's commitment and wait for its proof, with the height of
    /// the entry that closed them.
    #[must_use]
    pub fn closed_waiting(&self, node: &NodeId) -> Vec<(&openledger_wire::log::CommitSet, Height)> {
        let closed = self.active_tasks().flat_map(|(_, task)| {
            (0u8..).zip(&task.waves).filter_map(move |(index, wave)| {
                let closed = wave.closed.as_ref()?;
                task.expects(node, index).then_some((&closed.set, closed.height))
            })
        });
        closed.collect()
    }
}
