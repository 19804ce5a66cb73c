//! What is committed together.

use openledger_wire::{BlobId, Envelope, Epoch, Height, Keccak, LogHead, NodeId, ProofId, TaskId};
use serde::{Deserialize, Serialize};

/// A log entry as it is stored; its bytes are opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Position in the log.
    pub height: Height,
    /// Head after it.
    pub head: LogHead,
    /// Canonical bytes of the entry.
    pub bytes: Vec<u8>,
    /// The epoch that it closes, if it closes one.
    pub closes: Option<Epoch>,
    /// What can be found by it.
    pub marks: Vec<Mark>,
}

/// By what an entry can be found later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It says something about this task.
    Task(TaskId),
    /// It receipts this proof.
    Receipt(ProofId),
    /// It judges this proof; a later one holds.
    Verdict(ProofId),
}

/// Whose commit for which lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitKey {
    /// The task.
    pub task: TaskId,
    /// The wave.
    pub wave: u8,
    /// The node.
    pub node: NodeId,
}

/// All that becomes durable at once, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// New entries, ascending by height without a hole.
    pub lines: Vec<LogLine>,
    /// Signed commits that no closed set holds yet.
    pub commits: Vec<(CommitKey, Envelope)>,
    /// Signed proofs.
    pub proofs: Vec<(ProofId, Envelope)>,
    /// Commits that a closed set holds now: forgotten with this batch.
    pub closed: Vec<CommitKey>,
    /// Bundles that were built.
    pub bundles: Vec<BundleMeta>,
}

impl Batch {
    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
            && self.commits.is_empty()
            && self.proofs.is_empty()
            && self.closed.is_empty()
            && self.bundles.is_empty()
    }

    /// Takes all of `other` behind what is here.
    pub fn append(&mut self, mut other: Self) {
        self.lines.append(&mut other.lines);
        self.commits.append(&mut other.commits);
        self.proofs.append(&mut other.proofs);
        self.closed.append(&mut other.closed);
        self.bundles.append(&mut other.bundles);
    }
}

/// Where a published bundle can be had and what commits to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleMeta {
    /// The epoch.
    pub epoch: Epoch,
    /// The bundle as a blob.
    pub blob: BlobId,
    /// Its length in bytes.
    pub bytes: u64,
    /// Commitment to its chunks.
    pub data_commitment: Keccak,
    /// Height of the close.
    pub height: Height,
    /// Log head after the close.
    pub head: LogHead,
}
