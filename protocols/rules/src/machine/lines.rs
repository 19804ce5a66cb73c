//! Lines that the machine says by itself, and the signed batches behind two of them.

use openledger_wire::eip712::{ReceiptBatch, VerdictBatch};
use openledger_wire::log::{Line, VerdictRow, Verdicts};
use openledger_wire::merkle::{self, Path, receipt_leaf, verdict_leaf};
use openledger_wire::{Keccak, List, NetworkId, NodeId, ProofId, UnixMs, limits};

use super::{Logged, Machine, Outcome, no_evidence};
use crate::state::{ApplyError, Judgement};

impl Machine {
    /// Verdicts for all tasks that are decided.
    pub(super) fn give_verdicts(
        &mut self,
        now: UnixMs,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        let mut rows: Vec<VerdictRow> = Vec::new();
        let mut budget_of = std::collections::BTreeSet::new();
        for (_, task) in self.state.active_tasks() {
            // After an outage, what could not be sent in time is waited for first.
            if self.in_grace(now) && task.proofs.len() < task.commits().count() {
                continue;
            }
            let judgement = self.state.judgement(task, now, self.judge.as_ref());
            let Some(Judgement::Final { rows: decided, .. }) = judgement else { continue };
            let full = rows.len().saturating_add(decided.len()) > limits::LINE_ROWS_MAX;
            // A campaign near its end is judged task by task: what one takes, the next must see.
            let tight = self.state.is_tight(&task.spec.campaign, &rows);
            if full || (tight && !budget_of.insert(task.spec.campaign)) {
                continue;
            }
            rows.extend(decided);
        }
        self.say_verdicts(now, rows, outcome)
    }

    fn say_verdicts(
        &mut self,
        now: UnixMs,
        mut rows: Vec<VerdictRow>,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort();
        let number = self.state.verdict_number().saturating_add(1);
        let epoch = self.state.epoch();
        let rows = List::new(rows).unwrap_or_default();
        self.say(now, Line::Verdicts(Verdicts { number, epoch, rows }), &no_evidence, outcome)
    }

    /// Closes every epoch that has ended: first a verdict for each proof that must count in it.
    pub(super) fn close_epochs(
        &mut self,
        now: UnixMs,
        outcome: &mut Outcome,
    ) -> Result<(), ApplyError> {
        while now >= self.state.epoch_end(self.state.epoch()) {
            let overdue = self.state.overdue(self.state.epoch());
            for (_, rows) in overdue {
                self.say_verdicts(now, rows, outcome)?;
            }
            let (close, _) = self.state.close(now).map_err(|e| ApplyError::NotAllowed {
                height: self.state.next_height(),
                line: "epoch close",
                why: e.to_string(),
            })?;
            self.say(now, Line::Epoch(close), &no_evidence, outcome)?;
        }
        Ok(())
    }
}

/// A receipt of a batch: the proof, its node, and the way from its leaf to the batch's root.
pub type ReceiptPath = (ProofId, NodeId, Path);

/// The batch that a receipts entry calls for, to be signed once, and each proof's path to it.
#[must_use]
pub fn receipts_of(
    logged: &Logged,
    network: NetworkId,
) -> Option<(ReceiptBatch, Vec<ReceiptPath>)> {
    let Line::Receipts(receipts) = &logged.entry.line else { return None };
    let leaves: Vec<Keccak> =
        receipts.rows.iter().map(|row| receipt_leaf(&row.proof, receipts.count_by)).collect();
    let batch = ReceiptBatch {
        network,
        log_head: logged.head,
        log_height: logged.entry.height,
        root: merkle::root(&leaves),
        size: u32::try_from(leaves.len()).ok()?,
        count_by: receipts.count_by,
    };
    let rows = receipts.rows.iter().zip(merkle::paths(&leaves));
    Some((batch, rows.map(|(row, path)| (row.proof, row.node, path)).collect()))
}

/// The batch that a verdicts entry calls for, to be signed once, and each verdict's path to it.
#[must_use]
pub fn verdicts_of(
    logged: &Logged,
    network: NetworkId,
) -> Option<(VerdictBatch, Vec<(VerdictRow, Path)>)> {
    let Line::Verdicts(verdicts) = &logged.entry.line else { return None };
    let leaves: Vec<Keccak> = verdicts
        .rows
        .iter()
        .map(|row| verdict_leaf(&row.proof, row.verdict.code(), row.points.0))
        .collect();
    let batch = VerdictBatch {
        network,
        epoch: verdicts.epoch,
        number: verdicts.number,
        root: merkle::root(&leaves),
        size: u32::try_from(leaves.len()).ok()?,
    };
    Some((batch, verdicts.rows.iter().copied().zip(merkle::paths(&leaves)).collect()))
}
