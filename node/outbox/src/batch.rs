//! One transaction of the outbox: events become changed records, envelopes and effects.

use openledger_tables::WriteTxn;
use openledger_wire::link::{ClosedNotice, LeasedTask, Receipt, SignedVerdict};
use openledger_wire::proof::{Commit, Proof, proof_id};
use openledger_wire::{Commitment, EncodeError, Envelope, ProofId, UnixMs};

use crate::event::{Effect, Event, Handled, Key, Refusal, Refused};
use crate::limits;
use crate::outbox::{Finished, OutboxError, Setup};
use crate::record::{Promise, Stage, Work};
use crate::rows::{
    BY_PROOF, BY_TIME, COUNTERS, LEASES, LIVE, Leased, PROOFS, SIGNED, TOTALS, WORK,
};

/// A transaction at work.
pub(crate) struct Batch<'a> {
    txn: &'a mut WriteTxn,
    setup: &'a Setup,
    handled: Handled,
    effects: Vec<(Key, Effect)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(txn: &'a mut WriteTxn, setup: &'a Setup) -> Self {
        Self { txn, setup, handled: Handled::default(), effects: Vec::new() }
    }

    /// What was handled, and what is to be done once the transaction is synced.
    pub(crate) fn into_parts(self) -> (Handled, Vec<(Key, Effect)>) {
        (self.handled, self.effects)
    }

    pub(crate) fn leases(&mut self, now: UnixMs, leases: &[LeasedTask]) -> Result<(), OutboxError> {
        for leased in leases {
            let lease = &leased.lease;
            let key = Key { task: lease.task, wave: lease.wave };
            if lease.node != self.setup.judge.node {
                self.refuse(Some(key), None, Refusal::OtherNode(lease.node));
                continue;
            }
            if let Some(work) = self.txn.get(WORK, &key.row())? {
                let mut effects = work.resume(now);
                if work.stage == Stage::Declined {
                    effects.push(Effect::Decline);
                }
                self.effects.extend(effects.into_iter().map(|effect| (key, effect)));
                continue;
            }
            if self.txn.table(SIGNED)?.contains(&key.row())? {
                self.refuse(Some(key), None, Refusal::AlreadyCommitted);
                continue;
            }
            let live = self.txn.table(LIVE)?.len()?;
            if live >= limits::OPEN_MAX {
                self.refuse(Some(key), None, Refusal::TooMany(live));
                continue;
            }
            let work = Work::new(leased, now);
            self.txn.insert(LEASES, &key.row(), &Leased(leased.clone()))?;
            self.txn.insert(BY_TIME, &(now.0, key.row()), &())?;
            self.keep(None, &work)?;
            self.effects.push((key, Effect::Work));
        }
        Ok(())
    }

    pub(crate) fn closed(&mut self, now: UnixMs, sets: &[ClosedNotice]) -> Result<(), OutboxError> {
        for notice in sets {
            let key = Key { task: notice.set.task, wave: notice.set.wave };
            self.apply(now, key, Event::Closed(notice.clone()))?;
        }
        Ok(())
    }

    pub(crate) fn receipts(
        &mut self,
        now: UnixMs,
        receipts: &[Receipt],
    ) -> Result<(), OutboxError> {
        for receipt in receipts {
            if let Err(error) = self.setup.judge.receipt(receipt) {
                self.refuse(None, Some(receipt.proof), error.into());
                continue;
            }
            self.by_proof(now, receipt.proof, Event::Receipt(Box::new(receipt.clone())))?;
        }
        Ok(())
    }

    pub(crate) fn verdicts(
        &mut self,
        now: UnixMs,
        verdicts: &[SignedVerdict],
    ) -> Result<(), OutboxError> {
        for verdict in verdicts {
            let proof = verdict.row.proof;
            if let Err(error) = self.setup.judge.verdict(verdict) {
                self.refuse(None, Some(proof), error.into());
                continue;
            }
            let event = Event::Verdict(Box::new(verdict.clone()));
            if self.txn.table(BY_PROOF)?.contains(&proof.0)? {
                self.by_proof(now, proof, event)?;
            } else if let Some(key) = self.promised_for(verdict)? {
                self.apply(now, key, event)?;
            } else {
                self.refuse(None, Some(proof), Refusal::Unknown);
                continue;
            }
            self.handled.points =
                self.handled.points.checked_add(verdict.row.points).unwrap_or(self.handled.points);
        }
        Ok(())
    }

    /// The lease that a verdict about an unrevealed commitment is about: the coordinator never
    /// saw the proof, so it cannot name it.
    fn promised_for(&mut self, verdict: &SignedVerdict) -> Result<Option<Key>, OutboxError> {
        let waves = self.txn.table(WORK)?.prefix(&verdict.row.task.0, 256)?;
        let unrevealed = |work: &Work| work.promise.is_some() && work.receipt.is_none();
        Ok(waves.iter().rev().find(|(_, work)| unrevealed(work)).map(|(row, _)| Key::of_row(*row)))
    }

    pub(crate) fn by_proof(
        &mut self,
        now: UnixMs,
        proof: ProofId,
        event: Event,
    ) -> Result<(), OutboxError> {
        let key = self.txn.get(BY_PROOF, &proof.0)?;
        match key.and_then(|bytes| Key::of_row_bytes(&bytes)) {
            Some(key) => self.apply(now, key, event),
            None => {
                self.refuse(None, Some(proof), Refusal::Unknown);
                Ok(())
            }
        }
    }

    pub(crate) fn finish(&mut self, now: UnixMs, finished: &Finished) -> Result<(), OutboxError> {
        let key = finished.key;
        let Some(work) = self.txn.get(WORK, &key.row())? else {
            self.refuse(Some(key), None, Refusal::Unknown);
            return Ok(());
        };
        if work.promise.is_some() || !work.stage.is_open() {
            let again = work.resume(now);
            if again.is_empty() && work.promise.is_none() {
                let refusal = Refusal::OutOfOrder { event: "a finished output", stage: work.stage };
                self.refuse(Some(key), None, refusal);
            }
            self.effects.extend(again.into_iter().map(|effect| (key, effect)));
            return Ok(());
        }
        let seq = self.txn.get(COUNTERS, &"seq".to_owned())?.unwrap_or(0).saturating_add(1);
        let (promise, proof) = self.seal(&work, finished, seq)?;
        self.txn.insert(COUNTERS, &"seq".to_owned(), &seq)?;
        self.txn.insert(SIGNED, &key.row(), &work.deadline.0)?;
        self.txn.insert(BY_PROOF, &promise.proof.0, &key.to_row_bytes())?;
        self.txn.insert(PROOFS, &key.row(), &proof)?;
        self.apply(now, key, Event::Promised(Box::new(promise)))
    }

    /// Signs commitment and proof.
    fn seal(
        &self,
        work: &Work,
        finished: &Finished,
        seq: u64,
    ) -> Result<(Promise, Vec<u8>), OutboxError> {
        let (judge, node_key) = (&self.setup.judge, &self.setup.key);
        let output = finished.body.output_root();
        let honest = || Commitment::new(&work.task, &judge.node, &finished.nonce, &output);
        let commitment = finished.commitment.unwrap_or_else(honest);
        let commit = Commit { task: work.task, wave: work.wave, commitment };
        let commit = Envelope::seal(&commit, judge.network, node_key).map_err(unsigned)?;
        let proof = Proof {
            task: work.task,
            node: judge.node,
            wave: work.wave,
            round: work.round,
            seq,
            input: finished.input,
            output,
            commitment,
            nonce: finished.nonce,
            body: finished.body.clone(),
        };
        let proof = Envelope::seal(&proof, judge.network, node_key).map_err(unsigned)?;
        let bytes = proof.to_bytes().map_err(unsigned)?;
        let proof = proof_id(&proof);
        let promise =
            Promise { commit, commitment, proof, seq, commit_held: false, proof_held: false };
        Ok((promise, bytes))
    }

    pub(crate) fn apply(&mut self, now: UnixMs, key: Key, event: Event) -> Result<(), OutboxError> {
        let Some(before) = self.txn.get(WORK, &key.row())? else {
            self.refuse(Some(key), None, Refusal::Unknown);
            return Ok(());
        };
        let mut after = before.clone();
        match after.apply(&self.setup.judge, now, event) {
            Ok(effects) => self.effects.extend(effects.into_iter().map(|effect| (key, effect))),
            Err(refusal) => self.refuse(Some(key), after.proof(), refusal),
        }
        if after != before {
            self.keep(Some(&before), &after)?;
        }
        Ok(())
    }

    fn keep(&mut self, before: Option<&Work>, after: &Work) -> Result<(), OutboxError> {
        let row = after.key().row();
        let mut totals = self.txn.get(TOTALS, &0)?.unwrap_or_default();
        totals.change(before, after);
        self.txn.insert(TOTALS, &0, &totals)?;
        self.txn.insert(WORK, &row, after)?;
        if after.is_live() {
            self.txn.insert(LIVE, &row, &())?;
        } else {
            self.txn.remove(LIVE, &row)?;
        }
        Ok(())
    }

    pub(crate) fn live(&mut self) -> Result<Vec<Work>, OutboxError> {
        let keys = self.txn.table(LIVE)?.range(.., usize::MAX)?;
        let table = self.txn.table(WORK)?;
        let mut found = Vec::with_capacity(keys.len());
        for (row, ()) in keys {
            found.extend(table.get(&row)?);
        }
        Ok(found)
    }

    fn refuse(&mut self, key: Option<Key>, proof: Option<ProofId>, why: Refusal) {
        tracing::debug!(lease = ?key, %why, "not applied");
        self.handled.refused.push(Refused { key, proof, why });
    }
}

fn unsigned(error: EncodeError) -> OutboxError {
    OutboxError::Sign(error.to_string())
}
