//! What happens to a lease, and what is to be done about it.

use core::fmt;

use openledger_wire::link::{ClosedNotice, Declined, LeasedTask, Receipt, SignedVerdict};
use openledger_wire::{Envelope, Epoch, Points, ProofId, TaskId};
use thiserror::Error;

use crate::check::CheckError;
use crate::record::{Promise, Stage};

/// Which lease: a task and its wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The task.
    pub task: TaskId,
    /// The wave.
    pub wave: u8,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task.short(), self.wave)
    }
}

/// Something that happened to one lease. Every event may come twice, late, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker begins.
    Started,
    /// A worker died of it.
    Crashed,
    /// Work failed in a way that may pass: it goes back to waiting.
    Retry,
    /// The node will not do it.
    Declined(String),
    /// The output exists and is promised. Ignored where there is a promise already.
    Promised(Box<Promise>),
    /// The coordinator holds the commitment.
    CommitHeld,
    /// The coordinator will never take the commitment.
    CommitRefused(String),
    /// The set was closed, says the coordinator.
    Closed(ClosedNotice),
    /// The coordinator holds the proof.
    ProofHeld,
    /// The coordinator will never take the proof.
    ProofRefused(String),
    /// The coordinator says that it does not know the proof.
    ProofUnknown,
    /// A receipt whose signature and path were checked.
    Receipt(Box<Receipt>),
    /// A verdict whose signature and path were checked.
    Verdict(Box<SignedVerdict>),
    /// An epoch was closed; `vested` says whether this lease's points are out of the pending ones.
    EpochClosed {
        /// Which.
        epoch: Epoch,
        /// Whether its points vested.
        vested: bool,
    },
    /// The account's OPEN was claimed on chain.
    Claimed,
    /// Time went by.
    Tick,
}

/// What the machine wants done, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Do the work.
    Work,
    /// Send the commitment over the link.
    SendCommit,
    /// Send the proof over the link.
    SendProof,
    /// The last check has committed: the proof may be gossiped.
    GossipProof,
    /// Tell the coordinator that the lease is given back.
    Decline,
}

/// What the shell is to do. What it rests on has been synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do the work.
    Work(Box<LeasedTask>),
    /// Send this commitment over the link.
    SendCommit {
        /// Whose.
        key: Key,
        /// The signed commitment.
        envelope: Envelope,
    },
    /// Send this proof over the link.
    SendProof {
        /// Whose.
        key: Key,
        /// Its id.
        proof: ProofId,
        /// The signed proof.
        envelope: Envelope,
    },
    /// Gossip this proof.
    GossipProof {
        /// Its id.
        proof: ProofId,
        /// The signed proof.
        envelope: Envelope,
    },
    /// Give the lease back.
    Decline(Declined),
}

/// Why an event was not applied.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A lease for somebody else.
    #[error("the lease is for node {0}, not for this one; the coordinator mixed up its nodes")]
    OtherNode(openledger_wire::NodeId),
    /// Nothing is known of this lease.
    #[error("nothing is known of this lease; ask the coordinator for its state again")]
    Unknown,
    /// The node committed for this lease before, and has pruned it since.
    #[error("this node committed for this lease long ago; it commits once only")]
    AlreadyCommitted,
    /// More leases than anybody can do.
    #[error("{0} leases are open, which is the most this node keeps; it takes no more for now")]
    TooMany(u64),
    /// The event does not fit the stage.
    #[error("{event} does not fit a lease that is {stage}")]
    OutOfOrder {
        /// The event.
        event: &'static str,
        /// The stage.
        stage: Stage,
    },
    /// What the coordinator says does not hold.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// A refused item and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which lease, where that is known.
    pub key: Option<Key>,
    /// Which proof, where the item named one.
    pub proof: Option<ProofId>,
    /// Why.
    pub why: Refusal,
}

/// What a batch of events led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// What to do now.
    pub actions: Vec<Action>,
    /// What was not believed or did not fit.
    pub refused: Vec<Refused>,
    /// Points of verdicts that arrived.
    pub points: Points,
}
