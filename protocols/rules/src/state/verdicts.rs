//! From receipts to verdicts, and what a verdict does: points, trust, weight, the task that follows.

use std::collections::BTreeMap;

use openledger_wire::log::{Entry, ReasonCode, Receipts, Verdict, VerdictRow, Verdicts};
use openledger_wire::proof::{FetchOutput, Proof, proof_id};
use openledger_wire::task::{RefineTask, TaskKind, TaskSpec};
use openledger_wire::{Blob, Epoch, NodeId, Points, ProofId, TaskId, encode};

use super::apply::{Evidence, differs, not_allowed};
use super::judge::Judgement;
use super::{ApplyError, Judge, ProofRecord, State};

/// Marks the numbers of tasks that are asked again, because the checks of an answer agreed that it
/// is wrong.
const ASKED_AGAIN: u64 = 1 << 63;

/// Whether a task takes the place of one whose answer was refuted.
#[must_use]
pub fn is_asked_again(spec: &TaskSpec) -> bool {
    spec.kind == TaskKind::Infer && spec.nonce & ASKED_AGAIN != 0
}

impl State {
    pub(super) fn apply_receipts(
        &mut self,
        entry: &Entry,
        receipts: &Receipts,
        evidence: &dyn Evidence,
    ) -> Result<(), ApplyError> {
        if receipts.count_by != self.count_by() {
            return Err(differs(entry, "receipts", &receipts.count_by, &self.count_by()));
        }
        for row in &receipts.rows {
            let id = row.proof;
            let missing = || ApplyError::MissingEvidence { height: entry.height, proof: id };
            let envelope = evidence.proof(&id).ok_or_else(missing)?;
            let opened = envelope
                .open::<Proof>(self.setup.network)
                .map_err(|e| not_allowed(entry, "receipt", &e))?;
            let proof = opened.value;
            let same = proof_id(&envelope) == id
                && opened.signer == row.node
                && (proof.node, proof.task, proof.wave) == (row.node, row.task, row.wave);
            let account = self.nodes.get(&row.node).map(|node| node.member.account);
            let (Some(account), true) = (account, same) else {
                return Err(not_allowed(entry, "receipt", &"the proof is not what its row says"));
            };
            let refused = || not_allowed(entry, "receipt", &format!("{id}: not expected"));
            let task = self.tasks.get_mut(&row.task).ok_or_else(refused)?;
            if !task.expects(&row.node, row.wave) {
                return Err(refused());
            }
            task.proofs.insert(row.node, id);
            let count_by = receipts.count_by;
            self.proofs.insert(id, ProofRecord { proof, account, count_by, verdict: None });
        }
        Ok(())
    }

    /// The epoch in which a proof that is receipted now counts at the latest.
    #[must_use]
    pub fn count_by(&self) -> Epoch {
        let later = self.setup.rules.count_by_epochs;
        Epoch(self.epoch.0.saturating_add(later))
    }

    pub(super) fn apply_verdicts(
        &mut self,
        entry: &Entry,
        verdicts: &Verdicts,
        judge: &dyn Judge,
    ) -> Result<(), ApplyError> {
        let number = self.verdict_number.saturating_add(1);
        if verdicts.number != number || verdicts.epoch != self.epoch {
            return Err(not_allowed(entry, "verdicts", &"number or epoch do not follow"));
        }
        let ended = entry.at >= self.epoch_end(self.epoch);
        let overdue: BTreeMap<TaskId, Vec<VerdictRow>> =
            if ended { self.overdue(self.epoch).into_iter().collect() } else { BTreeMap::new() };
        let mut by_task: BTreeMap<TaskId, Vec<VerdictRow>> = BTreeMap::new();
        for row in &verdicts.rows {
            by_task.entry(row.task).or_default().push(*row);
        }
        for (id, rows) in by_task {
            let task = self
                .tasks
                .get(&id)
                .ok_or_else(|| not_allowed(entry, "verdicts", &format!("{id} is unknown")))?;
            let winner = match self.judgement(task, entry.at, judge) {
                Some(Judgement::Final { rows: computed, winner }) if computed == rows => winner,
                _ if overdue.get(&id) == Some(&rows) => None,
                other => return Err(differs(entry, "verdicts", &rows, &other)),
            };
            for row in &rows {
                self.count(row, winner.is_some());
            }
            self.finish(id, winner);
            let checks_agree = rows.iter().any(|row| row.verdict == Verdict::Accepted);
            if winner.is_none() && checks_agree {
                self.derive_again(id);
            }
        }
        self.verdict_number = number;
        Ok(())
    }

    /// Lets a verdict count: points, trust, weight. `settled` if the task has a winner.
    fn count(&mut self, row: &VerdictRow, settled: bool) {
        let epoch = self.epoch;
        self.epoch_verdicts.insert(row.proof, (row.verdict.code(), row.points.0));
        let Some(record) = self.proofs.get_mut(&row.proof) else { return };
        record.verdict = Some((row.verdict, row.reason, row.points, epoch));
        let kind = record.proof.body.kind;
        let account = self.accounts.entry(record.account).or_default();
        let Some(node) = self.nodes.get_mut(&row.node) else { return };
        let trust = node
            .trust
            .entry(kind)
            .or_insert_with(|| crate::assign::TrustRecord::new(self.setup.rules.trust_required));
        match row.verdict {
            Verdict::Accepted => {
                trust.on_valid();
                node.accepted = node.accepted.saturating_add(1);
                let grown = node.weight_milli.saturating_add(self.setup.rules.weight_step_milli);
                node.weight_milli = grown.min(self.setup.rules.weight_max_milli);
                account.accepted = account.accepted.saturating_add(1);
                account.queue.award(epoch, row.points, account.accepted);
                if let Some(task) = self.tasks.get(&row.task)
                    && let Some(campaign) = self.campaigns.get_mut(&task.spec.campaign)
                {
                    campaign.spent = Points(campaign.spent.0.saturating_add(row.points.0));
                }
            }
            Verdict::Rejected => {
                trust.on_catch();
                node.rejected = node.rejected.saturating_add(1);
                node.weight_milli /= 2;
                if is_proven(row.reason) {
                    let lost = account.queue.forfeit();
                    account.forfeited = Points(account.forfeited.0.saturating_add(lost.0));
                }
            }
            // The odd one out at a near tie: it loses nothing, and is checked until it has shown
            // more valid work than before.
            Verdict::Inconclusive if settled && row.reason == ReasonCode::Volatile => {
                trust.on_catch();
            }
            Verdict::Inconclusive => {}
        }
    }

    /// Ends a task; whoever committed and never revealed loses trust and weight.
    pub(super) fn finish(&mut self, id: TaskId, winner: Option<ProofId>) {
        let epoch = self.epoch;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.done = Some(epoch);
        task.accepted = winner.is_some();
        self.active.remove(&task.order);
        let kind = task.spec.kind;
        let silent: Vec<NodeId> = task
            .commits()
            .map(|(node, ..)| node)
            .filter(|node| !task.proofs.contains_key(node))
            .collect();
        for node in silent {
            let Some(node) = self.nodes.get_mut(&node) else { continue };
            node.weight_milli /= 2;
            if let Some(trust) = node.trust.get_mut(&kind) {
                trust.on_catch();
            }
        }
        if kind == TaskKind::Fetch
            && let Some(winner) = winner
        {
            self.derive_refine(id, winner);
        }
    }

    /// An answer that checks refuted leaves its prompt without one: it is asked again, of whom the
    /// next draw finds. Under another number, which no campaign gives by itself.
    fn derive_again(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.spec.kind == TaskKind::Infer)
        else {
            return;
        };
        self.derived.push(TaskSpec { nonce: ASKED_AGAIN | task.order, ..task.spec.clone() });
    }

    /// An accepted page calls for a refine task; its input is at those who fetched these bytes.
    fn derive_refine(&mut self, id: TaskId, winner: ProofId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let page_of =
            |proof: &ProofId| self.proofs.get(proof)?.proof.body.read::<FetchOutput>().ok();
        let Some(page) = page_of(&winner) else { return };
        if page.status != 200 || page.page_bytes == 0 || self.holders.contains_key(&page.page) {
            return;
        }
        let accepted = |proof: &ProofId| {
            let verdict = self.proofs.get(proof).and_then(|record| record.verdict);
            verdict.is_some_and(|(verdict, ..)| verdict == Verdict::Accepted)
        };
        let same = |proof: &ProofId| page_of(proof).is_some_and(|p| p.page == page.page);
        let holders = task.proofs.iter().filter(|(_, proof)| accepted(proof) && same(proof));
        let holders: Vec<NodeId> = holders.map(|(node, _)| *node).collect();
        let body = RefineTask {
            url: page.final_url,
            status: page.status,
            content_type: page.content_type,
            page: page.page,
            page_bytes: page.page_bytes,
            profile: self.setup.rules.refine_profile,
        };
        let Some(body) = encode(&body).ok().and_then(|bytes| Blob::new(bytes).ok()) else { return };
        let spec = TaskSpec {
            campaign: task.spec.campaign,
            kind: TaskKind::Refine,
            version: 1,
            nonce: task.order,
            value_permille: task.spec.value_permille,
            body,
        };
        self.holders.insert(page.page, holders);
        self.derived.push(spec);
    }
}

/// The closed list of what forfeits pending points: a reveal that does not open its commitment,
/// and output that three others, on the same fixed input, could not reproduce. A disagreement
/// about a fetched page is never on it, because a site can show one address other content.
///
/// An infer rejection is on it, for wrong tokens and for wrong log-probabilities alike: model,
/// adapters, prompt and seed are named by content, so three independent cohorts stand against one
/// on fixed input. Log-probabilities alone are no smaller matter: right tokens with the figures
/// of another model are what a prefill forger, a left-out adapter and a coarser copy of the model
/// look like, and rounding stays far below the tolerance. What rounding can do, the near tie, is
/// inconclusive and never gets here.
fn is_proven(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::RevealMismatch | ReasonCode::ReexecutionDiffers)
}
