//! One lease's record: what the node did about it and what became of it.

use core::fmt;

use openledger_wire::eip712::{ReceiptBatch, VerdictBatch};
use openledger_wire::link::{LeasedTask, Receipt, SignedVerdict};
use openledger_wire::log::{Role, Verdict};
use openledger_wire::task::TaskKind;
use openledger_wire::{
    Commitment, Envelope, Epoch, Height, List, Points, ProofId, Round, TaskId, Text, UnixMs,
};
use serde::{Deserialize, Serialize};

use crate::event::Key;
use crate::limits;

/// How far a lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Assigned; nothing done yet.
    Leased,
    /// A worker is at it.
    Working,
    /// The output exists, commitment and proof are durable; the commitment is sent until held.
    Committed,
    /// The closed set holds the node's commitment; the proof is sent until held.
    Closed,
    /// The coordinator holds the proof; the signed receipt is awaited.
    Sent,
    /// A signed receipt is here; the verdict is awaited.
    Receipted,
    /// A signed verdict is here; the close of its epoch is awaited.
    Judged,
    /// Its epoch was closed; accepted points are pending.
    Counted,
    /// Its points vested and are part of the account's OPEN.
    Vested,
    /// All OPEN of the account up to here was claimed on chain.
    Paid,
    /// The node gave the lease back.
    Declined,
    /// The deadline passed before the commitment was held.
    Expired,
    /// The coordinator refused commitment or proof for good.
    Refused,
    /// The node keeps its proof back: the closed set does not hold its commitment.
    Withheld,
}

impl Stage {
    /// Whether nothing can change any more, except that a judged lease may be paid.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Paid | Self::Declined | Self::Expired | Self::Refused | Self::Withheld)
    }

    /// Whether the node still has to do the work.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Leased | Self::Working)
    }

    /// The stage's name for people and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Working => "working",
            Self::Committed => "committed",
            Self::Closed => "closed",
            Self::Sent => "sent",
            Self::Receipted => "receipted",
            Self::Judged => "judged",
            Self::Counted => "counted",
            Self::Vested => "vested",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Withheld => "withheld",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a stage was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// Which stage.
    pub stage: Stage,
    /// When, by the node's clock.
    pub at: UnixMs,
}

/// The node's side of what it committed to, once it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// The signed commitment; the same one is sent for ever.
    pub commit: Envelope,
    /// What it commits to.
    pub commitment: Commitment,
    /// The proof that opens it.
    pub proof: ProofId,
    /// The proof's running number.
    pub seq: u64,
    /// Whether the coordinator said that it holds the commitment.
    pub commit_held: bool,
    /// Whether the coordinator said that it holds the proof.
    pub proof_held: bool,
}

/// One lease, from assignment to payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The task.
    pub task: TaskId,
    /// The wave of leases.
    pub wave: u8,
    /// Kind of work.
    pub kind: TaskKind,
    /// Replica or auditor.
    pub role: Role,
    /// The round that drew the lease.
    pub round: Round,
    /// Commit before this.
    pub deadline: UnixMs,
    /// When the node heard of the lease.
    pub leased_at: UnixMs,
    /// How far it has come.
    pub stage: Stage,
    /// How it came here.
    pub milestones: List<Milestone, { limits::MILESTONES_MAX }>,
    /// How often work was begun.
    pub attempts: u8,
    /// How often a worker died of it.
    pub crashes: u8,
    /// What the node committed to.
    pub promise: Option<Promise>,
    /// Height of the log entry that closed the set.
    pub closed: Option<Height>,
    /// The receipt.
    pub receipt: Option<Receipt>,
    /// The verdict with the highest number.
    pub verdict: Option<SignedVerdict>,
    /// Why it ended, where it ended early.
    pub why: Text<{ openledger_wire::limits::NOTE_MAX }>,
}

impl Work {
    /// A fresh record of a lease.
    #[must_use]
    pub fn new(leased: &LeasedTask, now: UnixMs) -> Self {
        let lease = &leased.lease;
        let mut work = Self {
            task: lease.task,
            wave: lease.wave,
            kind: leased.spec.kind,
            role: lease.role,
            round: leased.round,
            deadline: lease.deadline,
            leased_at: now,
            stage: Stage::Leased,
            milestones: List::default(),
            attempts: 0,
            crashes: 0,
            promise: None,
            closed: None,
            receipt: None,
            verdict: None,
            why: Text::default(),
        };
        work.reach(Stage::Leased, now);
        work
    }

    /// Which lease this is.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { task: self.task, wave: self.wave }
    }

    /// The proof's id, once there is one.
    #[must_use]
    pub fn proof(&self) -> Option<ProofId> {
        self.promise.as_ref().map(|promise| promise.proof)
    }

    /// The signed batch of the receipt.
    #[must_use]
    pub fn receipt_batch(&self) -> Option<&ReceiptBatch> {
        self.receipt.as_ref().map(|receipt| &receipt.batch)
    }

    /// The signed batch of the verdict.
    #[must_use]
    pub fn verdict_batch(&self) -> Option<&VerdictBatch> {
        self.verdict.as_ref().map(|verdict| &verdict.batch)
    }

    /// The points of an accepted lease, else none.
    #[must_use]
    pub fn points(&self) -> Points {
        self.verdict.as_ref().map_or(Points::ZERO, |verdict| verdict.row.points)
    }

    /// Whether a verdict accepted it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.row.verdict == Verdict::Accepted)
    }

    /// The epoch in which the verdict counts.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.verdict.as_ref().map(|verdict| verdict.batch.epoch)
    }

    /// One sentence for people: why it stands where it stands, or what it waits for.
    #[must_use]
    pub fn sentence(&self) -> String {
        if let Some(verdict) = &self.verdict {
            let row = &verdict.row;
            let why = row.reason.sentence();
            return match row.verdict {
                Verdict::Accepted => format!("accepted for {} points: {why}", row.points),
                Verdict::Rejected => format!("rejected: {why}"),
                Verdict::Inconclusive => format!("not counted: {why}"),
            };
        }
        if !self.why.is_empty() {
            return self.why.to_string();
        }
        match self.stage {
            Stage::Leased => "waits for a free worker",
            Stage::Working => "a worker is at it",
            Stage::Committed => "committed; waits until all commitments of this task are closed",
            Stage::Closed => "the set is closed; the proof is on its way",
            Stage::Sent => "the coordinator has the proof; its signed receipt is awaited",
            Stage::Receipted => "receipted; waits until the check is drawn and judged",
            Stage::Judged | Stage::Counted | Stage::Vested | Stage::Paid => "judged",
            Stage::Declined => "given back",
            Stage::Expired => "not done before its deadline",
            Stage::Refused => "refused by the coordinator",
            Stage::Withheld => "kept back",
        }
        .to_owned()
    }

    /// Moves to a stage and notes when; the same stage again changes nothing.
    pub(crate) fn reach(&mut self, stage: Stage, now: UnixMs) {
        if self.stage == stage && !self.milestones.is_empty() {
            return;
        }
        self.stage = stage;
        let mut milestones = self.milestones.to_vec();
        if milestones.len() == limits::MILESTONES_MAX {
            milestones.remove(0);
        }
        milestones.push(Milestone { stage, at: now });
        self.milestones = List::new(milestones).unwrap_or_default();
    }

    /// Ends early, with the reason.
    pub(crate) fn end(&mut self, stage: Stage, now: UnixMs, why: &str) {
        self.why = Text::clipped(why);
        self.reach(stage, now);
    }
}
