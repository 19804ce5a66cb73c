//! A coordinator that signs rightly, and leases to work on.

use openledger_outbox::{Finished, Judge, Key, Outbox, Setup};
use openledger_wire::eip712::{Domain, ReceiptBatch, Typed, VerdictBatch};
use openledger_wire::link::{ClosedNotice, LeasedTask, LinkPush, Receipt, SignedVerdict};
use openledger_wire::log::{CommitSet, Lease, ReasonCode, Role, Verdict, VerdictRow};
use openledger_wire::merkle::{path, receipt_leaf, root, verdict_leaf};
use openledger_wire::proof::ProofBody;
use openledger_wire::task::{TaskKind, TaskSpec};
use openledger_wire::{
    Blob, BlobId, CampaignId, Commitment, Epoch, EvmAddress, Height, List, LogHead, NetworkId,
    NodeKey, Points, ProofId, Round, SecretNonce, SettlementKey, TaskId, UnixMs,
};

pub(crate) const NETWORK: NetworkId = NetworkId([7; 32]);
pub(crate) const NOW: UnixMs = UnixMs(1_000_000);
const DOMAIN: Domain = Domain { chain_id: 31_337, contract: EvmAddress([5; 20]) };

pub(crate) fn coordinator() -> SettlementKey {
    SettlementKey::from_secret(&[9; 32]).unwrap()
}

pub(crate) fn setup() -> Setup {
    let key = NodeKey::from_seed(&[1; 32]);
    let judge = Judge {
        network: NETWORK,
        domain: DOMAIN,
        coordinator: coordinator().address(),
        node: key.public(),
    };
    Setup { judge, key }
}

pub(crate) fn leased(number: u64) -> LeasedTask {
    let spec = TaskSpec {
        campaign: CampaignId([2; 32]),
        kind: TaskKind::Fetch,
        version: 1,
        nonce: number,
        value_permille: 1_000,
        body: Blob::new(vec![1, 2, 3]).unwrap(),
    };
    let lease = Lease {
        task: spec.id(NETWORK).unwrap(),
        wave: 0,
        node: setup().judge.node,
        role: Role::Replica,
        deadline: NOW.plus_ms(60_000),
    };
    LeasedTask {
        lease,
        round: Round(3),
        spec,
        holders: List::default(),
        backend: None,
        answer: None,
    }
}

pub(crate) fn key_of(leased: &LeasedTask) -> Key {
    Key { task: leased.lease.task, wave: leased.lease.wave }
}

pub(crate) fn push_leases(numbers: impl IntoIterator<Item = u64>) -> LinkPush {
    let leases: Vec<_> = numbers.into_iter().map(leased).collect();
    LinkPush::Leases(List::new(leases).unwrap())
}

pub(crate) fn body(text: &str) -> ProofBody {
    ProofBody::of(TaskKind::Fetch, &text.to_owned()).unwrap()
}

pub(crate) fn finished(key: Key, text: &str, nonce: u8) -> Finished {
    Finished {
        key,
        input: BlobId::ZERO,
        body: body(text),
        nonce: SecretNonce([nonce; 32]),
        commitment: None,
    }
}

/// A closed set with these commitments.
pub(crate) fn closed(
    key: Key,
    commits: Vec<(u8, Commitment)>,
    own: Option<Commitment>,
) -> ClosedNotice {
    let node = setup().judge.node;
    let mut rows: Vec<_> =
        commits.into_iter().map(|(n, c)| (NodeKey::from_seed(&[n; 32]).public(), c)).collect();
    rows.extend(own.map(|commitment| (node, commitment)));
    rows.sort();
    let absent = if own.is_none() { vec![node] } else { Vec::new() };
    let set = CommitSet {
        task: key.task,
        wave: key.wave,
        commits: List::new(rows).unwrap(),
        absent: List::new(absent).unwrap(),
        declined: List::default(),
    };
    ClosedNotice { set, height: Height(12) }
}

pub(crate) fn receipt(proof: ProofId) -> Receipt {
    let count_by = Epoch(4);
    let leaves = [receipt_leaf(&ProofId([1; 32]), count_by), receipt_leaf(&proof, count_by)];
    let batch = ReceiptBatch {
        network: NETWORK,
        log_head: LogHead([3; 32]),
        log_height: Height(20),
        root: root(&leaves),
        size: 2,
        count_by,
    };
    let signature = batch.sign(&DOMAIN, &coordinator()).unwrap();
    Receipt { proof, batch, path: path(&leaves, 1).unwrap(), signature }
}

pub(crate) fn verdict(
    proof: ProofId,
    task: TaskId,
    verdict: Verdict,
    points: u64,
    (epoch, number): (u64, u64),
) -> SignedVerdict {
    let row = VerdictRow {
        proof,
        task,
        node: setup().judge.node,
        verdict,
        reason: if verdict == Verdict::Accepted {
            ReasonCode::ReplicasAgree
        } else {
            ReasonCode::MinorityFetch
        },
        points: Points(points),
    };
    let leaves = [verdict_leaf(&proof, verdict.code(), points)];
    let batch = VerdictBatch {
        network: NETWORK,
        epoch: Epoch(epoch),
        number,
        root: root(&leaves),
        size: 1,
    };
    let signature = batch.sign(&DOMAIN, &coordinator()).unwrap();
    SignedVerdict { row, batch, path: path(&leaves, 0).unwrap(), signature }
}

/// The commitment that the outbox made for a lease.
pub(crate) fn promised(outbox: &Outbox, key: Key) -> (Commitment, ProofId) {
    let promise = outbox.get(key).unwrap().unwrap().work.promise.unwrap();
    (promise.commitment, promise.proof)
}

pub(crate) fn sets(notice: ClosedNotice) -> LinkPush {
    LinkPush::Closed(List::new(vec![notice]).unwrap())
}

pub(crate) fn receipts(receipt: Receipt) -> LinkPush {
    LinkPush::Receipts(List::new(vec![receipt]).unwrap())
}

pub(crate) fn verdicts(verdict: SignedVerdict) -> LinkPush {
    LinkPush::Verdicts(List::new(vec![verdict]).unwrap())
}
