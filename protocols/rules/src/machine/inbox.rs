//! What nodes said and the log does not hold yet: commits, give-backs and proofs.

use std::collections::{BTreeMap, BTreeSet};

use openledger_wire::log::{Closed, CommitSet, Line, ReceiptRow, Receipts};
use openledger_wire::proof::{Commit, Proof, proof_id};
use openledger_wire::{Commitment, Envelope, List, NodeId, ProofId, TaskId, UnixMs, limits};

use super::{Keep, Machine, Outcome, Refusal, no_evidence};
use crate::state::ApplyError;

type Slot = (TaskId, u8, NodeId);

#[derive(Default)]
pub(super) struct Inbox {
    commits: BTreeMap<Slot, Commitment>,
    declined: BTreeSet<Slot>,
    proofs: BTreeMap<ProofId, (ReceiptRow, Envelope)>,
    /// One proof per slot: a second, different one is refused.
    revealed: BTreeMap<Slot, ProofId>,
}

impl Inbox {
    /// Notes a lease that was given back; a lease that does not exist is never looked up.
    pub(super) fn decline(&mut self, node: NodeId, task: TaskId, wave: u8) {
        if self.declined.len() < limits::LINE_ROWS_MAX {
            self.declined.insert((task, wave, node));
        }
    }
}

impl Machine {
    /// A commit is taken while its lease is open, and only the first one.
    pub(super) fn take_commit(
        &mut self,
        now: UnixMs,
        envelope: Envelope,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let opened = envelope.open::<Commit>(self.state.setup().network)?;
        let (node, commit) = (opened.signer, opened.value);
        let slot = (commit.task, commit.wave, node);
        let task = self.state.task(&commit.task).ok_or_else(|| {
            Refusal::new(
                "unknown-task",
                format!("take a commit: task {} is unknown or over", commit.task),
            )
        })?;
        let wave = task.waves.get(usize::from(commit.wave));
        let Some((wave, deadline)) = wave.and_then(|w| Some((w, *w.leases.get(&node)?))) else {
            return Err(Refusal::new(
                "no-lease",
                format!(
                    "take a commit: this node holds no lease for {}; ask for its leases",
                    commit.task
                ),
            ));
        };
        let logged = wave.closed.as_ref().and_then(|closed| closed.commits.get(&node));
        match self.inbox.commits.get(&slot).or(logged) {
            Some(known) if *known == commit.commitment => {
                outcome.known = true;
                return Ok(());
            }
            Some(_) => {
                return Err(Refusal::new(
                    "second-commit",
                    "take a commit: another one was made for this lease; the first one holds",
                ));
            }
            None => {}
        }
        if wave.closed.is_some() || (now >= deadline && !self.in_grace(now)) {
            return Err(Refusal::new(
                "too-late",
                format!(
                    "take a commit: the lease for {} ended at {deadline}; nothing is lost but this task",
                    commit.task
                ),
            ));
        }
        self.inbox.commits.insert(slot, commit.commitment);
        outcome.keep.push(Keep::Commit(envelope));
        Ok(())
    }

    /// A proof is taken once its set is closed. Whether it opens its commitment is judged later,
    /// with a verdict, so that a dishonest one is on record.
    pub(super) fn take_proof(
        &mut self,
        envelope: Envelope,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let id = proof_id(&envelope);
        if self.inbox.proofs.contains_key(&id) || self.state.proof(&id).is_some() {
            outcome.known = true;
            return Ok(());
        }
        let opened = envelope.open::<Proof>(self.state.setup().network)?;
        let proof = opened.value;
        if proof.node != opened.signer {
            return Err(Refusal::new(
                "other-node",
                "take a proof: it names another node than the one that signed it",
            ));
        }
        let slot = (proof.task, proof.wave, proof.node);
        let task = self.state.task(&proof.task).ok_or_else(|| {
            Refusal::new(
                "unknown-task",
                format!("take a proof: task {} is unknown or over", proof.task),
            )
        })?;
        if self.inbox.revealed.contains_key(&slot) || task.proofs.contains_key(&proof.node) {
            return Err(Refusal::new(
                "second-proof",
                "take a proof: another one was sent for this lease; the first one holds",
            ));
        }
        if !task.expects(&proof.node, proof.wave) {
            let wait = task.done.is_none() && !task.all_closed();
            let retry_after_ms = wait.then_some(1_000);
            let message = format!(
                "take a proof: no closed set of {} waits for this node's proof",
                proof.task
            );
            return Err(Refusal { retry_after_ms, ..Refusal::new("not-expected", message) });
        }
        let row = ReceiptRow { proof: id, task: proof.task, wave: proof.wave, node: proof.node };
        self.inbox.revealed.insert(slot, id);
        self.inbox.proofs.insert(id, (row, envelope.clone()));
        outcome.keep.push(Keep::Proof(id, envelope));
        Ok(())
    }

    /// Closes every wave whose nodes all answered or whose deadline has passed.
    pub(super) fn close_sets(
        &mut self,
        now: UnixMs,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let grace = self.in_grace(now);
        let mut sets = Vec::new();
        for (id, task) in self.state.active_tasks() {
            for (index, wave) in (0u8..).zip(&task.waves) {
                if wave.closed.is_some() {
                    continue;
                }
                let mut set = CommitSet {
                    task: id,
                    wave: index,
                    commits: List::default(),
                    absent: List::default(),
                    declined: List::default(),
                };
                let (mut commits, mut absent, mut declined) = (Vec::new(), Vec::new(), Vec::new());
                let mut waiting = false;
                for (node, deadline) in &wave.leases {
                    let slot = (id, index, *node);
                    match self.inbox.commits.get(&slot) {
                        Some(commitment) => commits.push((*node, *commitment)),
                        None if self.inbox.declined.contains(&slot) => declined.push(*node),
                        None if now >= *deadline && !grace => absent.push(*node),
                        None => waiting = true,
                    }
                }
                if !waiting && sets.len() < limits::LINE_ROWS_MAX {
                    set.commits = List::new(commits).unwrap_or_default();
                    set.absent = List::new(absent).unwrap_or_default();
                    set.declined = List::new(declined).unwrap_or_default();
                    sets.push(set);
                }
            }
        }
        if sets.is_empty() {
            return Ok(());
        }
        sets.sort_by_key(|set| (set.task, set.wave));
        let over: Vec<(TaskId, u8)> = sets.iter().map(|set| (set.task, set.wave)).collect();
        let sets = List::new(sets).unwrap_or_default();
        self.say(now, Line::Closed(Closed { sets }), &no_evidence, outcome)?;
        let open = |slot: &Slot| over.binary_search(&(slot.0, slot.1)).is_err();
        self.inbox.commits.retain(|slot, _| open(slot));
        self.inbox.declined.retain(open);
        Ok(())
    }

    /// Receipts for all proofs that came since the last tick.
    pub(super) fn give_receipts(
        &mut self,
        now: UnixMs,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let proofs = std::mem::take(&mut self.inbox.proofs);
        self.inbox.revealed.clear();
        let expected = |row: &ReceiptRow| {
            self.state.task(&row.task).is_some_and(|task| task.expects(&row.node, row.wave))
        };
        let rows: Vec<ReceiptRow> = proofs.values().map(|(row, _)| *row).filter(expected).collect();
        for chunk in rows.chunks(limits::LINE_ROWS_MAX) {
            let rows = List::new(chunk.to_vec()).unwrap_or_default();
            let line = Line::Receipts(Receipts { count_by: self.state.count_by(), rows });
            let evidence = |id: &ProofId| proofs.get(id).map(|(_, envelope)| envelope.clone());
            self.say(now, line, &evidence, outcome)?;
        }
        Ok(())
    }
}
