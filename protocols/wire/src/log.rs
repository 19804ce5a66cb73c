//! The coordinator's log: one hash-chained list of everything that it says.
//!
//! `head(n) = blake3(domain || network || head(n-1) || bytes of entry n)`; the head before the
//! first entry is the network's id. Heads are signed (EIP-712) and gossiped; two heads of one
//! height are proof of a lie. The state of the swarm is a fold over these lines, so anyone who has
//! them can recompute every assignment, verdict and sum.

use serde::{Deserialize, Serialize};

use crate::amount::{Open, Points};
use crate::bounded::List;
use crate::codec::{self, DecodeError, EncodeError};
use crate::envelope::Envelope;
use crate::ids::{
    AccountId, BeaconValue, BlobId, Commitment, Epoch, Height, Keccak, LogHead, NetworkId, NodeId,
    NodeSetRoot, ProofId, Round, RuleSetId, TaskId, UnixMs, tagged_hash,
};
use crate::limits;
use crate::task::{Campaign, TaskSpec};

/// Rows of one line.
pub type Rows<T> = List<T, { limits::LINE_ROWS_MAX }>;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position, from 0.
    pub height: Height,
    /// Head before this entry.
    pub previous: LogHead,
    /// The coordinator's clock, never falling.
    pub at: UnixMs,
    /// What it says.
    pub line: Line,
}

impl Entry {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        codec::encode(self)
    }

    /// Reads an entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, limits::LINE_MAX)
    }
}

/// The head before the first entry.
#[must_use]
pub fn first_head(network: NetworkId) -> LogHead {
    LogHead(tagged_hash("openledger log start v1", &[&network.0]))
}

/// The head after an entry with these canonical bytes.
#[must_use]
pub fn next_head(network: NetworkId, previous: &LogHead, entry: &[u8]) -> LogHead {
    LogHead(tagged_hash("openledger log v1", &[&network.0, &previous.0, entry]))
}

/// What the coordinator can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Line {
    /// The log begins under a rule set.
    Genesis(Genesis),
    /// A node joined, renewed its delegation or changed its addresses.
    Join(Join),
    /// A node's delegation was revoked by its owner: the owner's envelope.
    Revoke(Envelope),
    /// An account bound a payout address: the owner's envelope.
    Bind(Envelope),
    /// A campaign was funded.
    Campaign(Campaign),
    /// New tasks.
    Tasks(TaskBatch),
    /// The round is sealed: no node or task enters it any more.
    Round(RoundSeal),
    /// The round's public randomness, drawn after the seal.
    Beacon(Beacon),
    /// Who must do what: recomputable from seal and beacon.
    Leases(Leases),
    /// Commitments that were closed.
    Closed(Closed),
    /// Proofs that are held durably.
    Receipts(Receipts),
    /// Judgements.
    Verdicts(Verdicts),
    /// An epoch was closed.
    Epoch(EpochClose),
    /// An epoch's root was posted on chain.
    Posted(Posted),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The network.
    pub network: NetworkId,
    /// The rule set in force.
    pub rule_set: RuleSetId,
    /// Start of round 0 and epoch 0.
    pub genesis: UnixMs,
    /// Vetted nodes.
    pub founding: List<NodeId, { limits::FOUNDING_MAX }>,
}

/// Where a node's link came from, as the coordinator saw it: replicas must differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whereabouts {
    /// The /24 (IPv4) or /48 (IPv6), as the first 3 or 6 bytes behind a 4 or 6.
    #[serde(with = "crate::ids::bytes")]
    pub subnet: [u8; 7],
    /// Autonomous system number; 0 if unknown, which counts by subnet alone.
    pub asn: u32,
}

/// A node joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The signed registration.
    pub registration: Envelope,
    /// Where it came from.
    pub whereabouts: Whereabouts,
}

/// Tasks of one campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskBatch {
    /// The tasks.
    pub tasks: List<TaskSpec, { limits::BATCH_TASKS_MAX }>,
}

/// The seal of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundSeal {
    /// Which round.
    pub round: Round,
    /// Root over the node set with weights and cohorts.
    pub node_set: NodeSetRoot,
    /// Its size.
    pub nodes: u32,
    /// Tasks that wait for a draw in this round.
    pub open_tasks: u32,
}

/// A round's randomness with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beacon {
    /// Which round.
    pub round: Round,
    /// The value.
    pub value: BeaconValue,
    /// What proves it.
    pub proof: BeaconProof,
}

/// What makes a beacon public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum BeaconProof {
    /// A drand round and its signature.
    Drand {
        /// drand's round number.
        round: u64,
        /// BLS signature, 48 bytes on G1.
        signature: crate::bounded::Blob<96>,
    },
    /// A block whose prevrandao is the value.
    Prevrandao {
        /// Block number.
        number: u64,
        /// Block hash.
        hash: Keccak,
    },
    /// The devnet's stand-in.
    Stub,
}

/// Why somebody holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Does the task.
    Replica,
    /// Does it again to check what somebody committed.
    Auditor,
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// Which draw of nodes for this task: 0 is the first.
    pub wave: u8,
    /// The node.
    pub node: NodeId,
    /// Why.
    pub role: Role,
    /// Commit before this.
    pub deadline: UnixMs,
}

/// The leases of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// Which round.
    pub round: Round,
    /// Sorted by task, wave, node.
    pub rows: Rows<Lease>,
}

/// One closed set of commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSet {
    /// The task.
    pub task: TaskId,
    /// The wave.
    pub wave: u8,
    /// Who promised what, by node.
    pub commits: List<(NodeId, Commitment), { limits::REPLICAS_MAX }>,
    /// Who held a lease and sent nothing, by node.
    pub absent: List<NodeId, { limits::REPLICAS_MAX }>,
    /// Who gave the lease back in time, which costs nothing, by node.
    pub declined: List<NodeId, { limits::REPLICAS_MAX }>,
}

/// Sets that were closed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Sorted by task and wave.
    pub sets: Rows<CommitSet>,
}

/// A proof that is held durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRow {
    /// The proof.
    pub proof: ProofId,
    /// Its task.
    pub task: TaskId,
    /// Its wave.
    pub wave: u8,
    /// Its node.
    pub node: NodeId,
}

/// Receipts given together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// The epoch in which they count at the latest.
    pub count_by: Epoch,
    /// Sorted by proof id.
    pub rows: Rows<ReceiptRow>,
}

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Counts.
    Accepted,
    /// Does not, and lowers trust.
    Rejected,
    /// Does not, and costs nothing; a near tie with a majority against it is checked again sooner.
    Inconclusive,
}

impl Verdict {
    /// The code that contracts see.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Accepted => 1,
            Self::Rejected => 2,
            Self::Inconclusive => 3,
        }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReasonCode {
    /// Replicas of different cohorts agree.
    ReplicasAgree,
    /// Re-execution gave the same: bytes of a document, or tokens within the tolerance.
    ReexecutionAgrees,
    /// Accepted on the node's record; no check was drawn.
    TrustedUnchecked,
    /// The auditor's own work agrees with the majority.
    AuditDone,
    /// The proof does not open the node's commitment.
    RevealMismatch,
    /// Committed, but no proof came in time.
    NotRevealed,
    /// Differs from what the other cohorts fetched.
    MinorityFetch,
    /// Re-execution gave something else.
    ReexecutionDiffers,
    /// Body not decodable or not of this task.
    MalformedBody,
    /// Too few replicas answered.
    TooFewReplicas,
    /// The replicas disagree among themselves.
    Volatile,
    /// A kind that this rule set does not judge.
    UnknownKind,
    /// The campaign's budget is used up.
    BudgetSpent,
}

impl ReasonCode {
    /// One sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ReplicasAgree => "other nodes, drawn by chance, found the same",
            Self::ReexecutionAgrees => "another node redid the work and got the same",
            Self::TrustedUnchecked => "accepted on the node's record; no check was drawn",
            Self::AuditDone => "the check agrees with the majority",
            Self::RevealMismatch => "the proof does not open the commitment the node had made",
            Self::NotRevealed => "the node committed, but its proof did not come in time",
            Self::MinorityFetch => "other nodes, drawn by chance, fetched something else",
            Self::ReexecutionDiffers => "other nodes redid the work and got something else",
            Self::MalformedBody => "the proof's body is unreadable or not about this task",
            Self::TooFewReplicas => "too few other nodes answered to compare with",
            Self::Volatile => {
                "the answers differ, and nobody can be blamed for it: a page that changes, or a near tie"
            }
            Self::UnknownKind => "this rule set does not judge this kind of task",
            Self::BudgetSpent => "the campaign's budget is used up",
        }
    }
}

/// One judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictRow {
    /// The proof.
    pub proof: ProofId,
    /// Its task.
    pub task: TaskId,
    /// Its node.
    pub node: NodeId,
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub reason: ReasonCode,
    /// Points, pending until vested; 0 unless accepted.
    pub points: Points,
}

/// Judgements given together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    /// Running number of verdict lines.
    pub number: u64,
    /// The epoch in which they count.
    pub epoch: Epoch,
    /// Sorted by proof id.
    pub rows: Rows<VerdictRow>,
}

/// An account's line in a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRow {
    /// The account.
    pub account: AccountId,
    /// Points that vested in this epoch.
    pub vested: Points,
    /// Points that still wait.
    pub pending: Points,
    /// Its share of this epoch.
    pub earned: Open,
    /// All it ever earned.
    pub cumulative: Open,
}

/// The close of an epoch: what the post on chain will say, except the commitment to the bundle,
/// which holds this line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochClose {
    /// Which epoch.
    pub epoch: Epoch,
    /// Merkle-sum root over payout addresses.
    pub root: Keccak,
    /// Sum of its leaves.
    pub total: Open,
    /// Number of its leaves, sentinels included.
    pub size: u64,
    /// Plain root over this epoch's verdicts, sorted by proof id.
    pub proofs_root: Keccak,
    /// Plain root over this epoch's call receipts.
    pub call_receipts_root: Keccak,
    /// Root over this epoch's attributions.
    pub attribution_root: Keccak,
    /// OPEN earned by accounts without an address.
    pub unbound: Open,
    /// Budget of the epoch that nobody earned. It lapses: a post may raise the sum by no more than
    /// its own epoch's budget, so that an unwatched lie never costs more.
    pub lapsed: Open,
    /// Every account that ever earned or waits, by account.
    pub accounts: Rows<AccountRow>,
}

/// What was posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    /// Which epoch.
    pub epoch: Epoch,
    /// The transaction.
    pub transaction: Keccak,
    /// Commitment to the bundle.
    pub data_commitment: Keccak,
    /// The bundle as a blob.
    pub bundle: BlobId,
}
