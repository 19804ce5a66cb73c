//! Whether what the coordinator says holds: closed sets, receipts and verdicts.
//!
//! A receipt or verdict is a leaf, a Merkle path and one EIP-712 signature over the batch by the
//! coordinator's settlement address. Whether the judgement is *right* is not checked here.

use openledger_wire::eip712::{Domain, Typed};
use openledger_wire::link::{ClosedNotice, Receipt, SignedVerdict};
use openledger_wire::merkle::{receipt_leaf, verdict_leaf};
use openledger_wire::{Commitment, EvmAddress, NetworkId, NodeId};
use thiserror::Error;

/// Why a statement of the coordinator was not believed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// The set lists this node as absent.
    #[error(
        "the closed set lists this node as absent although it committed; the commitment came too late, so the proof stays here"
    )]
    Absent,
    /// The set does not name this node.
    #[error("the closed set does not hold this node's commitment; the proof stays here")]
    NotInSet,
    /// The set names another commitment for this node.
    #[error(
        "the closed set holds another commitment for this node than it sent; the proof stays here"
    )]
    OtherCommitment,
    /// Signed for another network.
    #[error("the coordinator's {0} batch is for another network; check the network profile")]
    OtherNetwork(&'static str),
    /// The leaf is not under the root.
    #[error(
        "the Merkle path of the {0} does not lead to the signed root; the coordinator must send it again"
    )]
    Path(&'static str),
    /// The signature is not the coordinator's.
    #[error(
        "the signature under the {0} batch is not the coordinator's; check the network profile"
    )]
    Signature(&'static str),
    /// The verdict names another node or task.
    #[error(
        "the verdict names another node or task than the proof; the coordinator must send it again"
    )]
    OtherSubject,
}

/// Who the coordinator is and whom it speaks to.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// The network.
    pub network: NetworkId,
    /// EIP-712 domain of receipts and verdicts.
    pub domain: Domain,
    /// The address that must have signed them.
    pub coordinator: EvmAddress,
    /// This node.
    pub node: NodeId,
}

impl Judge {
    /// Whether a closed set holds the node's own commitment (THREATS 9).
    pub fn closed(&self, notice: &ClosedNotice, own: &Commitment) -> Result<(), CheckError> {
        let set = &notice.set;
        match set.commits.iter().find(|(node, _)| *node == self.node) {
            Some((_, commitment)) if commitment == own => Ok(()),
            Some(_) => Err(CheckError::OtherCommitment),
            None if set.absent.contains(&self.node) => Err(CheckError::Absent),
            None => Err(CheckError::NotInSet),
        }
    }

    /// Whether a receipt holds.
    pub fn receipt(&self, receipt: &Receipt) -> Result<(), CheckError> {
        const WHAT: &str = "receipt";
        let batch = &receipt.batch;
        if batch.network != self.network {
            return Err(CheckError::OtherNetwork(WHAT));
        }
        let leaf = receipt_leaf(&receipt.proof, batch.count_by);
        let sized = receipt.path.size == u64::from(batch.size);
        if !sized || receipt.path.root_of(&leaf) != Some(batch.root) {
            return Err(CheckError::Path(WHAT));
        }
        batch
            .verify(&self.domain, &receipt.signature, &self.coordinator)
            .map_err(|_| CheckError::Signature(WHAT))
    }

    /// Whether a verdict holds.
    pub fn verdict(&self, verdict: &SignedVerdict) -> Result<(), CheckError> {
        const WHAT: &str = "verdict";
        let (batch, row) = (&verdict.batch, &verdict.row);
        if batch.network != self.network {
            return Err(CheckError::OtherNetwork(WHAT));
        }
        if row.node != self.node {
            return Err(CheckError::OtherSubject);
        }
        let leaf = verdict_leaf(&row.proof, row.verdict.code(), row.points.0);
        let sized = verdict.path.size == u64::from(batch.size);
        if !sized || verdict.path.root_of(&leaf) != Some(batch.root) {
            return Err(CheckError::Path(WHAT));
        }
        batch
            .verify(&self.domain, &verdict.signature, &self.coordinator)
            .map_err(|_| CheckError::Signature(WHAT))
    }
}
