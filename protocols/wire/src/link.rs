//! The coordinator link: what a node asks, what it is told, and what is pushed to it.
//!
//! Each request travels on its own QUIC stream; pushes are one-way streams of the coordinator.
//! Pushes are hints: a node that missed some asks [`LinkRequest::Sync`] and gets all that concerns
//! it. The link itself is authenticated by raw node keys; what is logged is signed besides.

use serde::{Deserialize, Serialize};

use crate::amount::{Open, Points};
use crate::bounded::{List, Text};
use crate::eip712::{ReceiptBatch, VerdictBatch};
use crate::envelope::Envelope;
use crate::gossip::{GossipedHead, Holder};
use crate::ids::{
    AccountId, Epoch, EvmAddress, EvmSignature, Height, ProofId, Round, TaskId, UnixMs,
};
use crate::limits;
use crate::log::{Lease, VerdictRow};
use crate::merkle::Path;
use crate::task::TaskSpec;

/// Version of the link protocol; the first thing that both sides compare.
pub const LINK_VERSION: u16 = 1;

/// Items of one link batch.
pub type Batch<T> = List<T, { limits::LINK_BATCH_MAX }>;

/// What a node asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LinkRequest {
    /// First request of a connection: a signed [`crate::identity::Registration`].
    Hello {
        /// [`LINK_VERSION`] of the node.
        version: u16,
        /// The registration.
        registration: Envelope,
    },
    /// Signed [`crate::proof::Commit`]s.
    Commits(Batch<Envelope>),
    /// Signed [`crate::proof::Proof`]s.
    Proofs(Batch<Envelope>),
    /// The node will not do these leases.
    Decline(Batch<Declined>),
    /// What concerns this node now: open leases, closed sets, and what became of these proofs.
    Sync {
        /// Proofs that the node still waits for.
        unsettled: List<ProofId, 512>,
    },
    /// Log entries from a height on.
    Log {
        /// First height wanted.
        from: Height,
        /// How many at most.
        entries_max: u16,
    },
    /// The node's account.
    Account,
    /// An owner-signed [`crate::identity::Binding`].
    Bind(Envelope),
    /// An owner-signed [`crate::identity::Revocation`].
    Revoke(Envelope),
}

/// A lease given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declined {
    /// The task.
    pub task: TaskId,
    /// The wave.
    pub wave: u8,
    /// Why, for the operator.
    pub reason: Text<{ limits::NOTE_MAX }>,
}

/// What the coordinator answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LinkResponse {
    /// To `Hello`.
    Welcome {
        /// The coordinator's clock, so that a node notices when its own is off.
        now: UnixMs,
        /// The round.
        round: Round,
        /// The epoch.
        epoch: Epoch,
        /// The log's signed head.
        head: GossipedHead,
    },
    /// To `Commits` and `Proofs`: one result per item, in order.
    Results(Batch<ItemResult>),
    /// To `Sync`.
    State(Box<NodeState>),
    /// To `Log`: canonical entries.
    Log(List<crate::bounded::Blob<{ limits::LINE_MAX }>, { limits::LOG_PAGE_MAX }>),
    /// To `Account`.
    Account(AccountStatus),
    /// To `Decline`, `Bind`, `Revoke`.
    Done,
    /// The request as a whole was refused.
    Refused {
        /// Stable code.
        code: Text<64>,
        /// What was wrong and what to do.
        message: Text<{ limits::NOTE_MAX }>,
        /// Ask again after this many milliseconds; 0 if asking again is useless.
        retry_after_ms: u32,
    },
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ItemResult {
    /// Held; a receipt follows for proofs.
    Held,
    /// Already known.
    Known,
    /// Refused for good.
    Refused {
        /// Stable code.
        code: Text<64>,
        /// What was wrong and what to do.
        message: Text<{ limits::NOTE_MAX }>,
    },
    /// Not now; send it again later.
    Later {
        /// Milliseconds to wait.
        retry_after_ms: u32,
    },
}

/// A lease with what is needed to do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasedTask {
    /// The lease as logged.
    pub lease: Lease,
    /// The round whose beacon drew it.
    pub round: Round,
    /// The task.
    pub spec: TaskSpec,
    /// Who holds its input.
    pub holders: List<Holder, 8>,
    /// The backend class in which an `infer` task is to be redone, for those who check it where
    /// the rule set lists several; nothing else is told of the output that is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text<32>>,
    /// The tokens of an answer whose class gives other bits on other machines: they are not to be
    /// written again, but to be run through the model in the class that is named, to say what it
    /// makes of them. How likely they were for who wrote them, and their fingerprint, are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<List<u32, { limits::INFER_TOKENS_MAX }>>,
}

/// A closed set that holds the node's own commitment: it may reveal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedNotice {
    /// The set as logged.
    pub set: crate::log::CommitSet,
    /// Height of the entry that closed it.
    pub height: Height,
}

/// A receipt as the node keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The proof.
    pub proof: ProofId,
    /// The signed batch.
    pub batch: ReceiptBatch,
    /// From the proof's leaf to the batch's root.
    pub path: Path,
    /// The coordinator's signature over the batch (EIP-712).
    pub signature: EvmSignature,
}

/// A verdict as the node keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedVerdict {
    /// The verdict.
    pub row: VerdictRow,
    /// The signed batch.
    pub batch: VerdictBatch,
    /// From the verdict's leaf to the batch's root.
    pub path: Path,
    /// The coordinator's signature over the batch (EIP-712).
    pub signature: EvmSignature,
}

/// All that concerns a node now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// Leases without a commitment yet.
    pub leases: List<LeasedTask, 256>,
    /// Closed sets that wait for the node's proof.
    pub closed: List<ClosedNotice, 256>,
    /// Receipts of the proofs asked about.
    pub receipts: List<Receipt, 512>,
    /// Verdicts of the proofs asked about.
    pub verdicts: List<SignedVerdict, 512>,
    /// Proofs asked about that the coordinator does not hold: send them again.
    pub unknown: List<ProofId, 512>,
}

/// What the coordinator says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LinkPush {
    /// New leases.
    Leases(List<LeasedTask, 256>),
    /// Closed sets with the node's commitment.
    Closed(List<ClosedNotice, 256>),
    /// Receipts.
    Receipts(List<Receipt, 512>),
    /// Verdicts; from now on the task's proofs may be gossiped.
    Verdicts(List<SignedVerdict, 512>),
    /// An epoch was closed; ask for the account.
    EpochClosed(Epoch),
}

/// An account as the coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountStatus {
    /// The account.
    pub account: AccountId,
    /// Bound payout address.
    pub payout: Option<EvmAddress>,
    /// Points that wait to vest.
    pub pending: Points,
    /// Points that vested so far.
    pub vested: Points,
    /// OPEN earned so far, by the last closed epoch.
    pub cumulative: Open,
    /// The last closed epoch.
    pub epoch: Epoch,
    /// What can be claimed from the last good root.
    pub claim: Option<Claim>,
}

/// A leaf with its way to the root on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The epoch whose root it belongs to.
    pub epoch: Epoch,
    /// Who is paid.
    pub payout: EvmAddress,
    /// All that was ever earned by it.
    pub cumulative: Open,
    /// Position of the leaf.
    pub index: u64,
    /// Number of leaves.
    pub size: u64,
    /// Sibling hashes and their sums, bottom up.
    pub siblings: List<(crate::ids::Keccak, Open), { limits::PATH_MAX }>,
}
