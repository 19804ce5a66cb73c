//! What a node can check of a lease by itself.
//!
//! Whether the draw was right takes the log and the beacon: that is `openledger audit`.

use openledger_wire::link::LeasedTask;
use openledger_wire::{EncodeError, NetworkId, NodeId, TaskId, UnixMs};
use thiserror::Error;

use crate::limits;

/// Why a lease is not worked on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AssignmentError {
    /// For another node.
    #[error("the lease is for node {0}, not for this one")]
    OtherNode(NodeId),
    /// The task is not the one that was leased.
    #[error(
        "the task that came with the lease has id {found}, the lease names {leased}; the coordinator mixed them up"
    )]
    OtherTask {
        /// Of the task.
        found: TaskId,
        /// Of the lease.
        leased: TaskId,
    },
    /// Over already.
    #[error("the lease ran out {0} ms ago; check this machine's clock if that happens often")]
    Late(u64),
    /// Farther in the future than any rule set asks.
    #[error(
        "the lease runs for another {0} ms, which no rule set allows; check this machine's clock"
    )]
    TooLong(u64),
    /// The task does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Checks what a node can check of a lease by itself.
///
/// # Errors
/// [`AssignmentError`] is the reason with which the lease is given back.
pub fn verify_assignment(
    leased: &LeasedTask,
    network: NetworkId,
    node: NodeId,
    now: UnixMs,
) -> Result<(), AssignmentError> {
    let lease = &leased.lease;
    if lease.node != node {
        return Err(AssignmentError::OtherNode(lease.node));
    }
    let found = leased.spec.id(network)?;
    if found != lease.task {
        return Err(AssignmentError::OtherTask { found, leased: lease.task });
    }
    match lease.deadline.0.checked_sub(now.0) {
        None | Some(0) => Err(AssignmentError::Late(now.0.saturating_sub(lease.deadline.0))),
        Some(left) if left > limits::LEASE_MS_MAX => Err(AssignmentError::TooLong(left)),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_wire::log::{Lease, Role};
    use openledger_wire::task::{TaskKind, TaskSpec};
    use openledger_wire::{Blob, CampaignId, List, Round};

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const NODE: NodeId = NodeId([2; 32]);

    fn leased(deadline: u64) -> LeasedTask {
        let spec = TaskSpec {
            campaign: CampaignId::ZERO,
            kind: TaskKind::Fetch,
            version: 1,
            nonce: 1,
            value_permille: 1_000,
            body: Blob::default(),
        };
        let task = spec.id(NETWORK).unwrap();
        let deadline = UnixMs(deadline);
        let lease = Lease { task, wave: 0, node: NODE, role: Role::Replica, deadline };
        LeasedTask {
            lease,
            round: Round(1),
            spec,
            holders: List::default(),
            backend: None,
            answer: None,
        }
    }

    #[test]
    fn leases_for_others_of_other_tasks_or_out_of_time_are_given_back() {
        let now = UnixMs(1_000);
        let check = |leased: &LeasedTask| verify_assignment(leased, NETWORK, NODE, now);
        assert!(check(&leased(2_000)).is_ok());
        assert!(matches!(check(&leased(1_000)), Err(AssignmentError::Late(0))));
        assert!(matches!(check(&leased(u64::MAX)), Err(AssignmentError::TooLong(_))));
        let mut foreign = leased(2_000);
        foreign.lease.node = NodeId([3; 32]);
        assert!(matches!(check(&foreign), Err(AssignmentError::OtherNode(_))));
        let mut swapped = leased(2_000);
        swapped.spec.nonce = 2;
        assert!(matches!(check(&swapped), Err(AssignmentError::OtherTask { .. })));
        let elsewhere = verify_assignment(&leased(2_000), NetworkId([9; 32]), NODE, now);
        assert!(matches!(elsewhere, Err(AssignmentError::OtherTask { .. })));
    }
}
